"""What the simulator knows of the answers: chances that top songs are skipped, liked, added, heard.

For the source `simulated` only, and only for evaluation: nothing that trains may read the truth.
Every song of an answer is judged as the listener would meet it: at its place, in the query's
context and local daypart, with the listener's fatigue from the latest listenings. The peers'
answers (docs/peers.md) are judged just as ours.
"""

import argparse
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from benchmarks.measure import machine, save
from benchmarks.peers.files import Folder
from benchmarks.peers.score import dense, peers_of
from benchmarks.simulated_past import Held, Latest, fatigue, not_held
from features.catalogue import IntArray
from features.columns import Action, Event, SongRow
from features.lake import read_events
from features.mistakes import run_command
from features.params import load_params
from features.paths import data_dir
from features.query import Query
from features.words import Words
from serving.recommender import Recommender
from serving.rules import allowed, barred
from serving.scores import best
from simulation.truth import Truth
from training.dataset import phase_queries
from training.methods import POPULARITY, SEGUE
from training.metrics import NEXT, START, Floats, cluster_bootstrap, interval
from training.phases import Phases, read_phases
from training.queries import Labelled, Sample
from training.tables import bounds, markdown_table

CHANCES: Final = ("skip", "like", "add", "complete")
# Likes and adds that the log would gain: none of a song that is liked or added already.
GIVEN: Final = {
    "like": (Action.LIKE, Action.UNLIKE),
    "add": (Action.PLAYLIST_ADD, Action.PLAYLIST_REMOVE),
}
NEW: Final = {name: f"new_{name}" for name in GIVEN}
MEASURES: Final = (*CHANCES, *NEW.values())
POLICIES: Final = {"no_repeats": False, "repeats": True}
ALL: Final = "all"
DEPTHS: Final = (5, 10)
TOP: Final = max(DEPTHS)
WHAT: Final = (
    "mean chance over the first songs, each at its place on the surface `recommended`, in the "
    "query's context and local daypart, with the listener's fatigue; p(like), p(add) of songs not "
    "yet liked or added; new likes and adds: 0 for songs that are; p(complete) = 1 - p(skip); "
    "Segue minus the method, query by query; bootstrap over listeners"
)


def tops(recommender: Recommender, query: Query) -> Iterator[tuple[str, IntArray]]:
    """Yield each method's best songs that the query allows: Segue's, generators', popularity's."""
    prepared = recommender.prepare(query)
    retrieval = recommender.retrieval
    slate = recommender.answer(prepared, TOP)
    yield SEGUE, retrieval.songs.indices([song.song_id for song in slate.songs])
    out = barred(query, retrieval.songs, prepared.state.played)
    scores = retrieval.scores(prepared.state)
    for name in retrieval.names:
        yield name, allowed(scores[name].top(TOP + len(out)), out)[:TOP]
    popularity = np.nan_to_num(retrieval.songs.numbers[SongRow.POPULARITY])
    popular = best(popularity, TOP + len(out)).astype(np.int32)
    yield POPULARITY, allowed(popular, out)[:TOP]


def read_peers(
    folder: Folder, query_ids: Sequence[str], ids: Iterable[str], repeats: bool
) -> dict[str, IntArray]:
    """Return the peers' songs, best first, shape (queries, TOP), -1 where there are fewer.

    Raises
    ------
    ValueError
        If a peer has not answered all of the queries.
    """
    found = {}
    for name in peers_of(folder):
        path = folder.answers(name, repeats)
        answers = pd.read_parquet(path) if path.exists() else pd.DataFrame({"query_id": []})
        if not set(query_ids) <= set(answers["query_id"]):
            raise ValueError(
                f"{path} does not answer all of the queries; run `benchmarks.peers.export` on "
                "these data and then `benchmarks.peers.run --again`."
            )
        mine = answers[answers["query_id"].isin(query_ids)]
        found[name] = dense(mine, pd.DataFrame({"query_id": query_ids}), pd.Index(ids))[:, :TOP]
    return found


def ask(recommender: Recommender, queries: Sequence[Query]) -> dict[str, IntArray]:
    """Return every method's songs, best first, shape (queries, TOP), -1 where there are fewer."""
    found: dict[str, list[IntArray]] = {}
    for query in tqdm(queries, desc="answers", unit="query", mininterval=1):
        for name, songs in tops(recommender, query):
            row = np.full(TOP, -1, dtype=np.int32)
            row[: len(songs)] = songs
            found.setdefault(name, []).append(row)
    return {name: np.stack(rows) for name, rows in found.items()}


