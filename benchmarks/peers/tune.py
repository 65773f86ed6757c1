"""Tune the methods on the validation cut, each with the same number of trials.

Runs in the peers' environment, on the folder of the validation cut and no other, or, with `--phase
labels`, on the label phase of any cut, fitted on its history. A trial is one set of settings; its
answers are judged under each repeat policy, and each task keeps the best pair: next songs by
NDCG@10, session starts by the recall of the coming session.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from benchmarks.peers.combined import COMBINED, SPACES, answer_tasks, completed
from benchmarks.peers.data import Cut, IntArray, Query, indices, read_cut
from benchmarks.peers.files import TUNED, Folder
from benchmarks.peers.methods import METHODS, draws
from benchmarks.peers.ranking import POLICIES, Tops, answer, popularity
from benchmarks.peers.scoring import per_query
from features.mistakes import run_command
from training.metrics import NEXT, START, TASKS

TRIALS: Final = 12
SEED: Final = 7
OBJECTIVE: Final = {NEXT: "ndcg_10", START: "session_recall_20"}
VALIDATION: Final = "2014-11-27"
# Label queries that judge a trial.
LABEL_QUERIES: Final = 4000


@dataclass(frozen=True)
class Judge:
    """What tells how good answers to some queries of a phase are.

    `rows` are those queries; `truth` and `coming` are aligned with them.
    """

    cut: Cut
    phase: str
    rows: IntArray
    truth: IntArray
    coming: list[IntArray]
    popular: IntArray

    @classmethod
    def of(cls, folder: Folder, cut: Cut, phase: str = "test") -> "Judge":
        """Read the answers to all test queries, or to a seeded part of the label queries."""
        frame = pd.read_parquet(folder.truth(phase))
        songs = pd.Index(cut.song_ids)
        count = len(frame) if phase == "test" else min(LABEL_QUERIES, len(frame))
        rows = np.sort(np.random.default_rng(SEED).permutation(len(frame))[:count])
        return cls(
            cut,
            phase,
            rows,
            indices(frame["answer"].iloc[rows], songs),
            [indices(rest, songs) for rest in frame["rest"].iloc[rows]],
            np.argsort(-popularity(cut.plays(phase)), kind="stable"),
        )

    @property
    def queries(self) -> list[Query]:
        """The queries that are asked."""
        every = self.cut.queries(self.phase)
        return [every[row] for row in self.rows]

    @property
    def tasks(self) -> NDArray[Any]:
        """Each query's task."""
        return self.cut.tasks[self.phase][self.rows]

    def value(self, found: NDArray[np.int64], task: str) -> float:
        """Return the task's objective of answers to the task's queries."""
        keep = np.flatnonzero(self.tasks == task)
        coming = [self.coming[row] for row in keep]
        start = np.full(len(keep), task == START)
        values = per_query(found, self.truth[keep], coming, start)
        return float(values[OBJECTIVE[task]].mean())

    def best_policies(self, tops: Tops) -> dict[str, tuple[float, dict[str, Any]]]:
        """Return each task's best policy for a method's songs, and its value."""
        found, asked = {}, self.queries
        for task in TASKS:
            keep = np.flatnonzero(self.tasks == task)
            queries = [asked[row] for row in keep]
            mine = Tops(tops.songs[keep], tops.scores[keep])
            values = [
                (self.value(answer(mine, queries, self.popular, policy), task), asdict(policy))
                for policy in POLICIES
            ]
            found[task] = max(values, key=lambda pair: pair[0])
        return found


@dataclass
class Search:
    """The best settings and policy of each task so far, with all values and the time it took."""

    best: dict[str, Any]
    seconds: float = 0.0

    def add(
        self,
        settings: Mapping[str, Mapping[str, Any]],
        found: Mapping[str, tuple[float, Mapping[str, Any]]],
        seconds: float,
    ) -> None:
        """Take one trial in: each task's settings, and its value and policy."""
        self.seconds += seconds
        for task, (value, policy) in found.items():
            known = self.best.setdefault(task, {"value": -1.0, "trials": []})
            known["trials"].append(round(value, 5))
            if value > known["value"]:
                known |= {"value": round(value, 5), "settings": dict(settings[task])}
                known["policy"] = dict(policy)

    def facts(self) -> dict[str, Any]:
        """Return what goes into tuned.json."""
        return {"cpu_seconds": round(self.seconds, 1), "tasks": self.best}

    @property
    def done(self) -> int:
        """The number of trials taken in."""
        return max((len(task["trials"]) for task in self.best.values()), default=0)


