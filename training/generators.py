"""Fit the generators other than factors, and lay all of them out as a bundle that retrieves."""

import argparse
import shutil
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from features.arrays import save_arrays, save_rows
from features.catalogue import Catalogue, FloatArray, catalogue, save_catalogue
from features.columns import Event, Song, SongRow
from features.lake import read_songs
from features.mistakes import run_command
from features.params import SIGNALS, Params, Sessions, load_params
from features.paths import data_dir
from features.store import historical_song_rows
from serving.bundle import index_factors
from serving.files import (
    DAYPARTS_FILE,
    LINKS,
    SESSIONS_FILE,
    SETTINGS_FILE,
    TENSOR_FILE,
    VECTORS_FILE,
    factors_file,
    links_file,
)
from serving.fold_in import FactorModel
from serving.layout import (
    FACTOR_SCALARS,
    save_artists,
    save_factors,
    save_fresh,
    save_sessions,
    save_trending,
)
from serving.lookup import save_search
from training.dayparts import fit_dayparts
from training.files import FIT, write_json
from training.item_links import ease, listeners, together, transitions
from training.phases import CUTS, Cut, Phases, read_phases, refuse_later
from training.plays import read_plays, recency, session_recency, session_songs
from training.song_vectors import song_vectors
from training.tensor import fit_tensor


def trending(plays: pd.DataFrame, until: datetime, half_life_days: float, n: int) -> FloatArray:
    """Return each song's share of recency-weighted plays, shape (n,)."""
    weight = recency(plays[Event.TS], until, half_life_days)
    counts = np.bincount(plays[Song.ID].to_numpy(), weights=weight, minlength=n)
    return (counts / max(counts.sum(), 1e-9)).astype(np.float32)


def write_factors(source: Path, target: Path, song_ids: NDArray[np.str_], until: datetime) -> None:
    """Align one signal's factors with the catalogue.

    A signal that other cuts have and this one has not knows no song; nothing is written for one
    that no cut has.

    Raises
    ------
    LeakError
        If the factors saw later events than this cut may.
    """
    with np.load(source) as fitted:
        refuse_later(f"{source}", datetime.fromisoformat(str(fitted["seen_until"])), until)
        if not fitted["seen"]:
            return
        place = pd.Index(song_ids).get_indexer(fitted["song_ids"])
        factors = np.zeros((len(song_ids), fitted["item_factors"].shape[1]), dtype=np.float32)
        factors[place[place >= 0]] = fitted["item_factors"][place >= 0]
        known = np.zeros(len(song_ids), dtype=np.bool_)
        known[place[place >= 0]] = True
        scalars = scalars_of(fitted)
    save_factors(target, FactorModel(factors, known, **scalars))


def scalars_of(fitted: Mapping[str, NDArray[Any]]) -> Any:
    """Return the numbers of a fit by which listeners are folded in."""
    return {name: float(fitted[name]) for name in FACTOR_SCALARS if name in fitted}


FIT_OF: Final[Mapping[str, Callable[..., csr_matrix]]] = {
    "transitions": transitions,
    "rules": transitions,
    "together": together,
    "listeners": listeners,
    "ease": ease,
}


def write_generators(
    plays: pd.DataFrame, until: datetime, params: Params, songs: Catalogue, out: Path
) -> None:
    """Fit and write every generator that is enabled and needs fitting."""
    generators, n = params.generators, len(songs)
    for name in LINKS:
        section = getattr(generators, name)
        if section.enabled:
            save_rows(out / links_file(name), FIT_OF[name](plays, until, section, n))
    if generators.vectors.enabled:
        vectors = song_vectors(plays, until, generators.vectors, n)
        save_arrays(out / VECTORS_FILE, {"vectors": vectors, "known": vectors.any(axis=1)})
    if generators.sessions.enabled:
        write_sessions(plays, until, generators.sessions, n, out)
    write_time(plays, until, params, n, out)
    save_artists(out, songs)
    if generators.fresh.enabled:
        save_fresh(out, songs, generators.fresh.days)
    save_trending(out, trending(plays, until, generators.trending.half_life_days, n), songs)


