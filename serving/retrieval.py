"""The pool: every generator proposes, and scores everything that any of them proposed."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from features.catalogue import Catalogue, FloatArray, IntArray
from features.pairs import Group, Pairs, pair_features, pair_names
from features.query import Query
from features.state import State, resolve
from serving.dayparts import Dayparts
from serving.generators import Blend, Generator
from serving.links import Links
from serving.scores import Scores

BLEND = "blend"


@dataclass(frozen=True)
class Pool:
    """Candidates of one query.

    `songs` is (n,); `scores` and `ranks` are (n, generators): NaN where a generator has no score
    for a song, or did not propose it. The best rank is 0.
    """

    songs: IntArray
    scores: FloatArray
    ranks: FloatArray


@dataclass(frozen=True)
class Retrieval:
    """All generators over one catalogue; `quota` says how many songs each may propose."""

    songs: Catalogue
    generators: Mapping[str, Generator]
    blend: Blend
    quota: Mapping[str, int]
    links: Links
    dayparts: Dayparts | None = None

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Generator names in the order of the pool's columns."""
        return (*self.generators, BLEND)

    def scores(self, state: State) -> dict[str, Scores]:
        """Ask every generator once."""
        scores = {name: generator.scores(state) for name, generator in self.generators.items()}
        return scores | {BLEND: self.blend.combine(scores)}

    def pool(self, state: State, also: IntArray | None = None) -> Pool:
        """Return the union of all proposals, with every generator's score for each song.

        Parameters
        ----------
        also
            Songs to add to the pool whoever proposed them, for labels.
        """
        scores = self.scores(state)
        barred = self._barred(state)
        proposals = [
            allowed(scores[name].top(self.quota[name] + len(barred)), barred)[: self.quota[name]]
            for name in self.names
        ]
        extra = [] if also is None else [also]
        songs = np.unique(np.concatenate([*proposals, *extra]).astype(np.int32))
        return Pool(
            songs=songs,
            scores=np.column_stack([scores[name].of(songs) for name in self.names]),
            ranks=np.column_stack([ranks(songs, proposal) for proposal in proposals]),
        )

    def features(self, state: State, pool: Pool) -> FloatArray:
        """Return the ranker's input, shape (candidates, features), columns as `feature_names`."""
        _, pairs = pair_features(Pairs(state, self.songs, pool.songs))
        proposed = np.isfinite(pool.ranks).sum(axis=1, keepdims=True)
        links = self._linked(state, pool.songs)
        matrix = np.empty((len(pool.songs), len(links)), dtype=np.float32)
        for i, values in enumerate(links.values()):
            matrix[:, i] = values
        parts = [pool.scores, pool.ranks, proposed, pairs, matrix]
        return np.hstack(parts).astype(np.float32)

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
        nobody = resolve(Query(ts=datetime.fromtimestamp(0, UTC)), self.songs)
        return tuple(self._linked(nobody, np.empty(0, dtype=np.int32)))

    def _linked(self, state: State, songs: IntArray) -> Group:
        """Return the features that need what training fitted."""
        links = self.links.features(state, songs)
        return links | self.dayparts.features(state, songs) if self.dayparts else links

    def _barred(self, state: State) -> IntArray:
        excluded = self.songs.indices(sorted(state.query.exclude))
        played = np.empty(0, np.int32) if state.query.allow_repeats else state.session
        return np.unique(np.concatenate([excluded[excluded >= 0], played]))


def allowed(songs: IntArray, barred: IntArray) -> IntArray:
    """Return the songs that are not barred, in their order."""
    return songs[~np.isin(songs, barred)] if len(barred) else songs


def ranks(songs: IntArray, proposal: IntArray) -> NDArray[np.float32]:
    """Return each song's place in a proposal, NaN where it is not in it; `songs` ascending."""
    place = np.full(len(songs), np.nan, dtype=np.float32)
    place[np.searchsorted(songs, proposal)] = np.arange(len(proposal), dtype=np.float32)
    return place
