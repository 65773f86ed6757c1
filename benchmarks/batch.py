"""Throughput of `python -m serving.batch`, and whether its answers are as good as reported.

The queries are a seeded part of those that the report asked, so that the two can be compared one
by one. A batch query knows only the songs played so far; the report's know also what was skipped,
liked and how long it was heard, and the context: the figures may differ by that and no more. That
the answers are the recommender's own is checked exactly, on some queries.
"""

import argparse
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np
import pandas as pd

from benchmarks.measure import MIB, machine, save, spread, table
from features.columns import Action
from features.mistakes import run_command
from features.params import load_params
from features.paths import PROJECT, data_dir
from features.query import Query, SessionEvent
from serving.recommender import Recommender
from training.dataset import phase_queries
from training.methods import SEGUE
from training.metrics import METRICS, NEXT, START
from training.phases import read_phases
from training.queries import Labelled, Sample

K: Final = 20
SHOWN: Final = ("hr_20", "mrr_20", "ndcg_10")
CHECKED: Final = 200
PAUSE: Final = 0.5
WHAT: Final = (
    "the whole process: start, reading the listeners' features as of each query, answering, "
    "writing; memory is the proportional set size of all its processes"
)


def query_frame(queries: Sequence[Labelled]) -> pd.DataFrame:
    """Return queries as the batch reads them; `session` holds the songs played."""
    return pd.DataFrame(
        {
            "query_id": [labelled.query_id for labelled in queries],
            "user_id": [labelled.user_id for labelled in queries],
            "ts": pd.to_datetime([labelled.query.ts for labelled in queries], utc=True),
            "session": [played(labelled.query) for labelled in queries],
            "session_id": [labelled.session_id for labelled in queries],
        }
    )


def played(query: Query) -> list[str]:
    """Return the songs listened to so far, in order."""
    return [event.song_id for event in query.session if event.action in Action.LISTENINGS]


def part_of(queries: Sequence[Labelled], count: int, seed: int) -> list[Labelled]:
    """Return a seeded sample in the order it came, all where there are few enough."""
    if len(queries) <= count:
        return list(queries)
    chosen = np.random.default_rng(seed).choice(len(queries), count, replace=False)
    return [queries[i] for i in np.sort(chosen)]


def answer_table(queries: Sequence[Labelled], answers: pd.DataFrame) -> pd.DataFrame:
    """Return one row a query: its task, the rank of its answer (NaN for a miss), its metrics."""
    asked = pd.DataFrame(
        {
            "query_id": [labelled.query_id for labelled in queries],
            "song_id": [labelled.answer for labelled in queries],
            "task": [NEXT if labelled.place else START for labelled in queries],
        }
    )
    found = asked.merge(answers[["query_id", "song_id", "rank"]], "left", ["query_id", "song_id"])
    ranks = found["rank"].to_numpy(dtype=np.float64)
    return found.assign(**{name: METRICS[name](ranks) for name in SHOWN})


def compare(ours: pd.DataFrame, report: pd.DataFrame) -> dict[str, Any]:
    """Return batch and reported means on the queries that both answered, by task."""
    both = ours.merge(report, on="query_id", suffixes=("", "_report"))
    found = {}
    for task, part in both.groupby("task"):
        found[str(task)] = {"queries": len(part)} | {
            name: {
                "batch": float(part[name].mean()),
                "report": float(part[f"{name}_report"].mean()),
            }
            for name in SHOWN
        }
    return found


def same_as_recommender(
    bundle: Path, queries: Sequence[Labelled], answers: pd.DataFrame
) -> dict[str, int]:
    """Ask the recommender itself some of the queries; return how many answers are the same."""
    recommender = Recommender.load(bundle)
    by_query = answers.sort_values(["query_id", "rank"]).groupby("query_id")["song_id"].agg(list)
    same = 0
    some = part_of(queries, CHECKED, seed=1)
    for labelled in some:
        session = tuple(SessionEvent(song) for song in played(labelled.query))
        slate = recommender.recommend(replace(labelled.query, session=session, context={}), K)
        same += [song.song_id for song in slate.songs] == by_query.get(labelled.query_id, [])
    return {"checked": len(some), "same": same}


def tree_memory(pid: int) -> int:
    """Return the bytes of a process and all below it; shared pages are shared out (PSS)."""
    own = proportional_bytes(pid)
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        children = [int(c) for task in tasks for c in (task / "children").read_text().split()]
    except OSError:
        return own
    return own + sum(tree_memory(child) for child in children)


