"""Item factors of a large catalogue in eight bits a number: a quarter of the memory.

A song's factors are its codes, -127 to 127, times a scale of its own: the largest of them is met
exactly, the others to within half a scale. What a listener is folded in from and what is scored
are the same rounded rows, in training's evaluation as in serving.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from features.catalogue import FloatArray, IntArray
from serving.compiled_factors import best_byte_products, byte_products, byte_rows

LARGEST: Final = 127
# What `byte_products` takes for "all songs are known".
ALL: Final = np.empty(0, dtype=np.bool_)


@dataclass(frozen=True)
class Packed:
    """Rows of factors: `codes` (songs, factors) times `scales` (songs,); may be memory-mapped."""

    codes: NDArray[np.int8]
    scales: FloatArray

    @property
    def shape(self) -> tuple[int, int]:
        """Songs and factors."""
        return self.codes.shape

    def __len__(self) -> int:
        """Return the number of songs."""
        return len(self.codes)

    def __getitem__(self, songs: Any) -> FloatArray:
        """Return the factors of one song, of a slice of them, or of an array of them."""
        if isinstance(songs, np.ndarray):
            rows: FloatArray = byte_rows(self.codes, self.scales, songs)[0]
            return rows
        return self.codes[songs] * self.scales[songs, None]

    def __matmul__(self, vector: FloatArray) -> FloatArray:
        """Return the inner product of every song with a vector."""
        return self.products(np.arange(len(self), dtype=np.int32), vector)

    def products(
        self, songs: IntArray, vector: FloatArray, known: NDArray[np.bool_] = ALL
    ) -> FloatArray:
        """Return the inner products of some songs with a vector; NaN where one is not known."""
        found: FloatArray = byte_products(self.codes, self.scales, known, songs, vector)[0]
        return found

    def best(
        self, songs: IntArray, vector: FloatArray, count: int, known: NDArray[np.bool_] = ALL
    ) -> IntArray:
        """Return the known songs with the largest products of some, best first, ties by song."""
        found: IntArray = best_byte_products(self.codes, self.scales, known, songs, vector, count)
        return found


Factors = FloatArray | Packed


def packed(rows: FloatArray) -> Packed:
    """Round factors, shape (songs, factors), to eight bits a number."""
    scales = np.abs(rows).max(axis=1) / np.float32(LARGEST)
    codes = np.rint(rows / np.where(scales > 0, scales, np.float32(1))[:, None])
    return Packed(codes.astype(np.int8), scales.astype(np.float32))
