"""What the shelves hold on a day: released songs, weighted by popularity and freshness."""

from dataclasses import dataclass

import numpy as np

from features.times import DAY_US
from simulation.draws import Array
from simulation.songs import Songs
from simulation.vocabulary import GENRES, LANGUAGE_CODES, MOODS, OCCASIONS

FIRST_DECADE = 1950
DECADES = 20
FRESH_BOOST, FRESH_DAYS = 4.0, 12.0
NEIGHBOURS = 8


@dataclass(frozen=True)
class Shelf:
    """Songs in an order in which groups are runs; `edges[g]` and `edges[g + 1]` bound group g."""

    order: Array
    edges: Array

    @classmethod
    def of(cls, groups: Array, count: int) -> "Shelf":
        """Put songs with the same group number beside each other."""
        order = np.argsort(groups, kind="stable")
        return cls(order, np.searchsorted(groups[order], np.arange(count + 1)))


@dataclass(frozen=True)
class Store:
    """The unchanging order of the catalogue: one shelf a way to look for songs."""

    songs: Songs
    shelves: dict[str, Shelf]
    neighbours: Array

    @classmethod
    def build(cls, songs: Songs) -> "Store":
        """Sort the catalogue into shelves and find each song's nearest in its own genre."""
        language, languages = songs.language, len(LANGUAGE_CODES)
        decade = (songs.year - FIRST_DECADE) // 10
        genre = genre_shelf(songs.language, songs.genre)
        groups = {
            "language": (language, languages),
            "genre": (genre, languages * len(GENRES)),
            "artist": (songs.artist, int(songs.artist.max()) + 1),
            "era": (language * DECADES + decade, languages * DECADES),
            "occasion": (songs.occasion * languages + language, len(OCCASIONS) * languages),
            "mood": (songs.mood * languages + language, len(MOODS) * languages),
        }
        shelves = {name: Shelf.of(group, count) for name, (group, count) in groups.items()}
        return cls(songs, shelves, _neighbours(songs, shelves["genre"]))


def genre_shelf(language: Array, genre: Array) -> Array:
    """Return the group number of a language's genre on the shelf `genre`."""
    return language * len(GENRES) + genre


@dataclass(frozen=True)
class Row:
    """A shelf on a day: running weights in its order, and where each group begins and ends.

    A group without a released song stands for the whole catalogue.
    """

    order: Array
    sums: Array
    base: Array
    mass: Array
    last: Array
    whole: Array

    @classmethod
    def of(cls, shelf: Shelf, weight: Array) -> "Row":
        """Stock a shelf with the day's weights."""
        sums = np.concatenate([[0.0], np.cumsum(weight[shelf.order])])
        low, high = sums[shelf.edges[:-1]], sums[shelf.edges[1:]]
        whole = ~(high > low)
        low, high = np.where(whole, 0.0, low), np.where(whole, sums[-1], high)
        last = np.searchsorted(sums, high, side="left") - 1
        return cls(shelf.order, sums, low, high - low, last, whole)


@dataclass(frozen=True)
class Market:
    """A day's store: what is released, and every shelf's weights."""

    store: Store
    weight: Array
    released: Array
    rows: dict[str, Row]

    @classmethod
    def on(cls, store: Store, midnight: int) -> "Market":
        """Weigh the songs released before a midnight (microseconds since 1970, UTC)."""
        songs = store.songs
        released = songs.released_us < midnight
        age = np.maximum(midnight - songs.released_us, 0) / DAY_US
        boost = 1.0 + FRESH_BOOST * np.exp(-age / FRESH_DAYS)
        weight = np.where(released, np.exp(songs.popularity) * boost, 0.0)
        rows = {name: Row.of(shelf, weight) for name, shelf in store.shelves.items()}
        return cls(store, weight, released, rows)

    def draw(self, shelf: str, group: Array, chance: Array) -> Array:
        """Draw a song of each group in proportion to weight; of all where a group has none."""
        row = self.rows[shelf]
        aim = row.base[group] + chance * row.mass[group]
        place = np.searchsorted(row.sums, aim, side="right") - 1
        # Rounding could reach the end of the run, where the next group starts.
        return row.order[np.minimum(place, row.last[group])]

    def chance(self, shelf: str, group: Array, song: Array, song_group: Array) -> Array:
        """Return the probability that `draw` gives a song whose own group is `song_group`."""
        row = self.rows[shelf]
        among = row.whole[group] | (song_group == group)
        return np.where(among, self.weight[song], 0.0) / row.mass[group]


def _neighbours(songs: Songs, shelf: Shelf) -> Array:
    """Return each song's nearest of the same language and genre, shape (songs, NEIGHBOURS)."""
    nearest = np.repeat(np.arange(len(songs))[:, None], NEIGHBOURS, axis=1)
    for low, high in zip(shelf.edges[:-1], shelf.edges[1:], strict=True):
        members = shelf.order[low:high]
        count = min(NEIGHBOURS, len(members) - 1)
        if count < 1:
            continue
        # Songs near in sound flow on; known ones are put on more often.
        score = songs.vector[members] @ songs.vector[members].T + 0.1 * songs.popularity[members]
        score -= 0.01 * np.abs(songs.tempo[members][:, None] - songs.tempo[members][None, :])
        # Other artists come first: an artist's own songs have a shelf of their own.
        score -= 10.0 * (songs.artist[members][:, None] == songs.artist[members][None, :])
        np.fill_diagonal(score, -np.inf)
        best = np.argsort(-score, axis=1)[:, :count]
        nearest[members] = np.resize(members[best].T, (NEIGHBOURS, len(members))).T
    return nearest