def proportional_bytes(pid: int) -> int:
    """Return the bytes of one process, 0 once it has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def watched(words: Sequence[str]) -> dict[str, float]:
    """Run a program; return its seconds and the peak memory of all its processes.

    Raises
    ------
    subprocess.CalledProcessError
        If it fails.
    """
    begun = time.perf_counter()
    process = subprocess.Popen(words, cwd=PROJECT, stderr=subprocess.DEVNULL)
    peak = [0]

    def watch() -> None:
        while process.poll() is None:
            peak[0] = max(peak[0], tree_memory(process.pid))
            time.sleep(PAUSE)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    code = process.wait()
    taken = time.perf_counter() - begun
    watcher.join()
    if code:
        raise subprocess.CalledProcessError(code, words)
    return {"seconds": taken, "peak_mib": peak[0] / MIB}


def show(found: Mapping[str, Any]) -> str:
    """Return throughput, memory and the comparison as text."""
    rate, memory = found["queries_per_second"], found["peak_mib"]
    lines = (
        f"{rate['median']:.0f} queries a second ({rate['min']:.0f}-{rate['max']:.0f}), "
        f"peak memory {memory['max']:.0f} MiB; the same as the recommender's own answers: "
        f"{found['answers']['same']} of {found['answers']['checked']}\n"
    )
    rows = [
        [f"{task} ({one['queries']:,})", name, f"{one[name]['batch']:.4f}"]
        + [f"{one[name]['report']:.4f}"]
        for task, one in found["quality"].items()
        for name in SHOWN
    ]
    return lines + table(["task", "metric", "batch", "report, same queries"], rows)


def sampled(arguments: argparse.Namespace) -> list[Labelled]:
    """Return the queries to ask: among those of the report, if it asked enough."""
    params = load_params()
    how, history_songs = params.evaluation, params.features.history_songs
    phases = read_phases(arguments.phases)
    sample = Sample(max(arguments.queries, how.max_queries), how.seed, how.starts_share)
    asked = phase_queries(arguments.lake, phases, "test", history_songs, sample)
    return part_of(asked, arguments.queries, how.seed)


def run(
    queries: Sequence[Labelled], arguments: argparse.Namespace, scratch: Path
) -> tuple[list[dict[str, float]], pd.DataFrame]:
    """Run the command some times; return what was measured, and the last answers."""
    source, target = scratch / "queries.parquet", scratch / "answers.parquet"
    query_frame(queries).to_parquet(source, index=False)
    words = ["--queries", source, "--out", target, "--bundle", arguments.bundle.resolve()]
    words += ["--k", K, "--workers", arguments.workers]
    program = [sys.executable, "-m", "serving.batch", *map(str, words)]
    return [watched(program) for _ in range(arguments.rounds)], pd.read_parquet(target)


def main() -> None:
    """Measure the batch command on queries of the test phase."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--lake", type=Path, default=data_dir() / "lake")
    parser.add_argument("--phases", type=Path, default=data_dir() / "phases.json")
    parser.add_argument("--bundle", type=Path, default=data_dir() / "bundles/test")
    parser.add_argument("--report", type=Path, default=data_dir() / "report/answers.parquet")
    parser.add_argument("--queries", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--name", default="batch", help="of the result file")
    arguments = parser.parse_args()
    facts = machine()
    queries = sampled(arguments)
    with TemporaryDirectory() as scratch:
        runs, answers = run(queries, arguments, Path(scratch))
    report = pd.read_parquet(arguments.report)
    found = {
        "queries_per_second": spread([len(queries) / one["seconds"] for one in runs]),
        "peak_mib": spread([one["peak_mib"] for one in runs]),
        "runs": runs,
        "answers": same_as_recommender(arguments.bundle, queries, answers),
        "quality": compare(
            answer_table(queries, answers),
            report[report["method"] == SEGUE].drop(columns="task", errors="ignore"),
        ),
    }
    protocol = {
        "what": WHAT,
        "queries": len(queries),
        "k": K,
        "workers": arguments.workers,
        "rounds": arguments.rounds,
        "bundle": Recommender.load(arguments.bundle).version,
    }
    path = save(arguments.name, facts, protocol, found)
    sys.stdout.write(f"{show(found)}wrote {path}\n")


if __name__ == "__main__":
    run_command(main)
