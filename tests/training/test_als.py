import numpy as np
import pytest
from implicit.cpu.als import AlternatingLeastSquares
from scipy.sparse import csr_matrix
from threadpoolctl import threadpool_limits

from training.als import half_step, root

ROWS, COLUMNS, WIDTH = 9, 14, 4


def exact_solver():
    with threadpool_limits(limits=1, user_api="blas"):
        return AlternatingLeastSquares(factors=WIDTH, use_cg=False, num_threads=1).solver


def observations(random, columns=COLUMNS):
    """Return confidences of both signs, some rows empty."""
    seen = random.random((ROWS, columns)) < 0.4
    seen[3] = False
    sign = np.where(random.random((ROWS, columns)) < 0.3, -1, 1)
    return seen * sign * random.uniform(1, 6, (ROWS, columns))


def naive(confidence, columns, regularization):
    """Solve one row's weighted least squares, every column written out."""
    weight = np.where(confidence == 0, 1, np.abs(confidence))
    system = columns.T @ np.diag(weight) @ columns + regularization * np.eye(WIDTH)
    return np.linalg.solve(system, columns.T @ (weight * (confidence > 0)))


@pytest.mark.parametrize("seed", range(6))
def test_each_row_solves_its_own_least_squares(seed):
    random = np.random.default_rng(seed)
    confidence, columns = observations(random), random.normal(size=(COLUMNS, WIDTH))
    regularization = random.uniform(0.05, 5, ROWS)
    rows = np.zeros((ROWS, WIDTH), np.float32)
    half_step(
        exact_solver(),
        csr_matrix(confidence),
        rows,
        columns.astype(np.float32),
        regularization,
        threads=1,
    )
    expected = [naive(c, columns, r) for c, r in zip(confidence, regularization, strict=True)]
    np.testing.assert_allclose(rows, expected, rtol=2e-3, atol=2e-4)


@pytest.mark.parametrize("seed", range(3))
def test_columns_that_nobody_observed_may_come_as_their_gram_matrix(seed):
    random = np.random.default_rng(seed)
    confidence, columns = observations(random), random.normal(size=(COLUMNS, WIDTH))
    unseen = random.normal(size=(30, WIDTH))
    rows = np.zeros((ROWS, WIDTH), np.float32)
    half_step(
        exact_solver(),
        csr_matrix(confidence),
        rows,
        columns.astype(np.float32),
        np.full(ROWS, 0.3),
        unseen.T @ unseen,
        threads=1,
    )
    whole = np.hstack([confidence, np.zeros((ROWS, 30))])
    expected = [naive(c, np.vstack([columns, unseen]), 0.3) for c in whole]
    np.testing.assert_allclose(rows, expected, rtol=2e-3, atol=2e-4)


def test_root_squares_to_its_matrix():
    columns = np.random.default_rng(0).normal(size=(3, 5))
    gram = columns.T @ columns  # of rank 3 only
    np.testing.assert_allclose(root(gram).T @ root(gram), gram, atol=1e-9)
