"""Factors of one signal: implicit ALS on the recency-weighted listener x song matrix.

Hu, Koren and Volinsky, ICDM 2008, with confidence 1 + alpha * value. Only the song side is kept:
listeners are folded in when they ask (`serving.fold_in`).
"""

import argparse
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import get_args

import ibis
import numpy as np
import pandas as pd
from implicit.cpu.als import AlternatingLeastSquares
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from threadpoolctl import threadpool_limits

from features.catalogue import FloatArray
from features.columns import Song, User
from features.params import Signal, SignalName, load_params
from features.signals import VALUE, signal_scores
from training.phases import CUTS, Cut, read_phases

SEED = 7
SPREAD_SAMPLE = 1000


@dataclass(frozen=True)
class SongFactors:
    """Item factors, shape (songs, factors), for the songs of one signal's matrix."""

    song_ids: NDArray[np.str_]
    item_factors: FloatArray
    spread: float


def fit_factors(scores: pd.DataFrame, params: Signal, threads: int = 0) -> SongFactors:
    """Factorise one signal.

    Parameters
    ----------
    scores
        user_id, song_id, value > 0; one row a pair. Empty where the source lacks the signal.
    threads
        For implicit; 0 means all cores.

    Raises
    ------
    ValueError
        If the fit gave factors that are not finite.
    """
    if scores.empty:
        return SongFactors(np.empty(0, np.str_), np.empty((0, params.factors), np.float32), 1.0)
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
        model.fit(user_items)
    if not np.isfinite(model.item_factors).all():
        raise ValueError("ALS gave factors that are not finite; raise the regularization.")
    sample = model.user_factors[:: max(1, len(model.user_factors) // SPREAD_SAMPLE)]
    spread = float((sample @ model.item_factors.T).std()) or 1.0
    return SongFactors(song_ids, np.asarray(model.item_factors, dtype=np.float32), spread)


def confidence_matrix(scores: pd.DataFrame, alpha: float) -> tuple[csr_matrix, NDArray[np.str_]]:
    """Return 1 + alpha * value, rows listeners, columns songs in ascending order of id."""
    users, user_ids = pd.factorize(scores[User.ID])
    songs, song_ids = pd.factorize(scores[Song.ID], sort=True)
    confidence = 1.0 + alpha * scores[VALUE].to_numpy(dtype=np.float32)
    shape = (len(user_ids), len(song_ids))
    return csr_matrix((confidence, (users, songs)), shape=shape), np.asarray(song_ids, np.str_)


def read_scores(lake: Path, signal: SignalName, until: datetime, params: Signal) -> pd.DataFrame:
    """Return the signal's scores as of `until`, sorted so that a fit can be repeated exactly."""
    connection = ibis.duckdb.connect()
    events = connection.read_parquet(str(lake / "events" / "*" / "*.parquet"))
    songs = connection.read_parquet(str(lake / "songs.parquet"))
    scores = signal_scores(events, songs, signal, until, params.window_days, params.half_life_days)
    return scores.order_by([User.ID, Song.ID]).to_pandas()


def main() -> None:
    """Fit one signal as of one cut and write `<out>/<signal>.npz`."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--signal", choices=get_args(SignalName), required=True)
    parser.add_argument("--cut", choices=CUTS, required=True)
    parser.add_argument("--lake", type=Path, default=Path("data/lake"))
    parser.add_argument("--phases", type=Path, default=Path("data/phases.json"))
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    params = load_params().signals[arguments.signal]
    cut: Cut = arguments.cut
    until = read_phases(arguments.phases).fit_until(cut)
    scores = read_scores(arguments.lake, arguments.signal, until, params)
    fitted = fit_factors(scores, params)
    arguments.out.mkdir(parents=True, exist_ok=True)
    np.savez(
        arguments.out / f"{arguments.signal}.npz",
        song_ids=fitted.song_ids,
        item_factors=fitted.item_factors,
        regularization=params.regularization,
        alpha=params.alpha,
        spread=fitted.spread,
        seen_until=until.isoformat(),
    )


if __name__ == "__main__":
    main()