def chances(
    truth: Truth,
    queries: Sequence[Labelled],
    ids: Words,
    songs: IntArray,
    latest: Sequence[NDArray[Any]],
) -> dict[str, Floats]:
    """Return p(skip), p(like) and so on of each song, shape (queries, k), NaN where there is none.

    Parameters
    ----------
    ids
        Song ids by index.
    songs
        Indices, -1 for none.
    latest
        Each query's latest listenings.
    """
    named = ids[np.maximum(songs, 0)].astype(object)
    context = {
        name: [labelled.query.context.get(name) for labelled in queries]
        for name in (Event.OCCASION, Event.MOOD, Event.ACTIVITY)
    }
    known = truth.probabilities(
        [labelled.user_id for labelled in queries],
        named,
        occasion=context[Event.OCCASION],
        mood=context[Event.MOOD],
        activity=context[Event.ACTIVITY],
        ts=[labelled.query.ts for labelled in queries],
        position=np.arange(1, songs.shape[1] + 1),
        fatigue=fatigue(latest, named),
    )
    return {name: np.where(songs >= 0, getattr(known, name), np.nan) for name in CHANCES}


def expected(found: Mapping[str, Floats]) -> dict[str, Floats]:
    """Return each query's mean chance over the first songs, by `<chance>_<depth>`."""
    means = {}
    for name, values in found.items():
        for depth in DEPTHS:
            top = values[:, :depth]
            count = np.isfinite(top).sum(axis=1)
            total = np.nansum(top, axis=1)
            means[f"{name}_{depth}"] = np.where(count, total / np.maximum(count, 1), np.nan)
    return means


def summarise(
    by_method: Mapping[str, Mapping[str, Floats]],
    listeners: Sequence[str] | NDArray[Any],
    draws: int,
    seed: int,
) -> dict[str, Any]:
    """Return mean and 95 % interval of each method's chances, and of Segue's minus the method's.

    The difference is taken query by query, where the method answered; bootstrap over listeners.
    """
    clusters = pd.factorize(np.asarray(listeners, dtype=object))[0]
    found: dict[str, Any] = {}
    for method, measures in by_method.items():
        own = np.column_stack(list(measures.values()))
        lead = np.column_stack([by_method[SEGUE][name] for name in measures]) - own
        means = np.nanmean(np.hstack([own, lead]), axis=0)
        boot = cluster_bootstrap(np.hstack([own, lead]), clusters, draws, seed)
        size = len(measures)
        found[method] = {"answered": float(np.isfinite(own[:, 0]).mean())} | {
            name: {
                "value": float(means[i]),
                "interval": interval(boot[:, i]),
                "segue_minus": float(means[size + i]),
                "segue_minus_interval": interval(boot[:, size + i]),
            }
            for i, name in enumerate(measures)
        }
    return found


def by_task(
    by_method: Mapping[str, Mapping[str, Floats]],
    queries: Sequence[Labelled],
    draws: int,
    seed: int,
) -> dict[str, Any]:
    """Return what `summarise` says of all queries, of next songs, and of session starts.

    A method that answers none of a task's queries is left out there.
    """
    place = np.array([labelled.place for labelled in queries])
    listeners = np.array([labelled.user_id for labelled in queries], dtype=object)
    found = {}
    for task, keep in ((ALL, place >= 0), (NEXT, place > 0), (START, place == 0)):
        if keep.any():
            kept = {
                method: {name: values[keep] for name, values in measures.items()}
                for method, measures in by_method.items()
                if np.isfinite(next(iter(measures.values()))[keep]).any()
            }
            found[task] = summarise(kept, listeners[keep], draws, seed)
    return found


def cells(one: Mapping[str, Any], name: str) -> list[str]:
    """Return a measure's value, and Segue's minus it, each with its interval, if it has one."""
    found = one[name]
    return [
        f"{found['value']:.4f}{bounds(*found['interval'])}",
        f"{found['segue_minus']:+.4f}{bounds(*found['segue_minus_interval'], form='+.4f')}",
    ]


def show(found: Mapping[str, Any], depth: int) -> str:
    """Return one depth as a Markdown table, most likes first."""
    names = [f"{name}_{depth}" for name in MEASURES]
    header = [f"top {depth}", "answered"]
    header += [h for name in MEASURES for h in (f"p({name.replace('_', ' ')})", "segue minus it")]
    rows = []
    like = f"like_{depth}"
    for method, one in sorted(found.items(), key=lambda item: -item[1][like]["value"]):
        row = [f"**{method}**" if method == SEGUE else method, f"{one['answered']:.0%}"]
        for name in names:
            value, lead = cells(one, name)
            row += [value, "" if method == SEGUE else lead]
        rows.append(row)
    return markdown_table(header, rows, spaced=True)


