"""How many candidates from whom: greedy marginal recall on the label phase.

    python -m training.quotas [--queries 4000] [--step 10]

Every generator ranks `DEPTH` proposals for each label query. Starting from none, the step (the
next `--step` songs of one generator, or 2, 4, 8 times as many) that brings the most newly found
answers per song newly in the pool is taken, as long as the mean pool stays within the size asked.
Songs that several generators propose count once, quotas above `DEPTH` as `DEPTH`. So that the
choice isn't judged by what it was chosen on, `recall` is measured across: the quotas chosen on one
half of the listeners on the other half, and the other way round; `recall_seen` on what it was
chosen on.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from features.catalogue import IntArray
from features.mistakes import run_command
from features.params import load_params
from features.paths import data_dir
from features.state import resolve
from serving.bundle import load_retrieval
from serving.retrieval import Retrieval
from training.dataset import phase_queries
from training.phases import Cut, read_phases, refuse_leaky
from training.queries import Labelled, Sample
from training.rows import listener_code
from training.tables import markdown_table

DEPTH: Final = 200
SIZES: Final = (100, 200, 300, 500)
STRETCHES: Final = 4
NOW: Final = "now"
Quotas = dict[str, int]


@dataclass(frozen=True)
class Proposals:
    """Who proposed what.

    `slots` is (queries, generators, DEPTH): each proposed (query, song) pair has a number of its
    own, the same whoever proposes it; -1 fills short lists up. `answer` (queries,) is the pair of
    the song that was played, -1 where nobody proposed it.
    """

    names: tuple[str, ...]
    slots: IntArray
    answer: IntArray

    @classmethod
    def of(cls, names: Sequence[str], songs: IntArray, truth: IntArray) -> "Proposals":
        """Give each pair a number: `songs` (queries, generators, DEPTH), `truth` (queries,)."""
        width = int(max(songs.max(initial=0), truth.max(initial=0))) + 1
        row = np.arange(len(songs))
        pairs = np.where(songs >= 0, row[:, None, None] * width + songs, -1)
        unique, slots = np.unique(pairs, return_inverse=True)
        first = int(unique[0] == -1) if len(unique) else 0
        wanted = row * width + truth
        place = np.minimum(np.searchsorted(unique, wanted), len(unique) - 1)
        found = (unique[place] == wanted) & (truth >= 0)
        answer = np.where(found, place - first, -1)
        return cls(tuple(names), slots.reshape(songs.shape).astype(np.int32) - first, answer)

    @property
    def pairs(self) -> int:
        """How many (query, song) pairs there are."""
        return int(self.slots.max(initial=-1)) + 1

    def part(self, keep: NDArray[np.bool_]) -> "Proposals":
        """Return some of the queries."""
        return Proposals(self.names, self.slots[keep], self.answer[keep])

    def measure(self, quotas: Mapping[str, int]) -> tuple[float, float]:
        """Return recall and mean pool size under some quotas."""
        member = np.zeros(self.pairs + 1, dtype=np.bool_)
        for place, name in enumerate(self.names):
            member[self.slots[:, place, : quotas.get(name, 0)]] = True
        member[-1] = False
        return float(member[self.answer].mean()), float(member.sum() / len(self.answer))


@dataclass(frozen=True)
class Option:
    """A larger quota of one generator, with the pairs it adds and the answers among them."""

    place: int
    quota: int
    new: int
    found: int


def greedy(
    proposals: Proposals, step: int, largest: float
) -> Iterator[tuple[Quotas, float, float]]:
    """Yield quotas, recall and mean pool size after each step, while the pool is within `largest`.

    Longer steps stand to choose too, so that a stretch without answers doesn't hide those behind.
    """
    queries = len(proposals.answer)
    # The last place takes -1, which is nobody's pair: always a member, never new.
    member = np.zeros(proposals.pairs + 1, dtype=np.bool_)
    wanted = np.zeros(proposals.pairs + 1, dtype=np.bool_)
    wanted[proposals.answer] = True
    member[-1], wanted[-1] = True, False
    quotas = dict.fromkeys(proposals.names, 0)
    recall = size = 0.0
    while True:
        options = [
            option
            for place in range(len(quotas))
            for option in _options(proposals, place, quotas, step, member, wanted)
            if size + option.new / queries <= largest
        ]
        best = max(options, key=lambda option: option.found / max(option.new, 1), default=None)
        if best is None or best.found == 0:
            return
        member[proposals.slots[:, best.place, : best.quota]] = True
        quotas[proposals.names[best.place]] = best.quota
        recall, size = recall + best.found / queries, size + best.new / queries
        yield dict(quotas), recall, size


def _options(
    proposals: Proposals,
    place: int,
    quotas: Quotas,
    step: int,
    member: NDArray[np.bool_],
    wanted: NDArray[np.bool_],
) -> Iterator[Option]:
    """Yield larger quotas of one generator."""
    quota = quotas[proposals.names[place]]
    fresh = proposals.slots[:, place, quota : quota + step * 2 ** (STRETCHES - 1)]
    new = ~member[fresh]
    counts = np.cumsum(new.sum(axis=0))
    found = np.cumsum((new & wanted[fresh]).sum(axis=0))
    for more in sorted({min(step * 2**n, fresh.shape[1]) for n in range(STRETCHES)} - {0}):
        yield Option(place, quota + more, int(counts[more - 1]), int(found[more - 1]))


def choose(proposals: Proposals, step: int, size: float) -> Quotas:
    """Return the quotas at the end of the greedy path to a mean pool size."""
    quotas = dict.fromkeys(proposals.names, 0)
    for reached, _, _ in greedy(proposals, step, size):
        quotas = reached
    return quotas


def table(
    proposals: Proposals,
    halves: NDArray[np.bool_],
    now: Mapping[str, int],
    step: int,
    sizes: Sequence[int] = SIZES,
) -> pd.DataFrame:
    """Return one row a way to fill the pool: its mean size, recall, and quotas by generator.

    `now` scaled to each size keeps the proportions of the present quotas; `recall_seen` is on the
    queries that the greedy choice has seen, `recall` across the halves.
    """
    recall, size = proposals.measure(now)
    wanted = [*map(float, sizes), size]
    rows = [{"pool": NOW, "size": size, "recall": recall, "recall_seen": recall, **now}]
    for target, label in zip(wanted, [*map(str, sizes), "as now"], strict=True):
        if target != size:
            same = scaled(proposals, now, target)
            there, reached = proposals.measure(same)
            row = {"size": reached, "recall": there, "recall_seen": there, **same}
            rows.append({"pool": f"{label}, proportions of now", **row})
        chosen = choose(proposals, step, target)
        seen, reached = proposals.measure(chosen)
        held = _across(proposals, halves, step, target)
        row = {"size": reached, "recall": held, "recall_seen": seen, **chosen}
        rows.append({"pool": f"{label}, greedy", **row})
    return pd.DataFrame(rows)


def _across(proposals: Proposals, halves: NDArray[np.bool_], step: int, size: float) -> float:
    """Return the recall of each half under the other half's quotas, over all queries.

    NaN where a half is empty, as with one listener.
    """
    if halves.all() or not halves.any():
        return float("nan")
    found = 0.0
    for half in (halves, ~halves):
        quotas = choose(proposals.part(~half), step, size)
        found += proposals.part(half).measure(quotas)[0] * half.sum()
    return float(found / len(halves))


def scaled(proposals: Proposals, now: Mapping[str, int], size: float) -> Quotas:
    """Return the largest multiple of the present quotas whose mean pool is within a size."""
    low, high = 0.0, DEPTH / max(1, *now.values())
    for _ in range(12):
        middle = (low + high) / 2
        within = proposals.measure(_times(now, middle))[1] <= size
        low, high = (middle, high) if within else (low, middle)
    return _times(now, low)


def _times(now: Mapping[str, int], factor: float) -> Quotas:
    return {name: min(round(quota * factor), DEPTH) for name, quota in now.items()}


def propose(retrieval: Retrieval, queries: Sequence[Labelled]) -> Proposals:
    """Ask every generator for its best `DEPTH` songs for each query."""
    songs = np.full((len(queries), len(retrieval.names), DEPTH), -1, dtype=np.int32)
    for row, labelled in enumerate(tqdm(queries, desc="proposals", unit="query", mininterval=1)):
        scores = retrieval.scores(resolve(labelled.query, retrieval.songs))
        for place, name in enumerate(retrieval.names):
            top = scores[name].top(DEPTH)
            songs[row, place, : len(top)] = top
    truth = retrieval.songs.indices([labelled.answer for labelled in queries])
    return Proposals.of(retrieval.names, songs, truth)


def markdown(found: pd.DataFrame, names: Sequence[str]) -> str:
    """Return the table as Markdown, generators that propose nothing anywhere left out."""
    shown = [name for name in names if found[name].any()]
    head = ["pool", "mean size", "recall", "recall (seen)", *shown]
    rows = []
    for row in found.to_dict("records"):
        numbers = [f"{row['size']:.0f}", f"{row['recall']:.4f}", f"{row['recall_seen']:.4f}"]
        rows.append([str(row["pool"]), *numbers, *(str(int(row[name])) for name in shown)])
    return markdown_table(head, rows, spaced=True)


def suggestion(found: pd.DataFrame, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return `candidates` as params.yaml names them, at the present mean pool size."""
    row = found[found["pool"] == "as now, greedy"].iloc[0]
    return {name: {"candidates": int(row[name])} for name in names}


