"""Song vectors from the order of plays: songs with like neighbours lie near each other."""

from datetime import datetime

import numpy as np
import pandas as pd
from scipy.sparse import coo_matrix, csr_matrix
from scipy.sparse.linalg import svds

from features.catalogue import FloatArray
from features.params import Vectors
from training.item_links import follows

SMOOTHING = 0.75
SEED = 7


def song_vectors(plays: pd.DataFrame, until: datetime, params: Vectors, n: int) -> FloatArray:
    """Return vectors from co-occurrence up to `max_gap` places apart: truncated SVD of its PMI.

    Levy and Goldberg, "Neural Word Embedding as Implicit Matrix Factorization", NeurIPS 2014, with
    context counts to the power 0.75 and singular values to the power 1/2.

    Returns
    -------
    FloatArray
        Shape (n, factors), rows of length 1; zero rows for songs without neighbours.
    """
    one_way = follows(plays, until, params.half_life_days, params.max_gap, params.gap_decay, n)
    pmi = positive_pmi((one_way + one_way.T).tocsr())
    factors = min(params.factors, n - 1)
    if not pmi.nnz or factors < 1:
        return np.zeros((n, params.factors), dtype=np.float32)
    start = np.random.default_rng(SEED).standard_normal(n)
    left, scale, _ = svds(pmi.astype(np.float64), k=factors, v0=start)
    vectors = left * np.sqrt(scale)
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.where(length > 1e-6, vectors / np.maximum(length, 1e-6), 0).astype(np.float32)


def positive_pmi(counts: csr_matrix) -> csr_matrix:
    """Return max(0, log(p(a, b) / (p(a) p(b)))), the p(b) of contexts smoothed.

    Examples
    --------
    >>> from scipy.sparse import csr_matrix
    >>> positive_pmi(csr_matrix([[0.0, 4.0], [4.0, 0.0]])).toarray().round(3)
    array([[0.   , 0.693],
           [0.693, 0.   ]])
    """
    pairs = counts.tocoo()
    own = np.asarray(counts.sum(axis=1)).ravel()
    context = np.asarray(counts.sum(axis=0)).ravel() ** SMOOTHING
    expected = own[pairs.row] * context[pairs.col] / context.sum()
    value = np.log(np.maximum(pairs.data, 1e-12) / np.maximum(expected, 1e-12))
    keep = value > 0
    kept = (value[keep], (pairs.row[keep], pairs.col[keep]))
    return coo_matrix(kept, shape=counts.shape).tocsr()
