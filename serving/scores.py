"""What a generator says of a catalogue for one query: the best songs, and any song's score."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from features.catalogue import FloatArray, IntArray
from features.compiled import largest, sum_by_key, values_at
from serving.packed import ALL, Factors, Packed


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
        return values_at(self.songs, self.values, songs)


@dataclass(frozen=True)
class FactorScores:
    """Inner products of one vector with item factors, shape (songs, factors).

    `near` returns at least that many songs among which the largest are, from an index; without it
    all songs are looked at. With `complete`, all songs are known, and `known` is not looked at: in
    a large catalogue each look costs about as much as the factors themselves.
    """

    vector: FloatArray
    item_factors: Factors
    known: NDArray[np.bool_]
    near: Callable[[int], IntArray] | None = None
    complete: bool = False

    def top(self, count: int) -> IntArray:
        """Return the songs with the largest inner products, best first."""
        if self.near is not None:
            songs = self.near(count)
            if isinstance(self.item_factors, Packed):
                return self.item_factors.best(songs, self.vector, count, self._known)
            songs = np.sort(songs if self.complete else songs[self.known[songs]])
            return songs[best(self.of(songs), count)]
        scores = np.where(self.known, self.item_factors @ self.vector, -np.inf)
        return best(scores, min(count, int(self.known.sum()))).astype(np.int32)

    def of(self, songs: IntArray) -> FloatArray:
        """Return inner products; NaN for songs without factors."""
        if isinstance(self.item_factors, Packed):
            return self.item_factors.products(songs, self.vector, self._known)
        products = self.item_factors[songs] @ self.vector
        if not self.complete:
            products = np.where(self.known[songs], products, np.nan)
        return products.astype(np.float32, copy=False)

    @property
    def _known(self) -> NDArray[np.bool_]:
        return ALL if self.complete else self.known


@dataclass(frozen=True)
class MixedScores:
    """The weighted sum of several generators' inner products over a large catalogue."""

    parts: Mapping[str, FactorScores]
    weights: FloatArray

    def top(self, count: int) -> IntArray:
        """Return the songs with the largest sums among the best of the parts that have an index."""
        found = [part.near(count) for part in self.parts.values() if part.near is not None]
        if not found:
            return np.empty(0, dtype=np.int32)
        songs = np.unique(np.concatenate(found))
        return songs[best(self.of(songs), count)]

    def of(self, songs: IntArray) -> FloatArray:
        """Return the sums; a part that does not know a song adds nothing."""
        return self.mixed({name: part.of(songs) for name, part in self.parts.items()})

    def mixed(self, scores: Mapping[str, FloatArray]) -> FloatArray:
        """Return the sum of the parts' scores; NaN where none has one."""
        table = np.array([scores[name] for name in self.parts])
        absent = np.isnan(table)
        total = self.weights @ np.where(absent, np.float32(0), table)
        return np.where(absent.all(axis=0), np.float32(np.nan), total)


NO_SCORES = SparseScores(np.empty(0, dtype=np.int32), np.empty(0, dtype=np.float32))


def best(values: NDArray[np.floating], count: int) -> NDArray[np.intp]:
    """Return the places of the `count` largest values, largest first, ties by place."""
    return largest(values, count)


def add_up(songs: IntArray, values: FloatArray) -> SparseScores:
    """Sum values that come for the same song."""
    return SparseScores(*sum_by_key(songs, values)) if len(songs) else NO_SCORES