def present(retrieval: Retrieval) -> Quotas:
    """Return how many songs each generator may propose now, as far as it is asked here."""
    return {name: min(retrieval.quota[name], DEPTH) for name in retrieval.names}


def main() -> None:
    """Print and write the pool's recall under the present quotas and under greedy ones."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--lake", type=Path, default=data_dir() / "lake")
    parser.add_argument("--phases", type=Path, default=data_dir() / "phases.json")
    parser.add_argument("--generators", type=Path, default=data_dir() / "generators/labels")
    parser.add_argument("--out", type=Path, default=data_dir() / "report/quotas.csv")
    parser.add_argument("--queries", type=int, help="default: evaluation.max_queries")
    parser.add_argument("--step", type=int, default=10)
    arguments = parser.parse_args()
    phases = read_phases(arguments.phases)
    cut: Cut = "labels"
    refuse_leaky(arguments.generators, phases, cut)
    params = load_params()
    most = arguments.queries or params.evaluation.max_queries
    history_songs, sample = params.features.history_songs, Sample(most, params.ranker.seed)
    queries = phase_queries(arguments.lake, phases, cut, history_songs, sample)
    retrieval = load_retrieval(arguments.generators)
    halves = np.array([listener_code(item.user_id) % 2 == 0 for item in queries])
    now = present(retrieval)
    found = table(propose(retrieval, queries), halves, now, arguments.step)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    found.to_csv(arguments.out, index=False)
    sys.stdout.write(f"{len(queries):,} label queries\n\n{markdown(found, retrieval.names)}\n\n")
    sys.stdout.write(json.dumps(suggestion(found, retrieval.names), indent=1) + "\n")
    sys.stdout.write(f"wrote {arguments.out}\n")


if __name__ == "__main__":
    run_command(main)
