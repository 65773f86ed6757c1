"""Approximate search for the largest inner products, over a catalogue too large to look at whole.

faiss, inverted lists over k-means cells with four bits a dimension, whose products are looked up
in registers (André, Kermarrec and Le Scouarnec, "Quicker ADC", TPAMI 2021). A folded-in listener
is about the inverse of the Gram matrix times songs: it is long where songs are short. The index
therefore holds songs times the inverse root of that matrix, and is asked with listeners times its
root: the products are the same, but both sides now look alike, so that the cells near a listener
hold what suits. It finds several times as many songs as are asked for; the caller scores these
exactly.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import faiss
import numpy as np
from numpy.typing import NDArray

from features.catalogue import FloatArray, IntArray
from serving.fold_in import FactorModel

# Below, an exact product costs less than what the index saves.
EXACT_BELOW: Final = 50_000
PROBES: Final = 112
# Songs found for each that is wanted: four bits order them only roughly.
OVERFETCH: Final = 5
# So many times as many songs lie in the cells that are searched as are found, at least.
ROOM: Final = 4
BITS: Final = 4
BLOCK: Final = 131_072
SAMPLE: Final = 262_144
SEED: Final = 7
# faiss's search of one query at a time, which keeps what it finds in a reservoir. By itself it
# takes the one for many queries at once, a fifth slower for one.
ONE_QUERY: Final = 11


@dataclass(frozen=True)
class VectorIndex:
    """A faiss index of songs, searched in `probes` of its cells with `vector @ root`."""

    index: Any
    root: FloatArray
    probes: int = PROBES

    def search(
        self, vector: FloatArray, count: int, allowed: NDArray[np.uint8] | None = None
    ) -> IntArray:
        """Return songs among which are nearly all of the `count` largest inner products.

        There are `OVERFETCH` times as many, in no certain order.

        Parameters
        ----------
        allowed
            A bitmap, one bit a song from the lowest of the first byte on; None allows all. The
            rarer the allowed songs, and the more are wanted, the more cells are searched.
        """
        params = self._params(count, allowed)
        query = (vector @ self.root)[None].astype(np.float32)
        _, found = self.index.search(query, OVERFETCH * count, params=params)
        songs: IntArray = found[0][found[0] >= 0].astype(np.int32)
        return songs

    def _params(self, count: int, allowed: NDArray[np.uint8] | None) -> Any:
        songs, cells = max(self.index.ntotal, 1), self.index.nlist
        # Long lists need more cells than short ones: some times as many songs as are to be found.
        probes = max(self.probes, ROOM * OVERFETCH * count * cells / songs)
        if allowed is None:
            return _unfiltered(min(int(probes), cells))
        # Of all songs, known or not: the index holds the known ones only.
        share = int(np.bitwise_count(allowed).sum()) / (8 * len(allowed))
        probes = min(probes / max(share, 1 / cells), cells)
        return _parameters(nprobe=int(probes), sel=_selector(allowed))


# faiss adds these constructors at run time, where type checkers do not see them.
_parameters: Any = faiss.SearchParametersIVF
_selector: Any = faiss.IDSelectorBitmap


@lru_cache(maxsize=1024)
def _unfiltered(probes: int) -> Any:
    """Return the parameters of a search without a filter, made once: each is some microseconds."""
    return _parameters(nprobe=probes)


def build_index(path: Path, model: FactorModel) -> None:
    """Build and write the index over a model's known songs."""
    random = np.random.default_rng(SEED)
    _, inverse = roots(model.gram)
    known = np.flatnonzero(model.known)

    def rows(songs: NDArray[np.int64]) -> FloatArray:
        return np.ascontiguousarray(model.item_factors[songs] @ inverse)

    sample = rows(np.sort(random.permutation(known)[:SAMPLE]))
    index, coarse = _trained(sample, len(known), random)
    for start in range(0, len(known), BLOCK):
        songs = known[start : start + BLOCK]
        index.add_with_ids(rows(songs), songs)
    index.quantizer = coarse
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
    """Return an empty index, to be filled, and what finds its cells once it is.

    Large products come from long vectors, which are few. The centres are therefore learnt from a
    sample in which a vector comes up by its squared length, and keep their own lengths: a vector
    belongs to the cell whose centre is nearest, a query goes where its products are largest.
    """
    width, cells = sample.shape[1], cells_for(vectors)
    length = (sample**2).sum(axis=1, dtype=np.float64)
    drawn = sample[random.choice(len(sample), 40 * cells, p=length / length.sum())]
    kmeans = faiss.Kmeans(width, cells, niter=8, seed=1, max_points_per_centroid=40)
    kmeans.train(drawn)
    nearest, coarse = faiss.IndexFlatL2(width), faiss.IndexFlatIP(width)
    nearest.add(kmeans.centroids)
    coarse.add(kmeans.centroids)
    index: Any = faiss.IndexIVFPQFastScan(
        nearest, width, cells, width, BITS, faiss.METRIC_INNER_PRODUCT
    )
    index.by_residual = False
    index.pq.train(drawn[:SAMPLE])
    index.is_trained = True
    return index, coarse


def load_index(path: Path, gram: FloatArray) -> VectorIndex | None:
    """Read an index; None where there is none and all songs are looked at.

    faiss lays lists of this kind out in memory of its own: each process holds a copy.
    """
    if not path.exists():
        return None
    index: Any = faiss.read_index(str(path))
    index.implem = ONE_QUERY
    return VectorIndex(index, roots(gram)[0])


def bitmap(allowed: Iterable[bool] | NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Pack one truth value a song as `VectorIndex.search` takes them."""
    return np.packbits(np.asarray(allowed, dtype=np.bool_), bitorder="little")
