"""Rows for the ranker: the real pool of each labelled query, its answer, and pool negatives."""

import argparse
from datetime import UTC, datetime
from functools import cache
from itertools import repeat
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from features.columns import Event, UserRow
from features.forked import forked
from features.mistakes import Mistake, run_command
from features.params import Ranker, load_params
from features.paths import data_dir
from features.state import resolve
from serving.bundle import load_retrieval
from serving.past import rows_at
from serving.retrieval import Retrieval
from training.phases import CUTS, Cut, Phases, read_phases, refuse_leak, refuse_leaky
from training.queries import Labelled, Sample, labelled_queries, sample_positions
from training.rows import Part, Rows, join, listener_code, write_rows
from training.sessions import OUTCOMES, SKIP, read_sessions

BLOCK = 100


def query_rows(
    retrieval: Retrieval, labelled: Labelled, negatives: int, random: np.random.Generator
) -> Part:
    """Return one query's answer, the pool's songs heard later, and sampled negatives."""
    answer = retrieval.songs.indices([labelled.answer])
    answer = answer[answer >= 0]
    state = resolve(labelled.query, retrieval.songs)
    pool = retrieval.pool(state, also=answer)
    is_answer: NDArray[np.bool_] = np.isin(pool.songs, answer)
    is_later = np.isin(pool.songs, retrieval.songs.indices(heard_later(labelled))) & ~is_answer
    others = np.flatnonzero(~is_answer & ~is_later)
    if len(others) > negatives:
        others = random.choice(others, negatives, replace=False)
    rows = np.sort(np.concatenate([np.flatnonzero(is_answer | is_later), others]))
    in_pool = np.asarray(np.isfinite(pool.ranks).any(axis=1), dtype=np.bool_)
    features = retrieval.features(state, pool)[rows]
    return Part(
        features=features,
        answer=is_answer[rows],
        later=is_later[rows],
        in_pool=in_pool[rows],
        outcome=OUTCOMES.index(labelled.outcome),
        ts=utc(labelled.query.ts),
        listener=listener_code(labelled.user_id),
    )


def heard_later(labelled: Labelled) -> list[str]:
    """Return the songs of the session's rest after the answer that were not skipped."""
    rest = zip(labelled.rest[1:], labelled.rest_outcomes[1:], strict=True)
    return [song for song, outcome in rest if outcome != SKIP]


def build_rows(folder: Path, queries: list[Labelled], params: Ranker, workers: int) -> Rows:
    """Return the rows of all queries, in their order, from the retrieval in `folder`.

    Each query draws its negatives from a seed of its own, so that `workers` change nothing.
    """
    numbered = list(enumerate(queries))
    blocks = [numbered[i : i + BLOCK] for i in range(0, len(numbered), BLOCK)]
    parts: list[Part] = []
    with forked(workers) as pool:
        found = pool.map(_block_rows, repeat(folder), blocks, repeat(params))
        for block in tqdm(
            found, total=len(blocks), desc="ranker rows", unit="block", mininterval=1
        ):
            parts += block
    return join(parts, range(len(parts)))


def _block_rows(folder: Path, block: list[tuple[int, Labelled]], params: Ranker) -> list[Part]:
    retrieval = _retrieval(folder)
    return [
        query_rows(
            retrieval, labelled, params.negatives, np.random.default_rng([params.seed, number])
        )
        for number, labelled in block
    ]


@cache
def _retrieval(folder: Path) -> Retrieval:
    """Load once a process."""
    return load_retrieval(folder)


def utc(moment: datetime) -> np.datetime64:
    """Return a moment as numpy keeps it, in UTC with microseconds."""
    return np.datetime64(moment.astimezone(UTC).replace(tzinfo=None), "us")


def phase_queries(
    lake: Path, phases: Phases, cut: Cut, history_songs: int, sample: Sample
) -> list[Labelled]:
    """Return labelled queries of the phase that a cut's models may answer.

    Each knows its listener as the service would have: what the store said and was heard since.

    Raises
    ------
    LeakError
        If the cut's models see into that phase or the gap before it.
    """
    phase = phases.queries_of(cut)
    refuse_leak(f"The fit of the cut `{cut}`", phases.fit_until(cut), phase, phases.gap)
    events, heard = read_sessions(lake, phase)
    if heard.empty:
        raise Mistake(f"No session lies wholly in {phase}; make `phases` in params.yaml longer.")
    asked = sample_positions(heard, sample)
    rows = rows_at(asked.rename(columns={Event.TS: UserRow.TS}), lake, history_songs)
    return list(labelled_queries(events, heard, asked, rows))


def main() -> None:
    """Write the ranker rows of one cut."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--cut", choices=CUTS[:-1], required=True)
    parser.add_argument("--lake", type=Path, default=data_dir() / "lake")
    parser.add_argument("--phases", type=Path, default=data_dir() / "phases.json")
    parser.add_argument("--generators", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    params = load_params()
    phases = read_phases(arguments.phases)
    refuse_leaky(arguments.generators, phases, arguments.cut)
    history_songs, sample = params.features.history_songs, Sample.of(params.ranker)
    queries = phase_queries(arguments.lake, phases, arguments.cut, history_songs, sample)
    rows = build_rows(arguments.generators, queries, params.ranker, arguments.workers)
    write_rows(rows, load_retrieval(arguments.generators).feature_names, arguments.out)


if __name__ == "__main__":
    run_command(main)