def markdown(figures: Mapping[str, Any]) -> str:
    """Return the first ten songs' tables, by policy and task."""
    parts = ["# The simulator's truth about the first ten songs", WHAT.capitalize() + "."]
    for policy, tasks in figures.items():
        for task, found in tasks.items():
            parts += [f"## Songs of the session: {policy}; queries: {task}", show(found, TOP)]
    return "\n\n".join(parts) + "\n"


@dataclass(frozen=True)
class Judge:
    """Asks the truth about answers to some queries, with what the log holds before each."""

    truth: Truth
    queries: Sequence[Labelled]
    ids: Words
    heard: Sequence[NDArray[Any]]
    held: Mapping[str, Held]

    @classmethod
    def of(
        cls, truth: Truth, queries: Sequence[Labelled], ids: Words, events: pd.DataFrame
    ) -> "Judge":
        """Read events (user_id, ts, event_id, song_id, action) until the last query or later."""
        latest = Latest.of(events)
        heard = [latest.before(labelled) for labelled in queries]
        held = {name: Held.of(events, *actions) for name, actions in GIVEN.items()}
        return cls(truth, queries, ids, heard, held)

    def __call__(self, songs: IntArray) -> dict[str, Floats]:
        """Return each query's mean chances over the first songs of answers (queries, TOP)."""
        found = chances(self.truth, self.queries, self.ids, songs, self.heard)
        for name, new in NEW.items():
            fresh = not_held(self.held[name], self.queries, self.ids, songs)
            found[new] = found[name] * fresh
        return expected(found)


def measure(
    recommender: Recommender, judge: Judge, peers: Folder | None = None
) -> dict[str, dict[str, dict[str, Floats]]]:
    """Return each method's expected chances by query, without and with songs of the session."""
    query_ids = [labelled.query_id for labelled in judge.queries]
    found = {}
    for policy, repeats in POLICIES.items():
        asked = [replace(labelled.query, allow_repeats=repeats) for labelled in judge.queries]
        answers = ask(recommender, asked)
        if peers:
            answers |= {
                f"peer: {name}": songs
                for name, songs in read_peers(peers, query_ids, judge.ids, repeats).items()
            }
        found[policy] = {method: judge(songs) for method, songs in answers.items()}
    return found


def read_until_end(lake: Path, phases: Phases) -> pd.DataFrame:
    """Read what listeners did until the end of the test phase."""
    columns = [Event.USER, Event.TS, Event.ID, Event.SONG, Event.ACTION]
    return read_events(lake, None, phases.test.end, columns)


def main() -> None:
    """Judge the test bundle's answers by the simulator's truth."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--lake", type=Path, default=data_dir() / "lake")
    parser.add_argument("--phases", type=Path, default=data_dir() / "phases.json")
    parser.add_argument("--truth", type=Path, default=data_dir() / "truth")
    parser.add_argument("--bundle", type=Path, default=data_dir() / "bundles/test")
    parser.add_argument("--queries", type=int, help="default: all that the report asks")
    parser.add_argument("--peers", type=Path, help="the cut's folder of benchmarks.peers")
    arguments = parser.parse_args()
    how = load_params().evaluation
    facts = machine()
    phases = read_phases(arguments.phases)
    truth = Truth.load(arguments.truth)
    recommender = Recommender.load(arguments.bundle)
    sample = Sample(arguments.queries or how.max_queries, how.seed, how.starts_share)
    history_songs = recommender.history_songs
    queries = phase_queries(arguments.lake, phases, "test", history_songs, sample)
    peers = Folder(arguments.peers) if arguments.peers else None
    events = read_until_end(arguments.lake, phases)
    judge = Judge.of(truth, queries, recommender.retrieval.songs.ids, events)
    measured = measure(recommender, judge, peers)
    found = {
        policy: by_task(by_method, queries, how.bootstrap, how.seed)
        for policy, by_method in measured.items()
    }
    protocol = {
        "what": WHAT,
        "bundle": recommender.version,
        "queries": len(queries),
        "starts": sum(not labelled.place for labelled in queries),
        "listeners": len({labelled.user_id for labelled in queries}),
        "bootstrap": how.bootstrap,
        "seed": how.seed,
    }
    path = save("simulated_truth", facts, protocol, found)
    path.with_suffix(".md").write_text(markdown(found), encoding="utf-8")
    sys.stdout.write(f"{markdown(found)}wrote {path} and {path.with_suffix('.md')}\n")


if __name__ == "__main__":
    run_command(main)
