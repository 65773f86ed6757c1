"""Fit the generators other than factors, and lay all of them out as a bundle that retrieves."""

import argparse
import shutil
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, save_npz

from features.catalogue import FloatArray
from features.columns import Event, Song, SongRow
from features.lake import read_songs
from features.params import SIGNALS, Params, Sessions, load_params
from features.store import historical_song_rows
from serving.bundle import FACTOR_SCALARS, factors_file
from training.dayparts import fit_dayparts, write_dayparts
from training.files import write_json
from training.item_links import ease, listeners, together, transitions
from training.phases import CUTS, Cut, LeakError, Phases, read_phases
from training.plays import read_plays, recency, session_recency, session_songs
from training.song_vectors import song_vectors
from training.tensor import fit_tensor


def trending(plays: pd.DataFrame, until: datetime, half_life_days: float, n: int) -> FloatArray:
    """Return each song's share of recency-weighted plays, shape (n,)."""
    weight = recency(plays[Event.TS], until, half_life_days)
    counts = np.bincount(plays[Song.ID].to_numpy(), weights=weight, minlength=n)
    return (counts / max(counts.sum(), 1e-9)).astype(np.float32)


def write_factors(source: Path, target: Path, song_ids: NDArray[np.str_], until: datetime) -> None:
    """Align one signal's factors with the catalogue; nothing is written for an absent signal.

    Raises
    ------
    LeakError
        If the factors saw later events than this cut may.
    """
    with np.load(source) as fitted:
        seen = datetime.fromisoformat(str(fitted["seen_until"]))
        if seen > until:
            raise LeakError(f"{source} saw events until {seen}, this cut ends at {until}; refit.")
        place = pd.Index(song_ids).get_indexer(fitted["song_ids"])
        if not len(place):
            return
        factors = np.zeros((len(song_ids), fitted["item_factors"].shape[1]), dtype=np.float32)
        factors[place[place >= 0]] = fitted["item_factors"][place >= 0]
        known = np.zeros(len(song_ids), dtype=np.bool_)
        known[place[place >= 0]] = True
        scalars = {name: fitted[name] for name in FACTOR_SCALARS if name in fitted}
    np.savez(target, item_factors=factors, known=known, **scalars)


LINKS: Final[Mapping[str, Callable[..., csr_matrix]]] = {
    "transitions": transitions,
    "rules": transitions,
    "together": together,
    "listeners": listeners,
    "ease": ease,
}


def write_generators(
    plays: pd.DataFrame, until: datetime, params: Params, n: int, out: Path
) -> None:
    """Fit and write every generator that is enabled and needs fitting."""
    generators = params.generators
    for name, fit in LINKS.items():
        section = getattr(generators, name)
        if section.enabled:
            save_npz(out / f"{name}.npz", fit(plays, until, section, n), False)
    if generators.vectors.enabled:
        vectors = song_vectors(plays, until, generators.vectors, n)
        np.savez(out / "vectors.npz", vectors=vectors, known=vectors.any(axis=1))
    if generators.sessions.enabled:
        write_sessions(plays, until, generators.sessions, n, out)
    write_time(plays, until, params, n, out)
    share = trending(plays, until, generators.trending.half_life_days, n)
    np.savez(out / "trending.npz", overall=share)


def write_time(plays: pd.DataFrame, until: datetime, params: Params, n: int, out: Path) -> None:
    """Write dayparts and tensor, where enabled."""
    if params.generators.dayparts.enabled:
        how = params.generators.dayparts
        write_dayparts(fit_dayparts(plays, until, how, n), how.prior, out / "dayparts.npz")
    if params.generators.tensor.enabled:
        tensor = params.generators.tensor
        np.savez(
            out / "tensor.npz",
            **fit_tensor(plays, until, tensor, n),
            regularization=tensor.regularization,
            alpha=tensor.alpha,
        )


def write_sessions(
    plays: pd.DataFrame, until: datetime, params: Sessions, n: int, out: Path
) -> None:
    """Write past sessions in the order of play, with the weights that find the nearest."""
    matrix = session_songs(plays, n)
    lengths = np.bincount(plays[Event.SESSION].to_numpy(), minlength=matrix.shape[0])
    sessions_of_song = np.bincount(matrix.indices, minlength=n)
    np.savez(
        out / "sessions.npz",
        indices=plays[Song.ID].to_numpy(dtype=np.int32),
        indptr=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32),
        shape=np.array(matrix.shape),
        recency=session_recency(plays, until, params.half_life_days),
        song_weight=np.log1p(matrix.shape[0] / np.maximum(sessions_of_song, 1)).astype("f4"),
    )


def write_retrieval(
    params: Params, phases: Phases, cut: Cut, lake: Path, factors: Path, out: Path
) -> None:
    """Write everything that retrieves as of one cut, and `fit.json` that says what it has seen."""
    until = phases.fit_until(cut)
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    songs = song_rows(lake, phases.features_at(cut))
    songs.to_parquet(out / "songs.parquet", index=False)
    song_ids = songs[Song.ID].to_numpy(dtype=np.str_)
    for signal in SIGNALS:
        write_factors(factors / f"{signal}.npz", out / factors_file(signal), song_ids, until)
    write_generators(read_plays(lake, until, song_ids), until, params, len(song_ids), out)
    settings = {
        "generators": params.generators.model_dump(),
        "signals": {name: signal.model_dump() for name, signal in params.signals.items()},
    }
    write_json(out / "settings.json", settings)
    write_json(out / "fit.json", {"cut": cut, "seen_until": until.isoformat()})


def song_rows(lake: Path, moment: datetime) -> pd.DataFrame:
    """Return every song that the store knows at a moment, ascending by id, one row each."""
    ids = read_songs(lake)[Song.ID]
    entities = pd.DataFrame({Song.ID: ids, SongRow.TS: pd.Timestamp(moment)})
    rows = historical_song_rows(entities)
    known = rows[rows[SongRow.POPULARITY_PERCENTILE].notna()]
    return known.sort_values(Song.ID, ignore_index=True)


def main() -> None:
    """Fit the generators as of one cut and write a folder that `load_retrieval` reads."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--cut", choices=CUTS, required=True)
    parser.add_argument("--lake", type=Path, default=Path("data/lake"))
    parser.add_argument("--phases", type=Path, default=Path("data/phases.json"))
    parser.add_argument("--factors", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    write_retrieval(
        load_params(),
        read_phases(arguments.phases),
        arguments.cut,
        arguments.lake,
        arguments.factors,
        arguments.out,
    )


if __name__ == "__main__":
    main()
