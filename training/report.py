"""Evaluate a bundle on the test phase and write metrics, tables and plot data.

Writes into `--out`: metrics.json (for `dvc metrics`), methods.csv, slices.csv, importance.csv,
learning_curve.csv, dayparts.csv, daypart_maps.csv (for `dvc plots`), report.md, and
answers.parquet (one row a query and method, for error analysis).
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from features.columns import Song, SongRow
from features.lake import read_songs
from features.pairs import local_hour, missing
from features.params import Dayparts, Evaluation, load_params
from serving.recommender import Recommender
from training.dataset import phase_queries
from training.dayparts import fit_dayparts, heat_maps
from training.evaluate import (
    SEGUE,
    TOP_OUTCOMES,
    Answers,
    answer_ranks,
    ask,
    slices,
)
from training.files import write_json
from training.metrics import METRICS, cluster_bootstrap, interval
from training.phases import Phases, read_phases, refuse_leak
from training.plays import read_plays
from training.queries import Labelled
from training.ranker import usable
from training.rows import Rows, read_rows

TASKS = ("next song", "session start")
DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
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


@dataclass(frozen=True)
class Table:
    """Per-query values of one method: rows queries, columns metrics."""

    method: str
    values: pd.DataFrame
    ranks: NDArray[np.float64]


def per_query(
    recommender: Recommender, queries: Sequence[Labelled], answers: Answers
) -> list[Table]:
    """Return every method's metrics for every query; NaN where a metric does not apply."""
    songs = recommender.retrieval.songs
    truth = songs.indices([labelled.answer for labelled in queries])
    popularity = songs.numbers[SongRow.POPULARITY_PERCENTILE]
    tables = []
    for method, found in answers.songs.items():
        ranks = answer_ranks(found, truth)
        values = pd.DataFrame({name: metric(ranks) for name, metric in METRICS.items()})
        values["session_recall_20"] = session_recall(found, queries, songs.index_of)
        top = found[:, :10]
        shown = np.where(top >= 0, popularity[np.maximum(top, 0)], np.nan)
        values["popularity_10"] = mean_of_rows(shown)
        for name, outcome in (("skip_rate_5", "skip"), ("like_rate_5", "liked")):
            values[name] = outcome_rate(found, queries, songs.index_of, outcome)
        tables.append(Table(method, values, ranks))
    return tables


