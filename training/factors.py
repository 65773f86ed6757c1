"""Factors of one signal: implicit ALS on the recency-weighted listener x song matrix.

Hu, Koren and Volinsky, ICDM 2008, with confidence 1 + alpha * value. Only the song side is kept:
listeners are folded in when they ask (`serving.fold_in`).
"""

import argparse
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import ibis
import numpy as np
import pandas as pd
from implicit.cpu.als import AlternatingLeastSquares
from implicit.recommender_base import ModelFitError
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from threadpoolctl import threadpool_limits

from features.catalogue import FloatArray
from features.columns import Song, User
from features.lake import event_files
from features.mistakes import Mistake, run_command
from features.params import SIGNALS, Signal, SignalName, load_params
from features.paths import data_dir
from features.signals import VALUE, arrived, signal_scores
from training.als import half_step
from training.phases import CUTS, Cut, Phases, read_phases

SEED = 7


@dataclass(frozen=True)
class Frequency:
    """A regularisation by how many entries a row holds."""

    regularization: float
    exponent: float = 0.0
    offset: float = 0.0

    def of(self, observed: FloatArray) -> FloatArray:
        """Return each row's regularisation."""
        return np.asarray(self.regularization * (observed + self.offset) ** self.exponent)


@dataclass(frozen=True)
class SongFactors:
    """Item factors, shape (songs, factors), for the songs of one signal's matrix."""

    song_ids: NDArray[np.str_]
    item_factors: FloatArray
    spread: float
    listeners: Frequency


def fit_factors(scores: pd.DataFrame, params: Signal, threads: int = 0) -> SongFactors:
    """Factorise one signal.

    Parameters
    ----------
    scores
        user_id, song_id, value; one row a pair. A value below 0 is an observed zero. Empty where
        the source lacks the signal.
    threads
        For implicit; 0 means all cores.

    Raises
    ------
    Mistake
        If the fit gave factors that are not finite.
    """
    if scores.empty:
        nothing = np.empty((0, params.factors), np.float32)
        return SongFactors(np.empty(0, np.str_), nothing, 1.0, Frequency(params.regularization))
    user_items, song_ids = confidence_matrix(scores, params.alpha)
    # implicit parallelises over rows itself; a threaded BLAS inside only slows it down.
    with threadpool_limits(limits=1, user_api="blas"):
        model = AlternatingLeastSquares(
            factors=params.factors,
            regularization=params.regularization,
            alpha=1.0,
            iterations=params.iterations,
            random_state=SEED,
            num_threads=threads,
        )
        if params.frequency_exponent:
            listeners = fit_by_frequency(model, user_items, params)
        else:
            listeners = Frequency(params.regularization)
            # What is not finite is told below, whoever fitted.
            with suppress(ModelFitError):
                model.fit(user_items)
    if not all(np.isfinite(part).all() for part in (model.user_factors, model.item_factors)):
        raise Mistake(
            "ALS gave factors that are not finite; give this signal a `regularization` above 0, "
            "less extreme than now, and a smaller `alpha` (`signals` in params.yaml)."
        )
    spread = spread_of(model.user_factors, model.item_factors) or 1.0
    item_factors = np.asarray(model.item_factors, dtype=np.float32)
    return SongFactors(song_ids, item_factors, spread, listeners)


def spread_of(users: FloatArray, songs: FloatArray) -> float:
    """Return the standard deviation of all products of users and songs, without making them."""
    mean = users.mean(axis=0, dtype=np.float64) @ songs.mean(axis=0, dtype=np.float64)
    squares = ((users.T @ users).astype(np.float64) * (songs.T @ songs)).sum()
    return float(np.sqrt(max(squares / (len(users) * len(songs)) - mean**2, 0.0)))


def frequency(observed: FloatArray, columns: int, params: Signal) -> Frequency:
    """Return the scale of one side's regularisation, its mean over the rows `regularization`.

    Rendle et al., "Revisiting the Performance of iALS on Item Recommendation Benchmarks", RecSys
    2022, eq. 8: lambda (|I_u| + alpha_0 |I|)^nu, where alpha_0 is what an unobserved pair weighs
    next to an observed one: here 1 / alpha.
    """
    offset, exponent = columns / params.alpha, params.frequency_exponent
    mean = float(np.mean((observed + offset) ** exponent))
    return Frequency(params.regularization / mean, exponent, offset)


def fit_by_frequency(
    model: AlternatingLeastSquares, user_items: csr_matrix, params: Signal
) -> Frequency:
    """Fit as `model.fit` does, each row regularised by how much it holds."""
    item_users = user_items.T.tocsr()
    of_users, of_songs = np.diff(user_items.indptr), np.diff(item_users.indptr)
    by_user = frequency(of_users, user_items.shape[1], params)
    by_song = frequency(of_songs, user_items.shape[0], params)
    # As implicit starts.
    random = np.random.default_rng(SEED)
    users, songs = (
        random.random((n, params.factors), dtype=np.float32) * np.float32(0.01)
        for n in user_items.shape
    )
    solve, threads = model.solver, model.num_threads
    for _ in range(params.iterations):
        half_step(solve, user_items, users, songs, by_user.of(of_users), threads=threads)
        half_step(solve, item_users, songs, users, by_song.of(of_songs), threads=threads)
    model.user_factors, model.item_factors = users, songs
    return by_user


