"""Search generators' settings with Optuna on label queries, each alone and without the ranker.

    python -m benchmarks.generator_search --generators NAME … --source NAME --until MOMENT

reads what the pipeline left in `SEGUE_DATA`. A trial fits one generator as of the cut `labels`,
which takes some seconds at most, and asks it the label phase's queries. Its value is the mean of
what it makes of the default's NDCG@10 and recall among its `candidates` (next songs) and, half as
much, of its share of the coming session's songs in the first 20 (starts). The best, fitted as of
the cut `test`, are then asked that phase's queries: what each brings has paired 95 % intervals over
listeners.

A generator that is better alone need not make the ranker's answers better: judge a whole pipeline
before a setting is adopted. `--until` refuses data whose test phase ends later.
"""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np
import optuna
import pandas as pd
from numpy.typing import NDArray

from benchmarks.measure import machine, refuse_main_weeks, save
from benchmarks.search import table
from features.catalogue import Catalogue, IntArray, map_catalogue
from features.mistakes import run_command
from features.params import SIGNALS, Generators, Params, Signal, load_params
from features.paths import data_dir
from features.state import State, resolve
from features.times import asked_moment
from serving.bundle import load_factors, load_generators
from serving.files import LINKS
from serving.generators import Generator, SignalFactors
from training.dataset import phase_queries
from training.factors import fit_factors, read_matrix, save_fit
from training.generators import write_factors, write_generators
from training.metrics import METRICS, cluster_bootstrap, interval
from training.phases import Cut, Phases, read_phases
from training.plays import read_plays
from training.queries import Sample

# What chooses, and what judges.
CUTS: Final[tuple[Cut, ...]] = ("labels", "test")
SHOWN: Final = ("ndcg_10", "recall", "session_recall_20")
# What each figure counts in a trial's value.
WEIGHTS: Final = np.array([1.0, 1.0, 0.5])
FIRST: Final = 20
# What takes time to fit, and what reads another one's files.
PROPOSING: Final = (*LINKS, "vectors", "sessions")
FITTED: Final = (*PROPOSING, "dayparts", "tensor")
NEEDS: Final = {"continuations": "sessions"}
# What proposes by settings of its own.
SEARCHED: Final = (*SIGNALS, "continuations", "loops", "repeats", *PROPOSING)

Figures = NDArray[np.float64]
Section = Any


@dataclass(frozen=True)
class Questions:
    """The queries of one cut's phase, and what the cut's generators may be fitted on.

    `answers` is (queries,), -1 for songs that are not known; `coming` holds each start's songs of
    the coming session, None for next songs.
    """

    cut: Cut
    until: datetime
    songs: Catalogue
    plays: pd.DataFrame
    states: Sequence[State]
    answers: IntArray
    coming: Sequence[IntArray | None]
    sizes: Sequence[int]
    listeners: NDArray[np.int64]


def read_questions(data: Path, phases: Phases, cut: Cut, queries: int, params: Params) -> Questions:
    """Read queries of the phase that a cut's generators may answer, starts as among labels."""
    lake, songs = data / "lake", map_catalogue(data / "generators" / cut)
    sample = Sample(queries, params.ranker.seed, params.ranker.starts_share)
    found = phase_queries(lake, phases, cut, params.features.history_songs, sample)
    coming = [None if q.query.session else songs.indices(sorted(set(q.rest))) for q in found]
    until = phases.fit_until(cut)
    return Questions(
        cut=cut,
        until=until,
        songs=songs,
        plays=read_plays(lake, until, songs.ids[:]),
        states=[resolve(q.query, songs) for q in found],
        answers=songs.indices([q.answer for q in found]),
        coming=coming,
        sizes=[len(set(q.rest)) for q in found],
        listeners=pd.factorize(np.array([q.user_id for q in found]))[0],
    )


def fitted(name: str, section: Section, params: Params, lake: Path, asked: Questions) -> Generator:
    """Fit one generator as of a cut."""
    with TemporaryDirectory() as folder:
        out = Path(folder)
        if isinstance(section, Signal):
            return _factors(name, section, params, lake, asked, out)
        generators = only(name, params.generators.model_copy(update={name: section}))
        alone = params.model_copy(update={"generators": generators})
        write_generators(asked.plays, asked.until, alone, asked.songs, out)
        # What is mapped stays readable when the folder is gone.
        return load_generators(out, generators, asked.songs)[name]


