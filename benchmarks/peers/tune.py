"""Tune the methods on the validation cut, each with the same number of trials.

Runs in the peers' environment, on the folder of the validation cut and no other. A trial is one
set of settings; its answers are judged under each repeat policy, and each task keeps the best
pair: next songs by NDCG@10, session starts by the recall of the coming session.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from benchmarks.peers.combined import COMBINED, SPACES, answer_tasks, completed
from benchmarks.peers.data import Cut, indices, read_cut
from benchmarks.peers.files import NEXT, START, TASKS, TUNED, Folder
from benchmarks.peers.methods import METHODS, draws
from benchmarks.peers.ranking import POLICIES, Tops, answer, popularity
from benchmarks.peers.scoring import per_query

TRIALS: Final = 12
SEED: Final = 7
OBJECTIVE: Final = {NEXT: "ndcg_10", START: "session_recall_20"}
VALIDATION: Final = "2014-11-27"


@dataclass(frozen=True)
class Judge:
    """What tells how good answers to the validation queries are."""

    cut: Cut
    truth: NDArray[np.int64]
    coming: list[NDArray[np.int64]]
    popular: NDArray[np.int64]

    @classmethod
    def of(cls, folder: Folder, cut: Cut) -> "Judge":
        """Read the validation cut's answers."""
        frame = pd.read_parquet(folder.truth("test"))
        songs = pd.Index(cut.song_ids)
        return cls(
            cut,
            indices(frame["answer"], songs),
            [indices(rest, songs) for rest in frame["rest"]],
            np.argsort(-popularity(cut.all), kind="stable"),
        )

    def value(self, found: NDArray[np.int64], task: str) -> float:
        """Return the task's objective of answers to the task's queries."""
        keep = np.flatnonzero(self.cut.tasks["test"] == task)
        coming = [self.coming[row] for row in keep]
        start = np.full(len(keep), task == START)
        values = per_query(found, self.truth[keep], coming, start)
        return float(values[OBJECTIVE[task]].mean())

    def best_policies(self, tops: Tops) -> dict[str, tuple[float, dict[str, Any]]]:
        """Return each task's best policy for a method's songs, and its value."""
        found = {}
        for task in TASKS:
            keep = np.flatnonzero(self.cut.tasks["test"] == task)
            queries = [self.cut.test[row] for row in keep]
            mine = Tops(tops.songs[keep], tops.scores[keep])
            values = [
                (self.value(answer(mine, queries, self.popular, policy), task), asdict(policy))
                for policy in POLICIES
            ]
            found[task] = max(values, key=lambda pair: pair[0])
        return found


def search(
    judge: Judge,
    trials: Iterable[Mapping[str, Any]],
    answer_with: Callable[[Mapping[str, Any]], Tops],
    name: str,
) -> dict[str, Any]:
    """Return the best settings and policy of each task, with the values and the time it took."""
    begun = time.perf_counter()
    best: dict[str, Any] = {}
    values: dict[str, list[float]] = {task: [] for task in TASKS}
    for settings in tqdm(list(trials), desc=name, unit="trial"):
        for task, (value, policy) in judge.best_policies(answer_with(settings)).items():
            values[task].append(round(value, 5))
            if task not in best or value > best[task]["value"]:
                best[task] = {"value": value, "settings": dict(settings), "policy": policy}
    for task in TASKS:
        best[task] |= {"value": round(best[task]["value"], 5), "trials": values[task]}
    return {"seconds": round(time.perf_counter() - begun, 1), "tasks": best}


def tune_single(
    name: str, trials: int, folder: Folder, judge: Judge, known: Path
) -> dict[str, Any]:
    """Search a single method's settings."""
    method, cut = METHODS[name], judge.cut
    tried = draws(method.space, trials, SEED)
    return search(judge, tried, lambda s: method.make(s).fit(cut.all).tops(cut.test), name)


def tune_combined(
    name: str, trials: int, folder: Folder, judge: Judge, known: Path
) -> dict[str, Any]:
    """Search the settings of a method that is made of others, which `run` has run before."""
    tuned = json.loads(known.read_text(encoding="utf-8"))

    def answer_with(settings: Mapping[str, Any]) -> Tops:
        each = {task: completed(name, settings, tuned, task) for task in TASKS}
        return answer_tasks(name, folder, judge.cut, each)

    found = search(judge, draws(SPACES[name], trials, SEED), answer_with, name)
    for task, best in found["tasks"].items():
        best["settings"] = completed(name, best["settings"], tuned, task)
    return found


def record(name: str, found: Mapping[str, Any], path: Path) -> None:
    """Add one method's settings to the file of all."""
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    known[name] = found
    ordered = {key: known[key] for key in sorted(known)}
    path.write_text(json.dumps(ordered, indent=1) + "\n", encoding="utf-8")


def refuse_other_cuts(folder: Folder) -> None:
    """Raise ValueError unless the folder holds the validation cut."""
    as_of = json.loads(folder.manifest.read_text(encoding="utf-8"))["as_of"]
    if not as_of.startswith(VALIDATION):
        raise ValueError(
            f"{folder.root} is the cut of {as_of}; methods are tuned on the validation cut "
            f"({VALIDATION}) alone. Export that one, or use tuned.json as it is."
        )


def main() -> None:
    """Tune methods on the validation cut."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--cut", type=Path, required=True, help="the validation cut's folder")
    parser.add_argument(
        "--methods", nargs="+", default=list(METHODS), choices=[*METHODS, *COMBINED]
    )
    parser.add_argument("--trials", type=int, default=TRIALS)
    parser.add_argument("--out", type=Path, default=TUNED)
    arguments = parser.parse_args()
    folder = Folder(arguments.cut)
    refuse_other_cuts(folder)
    cut = read_cut(folder)
    judge = Judge.of(folder, cut)
    for name in arguments.methods:
        tune = tune_combined if name in COMBINED else tune_single
        found = tune(name, arguments.trials, folder, judge, arguments.out)
        record(name, found, arguments.out)
        sys.stdout.write(f"{name}: {json.dumps(found)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