def write_time(plays: pd.DataFrame, until: datetime, params: Params, n: int, out: Path) -> None:
    """Write dayparts and tensor, where enabled."""
    dayparts, tensor = params.generators.dayparts, params.generators.tensor
    if dayparts.enabled:
        fitted = fit_dayparts(plays, until, dayparts, n)
        save_arrays(out / DAYPARTS_FILE, fitted | {"prior": np.array(dayparts.prior)})
    if tensor.enabled:
        scalars = {name: np.array(getattr(tensor, name)) for name in ("regularization", "alpha")}
        save_arrays(out / TENSOR_FILE, fit_tensor(plays, until, tensor, n) | scalars)


def write_sessions(
    plays: pd.DataFrame, until: datetime, params: Sessions, n: int, out: Path
) -> None:
    """Write past sessions in the order of play, with the weights that find the nearest."""
    matrix = session_songs(plays, n)
    lengths = np.bincount(plays[Event.SESSION].to_numpy(), minlength=matrix.shape[0])
    sessions_of_song = np.bincount(matrix.indices, minlength=n)
    played = plays[Song.ID].to_numpy(dtype=np.int32)
    bounds = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    in_order = csr_matrix(
        (np.ones(len(played), np.float32), played, bounds), shape=(matrix.shape[0], n)
    )
    save_sessions(
        out / SESSIONS_FILE,
        in_order,
        params.per_song,
        session_recency(plays, until, params.half_life_days),
        np.log1p(matrix.shape[0] / np.maximum(sessions_of_song, 1)).astype("f4"),
    )


def write_retrieval(
    params: Params, phases: Phases, cut: Cut, lake: Path, factors: Path, out: Path
) -> None:
    """Write everything that retrieves as of one cut, and `fit.json` that says what it has seen."""
    until = phases.fit_until(cut)
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    songs = catalogue(song_rows(lake, phases.features_at(cut)))
    save_catalogue(songs, out)
    save_search(songs, out)
    song_ids = songs.ids[:]
    for signal in SIGNALS:
        write_factors(factors / f"{signal}.npz", out / factors_file(signal), song_ids, until)
    write_generators(read_plays(lake, until, song_ids), until, params, songs, out)
    settings = {
        "generators": params.generators.model_dump(),
        "signals": {name: signal.model_dump() for name, signal in params.signals.items()},
    }
    write_json(out / SETTINGS_FILE, settings)
    index_factors(out)
    write_json(out / FIT, {"cut": cut, "seen_until": until.isoformat()})


def song_rows(lake: Path, moment: datetime) -> pd.DataFrame:
    """Return every song that the store knows at a moment, ascending by id, one row each."""
    songs = read_songs(lake)
    entities = pd.DataFrame({Song.ID: songs[Song.ID], SongRow.TS: pd.Timestamp(moment)})
    rows = historical_song_rows(entities)
    known = rows[rows[SongRow.POPULARITY_PERCENTILE].notna()]
    return with_rights(known, songs).sort_values(Song.ID, ignore_index=True)


def with_rights(rows: pd.DataFrame, songs: pd.DataFrame) -> pd.DataFrame:
    """Add what may be played to whom and where, as far as the source's songs say so.

    Rights are no features of a moment: they hold as they are now.
    """
    said = [name for name in Song.RIGHTS if name in songs and songs[name].notna().any()]
    return rows.merge(songs[[Song.ID, *said]], on=Song.ID, how="left") if said else rows


def main() -> None:
    """Fit the generators as of one cut and write a folder that `load_retrieval` reads."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--cut", choices=CUTS, required=True)
    parser.add_argument("--lake", type=Path, default=data_dir() / "lake")
    parser.add_argument("--phases", type=Path, default=data_dir() / "phases.json")
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
    run_command(main)
