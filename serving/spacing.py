"""The order of an answer: the best songs first, or drawn; soft rules keep like ones apart.

Soft rules give way where they leave nothing for a place: albums before artists, and these before
songs of one name and artist.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from features.catalogue import Catalogue, IntArray
from features.columns import Song
from features.params import Steering
from features.state import State
from serving.exploration import Explore, drawn, drawn_within, propensities
from serving.rules import Mask, allowed
from serving.scores import best

ALBUM, ARTIST, RECORDING = "album_spacing", "artist_spacing", "same_recording"
# Among so many songs before it an answer repeats no recording.
HEARD: Final = 20
# Longer than any answer with the songs before it.
EVERYWHERE: Final = 1_000


@dataclass(frozen=True)
class Chosen:
    """An answer's places among the candidates, in order, and the probability of each.

    `relaxed` names the soft rules that gave way.
    """

    places: NDArray[np.intp]
    propensities: NDArray[np.float64]
    relaxed: tuple[str, ...] = ()


class CodeOfPlace(Protocol):
    """A code for each candidate, by its place."""

    def __getitem__(self, place: int, /) -> int:
        """Return the code, -1 for none."""


class Recordings(dict[int, int]):
    """The codes of songs by title and first artist; of the few that come into question."""

    def __init__(self, catalogue: Catalogue, songs: IntArray) -> None:
        super().__init__()
        self.catalogue = catalogue
        self.songs = songs

    def __missing__(self, place: int) -> int:
        """Look a song's names up; one without a title is like no other."""
        song = int(self.songs[place])
        title = self.catalogue.names.title(song)
        artist = int(self.catalogue.codes[Song.ARTISTS].codes[song])
        self[place] = -1 if title is None else abs(hash((title.casefold(), artist)))
        return self[place]


@dataclass(frozen=True)
class Limit:
    """A soft rule: at most `limit` songs of one code within any `window` places on end.

    `codes` are those of the candidates by place, -1 for none; `before` those of the songs that were
    played last, which the answer continues.
    """

    rule: str
    codes: CodeOfPlace
    before: Sequence[int]
    limit: int
    window: int


@dataclass(frozen=True)
class Spacing:
    """Chooses an answer's songs from a query's candidates, spaced where that is wished for."""

    songs: Catalogue
    params: Steering

    def chosen(
        self, state: State, candidates: IntArray, scores: NDArray[Any], k: int, explore: Explore
    ) -> Chosen:
        """Return the best `k` of the candidates, or draw as many."""
        if not state.query.wishes.spacing:
            places = drawn(scores, k, explore)
            return Chosen(places, propensities(scores, places, explore.temperature))
        limits = self.limits(state, candidates)
        if explore.temperature:
            following = Following(limits, len(candidates))
            return Chosen(*drawn_within(scores, k, explore, following), tuple(following.relaxed))
        best_spaced, relaxed = spaced(best(scores, len(scores)).tolist(), limits, k)
        places = np.array(best_spaced, dtype=np.intp)
        return Chosen(places, np.ones(len(places)), tuple(relaxed))

    def limits(self, state: State, candidates: IntArray) -> list[Limit]:
        """Return the soft rules, in the order in which they give way."""
        songs, album, artist = self.songs, self.params.album, self.params.artist
        last = state.played[-max(album.window, artist.window) :]
        albums, before = (album_codes(songs, some) for some in (candidates, last))
        by_album = Limit(ALBUM, albums, before, album.limit, album.window)
        # The radio of an artist may stay with them.
        free = state.query.wishes.seed_artist
        artists, before = (artist_codes(songs, some, free) for some in (candidates, last))
        by_artist = Limit(ARTIST, artists, before, artist.limit, artist.window)
        # What may itself come again bars nothing.
        heard = allowed(state.played[-HEARD:], candidates)
        again = list(map(Recordings(songs, heard).__getitem__, range(len(heard))))
        recordings = Recordings(songs, candidates)
        return [by_album, by_artist, Limit(RECORDING, recordings, again, 1, EVERYWHERE)]


def album_codes(songs: Catalogue, places: IntArray) -> list[int]:
    """Return a code for each song's album, -1 for none.

    Of album and artist: albums of several artists share names such as "Greatest Hits".
    """
    artists, albums = songs.codes[Song.ARTISTS], songs.codes[Song.ALBUM].codes[places]
    both = albums.astype(np.int64) * (len(artists.vocabulary) + 1) + artists.codes[places] + 1
    return np.where(albums < 0, -1, both).tolist()


def artist_codes(songs: Catalogue, places: IntArray, free: str | None) -> list[int]:
    """Return a code for each song's artist, -1 for none and for one who is `free` of the rule."""
    artists = songs.codes[Song.ARTISTS]
    codes = artists.codes[places]
    return np.where(codes == artists.code_of.get(free or "", -1), -1, codes).tolist()


def spaced(order: Sequence[int], limits: Sequence[Limit], k: int) -> tuple[list[int], list[str]]:
    """Return the first `k` of `order` that keep all limits, and the rules that had to give way.

    Each place takes the best song left that no limit bars. Where there is none, the limits give
    way from the first to the last, for this place.

    Parameters
    ----------
    order
        Places of candidates, best first.
    limits
        In the order in which they give way.
    """
    waiting, chosen, relaxed = list(order), list[int](), dict[str, None]()
    tails = [list(one.before) for one in limits]
    while waiting and len(chosen) < k:
        full = [_full(one, tail) for one, tail in zip(limits, tails, strict=True)]
        for kept in range(len(limits) + 1):
            place = _first(waiting, limits[kept:], full[kept:])
            if place is not None:
                break
            relaxed[limits[kept].rule] = None
        picked = waiting.pop(place or 0)
        chosen.append(picked)
        for one, tail in zip(limits, tails, strict=True):
            tail.append(one.codes[picked])
    return chosen, list(relaxed)


@dataclass
class Following:
    """Tells which candidates the next place of a drawn slate may take.

    Limits give way as in `spaced`, from the first to the last, where nothing else is left;
    `relaxed` remembers those that did.
    """

    limits: Sequence[Limit]
    candidates: int
    relaxed: dict[str, None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Look up the codes of all candidates: any may be drawn."""
        places = range(self.candidates)
        self.codes = [np.array([one.codes[place] for place in places]) for one in self.limits]

    def __call__(self, chosen: Sequence[int], left: Mask) -> Mask:
        """Return which of the candidates that are left may take the place after those chosen."""
        if not left.any():
            # Nothing gives way for a place that nobody can take.
            return left
        tails = [[*one.before, *(one.codes[place] for place in chosen)] for one in self.limits]
        free = [
            ~np.isin(codes, list(_full(one, tail)))
            for one, codes, tail in zip(self.limits, self.codes, tails, strict=True)
        ]
        for kept, limit in enumerate(self.limits):
            may: Mask = np.logical_and.reduce([left, *free[kept:]])
            if may.any():
                return may
            self.relaxed[limit.rule] = None
        return left


def _full(limit: Limit, tail: Sequence[int]) -> set[int]:
    """Return the codes that the next place may not take."""
    last = tail[-(limit.window - 1) :] if limit.window > 1 else ()
    return {c for c, n in Counter(last).items() if c >= 0 and n >= limit.limit}


def _first(waiting: Sequence[int], limits: Sequence[Limit], full: Sequence[set[int]]) -> int | None:
    pairs = [(one.codes, barred) for one, barred in zip(limits, full, strict=True) if barred]
    for place, candidate in enumerate(waiting):
        if all(codes[candidate] not in barred for codes, barred in pairs):
            return place
    return None
