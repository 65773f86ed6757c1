"""Generators from the order of songs: loops within a session, and song vectors from sequences."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from features.catalogue import FloatArray
from features.params import Loops, Seeds
from features.state import State
from serving.compiled_sessions import followers_here
from serving.scores import NO_SCORES, FactorScores, Scores, add_up


@dataclass(frozen=True)
class SongVectors:
    """Songs near the session's last ones in a space learnt from sequences.

    `vectors` is (songs, dimensions) with rows of length 1, zero where `known` is False.
    """

    vectors: FloatArray
    known: NDArray[np.bool_]
    params: Seeds

    def scores(self, state: State) -> Scores:
        """Return the inner products with the seeds' decayed sum; none without a known seed."""
        seeds = state.seeds(self.params.seeds, enjoyed_first=True)
        weights = self.params.seed_decay ** np.arange(len(seeds), dtype=np.float32)
        weights *= self.known[seeds]
        if not weights.any():
            return NO_SCORES
        vector = (weights / weights.sum()) @ self.vectors[seeds]
        return FactorScores(vector.astype(np.float32), self.vectors, self.known)


@dataclass(frozen=True)
class SessionLoops:
    """What came after the current song when it was played before in this session."""

    params: Loops

    def scores(self, state: State) -> Scores:
        """Return decayed counts: by how far behind the song it came, and how long ago that was."""
        session = state.course
        if len(session) < 2:
            return NO_SCORES
        params = self.params
        return add_up(*followers_here(session, params.max_gap, params.gap_decay, params.age_decay))
