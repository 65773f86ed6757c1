"""Compare methods query by query: metrics, intervals over listeners, slices, wins and losses."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from features.catalogue import ABSENT, Catalogue
from features.columns import SongRow
from features.params import Evaluation
from training.methods import SEGUE, Answers
from training.metrics import FEWEST_QUERIES, METRICS, START, TASKS, answer_ranks, cluster_bootstrap
from training.queries import Labelled
from training.sessions import LIKED, SKIP
from training.tables import bounds, markdown_table

COLUMNS = (
    "hr_10",
    "hr_20",
    "mrr_20",
    "ndcg_10",
    "session_recall_20",
    "skip_rate_5",
    "like_rate_5",
    "coverage_10",
    "popularity_10",
)
SLICED = ("hr_20", "mrr_20", "ndcg_10")
# Rates of skips and likes are of so many first songs, as `skip_rate_5` says.
TOP_OUTCOMES = 5
# Percentile intervals over few listeners are too narrow: of three they hold the truth in 74 % of
# simulated cases instead of 95, of eight to twenty in about 91, of two hundred in 95. Below twenty
# a verdict would rest on single listeners.
FEWEST_LISTENERS = 20
BOTH_SIDES = (2.5, 97.5)
LEAD_ENDS = ("lead_low", "lead_high", "lead_limit")


@dataclass(frozen=True)
class Table:
    """Per-query values of one method: rows queries, columns metrics."""

    method: str
    values: pd.DataFrame
    ranks: NDArray[np.float64]


def of_segue(tables: Sequence[Table]) -> Table:
    """Return Segue's table."""
    return next(table for table in tables if table.method == SEGUE)


def per_query(songs: Catalogue, queries: Sequence[Labelled], answers: Answers) -> list[Table]:
    """Return every method's metrics for every query; NaN where one does not apply.

    What never happened in these sessions, the source may not know: its rates are not known either.
    """
    truth = songs.indices([labelled.answer for labelled in queries])
    popularity = songs.numbers[SongRow.POPULARITY_PERCENTILE]
    happened = {outcome for labelled in queries for outcome in labelled.rest_outcomes}
    tables = []
    for method, found in answers.songs.items():
        ranks = answer_ranks(found, truth)
        values = pd.DataFrame({name: metric(ranks) for name, metric in METRICS.items()})
        values["session_recall_20"] = session_recall(found, queries, songs.index_of)
        top = found[:, :10]
        shown = np.where(top >= 0, popularity[np.maximum(top, 0)], np.nan)
        values["popularity_10"] = mean_of_rows(shown)
        for name, outcome in (("skip_rate_5", SKIP), ("like_rate_5", LIKED)):
            values[name] = (
                outcome_rate(found, queries, songs.index_of, outcome)
                if outcome in happened
                else np.nan
            )
        tables.append(Table(method, values, ranks))
    return tables


