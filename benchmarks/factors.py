"""Our factor stage against the bare implicit fit on the same matrix, interleaved.

`fit` is `training.factors.fit_factors` (scores to factors, with the matrix), `stage` also reads the
lake and scores the signal, `command` is the process that DVC runs, start of Python included.
"""

import argparse
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import pandas as pd
from implicit.cpu.als import AlternatingLeastSquares
from scipy.sparse import csr_matrix
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from benchmarks.measure import interleaved, machine, ratios, save, spread, table, timed
from features.columns import Song, User
from features.mistakes import run_command
from features.params import Signal, load_params
from features.paths import PROJECT, data_dir
from training.factors import SEED, confidence_matrix, fit_factors, read_scores
from training.phases import CUTS, read_phases

BARE: Final = "bare implicit fit"
TARGET: Final = 1.25


def bare_fit(user_items: csr_matrix, params: Signal) -> None:
    """Fit implicit as its own manual says: BLAS on one thread, no progress bar."""
    with threadpool_limits(limits=1, user_api="blas"):
        AlternatingLeastSquares(
            factors=params.factors,
            regularization=params.regularization,
            alpha=1.0,
            iterations=params.iterations,
            random_state=SEED,
        ).fit(user_items, show_progress=False)


def measure(work: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each piece of work, round by round, interleaved."""
    seconds: dict[str, list[float]] = {name: [] for name in work}
    turns = tqdm(list(interleaved(list(work), rounds)), unit="run")
    for _, name in turns:
        turns.set_description(name)
        seconds[name].append(timed(work[name]))
    return seconds


def figures(seconds: Mapping[str, list[float]]) -> dict[str, Any]:
    """Return seconds and ratios to the bare fit, by name."""
    return {
        name: {"seconds": spread(own), "ratio": spread(ratios(own, seconds[BARE])), "runs": own}
        for name, own in seconds.items()
    }


def command(arguments: argparse.Namespace, out: Path) -> None:
    """Run the stage as DVC does."""
    options = {
        "--signal": arguments.signal,
        "--cut": arguments.cut,
        "--lake": arguments.lake.resolve(),
        "--phases": arguments.phases.resolve(),
        "--out": out,
    }
    words = [str(word) for option in options.items() for word in option]
    subprocess.run(
        [sys.executable, "-m", "training.factors", *words],
        cwd=PROJECT,
        check=True,
        stderr=subprocess.DEVNULL,
    )


def show(found: Mapping[str, Any]) -> str:
    """Return the figures as a table."""
    rows = [
        [name, f"{one['seconds']['median']:.2f}"]
        + [f"{one['ratio'][key]:.3f}" for key in ("median", "min", "max")]
        for name, one in found.items()
    ]
    return table(["", "median s", "ratio", "min", "max"], rows)


def work_of(
    arguments: argparse.Namespace, params: Signal, scores: pd.DataFrame, out: Path
) -> dict[str, Callable[[], object]]:
    """Return what is compared, the bare fit first."""
    user_items, _ = confidence_matrix(scores, params.alpha)
    until = read_phases(arguments.phases).fit_until(arguments.cut)

    def stage() -> None:
        read = read_scores(arguments.lake, arguments.signal, until, params)
        fit_factors(read, params)

    return {
        BARE: lambda: bare_fit(user_items, params),
        "fit": lambda: fit_factors(scores, params),
        "stage": stage,
        "command": lambda: command(arguments, out),
    }


def matrix_size(scores: pd.DataFrame) -> dict[str, int]:
    """Return the matrix's rows, columns and non-zeros."""
    return {
        "listeners": int(scores[User.ID].nunique()),
        "songs": int(scores[Song.ID].nunique()),
        "non_zeros": len(scores),
    }


def main() -> None:
    """Measure one signal's factor stage against the bare fit."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--lake", type=Path, default=data_dir() / "lake")
    parser.add_argument("--phases", type=Path, default=data_dir() / "phases.json")
    parser.add_argument("--signal", default="listen")
    parser.add_argument("--cut", choices=CUTS, default="serving")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--name", default="factors", help="of the result file")
    arguments = parser.parse_args()
    facts = machine()
    params = load_params().signals[arguments.signal]
    until = read_phases(arguments.phases).fit_until(arguments.cut)
    scores = read_scores(arguments.lake, arguments.signal, until, params)
    with TemporaryDirectory() as scratch:
        work = work_of(arguments, params, scores, Path(scratch))
        # Once untimed, so that the first pair does not pay for touching the memory.
        work[BARE]()
        found = figures(measure(work, arguments.rounds))
    protocol = {
        "what": "ratios within each round; all run in turn, the same settings and iterations",
        "signal": arguments.signal,
        "cut": arguments.cut,
        "rounds": arguments.rounds,
        "matrix": matrix_size(scores),
        "settings": params.model_dump(),
    }
    path = save(arguments.name, facts, protocol, found)
    verdict = "met" if found["fit"]["ratio"]["median"] <= TARGET else "missed"
    sys.stdout.write(show(found))
    sys.stdout.write(f"fit at most {TARGET} times the bare fit: {verdict}; wrote {path}\n")


if __name__ == "__main__":
    run_command(main)
