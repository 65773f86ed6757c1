"""Evaluate a bundle on the test phase and write metrics, tables and plot data.

Writes into `--out`: metrics.json (for `dvc metrics`), CSVs for `dvc plots` and the pages of
`training.publish` (docs/reports.md lists them), report.md, and with rows of the data, never to be
published, answers.parquet (one row a query and method) and examples.csv (queries by id).
"""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from features.columns import Song
from features.lake import read_songs
from features.mistakes import run_command
from features.pairs import missing
from features.params import Dayparts, Evaluation, load_params
from features.paths import data_dir
from serving.recommender import Recommender
from training import calibration, curves, error_analysis, gate, importance, pages
from training.comparison import (
    Table,
    best_others,
    coverage,
    headline,
    kinds_of,
    of_segue,
    per_query,
    pool_recall,
    slices_by_task,
    summarise,
)
from training.dataset import phase_queries
from training.dayparts import fit_dayparts, heat_maps
from training.evaluate import CANDIDATES, ask, slices
from training.files import write_json
from training.methods import SEGUE, Answers
from training.metrics import NEXT, START, TASKS
from training.phases import Phases, read_phases, refuse_leak
from training.plays import read_plays
from training.queries import Labelled, Sample
from training.rows import Rows, read_rows

EXAMPLES = 20
# Kinds of slices that all starts share.
ONLY_WITHIN = ("prefix",)


@dataclass(frozen=True)
class Evaluated:
    """What the test queries gave: tables a query and method, slices a query, and their summary.

    `tasks` are the queries' tasks. How many of them are starts is a matter of the sample, so that
    none of these tables is of both.
    """

    answers: Answers
    tables: list[Table]
    kinds: pd.DataFrame
    tasks: NDArray[np.str_]
    fate: NDArray[np.str_]
    summary: pd.DataFrame
    pools: dict[str, dict[str, float]]

    @property
    def ranks(self) -> NDArray[np.float64]:
        """Segue's rank of each answer, NaN beyond the first 20."""
        return of_segue(self.tables).ranks


def evaluate(
    recommender: Recommender, queries: Sequence[Labelled], heard: pd.DataFrame, how: Evaluation
) -> Evaluated:
    """Ask every query and measure every method; `heard` are the listenings before the fit."""
    answers = ask(recommender, queries)
    tables = per_query(recommender.retrieval.songs, queries, answers)
    listeners = listeners_of(queries)
    start = np.array([labelled.is_start for labelled in queries])
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
    meeting = error_analysis.meetings(heard, queries)
    kinds = slices(recommender, queries).assign(meeting=meeting)
    fate = error_analysis.fates(of_segue(tables).ranks, answers.in_pool, meeting)
    summary = pd.concat(parts, ignore_index=True)
    return Evaluated(answers, tables, kinds, np.where(start, START, NEXT), fate, summary, pools)


def listeners_of(queries: Sequence[Labelled]) -> NDArray[np.str_]:
    """Return each query's listener."""
    return np.array([labelled.user_id for labelled in queries])


def detail_of(found: Evaluated, queries: Sequence[Labelled]) -> pd.DataFrame:
    """Return one row a query and method."""
    return pd.concat(
        table.values.assign(
            rank=table.ranks,
            method=table.method,
            query_id=[labelled.query_id for labelled in queries],
            user_id=listeners_of(queries),
            in_pool=found.answers.in_pool,
            fate=found.fate,
            task=found.tasks,
        ).join(found.kinds)
        for table in found.tables
    )


def csv_tables(
    found: Evaluated,
    recommender: Recommender,
    queries: Sequence[Labelled],
    rows: Rows,
    maps: pd.DataFrame,
    how: Evaluation,
) -> dict[str, pd.DataFrame]:
    """Return the aggregates by file name; none of them holds a row of the data."""
    sliced = slices_by_task(
        found.tables, listeners_of(queries), found.kinds, found.tasks, how, ONLY_WITHIN
    )
    bars = sliced[(sliced["metric"] == "ndcg_10") & (sliced["method"] == SEGUE)]
    features = importance.importance(recommender)
    main = NEXT if (found.tasks == NEXT).any() else START
    within = found.tasks == main
    ranks, sizes = found.answers.pool_ranks[within], found.answers.pool_size[within]
    asked = [labelled for labelled, kept in zip(queries, within, strict=True) if kept]
    return {
        "methods": found.summary,
        "slices": sliced,
        "slice_bars": bars[bars["task"] == main],
        "wins": best_others(sliced),
        "fates": by_task(found, fates_of),
        "meetings": by_task(found, meetings_of),
        "candidates": curves.by_candidates(ranks, CANDIDATES, sizes).assign(task=main),
        "importance": features.head(30),
        "importance_groups": importance.group_importance(features),
        "dayparts": curves.dayparts(asked, found.ranks[within]),
        "daypart_maps": maps,
        "learning_curve": curves.by_trees(recommender.ranker.trees.booster, rows),
    }


def by_task(found: Evaluated, table: Callable[[Evaluated, str], pd.DataFrame]) -> pd.DataFrame:
    """Return a table of each task's queries, one below the other."""
    made = [table(found, task).assign(task=task) for task in TASKS if (found.tasks == task).any()]
    return pd.concat(made, ignore_index=True)


def fates_of(found: Evaluated, task: str) -> pd.DataFrame:
    """Return where the answers of a task's queries went."""
    keep = found.tasks == task
    kinds = kinds_of(task, found.kinds[keep], ONLY_WITHIN)
    return error_analysis.fate_table(found.fate[keep], kinds)


