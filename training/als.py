"""One half-step of implicit ALS for what implicit's own loop cannot say.

A regularisation of its own for each row, and columns that enter only through their Gram matrix,
both handed to implicit's solver as further columns that it can read.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, hstack

from features.catalogue import FloatArray

Solver = Callable[..., None]


def half_step(
    solve: Solver,
    confidence: csr_matrix,
    rows: FloatArray,
    columns: FloatArray,
    regularization: FloatArray,
    rest: NDArray[np.float64] | None = None,
    threads: int = 0,
) -> None:
    """Solve for each row of `rows` in place, the columns held fixed.

    Row x minimises sum over columns y of |c| (p - x.y)^2 + reg_row |x|^2, where c is the
    confidence and p is 1 for c > 0, 0 for c < 0; a column without an entry has c = 1, p = 0.

    Parameters
    ----------
    solve
        `AlternatingLeastSquares.solver` of implicit.
    confidence
        Shape (rows, columns); |entry| >= 1.
    rows, columns
        Shape (rows, factors), (columns, factors), float32.
    regularization
        Shape (rows,), above 0.
    rest
        Gram matrix, shape (factors, factors), of further columns that nobody observed.

    Notes
    -----
    The ridge is data: `factors` more columns along the axes, sqrt(least) * e_k, are observed as
    zeros with confidence reg / least. Likewise `factors` columns with the Gram matrix `rest`
    stand for all further columns. So each row's system is exact, and the solver is implicit's.
    """
    factors = columns.shape[1]
    least = float(regularization.min())
    parts = [columns, np.sqrt(least) * np.eye(factors)]
    ridge = np.repeat((regularization / least)[:, None], factors, axis=1)
    entries = [confidence, csr_matrix(-ridge.astype(np.float32))]
    if rest is not None:
        parts.append(root(rest))
        entries.append(csr_matrix((confidence.shape[0], factors), dtype=np.float32))
    fixed = np.ascontiguousarray(np.vstack(parts), dtype=np.float32)
    solve(hstack(entries, format="csr"), rows, fixed, 0.0, num_threads=threads)


def root(gram: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return R with R^T R = gram, for a symmetric matrix that is positive but for rounding."""
    values, vectors = np.linalg.eigh(gram)
    return np.sqrt(np.maximum(values, 0))[:, None] * vectors.T
