"""The pool: every generator proposes, and scores everything that any of them proposed."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from features.catalogue import Catalogue, FloatArray, IntArray
from features.pair_groups import fill, pair_columns, pair_names
from features.pairs import Group, Pairs
from features.state import State, nobody
from serving.compiled import pooled
from serving.dayparts import Dayparts
from serving.generators import Blend, Generator
from serving.links import Links
from serving.rules import barred
from serving.scores import MixedScores, Scores

BLEND = "blend"
NONE: Final[IntArray] = np.empty(0, dtype=np.int32)


@dataclass(frozen=True)
class Pool:
    """Candidates of one query.

    `songs` is (n,); `scores` and `ranks` are (n, generators): NaN where a generator has no score
    for a song, or did not propose it. The best rank is 0.
    """

    songs: IntArray
    scores: FloatArray
    ranks: FloatArray

    def only(self, mask: NDArray[np.bool_]) -> "Pool":
        """Return the marked candidates."""
        return Pool(self.songs[mask], self.scores[mask], self.ranks[mask])


@dataclass(frozen=True)
class Retrieval:
    """All generators over one catalogue; `quota` says how many songs each may propose.

    `blend` knows the signals' weights even where it is off, that is, where `quota` lacks it.
    """

    songs: Catalogue
    generators: Mapping[str, Generator]
    blend: Blend
    quota: Mapping[str, int]
    links: Links
    dayparts: Dayparts | None = None

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Generator names in the order of the pool's columns."""
        return (*self.generators, BLEND) if self.blends else tuple(self.generators)

    @property
    def blends(self) -> bool:
        """Say whether the blend proposes and scores."""
        return BLEND in self.quota

    def scores(self, state: State) -> dict[str, Scores]:
        """Ask every generator once."""
        scores = {name: generator.scores(state) for name, generator in self.generators.items()}
        return scores | {BLEND: self.blend.combine(scores)} if self.blends else scores

    def pool(self, state: State, also: IntArray | None = None) -> Pool:
        """Return the union of all proposals, with every generator's score for each song.

        Parameters
        ----------
        also
            Songs to add to the pool whoever proposed them: for labels, or for a wish.
        """
        scores = self.scores(state)
        out = barred(state.query, self.songs, state.played)
        tops = [self._top(name, scores[name], len(out)) for name in self.names]
        songs, ranks = pooled(
            np.concatenate(tops),
            np.cumsum([len(top) for top in tops]),
            self._quotas,
            out,
            NONE if also is None else also,
        )
        return Pool(songs=songs, scores=self._scored(scores, songs), ranks=ranks)

    def _top(self, name: str, scores: Scores, barred: int) -> IntArray:
        """Return a generator's best songs: as many as it may propose and so many barred ones."""
        quota = self.quota[name]
        return scores.top(quota + barred) if quota else NONE

    @cached_property
    def _quotas(self) -> NDArray[np.int64]:
        return np.array([self.quota[name] for name in self.names])

    def _scored(self, scores: Mapping[str, Scores], songs: IntArray) -> FloatArray:
        columns = {name: scores[name].of(songs) for name in self.generators}
        if self.blends:
            mixed = scores[BLEND]
            # A mixture's parts have just been worked out.
            blended = mixed.mixed(columns) if isinstance(mixed, MixedScores) else mixed.of(songs)
            columns = columns | {BLEND: blended}
        # Filled row by row: NumPy would first go through the columns to find out what they are.
        found = np.empty((len(columns), len(songs)), dtype=np.float32)
        for row, column in enumerate(columns.values()):
            found[row] = column
        return found.T

    def features(self, state: State, pool: Pool) -> FloatArray:
        """Return the ranker's input, shape (candidates, features), columns as `feature_names`."""
        columns = pair_columns(Pairs(state, self.songs, pool.songs))
        columns |= self._linked(state, pool.songs)
        own = 2 * len(self.names)
        # Column by column in memory; the ranker reads it so.
        matrix = np.empty((own + 1 + len(columns), len(pool.songs)), dtype=np.float32)
        matrix[: len(self.names)] = pool.scores.T
        matrix[len(self.names) : own] = pool.ranks.T
        matrix[own] = np.isfinite(pool.ranks).sum(axis=1)
        fill(matrix[own + 1 :], columns.values())
        return matrix.T

    @cached_property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the columns of `features`."""
        return (
            *(f"{name}_score" for name in self.names),
            *(f"{name}_rank" for name in self.names),
            "proposed_by",
            *pair_names(self.songs),
            *self._link_names,
        )

    @cached_property
    def _link_names(self) -> tuple[str, ...]:
        return tuple(self._linked(nobody(self.songs), np.empty(0, dtype=np.int32)))

    def _linked(self, state: State, songs: IntArray) -> Group:
        """Return the features that need what training fitted."""
        links = self.links.features(state, songs)
        return links | self.dayparts.features(state, songs) if self.dayparts else links