def search(
    judge: Judge,
    trials: Iterable[Mapping[str, Any]],
    answer_with: Callable[[Mapping[str, Any]], Tops],
    name: str,
    out: Path,
    complete: Callable[[Mapping[str, Any], str], Mapping[str, Any]] = lambda drawn, task: drawn,
) -> None:
    """Try settings one after the other, from where the file stops, and keep each trial in it.

    `complete` says what a task's settings are, of those drawn.
    """
    known = known_search(name, out)
    for settings in tqdm(list(trials)[known.done :], desc=name, unit="trial"):
        begun = time.process_time()
        found = judge.best_policies(answer_with(settings))
        each = {task: complete(settings, task) for task in TASKS}
        known.add(each, found, time.process_time() - begun)
        record(name, known.facts(), out)


def known_search(name: str, path: Path) -> Search:
    """Return what the file holds of a method's trials."""
    facts = read_tuned(path).get(name, {})
    return Search(facts.get("tasks", {}), facts.get("cpu_seconds", 0.0))


def read_tuned(path: Path) -> dict[str, Any]:
    """Return all methods' settings, nothing where there is no file yet."""
    known: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return known


def tune_single(
    name: str, trials: int, judge: Judge, out: Path, first: Sequence[Mapping[str, Any]] = ()
) -> None:
    """Search a single method's settings; `first` are tried before what is drawn."""
    method, plays = METHODS[name], judge.cut.plays(judge.phase)

    def answer_with(settings: Mapping[str, Any]) -> Tops:
        return method.make(settings).fit(plays).tops(judge.queries)

    tried = [*first, *draws(method.space, trials, SEED)]
    search(judge, tried, answer_with, name, out)


def tune_combined(name: str, trials: int, folder: Folder, judge: Judge, out: Path) -> None:
    """Search the settings of a method that is made of others, which `run` has run before.

    The members are chosen by their values in the same file: tune those first.
    """
    tuned = read_tuned(out)

    def complete(drawn: Mapping[str, Any], task: str) -> dict[str, Any]:
        return completed(name, drawn, tuned, task)

    def answer_with(settings: Mapping[str, Any]) -> Tops:
        each = {task: complete(settings, task) for task in TASKS}
        tops = answer_tasks(name, folder, judge.cut, each, judge.phase)
        return Tops(tops.songs[judge.rows], tops.scores[judge.rows])

    tried = draws(SPACES[name], trials, SEED)
    search(judge, tried, answer_with, name, out, complete)


def tuned_elsewhere(name: str, path: Path) -> list[dict[str, Any]]:
    """Return the settings of each task that another search's file holds for a method."""
    tasks = read_tuned(path).get(name, {}).get("tasks", {})
    found: list[dict[str, Any]] = []
    for one in tasks.values():
        found += [one["settings"]] if one["settings"] not in found else []
    return found


def record(name: str, found: Mapping[str, Any], path: Path) -> None:
    """Add one method's settings to the file of all."""
    known = {**read_tuned(path), name: found}
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
    parser.add_argument("--trials", type=int, default=TRIALS, help="besides those of --first")
    parser.add_argument("--phase", choices=("test", "labels"), default="test")
    parser.add_argument("--first", type=Path, help="a file of settings that are tried first")
    parser.add_argument("--out", type=Path, default=TUNED)
    parser.add_argument("--again", action="store_true", help="forget the trials that are there")
    arguments = parser.parse_args()
    folder = Folder(arguments.cut)
    if arguments.phase == "test":
        refuse_other_cuts(folder)
    elif arguments.out == TUNED or "two-stage" in arguments.methods:
        parser.error("On labels give --out, and leave out two-stage: it learns from the labels.")
    judge = Judge.of(folder, read_cut(folder), arguments.phase)
    for name in arguments.methods:
        if arguments.again:
            record(name, {}, arguments.out)
        if name in COMBINED:
            tune_combined(name, arguments.trials, folder, judge, arguments.out)
        else:
            first = tuned_elsewhere(name, arguments.first) if arguments.first else []
            tune_single(name, arguments.trials, judge, arguments.out, first)
    sys.stdout.write(f"wrote {', '.join(arguments.methods)} to {arguments.out}\n")


if __name__ == "__main__":
    run_command(main)
