"""Links from song to song: what follows, what is heard together, what predicts what."""

from datetime import datetime
from itertools import pairwise

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.linalg import lapack
from scipy.sparse import coo_matrix, csr_matrix, diags, vstack

from features.columns import Event, Song
from features.mistakes import Mistake
from features.params import Ease, Links, Transitions
from serving.scores import best
from training.plays import listener_songs, recency, session_recency, session_songs

LEAST_WEIGHT = 1e-4
# Songs of a listener or session that make pairs, and pairs that are looked at together.
LONGEST = 1000
PAIRS = 50_000_000


def transitions(plays: pd.DataFrame, until: datetime, params: Transitions, n: int) -> csr_matrix:
    """Return recency-weighted follower shares, rows from song, columns to song.

    Each row of `follows` is divided by the row song's own weight (at least 1, so that a song heard
    once does not speak as loudly as one heard often): an entry reads as "how often followed".
    """
    total = follows(plays, until, params.half_life_days, params.max_gap, params.gap_decay, n)
    weight = recency(plays[Event.TS], until, params.half_life_days)
    own = np.bincount(plays[Song.ID].to_numpy(), weights=weight, minlength=n)
    return keep_best(diags(1 / np.maximum(own, 1)) @ total, params.neighbours)


def follows(
    plays: pd.DataFrame, until: datetime, half_life_days: float, max_gap: int, decay: float, n: int
) -> csr_matrix:
    """Return recency-weighted counts of followers; one `g` places later counts decay^(g - 1)."""
    songs = plays[Song.ID].to_numpy()
    session = plays[Event.SESSION].to_numpy()
    weight = recency(plays[Event.TS], until, half_life_days)
    total = csr_matrix((n, n), dtype=np.float32)
    for gap in range(1, min(max_gap, len(plays) - 1) + 1):
        same = session[gap:] == session[:-gap]
        values = weight[gap:][same] * decay ** (gap - 1)
        total = (
            total
            + coo_matrix((values, (songs[:-gap][same], songs[gap:][same])), shape=(n, n)).tocsr()
        )
    return total


def together(plays: pd.DataFrame, until: datetime, params: Links, n: int) -> csr_matrix:
    """Return the recency-weighted cosine between songs' sessions, no diagonal."""
    weight = session_recency(plays, until, params.half_life_days)
    return nearest(shortened(session_songs(plays, n), weight), params.neighbours)


def listeners(plays: pd.DataFrame, until: datetime, params: Links, n: int) -> csr_matrix:
    """Return the cosine between songs' listeners, plays recency-weighted, no diagonal."""
    heard = listener_songs(plays, recency(plays[Event.TS], until, params.half_life_days), n)
    return nearest(shortened(heard, np.ones(heard.shape[0])), params.neighbours)


def shortened(rows: csr_matrix, weight: NDArray[np.floating]) -> csr_matrix:
    """Scale rows by sqrt(weight / length): long ones make many pairs that say little each.

    Of a row with more songs than `LONGEST` those that weigh most are kept: its pairs grow with the
    square of their number.
    """
    rows = keep_best(rows, LONGEST)
    length = np.asarray(rows.sum(axis=1)).ravel()
    return diags(np.sqrt(weight / np.maximum(length, 1))) @ rows


def nearest(rows: csr_matrix, per_song: int) -> csr_matrix:
    """Return the largest cosines between columns (songs), at most `per_song` of each, no diagonal.

    Block by block of songs: of all pairs at once there may be more than memory holds.
    """
    of_songs = rows.T.tocsr()
    squares = of_songs.multiply(of_songs) @ np.ones(rows.shape[0], dtype=rows.dtype)
    scale = 1 / np.sqrt(np.maximum(squares, 1e-9))
    # A song makes as many pairs as the rows that hold it have songs.
    lengths = np.diff(rows.indptr)
    pairs = np.bincount(rows.indices, np.repeat(lengths, lengths), minlength=rows.shape[1])
    bounds = np.searchsorted(np.cumsum(pairs), np.arange(0, pairs.sum(), PAIRS)[1:])
    starts = np.unique([0, *bounds, rows.shape[1]])
    blocks = []
    for start, end in pairwise(starts.tolist()):
        common = (of_songs[start:end] @ rows).tocsr()
        common = (diags(scale[start:end]) @ common @ diags(scale)).tocsr()
        common.setdiag(0, k=start)
        common.eliminate_zeros()
        blocks.append(keep_best(common, per_song))
    return vstack(blocks, format="csr", dtype=np.float32)


def ease(plays: pd.DataFrame, until: datetime, params: Ease, n: int) -> csr_matrix:
    """Return EASE's positive item-item weights (Steck, WWW 2019, eq. 8) over sessions, no diagonal.

    Rows are the songs heard, columns those proposed. Songs beyond the `max_songs` heard most get
    no weights: the inverse is dense.
    """
    weight = session_recency(plays, until, params.half_life_days)
    sessions = (diags(np.sqrt(weight)) @ session_songs(plays, n)).tocsr()
    total = np.asarray(sessions.sum(axis=0)).ravel()
    songs = np.sort(np.argsort(-total, kind="stable")[: params.max_songs])
    songs = songs[total[songs] > 0]
    part = sessions[:, songs].astype(np.float32)
    inverse = _inverse(
        (part.T @ part).toarray() + params.regularization * np.eye(len(songs), dtype=np.float32)
    )
    weights = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0)
    rows, columns = np.nonzero(weights > LEAST_WEIGHT)
    links = coo_matrix((weights[rows, columns], (songs[rows], songs[columns])), shape=(n, n))
    return keep_best(links, params.neighbours)


def _inverse(positive: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the inverse of a symmetric positive definite matrix, shape (n, n)."""
    factor, failed = lapack.spotrf(np.asfortranarray(positive), lower=1, overwrite_a=1)
    if failed:
        raise Mistake(
            "The Gram matrix of `ease` is not positive definite; raise generators.ease."
            "regularization in params.yaml."
        )
    inverse, _ = lapack.spotri(factor, lower=1, overwrite_c=1)
    return np.asarray(np.tril(inverse) + np.tril(inverse, -1).T)


def keep_best(matrix: csr_matrix, per_row: int) -> csr_matrix:
    """Keep the `per_row` largest entries of each row."""
    matrix = matrix.tocsr().astype(np.float32)
    matrix.sort_indices()
    keep = np.zeros(matrix.nnz, dtype=np.bool_)
    for start, end in zip(matrix.indptr[:-1], matrix.indptr[1:], strict=True):
        keep[start + best(matrix.data[start:end], per_row)] = True
    kept = np.concatenate([[0], np.cumsum(keep)])[matrix.indptr]
    return csr_matrix((matrix.data[keep], matrix.indices[keep], kept), shape=matrix.shape)