def confidence_matrix(scores: pd.DataFrame, alpha: float) -> tuple[csr_matrix, NDArray[np.str_]]:
    """Return 1 + alpha * value, rows listeners, columns songs in ascending order of id.

    A value below 0 gives -(1 + alpha * |value|), which implicit takes as an observed zero.
    """
    users, user_ids = pd.factorize(scores[User.ID])
    songs, song_ids = pd.factorize(scores[Song.ID], sort=True)
    value = scores[VALUE].to_numpy(dtype=np.float32)
    confidence = np.where(value < 0, alpha * value - 1, 1.0 + alpha * value).astype(np.float32)
    shape = (len(user_ids), len(song_ids))
    return csr_matrix((confidence, (users, songs)), shape=shape), np.asarray(song_ids, np.str_)


def read_scores(lake: Path, signal: SignalName, until: datetime, params: Signal) -> pd.DataFrame:
    """Return the signal's scores as of `until`, sorted so that a fit can be repeated exactly."""
    connection = ibis.duckdb.connect()
    # By name: in a pattern, brackets of the path would mean something.
    events = connection.read_parquet([str(path) for _, path in event_files(lake)])
    songs = connection.read_parquet(str(lake / "songs.parquet"))
    known = arrived(events, until)
    scores = signal_scores(known, songs, signal, until, params.window_days, params.half_life_days)
    return scores.order_by([User.ID, Song.ID]).to_pandas()


def net_of_skips(scores: pd.DataFrame, skips: pd.DataFrame, weight: float) -> pd.DataFrame:
    """Return the scores less `weight` times the skips' values, one row a pair of either, sorted.

    Below 0 is an observed zero; pairs at exactly 0 are left out.
    """
    less = skips.assign(**{VALUE: -weight * skips[VALUE]})
    both = pd.concat([scores, less]).groupby([User.ID, Song.ID], as_index=False)[VALUE].sum()
    return both[both[VALUE] != 0].reset_index(drop=True)


def read_matrix(
    lake: Path, name: SignalName, until: datetime, signals: Mapping[SignalName, Signal]
) -> pd.DataFrame:
    """Return what one signal factorises: its scores, the skips taken off where it says so."""
    scores = read_scores(lake, name, until, signals[name])
    if signals[name].skip_as == "matrix" or scores.empty:
        return scores
    skips = read_scores(lake, "skip", until, signals["skip"])
    return net_of_skips(scores, skips, skip_weight(signals, name))


def skip_weight(signals: Mapping[SignalName, Signal], name: SignalName) -> float:
    """Return what a skip takes from a value, so that each keeps its signal's confidence."""
    apart = signals[name].skip_as == "matrix"
    return 0.0 if apart else signals["skip"].alpha / signals[name].alpha


def seen_at_some_cut(lake: Path, name: SignalName, phases: Phases, params: Signal) -> bool:
    """Return whether any cut has a score of a signal: then it is a generator at each of them.

    A ranker learns from two cuts and answers at a third, so all must have the same features, even
    where likes came later than the rest or lie longer ago than their window. No score is told.
    """
    ends = (phases.fit_until(cut) for cut in CUTS)
    return any(not read_scores(lake, name, until, params).empty for until in ends)


def save_fit(
    path: Path,
    fitted: SongFactors,
    signals: Mapping[SignalName, Signal],
    name: SignalName,
    until: datetime,
    seen: bool = True,
) -> None:
    """Write one signal's fit, with what folds listeners in and the moment that it saw events to.

    `seen` says whether any cut has the signal (`seen_at_some_cut`).
    """
    np.savez(
        path,
        song_ids=fitted.song_ids,
        item_factors=fitted.item_factors,
        regularization=fitted.listeners.regularization,
        exponent=fitted.listeners.exponent,
        offset=fitted.listeners.offset,
        skip_weight=skip_weight(signals, name),
        alpha=signals[name].alpha,
        spread=fitted.spread,
        seen_until=until.isoformat(),
        seen=seen,
    )


def main() -> None:
    """Fit one signal as of one cut and write `<out>/<signal>.npz`."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--signal", choices=SIGNALS, required=True)
    parser.add_argument("--cut", choices=CUTS, required=True)
    parser.add_argument("--lake", type=Path, default=data_dir() / "lake")
    parser.add_argument("--phases", type=Path, default=data_dir() / "phases.json")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    signals = load_params().signals
    params = signals[arguments.signal]
    cut: Cut = arguments.cut
    phases = read_phases(arguments.phases)
    until = phases.fit_until(cut)
    scores = read_matrix(arguments.lake, arguments.signal, until, signals)
    fitted = fit_factors(scores, params)
    seen = len(scores) > 0 or seen_at_some_cut(arguments.lake, arguments.signal, phases, params)
    path = arguments.out / f"{arguments.signal}.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    save_fit(path, fitted, signals, arguments.signal, until, seen)


if __name__ == "__main__":
    run_command(main)
