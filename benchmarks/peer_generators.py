"""What a peer's lists would bring to Segue as one more generator: scores, ranks and proposals.

    python -m benchmarks.peer_generators --cut data/peers/DAY --data DATA --source NAME \
        --until MOMENT --methods SASRec VSTAN --work SCRATCH

`--cut` is a folder in which `benchmarks.peers.run` has answered, `--data` the pipeline's own for
the same cut. The peers answered the label queries of the later window, so that the ranker is fitted
on those alone, with and without each peer and with all of them, and judged on the report's queries
as in `benchmarks.ablation`. Point both at a validation cut: what pays is chosen by this.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from benchmarks.ablation import Asked, Trial, markdown, summary, values_of_all
from benchmarks.ablation_rows import WHOLE_POOL, build
from benchmarks.measure import machine, refuse_main_weeks, refuse_other_settings, save
from benchmarks.peers.data import Cut as PeersCut
from benchmarks.peers.data import read_cut
from benchmarks.peers.files import Folder
from benchmarks.peers.lists import read_tops
from features.catalogue import Catalogue
from features.mistakes import Mistake, run_command
from features.params import Params, load_params
from features.state import State
from features.times import asked_moment
from serving.bundle import load_retrieval
from serving.retrieval import Retrieval
from serving.scores import NO_SCORES, SparseScores
from training.dataset import phase_queries
from training.phases import Cut, Phases, read_phases
from training.queries import Labelled, Sample
from training.rows import select

CANDIDATES: Final = 60
KIND: Final = "a peer as a generator"


@dataclass(frozen=True)
class Given:
    """A generator that answered beforehand, by the identity of the query."""

    answers: Mapping[int, SparseScores]

    def scores(self, state: State) -> SparseScores:
        """Return what was answered to the state's query; nothing to others."""
        return self.answers.get(id(state.query), NO_SCORES)


def given(
    folder: Folder,
    method: str,
    phase: Cut,
    cut: PeersCut,
    asked: Sequence[Labelled],
    songs: Catalogue,
) -> Given:
    """Return a peer's own lists for a phase's queries, before any repeat policy."""
    tops = read_tops(folder, method, phase)
    place = {query_id: row for row, query_id in enumerate(cut.query_ids[phase])}
    index = songs.indices(list(cut.song_ids))
    answers = {}
    for labelled in asked:
        row = place[labelled.query_id]
        found = np.where(tops.songs[row] >= 0, index[tops.songs[row]], -1)
        # Places without a song, and songs that Segue's catalogue does not know, come first.
        order = np.argsort(found)[np.count_nonzero(found < 0) :]
        answers[id(labelled.query)] = SparseScores(
            found[order].astype(np.int32), tops.scores[row][order].astype(np.float32)
        )
    return Given(answers)


def column(method: str) -> str:
    """Return a method's name as LightGBM takes it in a feature's name.

    Examples
    --------
    >>> column("item kNN")
    'item_kNN'
    """
    return method.replace(" ", "_")


def with_peers(plain: Retrieval, peers: Mapping[str, Given]) -> Retrieval:
    """Return a retrieval in which the peers propose and score as well."""
    quota = {**plain.quota, **dict.fromkeys(peers, CANDIDATES)}
    return replace(plain, generators={**plain.generators, **peers}, quota=quota)


def trials(names: Sequence[str], peers: Sequence[str]) -> list[Trial]:
    """Return the base without any peer first, then a refit, one with each peer, one with all."""
    every = {name.removesuffix("_rank") for name in names if name.endswith("_rank")}
    base = Trial("base", "base", frozenset(every - set(peers)), frozenset(), 1)
    sets = [[name] for name in peers] + ([list(peers)] if len(peers) > 1 else [])
    return [
        base,
        replace(base, name="another seed (1)", kind="refit", seed=1),
        *(
            replace(base, name=" + ".join(some), kind=KIND, generators=base.generators | set(some))
            for some in sets
        ),
    ]


