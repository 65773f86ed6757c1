"""What a generator says of a catalogue for one query: the best songs, and any song's score."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from features.catalogue import FloatArray, IntArray


class Scores(Protocol):
    """Scores of one generator for one query."""

    def top(self, count: int) -> IntArray:
        """Return at most `count` song indices, best first; ties by index."""

    def of(self, songs: IntArray) -> FloatArray:
        """Return the score of each song; NaN where the generator has none."""


@dataclass(frozen=True)
class SparseScores:
    """Scores of few songs: `songs` ascending and unique, `values` aligned."""

    songs: IntArray
    values: FloatArray

    def top(self, count: int) -> IntArray:
        """Return the best songs, best first."""
        return self.songs[best(self.values, count)]

    def of(self, songs: IntArray) -> FloatArray:
        """Look the songs up; NaN where there is no score."""
        if len(self.songs) == 0:
            return np.full(len(songs), np.nan, dtype=np.float32)
        place = np.minimum(np.searchsorted(self.songs, songs), len(self.songs) - 1)
        return np.where(self.songs[place] == songs, self.values[place], np.nan).astype(np.float32)


@dataclass(frozen=True)
class FactorScores:
    """Inner products of one vector with item factors, shape (songs, factors)."""

    vector: FloatArray
    item_factors: FloatArray
    known: NDArray[np.bool_]

    def top(self, count: int) -> IntArray:
        """Return the songs with the largest inner products, best first."""
        scores = np.where(self.known, self.item_factors @ self.vector, -np.inf)
        return best(scores, min(count, int(self.known.sum()))).astype(np.int32)

    def of(self, songs: IntArray) -> FloatArray:
        """Return inner products; NaN for songs without factors."""
        scores = self.item_factors[songs] @ self.vector
        return np.where(self.known[songs], scores, np.nan).astype(np.float32)


NO_SCORES = SparseScores(np.empty(0, dtype=np.int32), np.empty(0, dtype=np.float32))


def best(values: NDArray[np.floating], count: int) -> NDArray[np.intp]:
    """Return the places of the `count` largest values, largest first, ties by place."""
    if count <= 0:
        return np.empty(0, dtype=np.intp)
    if count < len(values):
        bound = np.partition(values, len(values) - count)[len(values) - count]
        places = np.flatnonzero(values >= bound)
    else:
        places = np.arange(len(values))
    return places[np.argsort(-values[places], kind="stable")][:count]


def add_up(songs: IntArray, values: FloatArray) -> SparseScores:
    """Sum values that come for the same song."""
    if len(songs) == 0:
        return NO_SCORES
    unique, place = np.unique(songs, return_inverse=True)
    return SparseScores(unique, np.bincount(place, weights=values).astype(np.float32))