def mean_of_rows(values: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return each row's mean over its known values, NaN for a row without any."""
    known = np.isfinite(values)
    total = np.where(known, values, 0).sum(axis=1)
    return np.where(known.any(axis=1), total / np.maximum(known.sum(axis=1), 1), np.nan)


def session_recall(
    found: NDArray[np.int32], queries: Sequence[Labelled], index_of: dict[str, int]
) -> NDArray[np.float64]:
    """Return, for session starts, the share of the coming session's songs in the first TOP."""
    recall = np.full(len(queries), np.nan)
    for i, labelled in enumerate(queries):
        if labelled.place == 0:
            coming = {index_of.get(song, -2) for song in labelled.rest}
            recall[i] = len(coming & set(found[i].tolist())) / len(coming)
    return recall


def outcome_rate(
    found: NDArray[np.int32], queries: Sequence[Labelled], index_of: dict[str, int], outcome: str
) -> NDArray[np.float64]:
    """Return the share of the top songs that came to `outcome`, of those played in the rest.

    NaN where none of the top songs was played later in the session: nothing is known then.
    """
    rates = np.full(len(queries), np.nan)
    for i, labelled in enumerate(queries):
        top = set(found[i, :TOP_OUTCOMES].tolist())
        pairs = zip(labelled.rest, labelled.rest_outcomes, strict=True)
        became = [result == outcome for song, result in pairs if index_of.get(song, -2) in top]
        if became:
            rates[i] = np.mean(became)
    return rates


def summarise(
    tables: Sequence[Table], listeners: NDArray[np.int64], keep: NDArray[np.bool_], how: Evaluation
) -> pd.DataFrame:
    """Return one row per method and metric: mean, 95 % interval, and the paired lead of Segue."""
    metrics = list(tables[0].values.columns)
    stacked = np.hstack([table.values[keep].to_numpy() for table in tables])
    clusters = pd.factorize(listeners[keep])[0]
    draws = cluster_bootstrap(stacked, clusters, how.bootstrap, how.seed)
    rows = []
    for t, table in enumerate(tables):
        for m, metric in enumerate(metrics):
            column = t * len(metrics) + m
            known = np.isfinite(stacked[:, column])
            if not known.any():
                continue
            low, high = interval(draws[:, column])
            lead_low, lead_high = interval(draws[:, m] - draws[:, column])
            rows.append(
                {
                    "method": table.method,
                    "metric": metric,
                    "value": stacked[known, column].mean(),
                    "low": low,
                    "high": high,
                    "lead_low": lead_low,
                    "lead_high": lead_high,
                    "queries": int(known.sum()),
                }
            )
    return pd.DataFrame(rows)


def slice_table(
    tables: Sequence[Table],
    listeners: NDArray[np.int64],
    kinds: pd.DataFrame,
    how: Evaluation,
    fewest: int = 30,
) -> pd.DataFrame:
    """Return `summarise` for each value of each slice that has enough queries."""
    parts = []
    brief = [replace(table, values=table.values[list(SLICED)]) for table in tables]
    for kind in kinds.columns:
        for value, count in kinds[kind].value_counts().sort_index().items():
            if count < fewest:
                continue
            keep = (kinds[kind] == value).to_numpy()
            part = summarise(brief, listeners, keep, how)
            parts.append(part.assign(slice=f"{kind}: {value}", queries=count))
    return pd.concat(parts, ignore_index=True)


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


def learning_curve(
    recommender: Recommender, rows: Rows, points: int = 15, queries: int = 2000
) -> pd.DataFrame:
    """Return NDCG@10 within the rows of the first test queries at some numbers of trees."""
    booster = recommender.ranker.booster
    step = max(1, booster.num_trees() // points)
    keep = usable(rows) & (rows.query < queries)
    features, query, answer = rows.features[keep], rows.query[keep], rows.answer[keep]
    curve = []
    for trees in range(step, booster.num_trees() + 1, step):
        scores = booster.predict(features, num_iteration=trees)
        better = scores > np.repeat(scores[answer], np.unique(query, return_counts=True)[1])
        ranks = 1.0 + np.bincount(query, weights=better)[np.unique(query)].astype(np.float64)
        curve.append({"trees": trees, "ndcg_10": float(METRICS["ndcg_10"](ranks).mean())})
    return pd.DataFrame(curve)


def importance(recommender: Recommender) -> pd.DataFrame:
    """Return each feature's share of the ranker's total gain, largest first."""
    booster = recommender.ranker.booster
    gain = booster.feature_importance("gain")
    table = pd.DataFrame({"feature": booster.feature_name(), "share": gain / gain.sum()})
    return table.sort_values("share", ascending=False, ignore_index=True)


def dayparts(queries: Sequence[Labelled], ranks: NDArray[np.float64]) -> pd.DataFrame:
    """Return how many queries fell into each local daypart, and Segue's NDCG@10 there."""
    hours = [
        local_hour(item.query.user, int(item.query.ts.timestamp() * 1_000_000)) for item in queries
    ]
    frame = pd.DataFrame(
        {
            "weekday": [f"{day} {DAYS[day]}" for day, _ in hours],
            "hours": [f"{hour // 6 * 6:02d}-{hour // 6 * 6 + 6:02d}" for _, hour in hours],
            "ndcg_10": METRICS["ndcg_10"](ranks),
        }
    )
    grouped = frame.groupby(["weekday", "hours"])["ndcg_10"].agg(["size", "mean"]).reset_index()
    return grouped.rename(columns={"size": "queries", "mean": "ndcg_10"})


def markdown(summary: pd.DataFrame, pools: dict[str, dict[str, float]], context: str) -> str:
    """Return the methods' tables as Markdown, best NDCG@10 first, with 95 % intervals."""
    parts = ["# Evaluation on the test phase", context]
    for task in TASKS:
        part = summary[summary["task"] == task]
        if part.empty:
            continue
        parts.append(f"## {task.capitalize()}")
        pool = pools[task]
        parts.append(
            f"{int(part['queries'].max()):,} queries; the pool holds {pool['size']:.0f} songs and "
            f"the answer in {pool['recall']:.1%} of them."
        )
        parts.append(methods_table(part))
    return "\n\n".join(parts) + "\n"


def methods_table(part: pd.DataFrame) -> str:
    """Return one row per method, one column per metric: value [low, high]."""
    numbers = zip(part["value"], part["low"], part["high"], strict=True)
    cells = [f"{v:.4f}" + ("" if missing(a) else f" [{a:.4f}, {b:.4f}]") for v, a, b in numbers]
    shown = part.assign(cell=cells)
    table = shown.pivot_table(index="method", columns="metric", values="cell", aggfunc="first")
    order = part[part["metric"] == "ndcg_10"].sort_values("value", ascending=False)["method"]
    columns = [c for c in COLUMNS if c in table.columns]
    lines = ["| method | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for method in order:
        row = [str(table.at[method, column]) for column in columns]
        lines.append(f"| {method} | " + " | ".join(row) + " |")
    return "\n".join(lines)


def evaluate(
    recommender: Recommender, queries: Sequence[Labelled], how: Evaluation
) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, dict[str, float]], pd.DataFrame]:
    """Return summary, slices, pool figures and one row a query and method."""
    answers = ask(recommender, queries)
    tables = per_query(recommender, queries, answers)
    listeners = np.array([labelled.user_id for labelled in queries])
    start = np.array([labelled.place == 0 for labelled in queries])
    songs = len(recommender.retrieval.songs)
    parts, pools = [], {}
    for task, keep in zip(TASKS, (~start, start), strict=True):
        if not keep.any():
            continue
        part = summarise(tables, listeners, keep, how)
        covered = [
            {
                "method": table.method,
                "metric": "coverage_10",
                "value": coverage(answers.songs[table.method][keep], songs),
            }
            for table in tables
        ]
        parts.append(pd.concat([part, pd.DataFrame(covered)]).assign(task=task))
        pools[task] = pool_recall(answers, keep)
    kinds = slices(recommender, queries).assign(task=np.where(start, TASKS[1], TASKS[0]))
    sliced = slice_table(tables, listeners, kinds, how)
    detail = pd.concat(
        table.values.assign(
            rank=table.ranks,
            method=table.method,
            query_id=[labelled.query_id for labelled in queries],
            user_id=listeners,
            in_pool=answers.in_pool,
        ).join(kinds)
        for table in tables
    )
    return pd.concat(parts, ignore_index=True), sliced, pools, detail


def daypart_maps(lake: Path, phases: Phases, how: Dayparts) -> pd.DataFrame:
    """Return when songs are heard, as parts over the week, of the plays before the test phase."""
    until = phases.fit_until("test")
    song_ids = read_songs(lake)[Song.ID].to_numpy(dtype=np.str_)
    plays = read_plays(lake, until, song_ids)
    return heat_maps(fit_dayparts(plays, until, how, len(song_ids)))


def main() -> None:
    """Evaluate the test cut's bundle and write the report."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--lake", type=Path, default=Path("data/lake"))
    parser.add_argument("--phases", type=Path, default=Path("data/phases.json"))
    parser.add_argument("--bundle", type=Path, default=Path("data/bundles/test"))
    parser.add_argument("--rows", type=Path, default=Path("data/dataset/test.parquet"))
    parser.add_argument("--out", type=Path, default=Path("data/report"))
    arguments = parser.parse_args()
    params = load_params()
    phases = read_phases(arguments.phases)
    recommender = Recommender.load(arguments.bundle)
    seen = datetime.fromisoformat(recommender.manifest["seen_until"])
    refuse_leak(f"The bundle {arguments.bundle}", seen, phases.test, phases.gap)
    how = params.evaluation
    queries = phase_queries(arguments.lake, phases, "test", how.max_queries, how.seed)
    summary, sliced, pools, detail = evaluate(recommender, queries, how)
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    figures = {task: headline(summary, task) | {"pool": pools[task]} for task in pools}
    write_json(out / "metrics.json", {name.replace(" ", "_"): f for name, f in figures.items()})
    summary.to_csv(out / "methods.csv", index=False)
    sliced.to_csv(out / "slices.csv", index=False)
    plots = sliced[(sliced["metric"] == "ndcg_10") & (sliced["method"] == SEGUE)]
    plots.to_csv(out / "slice_bars.csv", index=False)
    importance(recommender).head(30).to_csv(out / "importance.csv", index=False)
    rows, _ = read_rows(arguments.rows)
    learning_curve(recommender, rows).to_csv(out / "learning_curve.csv", index=False)
    mine = detail[detail["method"] == SEGUE]
    dayparts(queries, mine["rank"].to_numpy()).to_csv(out / "dayparts.csv", index=False)
    daypart_maps(arguments.lake, phases, params.generators.dayparts).to_csv(
        out / "daypart_maps.csv", index=False
    )
    detail.to_parquet(out / "answers.parquet", index=False)
    text = markdown(summary, pools, context_of(recommender, phases, len(queries), how))
    (out / "report.md").write_text(text, encoding="utf-8")
    sys.stdout.write(text)


def context_of(recommender: Recommender, phases: Phases, queries: int, how: Evaluation) -> str:
    """Say what was asked of whom."""
    return (
        f"Bundle `{recommender.version}`, fitted on events before {phases.labels.end}; test phase "
        f"{phases.test.start} to {phases.test.end}; {len(recommender.retrieval.songs):,} songs; "
        f"{queries:,} queries (seeded sample of at most {how.max_queries:,}). Full catalogue, no "
        "sampled negatives, songs of the session may come again; an answer outside the pool is a "
        f"miss. 95 % intervals from {how.bootstrap:,} bootstrap draws over listeners."
    )


if __name__ == "__main__":
    main()
