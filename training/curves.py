"""What more would bring: learning curves over trees, label queries and candidates; importance."""

from collections.abc import Mapping, Sequence
from typing import Final

import lightgbm
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from features.catalogue import IntArray
from features.dayparts import WEEKDAYS, block_of
from features.pair_groups import GROUPS
from features.pairs import Pairs, local_hour
from features.params import Ranker
from features.state import nobody
from serving.recommender import Recommender
from serving.retrieval import Retrieval
from training.metrics import METRICS
from training.queries import Labelled
from training.ranker import fit_ranker, usable
from training.rows import Rows, places, select

SHARES: Final = (0.125, 0.25, 0.5, 1.0)
# All rows are scored anew at each number of trees; a curve's shape needs no more queries.
TREE_QUERIES: Final = 2000
NO_SONGS: Final = np.empty(0, dtype=np.int32)


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


def importance(recommender: Recommender) -> pd.DataFrame:
    """Return each feature's share of the ranker's total gain and its group, largest first."""
    booster = recommender.ranker.trees.booster
    gain = booster.feature_importance("gain")
    table = pd.DataFrame({"feature": booster.feature_name(), "share": gain / max(gain.sum(), 1e-9)})
    group = feature_groups(recommender.retrieval)
    table["group"] = table["feature"].map(group)
    return table.sort_values("share", ascending=False, ignore_index=True, kind="stable")


def feature_groups(retrieval: Retrieval) -> Mapping[str, str]:
    """Return each feature's group: a generator, a function of `features.pair_groups`, or links."""
    pairs = Pairs(nobody(retrieval.songs), retrieval.songs, NO_SONGS)
    groups = dict.fromkeys(retrieval.feature_names, "links")
    for group in GROUPS:
        groups |= dict.fromkeys(group(pairs), group.__name__.replace("_", " "))
    for name in retrieval.names:
        groups |= {f"{name}_score": f"generator {name}", f"{name}_rank": f"generator {name}"}
    return groups | {"proposed_by": "agreement"}


def group_importance(features: pd.DataFrame) -> pd.DataFrame:
    """Return each group's share of the gain, largest first."""
    grouped = features.groupby("group")["share"].agg(["sum", "size"]).reset_index()
    grouped = grouped.rename(columns={"sum": "share", "size": "features"})
    return grouped.sort_values("share", ascending=False, ignore_index=True, kind="stable")


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
