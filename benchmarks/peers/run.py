"""Answer a cut's test queries with every method, as tuned, and write songs, time and settings.

Runs in the peers' environment and reads only what a method may see. What is there already for
the same data and settings is kept.
"""

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from benchmarks.peers.combined import COMBINED, run_combined
from benchmarks.peers.counting import Peer
from benchmarks.peers.data import Cut, read_cut
from benchmarks.peers.files import TUNED, Folder
from benchmarks.peers.lists import Run, blank, read_tops, write_tops
from benchmarks.peers.methods import METHODS
from benchmarks.peers.ranking import Policy, Tops, answer, popularity
from features.mistakes import run_command
from training.metrics import TASKS, TOP

PHASES = ("labels", "test")


def run_single(name: str, tasks: Mapping[str, Mapping[str, Any]], cut: Cut) -> Run:
    """Fit a method anew for each phase, with each task's settings, and ask that task's queries.

    The seconds are the processor's (others may use the machine), those of the test phase: of one
    fit on average, and of all its queries.
    """
    found = {phase: blank(len(cut.queries(phase))) for phase in PHASES}
    fits, predict = [], 0.0
    for phase in PHASES:
        fitted: dict[str, Peer] = {}
        for task, tuned in tasks.items():
            key = json.dumps(tuned["settings"], sort_keys=True)
            begun = time.process_time()
            if key not in fitted:
                fitted[key] = METHODS[name].make(tuned["settings"]).fit(cut.plays(phase))
                fits += [time.process_time() - begun] if phase == "test" else []
            begun = time.process_time()
            put(found[phase], fitted[key], cut, phase, task)
            predict += time.process_time() - begun if phase == "test" else 0.0
    return Run(found, float(np.mean(fits)), predict)


def put(into: Tops, peer: Peer, cut: Cut, phase: str, task: str) -> None:
    """Ask a method one task's queries of a phase and put its songs where they belong."""
    rows = np.flatnonzero(cut.tasks[phase] == task)
    queries = cut.queries(phase)
    if len(rows):
        tops = peer.tops([queries[row] for row in rows])
        into.songs[rows], into.scores[rows] = tops.songs, tops.scores


def final_answers(
    tops: Tops, tasks: Mapping[str, Mapping[str, Any]], cut: Cut, repeats: bool = True
) -> Any:
    """Return the first songs of each test query under its task's policy.

    `repeats` false bars the songs of the running session even where the policy lets them come.
    """
    popular = np.argsort(-popularity(cut.all), kind="stable")
    found = np.full((len(cut.test), TOP), -1, dtype=np.int64)
    for task, tuned in tasks.items():
        rows = np.flatnonzero(cut.tasks["test"] == task)
        if len(rows):
            mine = Tops(tops.songs[rows], tops.scores[rows])
            queries = [cut.test[row] for row in rows]
            policy = Policy(**tuned["policy"])
            policy = replace(policy, session=policy.session and repeats)
            found[rows] = answer(mine, queries, popular, policy)
    return found


def write_answers(
    folder: Folder, name: str, found: Any, cut: Cut, facts: Mapping[str, Any]
) -> None:
    """Write songs by query and rank, and the facts beside them."""
    write_songs(folder.answers(name), found, cut)
    folder.facts(name).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


