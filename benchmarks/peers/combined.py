"""Methods made of others' lists: reciprocal-rank fusion, and a plain two-stage model.

Both read what `run` kept of the single methods, each as tuned. For training rows of the second
stage those were fitted on the history alone, for the test phase on history and labels.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import lightgbm as lgb
import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.data import Cut, IntArray
from benchmarks.peers.files import Folder
from benchmarks.peers.lists import Run, blank, read_tops
from benchmarks.peers.methods import METHODS
from benchmarks.peers.ranking import DEPTH, Tops, padded

SEED: Final = 7
# Of each kind the best is taken where members shall differ.
KIND: Final = {
    "sequential rules": "transitions",
    "V-SKNN": "SKNN",
    "STAN": "SKNN",
    "VSTAN": "SKNN",
    "BPR": "ALS",
}
SPACES: Final[dict[str, dict[str, Sequence[Any]]]] = {
    "RRF of three": {
        "members": ("best", "best of a kind"),
        "constant": (1.0, 3.0, 5.0, 10.0, 20.0, 60.0),
        "weights": (
            (1.0, 1.0, 1.0),
            (1.0, 0.7, 0.5),
            (1.0, 0.5, 0.3),
            (1.0, 0.3, 0.3),
            (1.0, 0.5, 0.5),
        ),
    },
    "two-stage": {
        "rows": ("all", "task"),
        "depth": (30, 50, 100),
        "num_leaves": (7, 15, 31, 63),
        "learning_rate": (0.03, 0.05, 0.1),
        "rounds": (100, 200, 400),
        "min_data_in_leaf": (20, 50, 100, 200),
        "feature_fraction": (0.3, 0.5, 0.8, 1.0),
        "negatives": (50, 100),
        "lambdarank_truncation_level": (10, 20, 30),
    },
}
DEFAULTS: Final[dict[str, dict[str, Any]]] = {
    "RRF of three": {"members": "best", "constant": 60.0, "weights": (1.0, 1.0, 1.0)},
    "two-stage": {
        "rows": "all",
        "depth": 50,
        "num_leaves": 31,
        "learning_rate": 0.05,
        "rounds": 200,
        "min_data_in_leaf": 100,
        "feature_fraction": 0.5,
        "negatives": 100,
        "lambdarank_truncation_level": 20,
    },
}


def best_three(tuned: Mapping[str, Any], task: str, members: str) -> list[str]:
    """Return the three single methods that were best on the validation cut, best first.

    Parameters
    ----------
    members
        `best`, or `best of a kind`, which takes one of the neighbours, one of the rules and so on.
    """
    singles = [name for name in METHODS if name in tuned]
    singles.sort(key=lambda name: -tuned[name]["tasks"][task]["value"])
    found: dict[str, str] = {}
    for name in singles:
        found.setdefault(name if members == "best" else KIND.get(name, name), name)
    return list(found.values())[:3]


def fused(lists: Sequence[IntArray], weights: Sequence[float], constant: float, songs: int) -> Tops:
    """Return the songs by the sum over lists of weight / (constant + rank).

    Parameters
    ----------
    lists
        Each of shape (queries, DEPTH), -1 = none.
    """
    pairs, features = pool(lists, [None] * len(lists), DEPTH, songs)
    # Of a kind there may be fewer than three.
    scores = np.nansum(
        np.asarray(weights[: len(lists)]) / (constant + features[:, : len(lists)]), axis=1
    )
    return by_query(pairs, scores, len(lists[0]), songs)


def pool(
    lists: Sequence[IntArray], values: Sequence[Any], depth: int, songs: int
) -> tuple[IntArray, NDArray[np.float32]]:
    """Return each (query, song) that a list proposes, as query × songs + song, with its features.

    Returns
    -------
    pairs, features
        Ascending, shape (pairs,); and (pairs, lists) ranks from 1, then, where there are values,
        as many columns of scores; NaN where a list lacks the song.
    """
    keys, places = [], []
    for found in lists:
        row, rank = np.nonzero(found[:, :depth] >= 0)
        keys.append(row * songs + found[row, rank])
        places.append((row, rank))
    pairs = np.unique(np.concatenate(keys))
    scored = [value for value in values if value is not None]
    features = np.full((len(pairs), len(lists) + len(scored)), np.nan, dtype=np.float32)
    for column, (key, (row, rank)) in enumerate(zip(keys, places, strict=True)):
        at = np.searchsorted(pairs, key)
        features[at, column] = rank + 1
        if scored:
            features[at, len(lists) + column] = scored[column][row, rank]
    return pairs, features


def by_query(pairs: IntArray, scores: Any, queries: int, songs: int) -> Tops:
    """Return each query's best songs from scored pairs; equal scores keep the songs' order."""
    row = pairs // songs
    order = np.lexsort((-scores, row))
    starts = np.searchsorted(row, np.arange(queries))
    place = np.arange(len(row)) - starts[row]
    kept = place < DEPTH
    found = np.full((queries, DEPTH), -1, dtype=np.int64)
    values = np.full((queries, DEPTH), np.nan)
    at = row[kept], place[kept]
    found[at] = (pairs % songs)[order][kept]
    values[at] = scores[order][kept]
    return padded(found, values)


def training_rows(
    pairs: IntArray, answers: IntArray, songs: int, negatives: int
) -> tuple[IntArray, NDArray[np.bool_]]:
    """Return the pairs to learn from: answers and some others, of queries whose answer is there."""
    row, song = pairs // songs, pairs % songs
    is_answer = song == answers[row]
    has = np.zeros(len(answers), dtype=np.bool_)
    has[row[is_answer]] = True
    draw = np.random.default_rng(SEED).random(len(pairs))
    order = np.lexsort((np.where(is_answer, -1.0, draw), row))
    starts = np.searchsorted(row, np.arange(len(answers)))
    place = np.empty(len(pairs), dtype=np.int64)
    place[order] = np.arange(len(pairs)) - starts[row[order]]
    kept = np.flatnonzero(has[row] & (place <= negatives))
    return kept, is_answer[kept]


def completed(
    name: str, settings: Mapping[str, Any], tuned: Mapping[str, Any], task: str
) -> dict[str, Any]:
    """Return drawn settings with the names of the methods that are combined for a task."""
    whole = {**DEFAULTS[name], **settings}
    members = whole.pop("members", None)
    names = best_three(tuned, task, members) if members else [n for n in METHODS if n in tuned]
    return {"names": names, **whole}


@dataclass(frozen=True)
class Lists:
    """All generators' lists for the label and the test queries."""

    labels: list[Tops]
    test: list[Tops]


