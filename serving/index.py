"""Approximate search for the largest inner products, over a catalogue too large to look at whole.

faiss, inverted lists over k-means cells with eight bits a dimension. A folded-in listener is about
the inverse of the Gram matrix times songs: it is long where songs are short. The index therefore
holds songs times the inverse root of that matrix, and is asked with listeners times its root: the
products are the same, but both sides now look alike, so that the cells near a listener hold what
suits. What it finds is scored exactly by who asks.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import faiss
import numpy as np
from numpy.typing import NDArray

from features.catalogue import FloatArray, IntArray
from serving.fold_in import FactorModel

# Below, an exact product costs less than what the index saves.
EXACT_BELOW: Final = 50_000
PROBES: Final = 96
BLOCK: Final = 131_072
SAMPLE: Final = 262_144


@dataclass(frozen=True)
class VectorIndex:
    """A faiss index of songs, searched in `probes` of its cells with `vector @ root`."""

    index: Any
    root: FloatArray
    probes: int = PROBES

    def search(
        self, vector: FloatArray, count: int, allowed: NDArray[np.uint8] | None = None
    ) -> IntArray:
        """Return about `count` songs with the largest inner products, in no certain order.

        Parameters
        ----------
        allowed
            A bitmap, one bit a song from the lowest of the first byte on; None allows all. The
            rarer the allowed songs, the more cells are searched.
        """
        params = self._unfiltered if allowed is None else self._filtered(allowed)
        query = (vector @ self.root)[None].astype(np.float32)
        _, found = self.index.search(query, count, params=params)
        songs: IntArray = found[0][found[0] >= 0].astype(np.int32)
        return songs

    @cached_property
    def _unfiltered(self) -> Any:
        return _params(nprobe=self.probes)

    def _filtered(self, allowed: NDArray[np.uint8]) -> Any:
        share = int(np.bitwise_count(allowed).sum()) / max(self.index.ntotal, 1)
        cells = int(self.probes / max(share, 1 / self.index.nlist))
        probes = min(max(cells, self.probes), self.index.nlist)
        return _params(nprobe=probes, sel=selector(allowed))


# faiss adds these constructors at run time, where type checkers do not see them.
_params: Any = faiss.SearchParametersIVF
selector: Any = faiss.IDSelectorBitmap


def build_index(path: Path, model: FactorModel, seed: int = 7) -> None:
    """Build and write the index over a model's known songs."""
    random = np.random.default_rng(seed)
    _, inverse = roots(model.gram)
    known = np.flatnonzero(model.known)

    def rows(songs: NDArray[np.int64]) -> FloatArray:
        return np.ascontiguousarray(model.item_factors[songs] @ inverse)

    sample = rows(np.sort(random.permutation(known)[:SAMPLE]))
    index, nearest = _trained(sample, len(known), random)
    for start in range(0, len(known), BLOCK):
        songs = known[start : start + BLOCK]
        vectors = rows(songs)
        cells = nearest.search(vectors, 1)[1][:, 0]
        pointers = (faiss.swig_ptr(array) for array in (vectors, songs, cells))
        index.add_core(len(songs), *pointers)
    faiss.write_index(index, str(path))


def roots(gram: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return a Gram matrix's root and its inverse; directions that nothing uses stay small."""
    values, basis = np.linalg.eigh(gram.astype(np.float64))
    values = np.maximum(values, 1e-6 * values.max())
    root = (basis * np.sqrt(values)) @ basis.T
    inverse = (basis / np.sqrt(values)) @ basis.T
    # Both in units of the mean, so that a root's rows are about as long as its inverse's.
    unit = np.float64(np.sqrt(values.mean()))
    return (root / unit).astype(np.float32), (inverse * unit).astype(np.float32)


def cells_for(vectors: int) -> int:
    """Return the number of cells: a power of two near twice the root."""
    return int(2 ** np.clip(np.round(np.log2(2 * np.sqrt(max(vectors, 1)))), 4, 14))


def _trained(sample: FloatArray, vectors: int, random: np.random.Generator) -> tuple[Any, Any]:
    """Return an empty index, and the search for the cell that a vector belongs to.

    Large products come from long vectors, which are few. The centres are therefore learnt from a
    sample in which a vector comes up by its squared length, and keep their own lengths: a vector
    belongs to the cell whose centre is nearest, a query goes where its products are largest.
    """
    width, cells = sample.shape[1], cells_for(vectors)
    length = (sample**2).sum(axis=1, dtype=np.float64)
    drawn = random.choice(len(sample), 40 * cells, p=length / length.sum())
    kmeans = faiss.Kmeans(width, cells, niter=8, seed=1, max_points_per_centroid=40)
    kmeans.train(sample[drawn])
    nearest, coarse = faiss.IndexFlatL2(width), faiss.IndexFlatIP(width)
    nearest.add(kmeans.centroids)
    coarse.add(kmeans.centroids)
    eight_bits = faiss.ScalarQuantizer.QT_8bit
    index = faiss.IndexIVFScalarQuantizer(
        coarse, width, cells, eight_bits, faiss.METRIC_INNER_PRODUCT, False
    )
    index.train(sample)
    return index, nearest


def load_index(path: Path, gram: FloatArray) -> VectorIndex | None:
    """Return an index, memory-mapped; None where there is none and all songs are looked at."""
    if not path.exists():
        return None
    index: Any = faiss.read_index(str(path), faiss.IO_FLAG_MMAP | faiss.IO_FLAG_READ_ONLY)
    # Each search would start threads to read ahead what lies in memory anyway.
    lists: Any = faiss.downcast_InvertedLists(index.invlists)
    lists.prefetch_nthread = 0
    return VectorIndex(index, roots(gram)[0])


def bitmap(allowed: Iterable[bool] | NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Pack one truth value a song as `VectorIndex.search` takes them."""
    return np.packbits(np.asarray(allowed, dtype=np.bool_), bitorder="little")
