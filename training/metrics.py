"""Ranking metrics of one relevant song per query, and their bootstrap over listeners.

Needs numpy alone: the peers' bench imports it in an environment of its own.
"""

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
TOP: Final = 20
TASKS: Final = ("next song", "session start")
NEXT, START = TASKS
# A slice of fewer queries is not shown: one query more would move its hit rate by over 3 %.
FEWEST_QUERIES: Final = 30


def answer_ranks(answers: NDArray[np.integer], truth: NDArray[np.integer]) -> Floats:
    """Return the truth's rank from 1 in each row of answers, NaN where it is not there.

    Parameters
    ----------
    answers
        Song indices, best first, -1 = none; shape (queries, k).
    truth
        The songs that were played, -1 = not in the catalogue; shape (queries,).

    Examples
    --------
    >>> answer_ranks(np.array([[5, 7], [5, 7], [5, -1]]), np.array([7, 9, -1]))
    array([ 2., nan, nan])
    """
    hits = (answers == truth[:, None]) & (truth[:, None] >= 0)
    return np.where(hits.any(axis=1), hits.argmax(axis=1) + 1.0, np.nan)


def hit_rate(ranks: Floats, k: int) -> Floats:
    """Return 1 where the answer is among the first `k`.

    Parameters
    ----------
    ranks
        The answer's rank from 1, NaN where it was not returned; shape (queries,).

    Examples
    --------
    >>> hit_rate(np.array([1.0, 11.0, np.nan]), 10)
    array([1., 0., 0.])
    """
    return (ranks <= k).astype(np.float64)


def reciprocal_rank(ranks: Floats, k: int) -> Floats:
    """Return 1 / rank within the first `k`, else 0.

    Examples
    --------
    >>> reciprocal_rank(np.array([2.0, 30.0, np.nan]), 20)
    array([0.5, 0. , 0. ])
    """
    return np.where(ranks <= k, 1 / np.where(ranks > 0, ranks, 1), 0.0)


def ndcg(ranks: Floats, k: int) -> Floats:
    """Return 1 / log2(1 + rank) within the first `k`, else 0: NDCG with one relevant song.

    Examples
    --------
    >>> ndcg(np.array([1.0, 3.0, np.nan]), 10)
    array([1. , 0.5, 0. ])
    """
    return np.where(ranks <= k, 1 / np.log2(1 + np.where(ranks > 0, ranks, 1)), 0.0)


METRICS: Final[Mapping[str, Callable[[Floats], Floats]]] = {
    "hr_10": lambda ranks: hit_rate(ranks, 10),
    "hr_20": lambda ranks: hit_rate(ranks, 20),
    "mrr_20": lambda ranks: reciprocal_rank(ranks, 20),
    "ndcg_10": lambda ranks: ndcg(ranks, 10),
}
LABELS: Final[Mapping[str, str]] = {
    "hr_10": "HR@10",
    "hr_20": "HR@20",
    "mrr_20": "MRR@20",
    "ndcg_10": "NDCG@10",
}


def cluster_bootstrap(values: Floats, clusters: NDArray[np.int64], draws: int, seed: int) -> Floats:
    """Return bootstrap means, resampling whole clusters (listeners).

    Parameters
    ----------
    values
        Shape (queries, columns); NaN is left out of its column's mean.
    clusters
        Each query's cluster, 0 to n - 1.

    Returns
    -------
    Floats
        Shape (draws, columns), NaN where a draw met nothing known, and for a single cluster. Rows
        are paired: the same listeners in every column, so that a difference of two columns is a
        paired difference.
    """
    size = int(clusters.max()) + 1
    if size < 2:
        # It would be drawn whole each time, and its mean pass for certain.
        return np.full((draws, values.shape[1]), np.nan)
    known = np.isfinite(values)
    sums = np.column_stack([np.bincount(clusters, np.nan_to_num(c), size) for c in values.T])
    counts = np.column_stack([np.bincount(clusters, c, size) for c in known.T])
    random = np.random.default_rng(seed)
    times = np.empty((draws, size))
    for draw in range(draws):
        times[draw] = np.bincount(random.integers(0, size, size), minlength=size)
    drawn = times @ counts
    return np.where(drawn > 0, (times @ sums) / np.maximum(drawn, 1), np.nan)


def interval(draws: Floats) -> tuple[float, float]:
    """Return the 95 % percentile interval of bootstrap draws, shape (draws,), but for NaN."""
    known = draws[np.isfinite(draws)]
    if not len(known):
        return np.nan, np.nan
    low, high = np.percentile(known, [2.5, 97.5])
    return float(low), float(high)
