"""Score a cut's cached answers against Segue's, with Segue's metric code, and print the tables.

Runs in the main environment. Segue's own figures a query, and the slices, are those of its
evaluation (`report/answers.parquet`), so a newer Segue needs no peer to run again.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from benchmarks.measure import RESULTS, rounded
from benchmarks.peers.files import Folder
from benchmarks.peers.scoring import per_query
from features.lake import read_songs
from features.mistakes import run_command
from features.params import Evaluation
from features.paths import data_dir
from training.comparison import Table, best_others, coverage, slices_by_task, summarise
from training.files import write_json
from training.methods import SEGUE
from training.metrics import LABELS, METRICS, START, TASKS, TOP
from training.tables import bounds, markdown_table

SHOWN: Final = tuple(METRICS)
RECALL: Final = "session_recall_20"
NAMED: Final = {**LABELS, RECALL: "session recall@20"}
SLICES: Final = ("listener", "song", "repeat", "prefix", "region", "daypart", "met")


@dataclass(frozen=True)
class Scored:
    """Every method's figures a query, aligned, Segue first; the truth; the facts of each peer."""

    tables: list[Table]
    truth: pd.DataFrame
    kinds: pd.DataFrame
    coverage: Mapping[str, Mapping[str, float]]
    facts: Mapping[str, Mapping[str, Any]]


def peers_of(folder: Folder) -> list[str]:
    """Return the names of the methods that have answered."""
    return sorted(path.stem for path in (folder.root / "answers").glob("*.parquet"))


def segue_rows(report: Path, truth: pd.DataFrame) -> pd.DataFrame:
    """Return Segue's row of each query, in the order of the truth.

    Raises
    ------
    ValueError
        If the report is of other queries.
    """
    detail = pd.read_parquet(report / "answers.parquet")
    mine = detail[detail["method"] == SEGUE].set_index("query_id")
    if set(mine.index) != set(truth["query_id"]) or len(mine) != len(truth):
        raise ValueError(
            f"{report} answers other queries than the exported cut; evaluate Segue on the cut "
            "(`dvc repro evaluate` with the same phases.as_of), or export again."
        )
    return mine.loc[truth["query_id"]].reset_index()


def dense(answers: pd.DataFrame, truth: pd.DataFrame, songs: pd.Index) -> Any:
    """Return answers (query_id, rank, song_id) as song indices, shape (queries, TOP), -1 = none."""
    found = np.full((len(truth), TOP), -1, dtype=np.int64)
    row = pd.Index(truth["query_id"]).get_indexer(pd.Index(answers["query_id"]))
    found[row, answers["rank"].to_numpy() - 1] = songs.get_indexer(pd.Index(answers["song_id"]))
    return found


def read_scored(folder: Folder, report: Path, songs: pd.Index) -> Scored:
    """Score every peer's answers of a cut, and read Segue's figures beside them."""
    truth = pd.read_parquet(folder.truth("test"))
    segue = segue_rows(report, truth)
    start = (truth["task"] == START).to_numpy()
    answer = songs.get_indexer(pd.Index(truth["answer"]))
    coming = [songs.get_indexer(pd.Index(rest)) for rest in truth["rest"]]
    tables = [Table(SEGUE, segue[[*SHOWN, RECALL]], segue["rank"].to_numpy())]
    covered = {SEGUE: segue_coverage(report)}
    facts = {}
    for name in peers_of(folder):
        found = dense(pd.read_parquet(folder.answers(name)), truth, songs)
        values = per_query(found, answer, coming, start)[[*SHOWN, RECALL]]
        tables.append(Table(name, values, np.empty(0)))
        covered[name] = {
            task: coverage(found[(truth["task"] == task).to_numpy()], len(songs)) for task in TASKS
        }
        facts[name] = json.loads(folder.facts(name).read_text(encoding="utf-8"))
    kinds = segue.drop(columns=[c for c in segue.columns if c not in SLICES])
    kinds["met"] = truth["met"].to_numpy()
    return Scored(tables, truth, kinds, covered, facts)


def segue_coverage(report: Path) -> dict[str, float]:
    """Return the share of the catalogue in Segue's first ten, by task."""
    summary = pd.read_csv(report / "methods.csv")
    mine = summary[(summary["method"] == SEGUE) & (summary["metric"] == "coverage_10")]
    return dict(zip(mine["task"], mine["value"].astype(float), strict=True))


def by_task(scored: Scored, how: Evaluation) -> pd.DataFrame:
    """Return one row per task, method and metric, with intervals and Segue's paired lead."""
    listeners = scored.truth["user_id"].to_numpy()
    parts = []
    for task in TASKS:
        keep = (scored.truth["task"] == task).to_numpy()
        if keep.any():
            part = summarise(scored.tables, listeners, keep, how)
            part["lead_percent"] = 100 * part["lead"] / part["value"].where(part["value"] > 0)
            parts.append(part.assign(task=task))
    return pd.concat(parts, ignore_index=True)


