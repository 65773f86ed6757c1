"""The tensor listener x song x daypart, factorised by implicit's solver.

Each entry is a sum over factors of listener * song * daypart. With two of the three held fixed,
the third solves an ordinary implicit ALS step: the unfolding's columns are the Khatri-Rao product
of the other two, whose Gram matrix is the elementwise product of theirs (Kolda and Bader, SIAM
Review 2009, section 3.4; implicit weights as in Hidasi and Tikk, ECML PKDD 2012).
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd
from implicit.cpu.als import AlternatingLeastSquares
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from threadpoolctl import threadpool_limits

from features.catalogue import FloatArray
from features.columns import Event, Song
from features.dayparts import DAYPARTS
from features.mistakes import Mistake
from features.params import Tensor
from training.als import Solver, half_step
from training.plays import DAYPART, recency

SEED = 7


@dataclass(frozen=True)
class Cells:
    """Observed cells: three indices a cell, shape (cells, 3), their confidence, and the shape."""

    places: NDArray[np.int64]
    confidence: FloatArray
    shape: tuple[int, int, int]


def cells(plays: pd.DataFrame, until: datetime, params: Tensor, n: int) -> Cells:
    """Return 1 + alpha * recency-weighted plays a (listener, song, daypart) that was observed."""
    users, names = pd.factorize(plays[Event.USER], sort=True)
    shape = (len(names), n, DAYPARTS)
    index = np.ravel_multi_index((users, plays[Song.ID], plays[DAYPART]), shape)
    numbers, place = np.unique(index, return_inverse=True)
    weight = np.bincount(place, recency(plays[Event.TS], until, params.half_life_days))
    confidence = (1 + params.alpha * weight).astype(np.float32)
    return Cells(np.column_stack(np.unravel_index(numbers, shape)), confidence, shape)


def mode_step(
    solve: Solver, found: Cells, factors: list[FloatArray], mode: int, regularization: float
) -> None:
    """Solve one mode's factors in place, the other two held fixed.

    Only observed columns of the unfolding are written out; the others enter by their Gram matrix.
    """
    one, other = (m for m in range(3) if m != mode)
    numbers = found.places[:, one] * found.shape[other] + found.places[:, other]
    observed, column = np.unique(numbers, return_inverse=True)
    first, second = np.divmod(observed, found.shape[other])
    columns = factors[one][first] * factors[other][second]
    wide = [factors[m].astype(np.float64) for m in (one, other)]
    whole = (wide[0].T @ wide[0]) * (wide[1].T @ wide[1])
    rest = whole - columns.T.astype(np.float64) @ columns
    shape = (found.shape[mode], len(observed))
    confidence = csr_matrix((found.confidence, (found.places[:, mode], column)), shape=shape)
    ridge = np.full(found.shape[mode], regularization)
    half_step(solve, confidence, factors[mode], columns, ridge, rest)


def fit_tensor(plays: pd.DataFrame, until: datetime, params: Tensor, n: int) -> dict[str, Any]:
    """Return song and daypart factors and the songs they know, by the bundle's names.

    Raises
    ------
    Mistake
        If the fit gave factors that are not finite.
    """
    found = cells(plays, until, params, n)
    random = np.random.default_rng(SEED)
    width = params.factors
    users, songs = (
        random.random((size, width), dtype=np.float32) * np.float32(0.01)
        for size in found.shape[:2]
    )
    # Near 1, so that it begins as the factorisation of listener x song.
    dayparts = 1 + 0.1 * random.standard_normal((DAYPARTS, width), dtype=np.float32)
    factors = [users, songs, dayparts]
    if len(found.places):
        with threadpool_limits(limits=1, user_api="blas"):
            solve = AlternatingLeastSquares(factors=width, random_state=SEED).solver
            for _ in range(params.iterations):
                for mode in range(3):
                    mode_step(solve, found, factors, mode, params.regularization)
    known = np.isin(np.arange(n), found.places[:, 1])
    if not all(np.isfinite(part).all() for part in factors):
        raise Mistake("The tensor's factors are not finite; raise its regularization.")
    return {
        "item_factors": songs * known[:, None],
        "daypart_factors": dayparts,
        "known": known,
    }
