"""The pool: every generator proposes, and scores everything that any of them proposed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from features.catalogue import Catalogue, FloatArray, IntArray
from features.pairs import Group, Pairs, among, pair_features, pair_names
from features.query import Query
from features.state import State, resolve
from serving.compiled import places_in_lists
from serving.dayparts import Dayparts
from serving.generators import Blend, Generator
from serving.links import Links
from serving.scores import MixedScores, Scores

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
        barred = self.barred(state)
        proposals = [self._proposal(name, scores[name], barred) for name in self.names]
        songs = np.sort(np.concatenate(proposals if also is None else [*proposals, also]))
        songs = songs[np.append(songs[1:] != songs[:-1], np.True_)[: len(songs)]].astype(np.int32)
        return Pool(
            songs=songs,
            scores=self._scored(scores, songs),
            ranks=ranks(songs, proposals),
        )

    def _proposal(self, name: str, scores: Scores, barred: IntArray) -> IntArray:
        quota = self.quota[name]
        if quota == 0:
            return np.empty(0, dtype=np.int32)
        return allowed(scores.top(quota + len(barred)), barred)[:quota]

    def _scored(self, scores: Mapping[str, Scores], songs: IntArray) -> FloatArray:
        columns = {name: scores[name].of(songs) for name in self.generators}
        mixed = scores[BLEND]
        # A mixture's parts have just been worked out.
        blended = mixed.mixed(columns) if isinstance(mixed, MixedScores) else mixed.of(songs)
        return np.array([*columns.values(), blended]).T

    def features(self, state: State, pool: Pool) -> FloatArray:
        """Return the ranker's input, shape (candidates, features), columns as `feature_names`."""
        _, pairs = pair_features(Pairs(state, self.songs, pool.songs))
        proposed = np.isfinite(pool.ranks).sum(axis=1)
        links = self._linked(state, pool.songs)
        linked = np.empty((len(links), len(pool.songs)), dtype=np.float32)
        for row, values in zip(linked, links.values(), strict=True):
            row[:] = values
        rows = [pool.scores.T, pool.ranks.T, proposed[None], pairs.T, linked]
        return np.vstack(rows, dtype=np.float32, casting="same_kind").T

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

    def barred(self, state: State) -> IntArray:
        """Return the songs that may not be proposed: excluded ones, and those of the session."""
        excluded = self.songs.indices(sorted(state.query.exclude))
        played = np.empty(0, np.int32) if state.query.allow_repeats else state.played
        return np.unique(np.concatenate([excluded[excluded >= 0], played]))


def allowed(songs: IntArray, barred: IntArray) -> IntArray:
    """Return the songs that are not barred, in their order."""
    return songs[~among(songs, barred)] if len(barred) else songs


def ranks(songs: IntArray, proposals: Sequence[IntArray]) -> NDArray[np.float32]:
    """Return each song's place in each proposal, NaN where it is not in it; `songs` ascending."""
    ends = np.cumsum([len(proposal) for proposal in proposals])
    return places_in_lists(songs, np.concatenate(proposals), ends)