def read_lists(folder: Folder, names: Sequence[str]) -> Lists:
    """Read the generators' lists of both phases."""
    return Lists(*([read_tops(folder, n, phase) for n in names] for phase in ("labels", "test")))


def second_stage(lists: Lists, cut: Cut, settings: Mapping[str, Any], task: str) -> Tops:
    """Learn from the label phase which candidate was played, and order those of the test phase."""
    songs, depth = len(cut.song_ids), int(settings["depth"])
    pairs, features = pool_of(lists.labels, depth, songs)
    kept, answer = training_rows(pairs, cut.label_answers, songs, int(settings["negatives"]))
    if settings["rows"] == "task":
        mine = (cut.tasks["labels"] == task)[pairs[kept] // songs]
        kept, answer = kept[mine], answer[mine]
    booster = learn(features[kept], answer, (pairs // songs)[kept], settings)
    pairs, features = pool_of(lists.test, depth, songs)
    return by_query(pairs, booster.predict(features, num_threads=1), len(cut.test), songs)


def pool_of(tops: Sequence[Tops], depth: int, songs: int) -> tuple[IntArray, NDArray[np.float32]]:
    """Return the pool of several methods with ranks and scores."""
    return pool([top.songs for top in tops], [top.scores for top in tops], depth, songs)


def learn(features: Any, answer: Any, query: IntArray, settings: Mapping[str, Any]) -> lgb.Booster:
    """Train lambdarank on rows that are contiguous by query."""
    sizes = np.unique(query, return_counts=True)[1]
    params = {
        "objective": "lambdarank",
        "num_threads": 1,
        "seed": SEED,
        "deterministic": True,
        "verbose": -1,
        **{
            name: settings[name]
            for name in (
                "num_leaves",
                "learning_rate",
                "min_data_in_leaf",
                "feature_fraction",
                "lambdarank_truncation_level",
            )
        },
    }
    rows = lgb.Dataset(features, answer.astype(np.int8), group=sizes)
    return lgb.train(params, rows, num_boost_round=int(settings["rounds"]))


def fuse(folder: Folder, cut: Cut, settings: Mapping[str, Any], task: str, phase: str) -> Tops:
    """Fuse the lists of the members that the settings name."""
    lists = [read_tops(folder, name, phase).songs for name in settings["names"]]
    return fused(lists, settings["weights"], settings["constant"], len(cut.song_ids))


def two_stage(folder: Folder, cut: Cut, settings: Mapping[str, Any], task: str, phase: str) -> Tops:
    """Order the candidates of the generators that the settings name, for the test queries.

    Raises
    ------
    ValueError
        If asked for the label queries, which it learns from.
    """
    if phase != "test":
        raise ValueError("The two-stage model learns from the label queries; ask it others.")
    return second_stage(read_lists(folder, settings["names"]), cut, settings, task)


ANSWER: Final[dict[str, Callable[[Folder, Cut, Mapping[str, Any], str, str], Tops]]] = {
    "RRF of three": fuse,
    "two-stage": two_stage,
}


def answer_tasks(
    name: str,
    folder: Folder,
    cut: Cut,
    settings_of: Mapping[str, Mapping[str, Any]],
    phase: str = "test",
) -> Tops:
    """Return the songs of all queries of a phase, each task's with its own settings."""
    tops = blank(len(cut.queries(phase)))
    for task, settings in settings_of.items():
        rows = np.flatnonzero(cut.tasks[phase] == task)
        mine = ANSWER[name](folder, cut, settings, task, phase)
        tops.songs[rows], tops.scores[rows] = mine.songs[rows], mine.scores[rows]
    return tops


def run_combined(
    name: str, folder: Folder, cut: Cut, tasks: Mapping[str, Mapping[str, Any]]
) -> Run:
    """Answer the test queries; the seconds hold those of the methods it is made of."""
    settings_of = {task: tuned["settings"] for task, tuned in tasks.items()}
    begun = time.process_time()
    tops = answer_tasks(name, folder, cut, settings_of)
    own = time.process_time() - begun
    names = {member for settings in settings_of.values() for member in settings["names"]}
    facts = [json.loads(folder.facts(n).read_text(encoding="utf-8")) for n in sorted(names)]
    # The two-stage model also fits its members once on the history; its own time is mostly fit.
    fits = 2 if name == "two-stage" else 1
    return Run(
        {"test": tops},
        own / len(tasks) + fits * sum(fact["fit_seconds"] for fact in facts),
        sum(fact["predict_ms"] for fact in facts) * len(cut.test) / 1000,
    )


COMBINED: Final = tuple(ANSWER)