def best_of_slices(scored: Scored, how: Evaluation) -> pd.DataFrame:
    """Return the best peer of each task, slice and metric, and Segue's paired lead over it."""
    listeners, tasks = (scored.truth[name].to_numpy() for name in ("user_id", "task"))
    found = slices_by_task(
        scored.tables, listeners, scored.kinds, tasks, how, only_within=("prefix", "met")
    )
    return best_others(found)


def markdown(scored: Scored, summary: pd.DataFrame, slices: pd.DataFrame, title: str) -> str:
    """Return all tables as Markdown."""
    parts = [f"# {title}"]
    for task in TASKS:
        part = summary[summary["task"] == task]
        if not part.empty:
            parts += [f"## {task.capitalize()}", methods_table(scored, part, task)]
    parts += ["## Best peer per slice", slices_markdown(slices)]
    return "\n\n".join(parts) + "\n"


def methods_table(scored: Scored, part: pd.DataFrame, task: str) -> str:
    """Return one row a method, best NDCG@10 first, with Segue's paired lead over each."""
    metrics = [*SHOWN, *([RECALL] if task == START else [])]
    header = ["method", *(NAMED[m] for m in metrics), "coverage@10", "fit s", "ms a query"]
    rows = []
    cells = part.set_index(["method", "metric"])
    order = part[part["metric"] == "ndcg_10"].sort_values("value", ascending=False)["method"]
    for method in order:
        row = [f"**{method}**" if method == SEGUE else method]
        for metric in metrics:
            one = cells.loc[(method, metric)]
            row.append(f"{one['value']:.4f}{bounds(one['low'], one['high'])}")
        row.append(f"{scored.coverage[method].get(task, np.nan):.3f}")
        facts = scored.facts.get(method, {})
        row += [str(facts.get("fit_seconds", "")), str(facts.get("predict_ms", ""))]
        one = cells.loc[(method, "ndcg_10")]
        row.append("" if method == SEGUE else lead_text(one["lead"], one))
        rows.append(row)
    return markdown_table([*header, "Segue ahead (NDCG@10)"], rows, spaced=True)


def lead_text(lead: float, row: Any) -> str:
    """Return a lead with its interval, if it has one."""
    return f"{lead:+.4f}{bounds(row['lead_low'], row['lead_high'], form='+.4f')}"


def slices_markdown(slices: pd.DataFrame) -> str:
    """Return one row a task, slice and metric."""
    header = ["task", "slice", "queries", "metric", "best peer", "its value", "Segue"]
    rows = [
        [
            *(row["task"], row["slice"], str(row["queries"]), NAMED[row["metric"]], row["method"]),
            *(f"{row['value']:.4f}", f"{row['segue']:.4f}", lead_text(row["lead"], row)),
            row["verdict"],
        ]
        for row in slices.to_dict("records")
    ]
    return markdown_table([*header, "Segue ahead", ""], rows)


def figures(scored: Scored, summary: pd.DataFrame, slices: pd.DataFrame) -> dict[str, Any]:
    """Return the aggregates as plain values, for the result file."""
    shown = summary[["task", "method", "metric", "queries", "value", "low", "high"]]
    leads = summary[["lead", "lead_percent", "lead_low", "lead_high"]]
    both = pd.concat([shown, leads], axis=1)
    return {
        "methods": records(both),
        "coverage_10": {name: dict(value) for name, value in scored.coverage.items()},
        "cost": {
            name: {key: fact[key] for key in ("fit_plays", "fit_seconds", "predict_ms")}
            for name, fact in scored.facts.items()
        },
        "best_peer_per_slice": records(slices),
    }


def records(frame: pd.DataFrame) -> Sequence[Mapping[str, Any]]:
    """Return a frame's rows, an absent number as None."""
    return [
        {str(k): None if isinstance(v, float) and np.isnan(v) else v for k, v in row.items()}
        for row in frame.to_dict("records")
    ]


def main() -> None:
    """Score one cut; `SEGUE_DATA` is the data folder in which Segue was evaluated on it."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--cut", type=Path, required=True, help="the cut's folder")
    parser.add_argument("--name", required=True, help="the cut's name in the result files")
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    folder = Folder(arguments.cut)
    manifest = json.loads(folder.manifest.read_text(encoding="utf-8"))
    how = Evaluation(
        max_queries=manifest["queries_test"],
        bootstrap=manifest["bootstrap"],
        seed=manifest["seed"],
    )
    songs = pd.Index(read_songs(data_dir() / "lake")["song_id"])
    scored = read_scored(folder, data_dir() / "report", songs)
    summary, slices = by_task(scored, how), best_of_slices(scored, how)
    path = arguments.results / f"peers_{arguments.name}.json"
    write_json(path, rounded({"cut": manifest, "figures": figures(scored, summary, slices)}))
    text = markdown(scored, summary, slices, f"Peers on the cut of {manifest['as_of'][:10]}")
    path.with_suffix(".md").write_text(text, encoding="utf-8")
    sys.stdout.write(text + f"\nwrote {path} and {path.with_suffix('.md')}\n")


if __name__ == "__main__":
    run_command(main)