def asked_of(
    arguments: argparse.Namespace, params: Params, phases: Phases, phase: Cut
) -> tuple[Asked, tuple[str, ...]]:
    """Return a phase's queries and their rows, with every peer among the generators."""
    folder, how = Folder(arguments.cut), params.ranker
    sample = Sample.of(how if phase == "labels" else params.evaluation)
    lake = arguments.data / "lake"
    queries = phase_queries(lake, phases, phase, params.features.history_songs, sample)
    plain = load_retrieval(arguments.data / "generators" / phase)
    cut = read_cut(folder)
    peers = {
        column(method): given(folder, method, phase, cut, queries, plain.songs)
        for method in arguments.methods
    }
    retrieval = with_peers(plain, peers)
    negatives = how.negatives if phase == "labels" else WHOLE_POOL
    return Asked(
        queries, build(retrieval, queries, negatives, how.seed, phase)
    ), retrieval.feature_names


def split(asked: Asked) -> tuple[Asked, Asked]:
    """Return next songs and session starts by themselves, each with numbers of its own."""
    parts = []
    for is_start in (False, True):
        wanted = np.array([item.is_start is is_start for item in asked.queries])
        rows = select(asked.rows, wanted[asked.rows.query])
        number = np.cumsum(wanted) - 1
        parts.append(
            Asked(
                [item for item, keep in zip(asked.queries, wanted, strict=True) if keep],
                replace(rows, query=number[rows.query].astype(rows.query.dtype)),
            )
        )
    return parts[0], parts[1]


def checked_phases(arguments: argparse.Namespace) -> Phases:
    """Return the phases of the data, refusing those of another cut or of later weeks.

    Raises
    ------
    Mistake
        If the peers' cut is not the data's, or it ends after `--until`.
    """
    phases = read_phases(arguments.data / "phases.json")
    refuse_main_weeks(phases, arguments.until)
    theirs = json.loads(Folder(arguments.cut).manifest.read_text(encoding="utf-8"))["as_of"]
    if datetime.fromisoformat(theirs) != phases.as_of:
        raise Mistake(f"{arguments.cut} is of {theirs}, {arguments.data} of {phases.as_of}.")
    return phases


def run(arguments: argparse.Namespace) -> str:
    """Write results and table of all trials; return the table, and where the results are."""
    facts, params, phases = machine(), load_params(), checked_phases(arguments)
    labels, names = asked_of(arguments, params, phases, "labels")
    follow, starts = split(asked_of(arguments, params, phases, "test")[0])
    tried = trials(names, [column(method) for method in arguments.methods])
    settings = {
        "params": params.model_dump(mode="json"),
        "as_of": phases.as_of.isoformat(),
        "methods": arguments.methods,
    }
    refuse_other_settings(arguments.work, settings)
    found = values_of_all(
        tried, labels.rows, (follow, starts), names, params.ranker, arguments.work / "values"
    )
    users = [item.user_id for asked in (follow, starts) for item in asked.queries]
    listeners = pd.factorize(np.array(users))[0]
    table = summary(found, tried, listeners, params.evaluation.bootstrap, params.evaluation.seed)
    protocol = {
        "label_queries": len(labels.queries),
        "queries": len(follow.queries),
        "starts": len(starts.queries),
        "listeners": int(listeners.max()) + 1,
        "candidates": CANDIDATES,
        "bootstrap": params.evaluation.bootstrap,
        "as_of": phases.as_of.isoformat(),
    }
    told = {m: json.loads(Folder(arguments.cut).facts(m).read_text()) for m in arguments.methods}
    cost = {m: {key: told[m][key] for key in ("fit_seconds", "predict_ms")} for m in told}
    figures = {"trials": table.to_dict("records"), "cost": cost}
    path = save(f"peer_generators_{arguments.source}", facts, protocol, figures)
    context = ", ".join(f"{name} {value}" for name, value in protocol.items())
    return f"{markdown(table, {}, context)}\n{cost}\nwrote {path}\n"


def main() -> None:
    """Run every trial and write results and table."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--cut", type=Path, required=True, help="the peers' folder of the cut")
    parser.add_argument("--data", type=Path, required=True, help="the pipeline's data of the cut")
    parser.add_argument("--source", required=True, help="name in the results")
    parser.add_argument("--methods", nargs="+", required=True)
    parser.add_argument("--work", type=Path, required=True, help="an empty folder for fits")
    parser.add_argument(
        "--until",
        type=asked_moment,
        required=True,
        help="refuse phases that end after this moment (ISO 8601, UTC if no zone)",
    )
    sys.stdout.write(run(parser.parse_args()))


if __name__ == "__main__":
    run_command(main)