def _factors(
    name: Any, section: Signal, params: Params, lake: Path, asked: Questions, out: Path
) -> Generator:
    signals = {**params.signals, name: section}
    fit = fit_factors(read_matrix(lake, name, asked.until, signals), section, threads=1)
    save_fit(out / "fit.npz", fit, signals, name, asked.until)
    write_factors(out / "fit.npz", out / "factors.npz", asked.songs.ids[:], asked.until)
    return SignalFactors(name, load_factors(out / "factors.npz"))


def only(name: str, generators: Generators) -> Generators:
    """Switch off what takes time to fit, but one generator and what it reads."""
    kept = {name, NEEDS.get(name)}
    off = {
        other: getattr(generators, other).model_copy(update={"enabled": other in kept})
        for other in FITTED
    }
    return generators.model_copy(update=off)


def figures(generator: Generator, asked: Questions, count: int) -> Figures:
    """Return `SHOWN` of each query, shape (3, queries), NaN where it does not apply."""
    found = np.full((len(SHOWN), len(asked.states)), np.nan)
    ranks = np.full(len(asked.states), np.nan)
    for number, (state, answer) in enumerate(zip(asked.states, asked.answers, strict=True)):
        # What another setting has worked out.
        state.worked_out.clear()
        top, coming = generator.scores(state).top(count), asked.coming[number]
        if coming is not None:
            heard = np.isin(coming[coming >= 0], top[:FIRST]).sum()
            found[2, number] = heard / asked.sizes[number]
            continue
        place = np.flatnonzero(top == answer)
        ranks[number] = place[0] + 1 if len(place) else np.nan
        found[1, number] = len(place) > 0
    next_songs = ~np.isnan(found[1])
    found[0, next_songs] = METRICS["ndcg_10"](ranks[next_songs])
    return found


def means(found: Figures) -> Figures:
    """Return the mean of each figure over its queries, shape (3,), 0 where it has none.

    Examples
    --------
    >>> means(np.array([[0.5, 1, np.nan], [np.nan, np.nan, np.nan]])).tolist()
    [0.75, 0.0]
    """
    asked = ~np.isnan(found)
    total = np.where(asked, found, 0).sum(axis=1)
    return np.asarray(total / np.maximum(asked.sum(axis=1), 1))


def value(found: Figures, base: Figures) -> float:
    """Return the weighted mean of the ratios to the default's figures, of those it has.

    Examples
    --------
    >>> value(np.array([[0.2], [0.3], [0.0]]), np.array([[0.1], [0.3], [0.0]]))
    1.5
    """
    ours, theirs = means(found), means(base)
    has = theirs > 0
    return float(np.average(ours[has] / theirs[has], weights=WEIGHTS[has]))


def suggest(trial: optuna.Trial, section: Section) -> Section:
    """Return the section with whatever of it can be searched set anew."""
    names = [name for name in SPACE if name in type(section).model_fields]
    return section.model_copy(update={name: SPACE[name](trial, name) for name in names})


def _log(low: float, high: float) -> Callable[[optuna.Trial, str], float]:
    return lambda trial, name: trial.suggest_float(name, low, high, log=True)


def _linear(low: float, high: float) -> Callable[[optuna.Trial, str], float]:
    return lambda trial, name: trial.suggest_float(name, low, high)


def _whole(low: int, high: int) -> Callable[[optuna.Trial, str], int]:
    return lambda trial, name: trial.suggest_int(name, low, high)


# Sizes (factors, neighbours, candidates) are left alone: more is better, and costs each request.
SPACE: Final[Mapping[str, Callable[[optuna.Trial, str], float]]] = {
    "half_life_days": _log(5, 1000),
    "max_gap": _whole(1, 12),
    "gap_decay": _linear(0.1, 1),
    "age_decay": _linear(0.4, 1),
    "seeds": _whole(1, 30),
    "seed_decay": _linear(0.05, 1),
    "distance": _log(1, 30),
    "backward": _linear(0, 1),
    "longest": _whole(1, 8),
    "gain": _log(1, 30),
    "regularization": _log(0.01, 3),
    "alpha": _log(1, 200),
    "frequency_exponent": _linear(0, 1),
}


