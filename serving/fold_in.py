"""Fold a listener into fitted item factors: one least-squares solve, as implicit's ALS does.

Hu, Koren and Volinsky, "Collaborative Filtering for Implicit Feedback Datasets", ICDM 2008, eq. 4:
x = (YtY + Yt (C - I) Y + reg I)^-1 Yt C p, with confidence C = 1 + alpha * value.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from features.catalogue import FloatArray, IntArray


@dataclass(frozen=True)
class FactorModel:
    """Item factors of one signal over a catalogue.

    `item_factors` is (songs, factors), zero rows where `known` is False; `spread` is the standard
    deviation of training scores, the unit in which signals are blended. The factors may be of half
    precision and memory-mapped; what is computed from them is of single precision.
    """

    item_factors: FloatArray
    known: NDArray[np.bool_]
    regularization: float
    alpha: float
    spread: float
    stored_gram: FloatArray | None = None

    @cached_property
    def gram(self) -> FloatArray:
        """YtY + reg I, shape (factors, factors); the same for every listener."""
        if self.stored_gram is not None:
            return self.stored_gram
        eye = np.eye(self.item_factors.shape[1], dtype=np.float32)
        return self.item_factors.T @ self.item_factors + self.regularization * eye


def fold_in(model: FactorModel, songs: IntArray, values: FloatArray) -> FloatArray | None:
    """Return the listener's factors, shape (factors,); None without a known song.

    Parameters
    ----------
    songs, values
        Observed song indices and their signal values (> 0), aligned; a song may come twice.
    """
    use = model.known[songs]
    if not use.any():
        return None
    factors = model.item_factors[songs[use]].astype(np.float32, copy=False)
    extra = model.alpha * values[use]
    system = model.gram + (factors.T * extra) @ factors
    # A song that comes twice is one observation of the summed value: count its "1" once.
    _, first = np.unique(songs[use], return_index=True)
    target = factors[first].sum(axis=0) + extra @ factors
    return np.linalg.solve(system, target).astype(np.float32)