def mean_of_rows(values: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return each row's mean over its known values, NaN for a row without any."""
    known = np.isfinite(values)
    total = np.where(known, values, 0).sum(axis=1)
    return np.where(known.any(axis=1), total / np.maximum(known.sum(axis=1), 1), np.nan)


def session_recall(
    found: NDArray[np.int32], queries: Sequence[Labelled], index_of: Mapping[str, int]
) -> NDArray[np.float64]:
    """Return, for session starts, the share of the coming session's songs in the first TOP.

    A song that the catalogue lacks counts among the coming ones, and cannot be found.
    """
    recall = np.full(len(queries), np.nan)
    for i, labelled in enumerate(queries):
        if labelled.is_start:
            coming, top = set(labelled.rest), set(found[i].tolist())
            recall[i] = sum(index_of.get(song, ABSENT) in top for song in coming) / len(coming)
    return recall


def outcome_rate(
    found: NDArray[np.int32], queries: Sequence[Labelled], index_of: Mapping[str, int], outcome: str
) -> NDArray[np.float64]:
    """Return the share of the top songs that came to `outcome`, of those played in the rest.

    NaN where none of the top songs was played later in the session: nothing is known then.
    """
    rates = np.full(len(queries), np.nan)
    for i, labelled in enumerate(queries):
        top = set(found[i, :TOP_OUTCOMES].tolist())
        pairs = zip(labelled.rest, labelled.rest_outcomes, strict=True)
        became = [result == outcome for song, result in pairs if index_of.get(song, ABSENT) in top]
        if became:
            rates[i] = np.mean(became)
    return rates


def summarise(
    tables: Sequence[Table], listeners: NDArray[np.str_], keep: NDArray[np.bool_], how: Evaluation
) -> pd.DataFrame:
    """Return one row per method and metric: mean, 95 % interval, and the paired lead of Segue.

    Each mean is over all queries where the method's value is known, each lead over those where
    both are. `lead_limit` is the upper end of intervals that hold for all methods at once
    (Bonferroni). Without `FEWEST_LISTENERS` there are no intervals.
    """
    segue = of_segue(tables).values
    metrics = list(segue.columns)
    stacked = np.hstack([table.values[keep].to_numpy() for table in tables])
    clusters = pd.factorize(listeners[keep])[0]
    leads = np.tile(segue[keep].to_numpy(), len(tables)) - stacked
    at_once = 100 - 2.5 / max(len(tables) - 1, 1)
    own = percentiles(stacked, clusters, BOTH_SIDES, how)
    ahead = percentiles(leads, clusters, (*BOTH_SIDES, at_once), how)
    rows = []
    for t, table in enumerate(tables):
        for column, metric in enumerate(metrics, start=t * len(metrics)):
            known, both = np.isfinite(stacked[:, column]), np.isfinite(leads[:, column])
            if not known.any():
                continue
            rows.append(
                {
                    "method": table.method,
                    "metric": metric,
                    "value": stacked[known, column].mean(),
                    **dict(zip(("low", "high"), own[:, column], strict=True)),
                    "lead": leads[both, column].mean() if both.any() else np.nan,
                    **dict(zip(LEAD_ENDS, ahead[:, column], strict=True)),
                    "queries": int(known.sum()),
                }
            )
    return pd.DataFrame(rows)


def percentiles(
    values: NDArray[np.float64],
    clusters: NDArray[np.int64],
    wanted: Sequence[float],
    how: Evaluation,
) -> NDArray[np.float64]:
    """Return percentiles of each column's bootstrap means, shape (wanted, columns).

    NaN where a column is known of fewer than `FEWEST_LISTENERS` clusters.
    """
    draws = cluster_bootstrap(values, clusters, how.bootstrap, how.seed)
    found = np.full((len(wanted), values.shape[1]), np.nan)
    for column, (value, drawn) in enumerate(zip(values.T, draws.T, strict=True)):
        if len(np.unique(clusters[np.isfinite(value)])) >= FEWEST_LISTENERS:
            found[:, column] = np.percentile(drawn[np.isfinite(drawn)], wanted)
    return found


def slice_table(
    tables: Sequence[Table],
    listeners: NDArray[np.str_],
    kinds: pd.DataFrame,
    how: Evaluation,
    fewest: int = FEWEST_QUERIES,
) -> pd.DataFrame:
    """Return `summarise` for each value of each slice that has enough queries; maybe no row."""
    parts = []
    brief = [replace(table, values=table.values[list(SLICED)]) for table in tables]
    for kind in kinds.columns:
        for value, count in kinds[kind].value_counts().sort_index().items():
            if count < fewest:
                continue
            keep = (kinds[kind] == value).to_numpy()
            part = summarise(brief, listeners, keep, how)
            parts.append(part.assign(slice=f"{kind}: {value}", queries=count))
    if not parts:
        numbers = ("value", "low", "high", "lead", *LEAD_ENDS, "queries")
        return pd.DataFrame({"method": [], "metric": [], **dict.fromkeys(numbers, []), "slice": []})
    return pd.concat(parts, ignore_index=True)


def slices_by_task(
    tables: Sequence[Table],
    listeners: NDArray[np.str_],
    kinds: pd.DataFrame,
    tasks: NDArray[np.str_],
    how: Evaluation,
    only_within: Sequence[str],
) -> pd.DataFrame:
    """Return `slice_table` of each task: how many starts are asked is a matter of the sample.

    Parameters
    ----------
    tasks
        Each query's task.
    only_within
        Kinds of slices that say nothing of session starts.
    """
    parts = []
    for task in TASKS:
        keep = tasks == task
        mine = [
            replace(table, values=table.values[keep].reset_index(drop=True)) for table in tables
        ]
        said = kinds_of(task, kinds[keep], only_within)
        parts.append(slice_table(mine, listeners[keep], said, how).assign(task=task))
    filled = [part for part in parts if not part.empty]
    return pd.concat(filled or parts[:1], ignore_index=True)


def kinds_of(task: str, kinds: pd.DataFrame, only_within: Sequence[str]) -> pd.DataFrame:
    """Return the kinds of slices that tell a task's queries apart, numbered anew."""
    unsaid = only_within if task == START else ()
    return kinds.drop(columns=list(unsaid), errors="ignore").reset_index(drop=True)


def coverage(found: NDArray[np.int32], songs: int) -> float:
    """Return the share of the catalogue that comes in some first ten."""
    top = np.unique(found[:, :10])
    return float((top >= 0).sum() / songs)


def pool_recall(answers: Answers, keep: NDArray[np.bool_]) -> dict[str, float]:
    """Return how often the answer was in the pool at all, and how large the pool is."""
    return {
        "recall": float(answers.in_pool[keep].mean()),
        "size": float(answers.pool_size[keep].mean()),
    }


def headline(summary: pd.DataFrame, task: str) -> dict[str, float]:
    """Return Segue's means of one task, for `dvc metrics`."""
    mine = summary[(summary["method"] == SEGUE) & (summary["task"] == task)]
    return {str(m): round(float(v), 5) for m, v in zip(mine["metric"], mine["value"], strict=True)}


def methods_table(part: pd.DataFrame) -> str:
    """Return one row per method, one column per metric: value [low, high]."""
    numbers = zip(part["value"], part["low"], part["high"], strict=True)
    shown = part.assign(cell=[f"{v:.4f}{bounds(low, high)}" for v, low, high in numbers])
    cells = shown.pivot_table(index="method", columns="metric", values="cell", aggfunc="first")
    cells = cells.fillna("")
    order = part[part["metric"] == "ndcg_10"].sort_values("value", ascending=False)["method"]
    columns = [c for c in COLUMNS if c in cells.columns]
    rows = [[method, *(str(cells.at[method, column]) for column in columns)] for method in order]
    return markdown_table(["method", *columns], rows)


def best_others(rows: pd.DataFrame) -> pd.DataFrame:
    """Return, for each task, slice and metric, the best method but Segue and Segue's lead over it.

    `verdict` is `ahead` or `behind` where the paired interval lies beside zero, else `level`. The
    best of many is picked on the queries it is measured on, so that it looks better than it is.
    """
    keys = [key for key in ("task", "slice", "metric") if key in rows.columns]
    mine = rows[rows["method"] == SEGUE].set_index(keys)["value"].rename("segue")
    others = rows[rows["method"] != SEGUE].sort_values(
        ["value", "method"], ascending=[False, True], kind="stable"
    )
    best = others.groupby(keys, sort=False).head(1).join(mine, on=keys)
    best["verdict"] = np.select(
        [best["lead_low"] > 0, best["lead_high"] < 0], ["ahead", "behind"], default="level"
    )
    columns = [*keys, "queries", "method", "value", "segue", "lead", "lead_low", "lead_high"]
    return best.sort_values(keys)[[*columns, "verdict"]].reset_index(drop=True)
