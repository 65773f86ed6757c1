"""Fold a listener into fitted item factors: one least-squares solve, as implicit's ALS does.

Hu, Koren and Volinsky, "Collaborative Filtering for Implicit Feedback Datasets", ICDM 2008, eq. 4:
x = (YtY + Yt (C - I) Y + reg I)^-1 Yt C p, with confidence C = 1 + alpha * value.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.lapack import sposv

from features.catalogue import FloatArray, IntArray
from serving.compiled_factors import fold_in_target
from serving.packed import Factors

BLOCK: Final = 131_072


@dataclass(frozen=True)
class FactorModel:
    """Item factors of one signal over a catalogue.

    `item_factors` is (songs, factors), zero rows where `known` is False; `spread` is the standard
    deviation of training scores, the unit in which signals are blended. The factors may be packed
    and memory-mapped; what is computed from them is of single precision.

    A listener of n observed songs is regularised by `regularization` * (n + `offset`)^`exponent`
    (Rendle et al., RecSys 2022). `skip_weight` is what a skip takes from a song's value: below 0
    the song is an observed zero.
    """

    item_factors: Factors
    known: NDArray[np.bool_]
    regularization: float
    alpha: float
    spread: float
    exponent: float = 0.0
    offset: float = 0.0
    skip_weight: float = 0.0
    stored_gram: FloatArray | None = None

    @cached_property
    def complete(self) -> bool:
        """Whether all songs are known."""
        return bool(self.known.all())

    @cached_property
    def gram(self) -> FloatArray:
        """YtY + reg I, shape (factors, factors); the same for every listener."""
        if self.stored_gram is not None:
            return self.stored_gram
        return gram(self.item_factors, self.regularization)

    def regularised(self, observed: int) -> FloatArray:
        """YtY and the regularisation of a listener of so many observed songs."""
        if not self.exponent:
            return self.gram
        system = self.gram.copy()
        more = self.regularization * ((observed + self.offset) ** self.exponent - 1)
        # The diagonal.
        system.ravel()[:: len(system) + 1] += np.float32(more)
        return system


def gram(item_factors: Factors, regularization: float) -> FloatArray:
    """Return YtY + reg I, shape (factors, factors), block by block of the songs."""
    total = regularization * np.eye(item_factors.shape[1], dtype=np.float32)
    for start in range(0, len(item_factors), BLOCK):
        rows = item_factors[start : start + BLOCK]
        total += rows.T @ rows
    return total


def fold_in(model: FactorModel, songs: IntArray, values: FloatArray) -> FloatArray | None:
    """Return the listener's factors, shape (factors,); None without a known song.

    Parameters
    ----------
    songs, values
        Observed song indices and their signal values, aligned; a song may come twice. A value
        below 0 is an observed zero, the surer the lower (then each song may come once only).
    """
    if not model.complete:
        use = model.known[songs]
        songs, values = songs[use], values[use]
    if not len(songs):
        return None
    extra = np.float32(model.alpha) * values
    return solve(model.regularised, model.item_factors[songs], extra, songs)


def solve(
    regularised: Callable[[int], FloatArray],
    factors: FloatArray,
    extra: FloatArray,
    cells: NDArray[np.integer],
) -> FloatArray:
    """Return the factors of one row of a factorisation, shape (factors,).

    Parameters
    ----------
    regularised
        YtY + reg I for a number of observed cells; all listeners may share the array.
    factors, extra, cells
        Of each observation: the cell's factors, its confidence above 1 (below 0: an observed
        zero), and which cell it is.
    """
    target, distinct = fold_in_target(factors, cells, extra)
    system = (factors.T * np.abs(extra)) @ factors
    system += regularised(distinct)
    # NumPy's `solve` takes twice as long: the system is symmetric and positive definite.
    _, solution, info = sposv(system, target)
    if info:
        raise np.linalg.LinAlgError("A fold-in's system is not positive definite; train again.")
    found: FloatArray = solution
    return found
