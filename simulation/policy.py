"""The logging policy: a service that recommends by popularity, with exploration.

A slot is drawn from a mixture of uniform, popular-in-language and popular-in-genre draws, which
are all known; so its true probability is known too, for the song drawn and for every other.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from simulation.draws import Array, key, pick, uniform, uniforms
from simulation.listeners import Listeners
from simulation.market import Market, genre_shelf

SLATE = 10
# Shares of uniform, language and genre draws by variant (`VARIANTS`).
MIXTURES = np.array([[0.10, 0.80, 0.10], [0.10, 0.20, 0.70]])
_VARIANT_PURPOSE, _SLOT_PURPOSE = 900, 901


def variants(seed: int, listeners: int) -> Array:
    """Return the arm (index into `VARIANTS`) of every listener, half and half."""
    chance = uniform(key(seed, np.arange(listeners)), _VARIANT_PURPOSE)
    return (chance >= 0.5).astype(np.int64)


@dataclass(frozen=True)
class Policy:
    """The policy on a day."""

    seed: int
    listeners: Listeners
    market: Market

    @cached_property
    def variant(self) -> Array:
        """Each listener's arm of the standing experiment."""
        return variants(self.seed, len(self.listeners))

    @cached_property
    def genres(self) -> Array:
        """Genre shelves of the favourite artists named at sign-up, (listeners, favourites)."""
        catalogue = self.market.store.songs
        artists = self.market.store.shelves["artist"]
        first = artists.order[artists.edges[self.listeners.favourites]]
        return genre_shelf(catalogue.language[first], catalogue.genre[first])

    @cached_property
    def released(self) -> Array:
        """Numbers of the songs released before the day."""
        return np.flatnonzero(self.market.released)

    def probability(self, users: Array, songs: Array) -> Array:
        """Return the probability of drawing songs (n,) or (n, k) for a first slot."""
        wide = songs.reshape(len(users), -1)
        mixture = MIXTURES[self.variant[users]][:, :, None]
        catalogue = self.market.store.songs
        language = catalogue.language[wide]
        genre = genre_shelf(language, catalogue.genre[wide])
        everywhere = self.market.released[wide] / len(self.released)
        home = self.listeners.languages[users, 0][:, None]
        spoken = self.market.chance("language", home, wide, language)
        favoured = np.zeros(wide.shape)
        seats = self.genres[users]
        for seat in range(seats.shape[1]):
            favoured += self.market.chance("genre", seats[:, [seat]], wide, genre)
        favoured /= seats.shape[1]
        parts = (everywhere, spoken, favoured)
        return sum(mixture[:, i] * part for i, part in enumerate(parts)).reshape(songs.shape)

    def draw(self, users: Array, keys: Array, slate: Array) -> tuple[Array, Array]:
        """Draw the next slot of each slate, without songs that are in it.

        Parameters
        ----------
        users, keys : arrays (n,)
            Listener numbers, and the random key of each draw.
        slate : array (n, SLATE)
            Songs drawn before, -1 for slots not yet drawn.

        Returns
        -------
        songs, mass : arrays (n,)
            The song, and its probability in an empty slate. Its propensity, the chance among what
            is left, is mass / (1 - the masses of the songs in the slate).
        """
        songs = np.full(len(users), -1, dtype=np.int64)
        open_rows, tries = np.arange(len(users)), 0
        while len(open_rows):
            again = key(keys[open_rows].view(np.int64), tries)
            songs[open_rows] = self._one(users[open_rows], again)
            in_slate = (slate[open_rows] == songs[open_rows][:, None]).any(axis=1)
            open_rows, tries = open_rows[in_slate], tries + 1
        return songs, self.probability(users, songs)

    def _one(self, users: Array, keys: Array) -> Array:
        which, where, chance = uniforms(keys, _SLOT_PURPOSE, 3).T
        source = pick(MIXTURES.cumsum(axis=1)[self.variant[users]], which)
        seats = self.genres[users]
        seat = (where * seats.shape[1]).astype(np.int64)
        return np.choose(
            source,
            [
                self.released[(chance * len(self.released)).astype(np.int64)],
                self.market.draw("language", self.listeners.languages[users, 0], chance),
                self.market.draw("genre", seats[np.arange(len(users)), seat], chance),
            ],
        )