def meetings_of(found: Evaluated, task: str) -> pd.DataFrame:
    """Return what the past knew of the answers of a task's queries."""
    keep = found.tasks == task
    meeting = found.kinds["meeting"].to_numpy()[keep]
    return error_analysis.cross_table(meeting, found.ranks[keep], found.answers.in_pool[keep])


def daypart_maps(lake: Path, phases: Phases, how: Dayparts) -> pd.DataFrame:
    """Return when songs are heard, as parts over the week, of the plays before the test phase."""
    until = phases.fit_until("test")
    song_ids = read_songs(lake)[Song.ID].to_numpy(dtype=np.str_)
    plays = read_plays(lake, until, song_ids)
    return heat_maps(fit_dayparts(plays, until, how, len(song_ids)))


def main() -> None:
    """Evaluate the test cut's bundle and write the report."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--lake", type=Path, default=data_dir() / "lake")
    parser.add_argument("--phases", type=Path, default=data_dir() / "phases.json")
    parser.add_argument("--bundle", type=Path, default=data_dir() / "bundles/test")
    parser.add_argument("--rows", type=Path, default=data_dir() / "dataset/test.parquet")
    parser.add_argument("--out", type=Path, default=data_dir() / "report")
    arguments = parser.parse_args()
    params = load_params()
    how = params.evaluation
    phases = read_phases(arguments.phases)
    recommender = Recommender.load(arguments.bundle)
    seen = datetime.fromisoformat(recommender.manifest["seen_until"])
    refuse_leak(f"The bundle {arguments.bundle}", seen, phases.test, phases.gap)
    history_songs = recommender.history_songs
    queries = phase_queries(arguments.lake, phases, "test", history_songs, Sample.of(how))
    heard = error_analysis.read_listenings(arguments.lake, phases.fit_until("test"))
    found = evaluate(recommender, queries, heard, how)
    rows, _ = read_rows(arguments.rows)
    maps = daypart_maps(arguments.lake, phases, params.generators.dayparts)
    tables = csv_tables(found, recommender, queries, rows, maps, how)
    tables["calibration"], calibrated = calibration.calibration(recommender.ranker, rows, how)
    arguments.out.mkdir(parents=True, exist_ok=True)
    context = context_of(recommender, phases, len(queries), how)
    write_rows_of_data(arguments.out, found, queries, how.seed)
    write(arguments.out, tables, metrics(found, tables["fates"], calibrated), context)
    sys.stdout.write((arguments.out / "report.md").read_text(encoding="utf-8"))


def metrics(
    found: Evaluated, fates: pd.DataFrame, calibrated: Mapping[str, Mapping[str, float]]
) -> dict[str, Any]:
    """Return the figures for `dvc metrics`."""
    everywhere = fates[fates["slice"] == "all"].set_index("task")[list(error_analysis.FATES)]
    figures: dict[str, Any] = {
        task.replace(" ", "_"): headline(found.summary, task)
        | {"pool": pool, "fates": everywhere.loc[task].round(5).to_dict()}
        for task, pool in found.pools.items()
    }
    # A count, since `dvc metrics` takes numbers; the report names them.
    figures["gate"] = {"behind": len(gate.behind(found.summary))}
    figures["calibration"] = {
        name: {key: round(value, 5) for key, value in row.items() if not missing(value)}
        for name, row in calibrated.items()
    }
    return figures


def write(
    out: Path, tables: Mapping[str, pd.DataFrame], figures: Mapping[str, Any], context: str
) -> None:
    """Write the tables, metrics.json and about.txt, and report.md, which is made of them."""
    for name, table in tables.items():
        table.to_csv(out / f"{name}.csv", index=False)
    write_json(out / "metrics.json", figures)
    (out / "about.txt").write_text(context + "\n", encoding="utf-8")
    text = pages.markdown(pages.sections(out, pages.OF_THE_EVALUATION))
    (out / "report.md").write_text(text, encoding="utf-8")


def write_rows_of_data(out: Path, found: Evaluated, queries: Sequence[Labelled], seed: int) -> None:
    """Write every answer, and some queries of each fate by their ids: never to be published."""
    detail_of(found, queries).to_parquet(out / "answers.parquet", index=False)
    chosen = error_analysis.examples(queries, found.fate, EXAMPLES, seed)
    chosen.to_csv(out / "examples.csv", index=False)


def context_of(recommender: Recommender, phases: Phases, queries: int, how: Evaluation) -> str:
    """Say what was asked of whom."""
    retrieval = recommender.retrieval
    dayparts = "off" if retrieval.dayparts is None else "on"
    tensor = "on" if "tensor" in retrieval.generators else "off"
    return (
        f"Bundle `{recommender.version}`, fitted on events before {phases.labels.end}; test phase "
        f"{phases.test.start} to {phases.test.end}; {len(recommender.retrieval.songs):,} songs; "
        f"{queries:,} queries (seeded sample of at most {how.max_queries:,}, of which at least "
        f"{how.starts_share:.0%} are session starts, if there are so many). Full catalogue, no "
        "sampled negatives, songs of the session may come again; an answer outside the pool is a "
        f"miss. 95 % intervals from {how.bootstrap:,} bootstrap draws over listeners. "
        f"Daypart features are {dayparts}, the tensor is {tensor}."
    )


if __name__ == "__main__":
    run_command(main)