def search(
    measure: Callable[[Section], Figures], section: Section, trials: int, seed: int
) -> list[tuple[float, Section]]:
    """Run trials, the first of them the default, and return the settings, the best first.

    Raises
    ------
    ValueError
        If the default finds nothing.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    base = measure(section)
    if not means(base).any():
        raise ValueError(
            "With the default settings no answer is among the candidates, so that nothing can be "
            "compared; see `candidates` in params.yaml, and whether the data has such events."
        )
    done = [(1.0, section)]

    def objective(trial: optuna.Trial) -> float:
        tried = suggest(trial, section)
        found = measure(tried)
        done.append((value(found, base), tried))
        shown = zip(SHOWN, means(found).round(4).tolist(), strict=True)
        sys.stdout.write(f"{done[-1][0]:.4f} {dict(shown)} {trial.params}\n")
        sys.stdout.flush()
        return done[-1][0]

    sampler = optuna.samplers.TPESampler(seed=seed)
    optuna.create_study(direction="maximize", sampler=sampler).optimize(objective, trials - 1)
    return sorted(done, key=lambda one: -one[0])


def judged(
    measure: Callable[[Section], Figures],
    tried: Mapping[str, Section],
    asked: Questions,
    params: Params,
) -> dict[str, dict[str, Any]]:
    """Return each setting's figures, and what it brings to the first, with paired intervals."""
    each = {name: measure(section) for name, section in tried.items()}
    base, how = next(iter(each.values())), params.evaluation
    rows = {name: {"setting": section.model_dump()} for name, section in tried.items()}
    for place, metric in enumerate(SHOWN):
        use = ~np.isnan(base[place])
        if not use.any():
            continue
        for name, found in each.items():
            gain = (found[place] - base[place])[use]
            draws = cluster_bootstrap(gain[:, None], asked.listeners[use], how.bootstrap, how.seed)
            brings = dict(zip(("low", "high"), interval(draws[:, 0]), strict=True))
            brings["brings"] = float(gain.mean())
            rows[name][metric] = {"value": float(found[place][use].mean()), **brings}
    return rows


def searched(
    name: str, asked: Mapping[Cut, Questions], params: Params, lake: Path, trials: int, best: int
) -> dict[str, Any]:
    """Search one generator's settings on label queries and judge the best on the test cut's."""
    signals: Mapping[Any, Section] = params.signals
    section = signals.get(name) or getattr(params.generators, name)

    def measure(cut: Cut, one: Section) -> Figures:
        return figures(fitted(name, one, params, lake, asked[cut]), asked[cut], one.candidates)

    found = search(partial(measure, "labels"), section, trials, params.ranker.seed)
    others = [one for _, one in found if one is not section][:best]
    tried = {"default": section} | {f"best {n}": one for n, one in enumerate(others, start=1)}
    rows = judged(partial(measure, "test"), tried, asked["test"], params)
    sys.stdout.write(f"{name}\n{table(rows, [m for m in SHOWN if m in rows['default']])}\n")
    settings = [{"value": worth, "setting": one.model_dump()} for worth, one in found]
    return {"trials": settings, "judged": rows}


def main() -> None:
    """Search the settings of some generators, each alone, and write what was found."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--generators", nargs="+", choices=SEARCHED, required=True)
    parser.add_argument("--source", required=True, help="name in the results")
    parser.add_argument("--until", type=asked_moment, required=True)
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--queries", type=int, default=6000)
    parser.add_argument("--best", type=int, default=3, help="how many to judge")
    arguments = parser.parse_args()
    facts, data, params = machine(), data_dir(), load_params()
    phases = read_phases(data / "phases.json")
    refuse_main_weeks(phases, arguments.until)
    asked = {cut: read_questions(data, phases, cut, arguments.queries, params) for cut in CUTS}
    limits = arguments.trials, arguments.best
    found = {
        name: searched(name, asked, params, data / "lake", *limits) for name in arguments.generators
    }
    queries = {
        cut: {"all": len(one.coming), "next songs": sum(songs is None for songs in one.coming)}
        for cut, one in asked.items()
    }
    protocol = {"trials": limits[0], "queries": queries, "as_of": phases.as_of.isoformat()}
    save(f"generator_search_{arguments.source}", facts, protocol, found)


if __name__ == "__main__":
    run_command(main)
