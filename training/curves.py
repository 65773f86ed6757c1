"""What more would bring: curves over trees, label queries and candidates; answers by hour."""

from collections.abc import Sequence
from typing import Final

import lightgbm
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from features.catalogue import IntArray
from features.dayparts import WEEKDAYS, block_of
from features.pairs import local_hour
from features.params import Ranker
from training.metrics import METRICS
from training.queries import Labelled
from training.ranker import fit_ranker, usable
from training.rows import Rows, places, select

SHARES: Final = (0.125, 0.25, 0.5, 1.0)
# All rows are scored anew at each number of trees; a curve's shape needs no more queries.
TREE_QUERIES: Final = 2000


def ranks_in_rows(rows: Rows, scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the answer's rank among its query's rows; each query has one (`answered`)."""
    return places(rows.query, scores)[rows.answer].astype(np.float64) + 1.0


def answered(rows: Rows, queries: int | None = None) -> Rows:
    """Return the rows of queries whose answer is in the pool, of the first `queries`."""
    found = np.bincount(rows.query, weights=rows.answer & rows.in_pool) > 0
    keep = found[rows.query] & (rows.query < (queries or len(found)))
    return select(rows, keep)


def by_trees(booster: lightgbm.Booster, rows: Rows, points: int = 15) -> pd.DataFrame:
    """Return NDCG@10 within the test rows at some numbers of trees."""
    step = max(1, booster.num_trees() // points)
    mine = answered(rows, TREE_QUERIES)
    curve = []
    for trees in range(step, booster.num_trees() + 1, step):
        ranks = ranks_in_rows(mine, booster.predict(mine.features, num_iteration=trees))
        curve.append({"trees": trees, "ndcg_10": float(METRICS["ndcg_10"](ranks).mean())})
    return pd.DataFrame(curve)


def by_label_queries(
    labels: Rows,
    test: Rows,
    names: tuple[str, ...],
    params: Ranker,
    shares: Sequence[float] = SHARES,
) -> pd.DataFrame:
    """Return NDCG@10 within the test rows of rankers fitted on seeded parts of the label queries.

    Smaller parts are within the larger ones. Parts too small to learn an order from are left out.
    """
    mine = answered(test)
    total = int(labels.query.max()) + 1
    order = np.random.default_rng(params.seed).permutation(total)
    curve = []
    for share in shares:
        count = max(1, round(total * share))
        chosen = np.zeros(total, dtype=np.bool_)
        chosen[order[:count]] = True
        part = select(labels, chosen[labels.query])
        if not (usable(part) & part.in_pool).any():
            continue
        ranks = ranks_in_rows(mine, fit_ranker(part, names, params).predict(mine.features))
        value = {name: float(metric(ranks).mean()) for name, metric in METRICS.items()}
        curve.append({"label_queries": count, **value})
    return pd.DataFrame(curve)


def by_candidates(
    pool_ranks: NDArray[np.float64], candidates: Sequence[int], sizes: IntArray
) -> pd.DataFrame:
    """Return recall and metrics of pools cut to their best N by reciprocal rank fusion.

    Parameters
    ----------
    pool_ranks
        The answer's rank by the ranker within the cut pool, NaN where it is not in there; shape
        (queries, len(candidates)).
    sizes
        The whole pools' sizes.
    """
    rows = []
    for place, count in enumerate(candidates):
        ranks = pool_ranks[:, place]
        value = {name: float(metric(ranks).mean()) for name, metric in METRICS.items()}
        found = float(np.isfinite(ranks).mean())
        size = float(np.minimum(sizes, count).mean())
        rows.append({"candidates": count, "size": size, "recall": found, **value})
    return pd.DataFrame(rows)


def dayparts(queries: Sequence[Labelled], ranks: NDArray[np.float64]) -> pd.DataFrame:
    """Return how many queries fell into each local daypart, and Segue's NDCG@10 there."""
    hours = [local_hour(item.query.user, item.query.ts_us) for item in queries]
    frame = pd.DataFrame(
        {
            "weekday": [f"{day} {WEEKDAYS[day]}" for day, _ in hours],
            "hours": [block_of(hour) for _, hour in hours],
            "ndcg_10": METRICS["ndcg_10"](ranks),
        }
    )
    grouped = frame.groupby(["weekday", "hours"])["ndcg_10"].agg(["size", "mean"]).reset_index()
    return grouped.rename(columns={"size": "queries", "mean": "ndcg_10"})
