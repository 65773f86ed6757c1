"""Plays over the 28 dayparts: exact and non-negative factors of (listener, song) pairs x dayparts.

The matrix is tall and skinny: its exact factors need only its 28 x 28 Gram matrix, one pass over
the rows, so that the number of pairs costs nothing but that pass.
"""

from datetime import datetime
from warnings import catch_warnings, simplefilter

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from sklearn.decomposition import NMF
from sklearn.exceptions import ConvergenceWarning

from features.catalogue import FloatArray
from features.columns import Event, Song
from features.dayparts import BLOCKS, DAYPARTS, WEEKDAYS
from features.params import Dayparts
from training.plays import DAYPART, recency

SEED = 7


def pair_dayparts(
    plays: pd.DataFrame, until: datetime, half_life_days: float, n: int
) -> tuple[csr_matrix, NDArray[np.int64]]:
    """Return log(1 + recency-weighted plays), rows (listener, song) pairs, and each row's song.

    The logarithm keeps one night of one song on repeat from being a factor of its own.
    """
    users = pd.factorize(plays[Event.USER])[0].astype(np.int64)
    pairs, rows = np.unique(users * n + plays[Song.ID].to_numpy(), return_inverse=True)
    weight = recency(plays[Event.TS], until, half_life_days)
    matrix = csr_matrix(
        (weight.astype(np.float64), (rows, plays[DAYPART].to_numpy())),
        shape=(len(pairs), DAYPARTS),
    )
    matrix.sum_duplicates()
    matrix.data = np.log1p(matrix.data)
    # Plays of so long ago that nothing is left of them are as if there were none.
    matrix.eliminate_zeros()
    return matrix, pairs % n


def exact_factors(matrix: csr_matrix) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return all singular values, largest first, and the right singular vectors (28, 28).

    Each vector's largest entry is positive. Row factors are `matrix @ vectors`.
    """
    values, vectors = np.linalg.eigh((matrix.T @ matrix).toarray())
    values, vectors = np.sqrt(np.maximum(values[::-1], 0)), vectors[:, ::-1]
    largest = np.take_along_axis(vectors, np.abs(vectors).argmax(axis=0)[None], axis=0)
    return values, vectors * np.sign(largest)


def parts_of(matrix: csr_matrix, count: int) -> NMF:
    """Fit `count` non-negative parts, at most one a row; `components_` is (parts, 28)."""
    count = min(count, matrix.shape[0])
    model = NMF(count, init="nndsvda", solver="cd", random_state=SEED, max_iter=500, tol=1e-4)
    # The last digits move slowly and tell nothing that a heat map or a lift would show; and the
    # error that it reports of an exact fit is the root of a rounding error below 0.
    with catch_warnings(), np.errstate(invalid="ignore"):
        simplefilter("ignore", ConvergenceWarning)
        return model.fit(matrix)


def fit_dayparts(
    plays: pd.DataFrame, until: datetime, params: Dayparts, n: int
) -> dict[str, FloatArray]:
    """Return the arrays of `serving.dayparts.Dayparts`, by name."""
    matrix, songs = pair_dayparts(plays, until, params.half_life_days, n)
    by_song = csr_matrix((np.ones(len(songs)), (songs, np.arange(len(songs)))), (n, len(songs)))
    profiles = (by_song @ matrix).tocsr()
    total = max(matrix.sum(), 1e-9)
    base = np.asarray(matrix.sum(axis=0)).ravel() / total
    values, vectors = exact_factors(matrix)
    kept = vectors[:, : params.factors]
    gram = (kept * values[: params.factors] ** 2) @ kept.T
    chance = np.outer(base, base) * max(gram.sum(), 1e-9)
    model = parts_of(without_empty(profiles), params.parts) if matrix.nnz else None
    arrays = {
        "base": base,
        "vectors": kept,
        "song_factors": profiles @ kept,
        "parts": np.zeros((params.parts, DAYPARTS)) if model is None else model.components_,
        "song_parts": np.zeros((n, params.parts)) if model is None else model.transform(profiles),
        "again": np.maximum(gram, 0) / np.maximum(chance, 1e-9),
        "totals": np.asarray(profiles.sum(axis=1)).ravel(),
    }
    return {name: np.asarray(array, dtype=np.float32) for name, array in arrays.items()}


def without_empty(rows: csr_matrix) -> csr_matrix:
    """Return the rows that hold anything."""
    return rows[np.diff(rows.indptr) > 0]


def heat_maps(arrays: dict[str, FloatArray]) -> pd.DataFrame:
    """Return one row a map and daypart: map, weekday, hours, value.

    Maps are everybody's share, the exact factors, and the parts, each part and the share in
    percent of its own sum.
    """
    maps = {"all plays, %": 100 * arrays["base"]}
    for number, vector in enumerate(arrays["vectors"].T, 1):
        maps[f"factor {number}"] = vector
    order = np.argsort(-arrays["song_parts"].sum(axis=0) * arrays["parts"].sum(axis=1))
    for number, part in enumerate(arrays["parts"][order], 1):
        maps[f"part {number}, %"] = 100 * part / max(part.sum(), 1e-9)
    frames = [
        pd.DataFrame(
            {
                "map": name,
                "weekday": np.repeat([f"{i} {day}" for i, day in enumerate(WEEKDAYS)], len(BLOCKS)),
                "hours": np.tile(BLOCKS, len(WEEKDAYS)),
                "value": np.asarray(values, dtype=np.float64).round(4),
            }
        )
        for name, values in maps.items()
    ]
    return pd.concat(frames, ignore_index=True)
