"""Rows for the ranker: the real pool of each labelled query, its answer, and pool negatives."""

import argparse
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from features.catalogue import FloatArray
from features.params import Ranker, load_params
from features.state import resolve
from serving.bundle import load_retrieval
from serving.retrieval import Retrieval
from training.phases import Cut, Phases, read_phases, refuse_leak, refuse_stale
from training.queries import Labelled, labelled_queries, sample_positions
from training.rows import Rows, write_rows
from training.sessions import OUTCOMES, read_sessions


def query_rows(
    retrieval: Retrieval, labelled: Labelled, negatives: int, random: np.random.Generator
) -> tuple[FloatArray, NDArray[np.bool_], NDArray[np.bool_]]:
    """Return features, answer mark and pool mark of one query's answer and sampled negatives."""
    answer = retrieval.songs.indices([labelled.answer])
    answer = answer[answer >= 0]
    state = resolve(labelled.query, retrieval.songs)
    pool = retrieval.pool(state, also=answer)
    is_answer: NDArray[np.bool_] = np.isin(pool.songs, answer)
    others = np.flatnonzero(~is_answer)
    if len(others) > negatives:
        others = random.choice(others, negatives, replace=False)
    rows = np.sort(np.concatenate([np.flatnonzero(is_answer), others]))
    in_pool = np.asarray(np.isfinite(pool.ranks).any(axis=1), dtype=np.bool_)
    return retrieval.features(state, pool)[rows], is_answer[rows], in_pool[rows]


def build_rows(retrieval: Retrieval, queries: list[Labelled], params: Ranker) -> Rows:
    """Return the rows of all queries, in the order of the queries."""
    random = np.random.default_rng(params.seed)
    parts = [
        query_rows(retrieval, labelled, params.negatives, random)
        for labelled in tqdm(queries, desc="ranker rows", unit="query", mininterval=1)
    ]
    sizes = [len(part[0]) for part in parts]
    outcomes = [OUTCOMES.index(labelled.outcome) for labelled in queries]
    return Rows(
        features=np.concatenate([part[0] for part in parts]),
        query=np.repeat(np.arange(len(parts), dtype=np.int32), sizes),
        answer=np.concatenate([part[1] for part in parts]),
        in_pool=np.concatenate([part[2] for part in parts]),
        outcome=np.repeat(np.array(outcomes, dtype=np.int8), sizes),
        ts=np.repeat(np.array([utc(labelled.query.ts) for labelled in queries]), sizes),
    )


def utc(moment: datetime) -> np.datetime64:
    """Return a moment as numpy keeps it, in UTC with microseconds."""
    return np.datetime64(moment.astimezone(UTC).replace(tzinfo=None), "us")


def phase_queries(
    lake: Path, phases: Phases, cut: Cut, max_queries: int, seed: int, starts_share: float = 0.0
) -> list[Labelled]:
    """Return labelled queries of the phase that a cut's models may answer.

    Raises
    ------
    LeakError
        If the cut's models see into that phase or the gap before it.
    """
    phase = phases.queries_of(cut)
    refuse_leak(f"The fit of the cut `{cut}`", phases.fit_until(cut), phase, phases.gap)
    events, heard = read_sessions(lake, phase)
    if heard.empty:
        raise ValueError(f"No session lies wholly in {phase}; make `phases` in params.yaml longer.")
    asked = sample_positions(heard, max_queries, seed, starts_share)
    return list(labelled_queries(events, heard, asked))


def main() -> None:
    """Write the ranker rows of one cut."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--cut", choices=("labels", "test"), required=True)
    parser.add_argument("--lake", type=Path, default=Path("data/lake"))
    parser.add_argument("--phases", type=Path, default=Path("data/phases.json"))
    parser.add_argument("--generators", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    params = load_params().ranker
    phases = read_phases(arguments.phases)
    refuse_stale(arguments.generators, phases, arguments.cut)
    queries = phase_queries(
        arguments.lake,
        phases,
        arguments.cut,
        params.max_queries,
        params.seed,
        params.starts_share,
    )
    retrieval = load_retrieval(arguments.generators)
    rows = build_rows(retrieval, queries, params)
    write_rows(rows, retrieval.feature_names, arguments.out)


if __name__ == "__main__":
    main()