def write_songs(path: Path, found: Any, cut: Cut) -> None:
    """Write songs by query and rank."""
    ids = np.asarray(cut.query_ids["test"], dtype=object)
    row, rank = np.nonzero(found >= 0)
    frame = pd.DataFrame(
        {"query_id": ids[row], "rank": rank + 1, "song_id": cut.song_ids[found[row, rank]]}
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.to_parquet(path, index=False)


def stamp(folder: Folder, tuned: Mapping[str, Any], on: Mapping[str, str]) -> str:
    """Return a digest of the data, the settings, and the methods that it builds on."""
    text = hashlib.sha256(json.dumps([tuned, dict(on)], sort_keys=True).encode())
    paths = [folder.plays(fit) for fit in ("history", "all")]
    paths += [folder.queries(phase) for phase in PHASES] + [folder.truth("labels")]
    for path in paths:
        text.update(path.read_bytes())
    return text.hexdigest()


def without(
    tasks: Mapping[str, Mapping[str, Any]], left_out: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Return the settings of a method that is made of others, with some of those left out."""
    found = {}
    for task, tuned in tasks.items():
        names = [name for name in tuned["settings"]["names"] if name not in left_out]
        found[task] = {**tuned, "settings": {**tuned["settings"], "names": names}}
    return found


def kept_run(folder: Folder, name: str, tasks: Mapping[str, Mapping[str, Any]]) -> Run | None:
    """Return a method's own lists where they are there for these data and settings.

    The policy, which is applied to them afterwards, may have changed.
    """
    path = folder.facts(name)
    if not path.exists() or not all(folder.tops(name, phase).exists() for phase in PHASES):
        return None
    facts = json.loads(path.read_text(encoding="utf-8"))
    known = facts["tasks"]
    same = all(known[task]["settings"] == tasks[task]["settings"] for task in tasks)
    if not same or facts["stamp"] != stamp(folder, known, {}):
        return None
    tops = {phase: read_tops(folder, name, phase) for phase in PHASES}
    queries = len(tops["test"].songs)
    return Run(tops, facts["fit_seconds"], facts["predict_ms"] * queries / 1000)


def is_done(folder: Folder, name: str, key: str) -> bool:
    """Tell whether a method's answers are there for the same data and settings."""
    path = folder.facts(name)
    return path.exists() and json.loads(path.read_text(encoding="utf-8"))["stamp"] == key


@dataclass(frozen=True)
class Job:
    """A method with each task's settings, and the stamp of what its answers come from."""

    name: str
    tasks: Mapping[str, Mapping[str, Any]]
    stamp: str


def jobs(folder: Folder, tuned: Mapping[str, Any], left_out: Sequence[str]) -> list[Job]:
    """Return the methods that are tuned and not left out, those made of others last."""
    stamps: dict[str, str] = {}
    found = []
    for name in (*METHODS, *COMBINED):
        if name not in tuned or name in left_out:
            continue
        tasks = {task: tuned[name]["tasks"][task] for task in TASKS}
        if name in COMBINED:
            tasks = without(tasks, left_out)
        stamps[name] = stamp(folder, tasks, stamps if name in COMBINED else {})
        found.append(Job(name, tasks, stamps[name]))
    return found


def run_one(job: Job, folder: Folder, cut: Cut, again: bool) -> str:
    """Run a method, write its songs and answers, and say what it took.

    Without `again`, a single method's own lists are taken as they are where they fit.
    """
    if job.name in COMBINED:
        run = run_combined(job.name, folder, cut, job.tasks)
    else:
        kept = None if again else kept_run(folder, job.name, job.tasks)
        run = kept or run_single(job.name, job.tasks, cut)
        if kept is None:
            write_tops(folder, job.name, run)
    facts = {
        "stamp": job.stamp,
        "fit_plays": len(cut.all.song),
        "fit_seconds": round(run.fit_seconds, 3),
        "predict_ms": round(1000 * run.predict_seconds / len(cut.test), 4),
        "tasks": job.tasks,
    }
    barred = final_answers(run.tops["test"], job.tasks, cut, repeats=False)
    write_songs(folder.answers(job.name, repeats=False), barred, cut)
    write_answers(folder, job.name, final_answers(run.tops["test"], job.tasks, cut), cut, facts)
    return f"{job.name}: fit {run.fit_seconds:.2f} s, {facts['predict_ms']} ms a query\n"


def main() -> None:
    """Run the methods on a cut."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--cut", type=Path, required=True, help="the cut's folder")
    parser.add_argument(
        "--tuned", type=Path, nargs="+", default=[TUNED], help="files of settings, later files win"
    )
    parser.add_argument("--methods", nargs="+", help="default: all that are tuned")
    parser.add_argument("--leave-out", nargs="+", default=[], help="not even as parts of others")
    parser.add_argument("--again", action="store_true", help="run also what is there already")
    arguments = parser.parse_args()
    folder = Folder(arguments.cut)
    tuned: dict[str, Any] = {}
    for path in arguments.tuned:
        tuned |= json.loads(path.read_text(encoding="utf-8"))
    cut = read_cut(folder)
    found = jobs(folder, tuned, arguments.leave_out)
    for job in tqdm(found, desc="methods", unit="method"):
        if arguments.methods and job.name not in arguments.methods:
            continue
        if is_done(folder, job.name, job.stamp) and not arguments.again:
            continue
        sys.stdout.write(run_one(job, folder, cut, arguments.again))


if __name__ == "__main__":
    run_command(main)
