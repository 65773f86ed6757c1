"""How generators lie in a bundle's files, and how they are written; `serving.bundle` reads them.

What a request needs of a whole column (a list of the best, a product of all factors, a transposed
matrix) is worked out here, once, so that a process starts without looking at every song.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from features.arrays import save_arrays, save_rows
from features.catalogue import Catalogue, FloatArray, IntArray
from features.columns import Song, SongRow
from serving.files import ARTISTS_FILE, FRESH_FILE, TRENDING_FILE
from serving.fold_in import FactorModel, gram
from serving.fresh import OF_FRESH, group_rows
from serving.generators import LISTED, OF_ARTIST
from serving.index import EXACT_BELOW
from serving.packed import Factors, Packed, packed
from serving.scores import best

FACTOR_SCALARS: Final = (
    "regularization",
    "alpha",
    "spread",
    "exponent",
    "offset",
    "skip_weight",
)


def save_factors(path: Path, model: FactorModel) -> None:
    """Write one signal's factors and the Gram matrix that every fold-in starts from.

    Those of a catalogue that an index searches are packed.
    """
    factors = model.item_factors
    if len(factors) >= EXACT_BELOW and not isinstance(factors, Packed):
        factors = packed(factors)
    scalars = {name: np.array(getattr(model, name)) for name in FACTOR_SCALARS}
    arrays = {"known": model.known, "gram": gram(factors, model.regularization)}
    save_arrays(path, factor_arrays(factors) | arrays | scalars)


def factor_arrays(factors: Factors) -> dict[str, NDArray[Any]]:
    """Return the arrays that `stored_factors` puts together again."""
    if isinstance(factors, Packed):
        return {"codes": factors.codes, "scales": factors.scales}
    return {"item_factors": factors}


def stored_factors(arrays: Mapping[str, NDArray[Any]]) -> Factors:
    """Return the factors of a file."""
    if "codes" in arrays:
        return Packed(arrays["codes"], arrays["scales"])
    return arrays["item_factors"]


def save_sessions(
    path: Path, in_order: csr_matrix, per_song: int, recency: FloatArray, song_weight: FloatArray
) -> None:
    """Write past sessions: songs in order of play, and each song's latest `per_song` sessions.

    `in_order` is (sessions, songs) in order of play, a song as often as it came; sessions in order
    of time.
    """
    sessions_of = in_order.T.tocsr()
    sessions_of.sum_duplicates()
    songs = latest(sessions_of, per_song)
    arrays = {
        "shape": np.array(in_order.shape),
        "indices": in_order.indices.astype(np.int32, copy=False),
        "indptr": in_order.indptr,
        "song_indices": songs.indices.astype(np.int32, copy=False),
        "song_indptr": songs.indptr,
        "recency": recency,
        "song_weight": song_weight,
    }
    save_arrays(path, arrays)


def latest(matrix: csr_matrix, per_row: int) -> csr_matrix:
    """Keep the last `per_row` entries of each row; columns are in order of time."""
    lengths = np.diff(matrix.indptr)
    from_end = np.repeat(matrix.indptr[1:], lengths) - np.arange(matrix.nnz)
    keep = from_end <= per_row
    indptr = np.concatenate([[0], np.cumsum(np.minimum(lengths, per_row))])
    return csr_matrix((matrix.data[keep], matrix.indices[keep], indptr), shape=matrix.shape)


def save_artists(folder: Path, songs: Catalogue) -> None:
    """Write every song's popularity within its artist, and each artist's most popular songs."""
    codes = songs.codes[Song.ARTISTS]
    percentile = songs.numbers[SongRow.POPULARITY_PERCENTILE]
    popularity = (np.nan_to_num(percentile) + 1e-3).astype(np.float32)
    listed = lists_by_code(codes.codes, popularity, len(codes.vocabulary), OF_ARTIST)
    rows = {name: getattr(listed, name) for name in ("indices", "indptr", "data", "shape")}
    save_arrays(folder / ARTISTS_FILE, {"popularity": popularity} | rows)


def lists_by_code(codes: IntArray, worth: FloatArray, rows: int, most: int) -> csr_matrix:
    """Return each code's `most` songs of the largest worth, the largest first; below 0 is none."""
    songs = np.flatnonzero(codes >= 0)
    order = songs[np.lexsort((-worth[songs], codes[songs]))]
    counts = np.bincount(codes[songs], minlength=rows)
    starts = np.cumsum(counts) - counts
    kept = np.minimum(counts, most)
    place = np.arange(len(order)) - np.repeat(starts, counts)
    chosen = order[place < most].astype(np.int32)
    indptr = np.concatenate([[0], np.cumsum(kept)])
    return csr_matrix((worth[chosen], chosen, indptr), shape=(rows, len(codes)))


def save_fresh(folder: Path, songs: Catalogue, days: float) -> None:
    """Write the songs younger than that by artist, and by genre and language, with plays a day.

    Nothing where the source names neither artists nor genres: there is no such generator then.
    """
    artists, genres, languages = (
        songs.codes[name] for name in (Song.ARTISTS, Song.GENRES, Song.LANGUAGE)
    )
    age = songs.numbers[SongRow.AGE_DAYS]
    # One play and one day more than there were: nobody has heard a song of this very hour.
    a_day = ((np.nan_to_num(songs.numbers[SongRow.PLAYS]) + 1) / (age + 1)).astype(np.float32)
    groups = group_rows(songs, genres.codes, languages.codes)
    rows = len(artists.vocabulary) + len(genres.vocabulary) * (len(languages.vocabulary) + 1)
    if not rows:
        return
    lists = [
        lists_by_code(np.where(age < days, codes, -1), a_day, rows, OF_FRESH)
        for codes in (artists.codes, groups)
    ]
    # No row is in both.
    save_rows(folder / FRESH_FILE, sum(lists))


def save_trending(folder: Path, overall: FloatArray, songs: Catalogue) -> None:
    """Write the songs' shares of all plays, and the lists of the best by region and language."""
    tables = [overall[:, None], songs.region_popularity, songs.language_popularity]
    columns = [table[:, i] for table in tables for i in range(table.shape[1])]
    totals = np.concatenate([table.sum(axis=0) for table in tables[1:]]).astype(np.float32)
    arrays = {
        "overall": overall,
        "totals": np.where(totals > 0, totals, np.float32(1)),
        "listed": np.array([best_listed(column) for column in columns]),
    }
    save_arrays(folder / TRENDING_FILE, arrays)


def best_listed(column: FloatArray) -> IntArray:
    """Return the `LISTED` songs with the largest positive values, -1 where there are fewer."""
    found = best(column, LISTED)
    found = found[column[found] > 0]
    return np.pad(found, (0, LISTED - len(found)), constant_values=-1).astype(np.int32)
