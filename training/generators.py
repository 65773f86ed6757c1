"""Fit the generators other than factors, and lay all of them out as a bundle that retrieves."""

import argparse
import shutil
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import coo_matrix, csr_matrix, diags, save_npz

from features.catalogue import FloatArray
from features.columns import Action, Event, Song, SongRow
from features.lake import read_events, read_songs
from features.params import SIGNALS, Params, Seeds, Transitions, load_params
from features.store import historical_song_rows
from serving.bundle import factors_file
from serving.scores import best
from training.files import write_json
from training.phases import CUTS, Cut, LeakError, Phases, read_phases

DAY_SECONDS = 86_400


def recency(ts: pd.Series, until: datetime, half_life_days: float) -> FloatArray:
    """Return 0.5^(age / half-life) of each moment, 1 at `until`."""
    age = (pd.Timestamp(until) - ts).dt.total_seconds().to_numpy() / DAY_SECONDS
    return np.asarray(0.5 ** (age / half_life_days), dtype=np.float32)


def transitions(plays: pd.DataFrame, until: datetime, params: Transitions, n: int) -> csr_matrix:
    """Return recency-weighted follower shares, rows from song, columns to song.

    A follower `g` places later counts gap_decay^(g - 1); each row is divided by the row song's own
    weight, so that an entry reads as "how often followed".
    """
    songs = plays[Song.ID].to_numpy()
    session = plays[Event.SESSION].to_numpy()
    weight = recency(plays[Event.TS], until, params.half_life_days)
    total = csr_matrix((n, n), dtype=np.float32)
    for gap in range(1, min(params.max_gap, len(plays) - 1) + 1):
        same = session[gap:] == session[:-gap]
        values = weight[gap:][same] * params.gap_decay ** (gap - 1)
        total = (
            total
            + coo_matrix((values, (songs[:-gap][same], songs[gap:][same])), shape=(n, n)).tocsr()
        )
    own = np.bincount(songs, weights=weight, minlength=n)
    return keep_best(diags(1 / np.maximum(own, 1)) @ total, params.neighbours)


def together(plays: pd.DataFrame, until: datetime, params: Seeds, n: int) -> csr_matrix:
    """Return the recency-weighted cosine between songs' sessions, no diagonal."""
    matrix = session_songs(plays, n)
    weight = recency(plays.groupby(Event.SESSION)[Event.TS].max(), until, params.half_life_days)
    # Long sessions make many pairs that say little each.
    length = np.asarray(matrix.sum(axis=1)).ravel()
    scaled = diags(np.sqrt(weight / np.maximum(length, 1))) @ matrix
    common = (scaled.T @ scaled).tocsr()
    norm = np.sqrt(np.maximum(common.diagonal(), 1e-9))
    cosine = (diags(1 / norm) @ common @ diags(1 / norm)).tocsr()
    cosine.setdiag(0)
    cosine.eliminate_zeros()
    return keep_best(cosine, params.neighbours)


def session_songs(plays: pd.DataFrame, n: int) -> csr_matrix:
    """Return 1 where a session holds a song; sessions in order of their code."""
    sessions = plays[Event.SESSION].to_numpy()
    shape = (int(sessions.max(initial=-1)) + 1, n)
    ones = np.ones(len(plays), dtype=np.float32)
    matrix = csr_matrix((ones, (sessions, plays[Song.ID].to_numpy())), shape=shape)
    matrix.sum_duplicates()
    matrix.data[:] = 1
    return matrix


def keep_best(matrix: csr_matrix, per_row: int) -> csr_matrix:
    """Keep the `per_row` largest entries of each row."""
    matrix = matrix.tocsr().astype(np.float32)
    matrix.sort_indices()
    keep = np.zeros(matrix.nnz, dtype=np.bool_)
    for start, end in zip(matrix.indptr[:-1], matrix.indptr[1:], strict=True):
        keep[start + best(matrix.data[start:end], per_row)] = True
    kept = np.concatenate([[0], np.cumsum(keep)])[matrix.indptr]
    return csr_matrix((matrix.data[keep], matrix.indices[keep], kept), shape=matrix.shape)


def trending(plays: pd.DataFrame, until: datetime, half_life_days: float, n: int) -> FloatArray:
    """Return each song's share of recency-weighted plays, shape (n,)."""
    weight = recency(plays[Event.TS], until, half_life_days)
    counts = np.bincount(plays[Song.ID].to_numpy(), weights=weight, minlength=n)
    return (counts / max(counts.sum(), 1e-9)).astype(np.float32)


def read_plays(lake: Path, until: datetime, song_ids: NDArray[np.str_]) -> pd.DataFrame:
    """Return plays that were not skipped: ts, session code, song index; by session, then time.

    Session codes ascend with the sessions' last plays.
    """
    columns = [Event.TS, Event.SESSION, Event.SONG, Event.ACTION]
    events = read_events(lake, until=until, columns=columns)
    plays = events[events[Event.ACTION] == Action.PLAY].drop(columns=Event.ACTION)
    index = pd.Index(song_ids).get_indexer(pd.Index(plays[Event.SONG]))
    plays = plays.assign(**{Song.ID: index})[index >= 0]
    ends = plays.groupby(Event.SESSION)[Event.TS].max().sort_values(kind="stable")
    codes = pd.Series(np.arange(len(ends)), index=ends.index)
    plays = plays.assign(**{Event.SESSION: plays[Event.SESSION].map(codes).to_numpy()})
    return plays.sort_values([Event.SESSION, Event.TS], kind="stable", ignore_index=True)


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
        scalars = {name: fitted[name] for name in ("regularization", "alpha", "spread")}
    np.savez(target, item_factors=factors, known=known, **scalars)


def write_generators(
    plays: pd.DataFrame, until: datetime, params: Params, n: int, out: Path
) -> None:
    """Fit and write transitions, together, sessions and trending."""
    generators = params.generators
    save_npz(out / "transitions.npz", transitions(plays, until, generators.transitions, n), False)
    save_npz(out / "together.npz", together(plays, until, generators.together, n), False)
    matrix = session_songs(plays, n)
    lengths = np.bincount(plays[Event.SESSION].to_numpy(), minlength=matrix.shape[0])
    ends = plays.groupby(Event.SESSION)[Event.TS].max()
    sessions_of_song = np.bincount(matrix.indices, minlength=n)
    np.savez(
        out / "sessions.npz",
        indices=plays[Song.ID].to_numpy(dtype=np.int32),
        indptr=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32),
        shape=np.array(matrix.shape),
        recency=recency(ends, until, generators.sessions.half_life_days),
        song_weight=np.log1p(matrix.shape[0] / np.maximum(sessions_of_song, 1)).astype("f4"),
    )
    share = trending(plays, until, generators.trending.half_life_days, n)
    np.savez(out / "trending.npz", overall=share)


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
