"""From scores to answers: best songs, the listener's own repeats, and the policy for both."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.sparse import csr_matrix

from benchmarks.peers.data import DAY, IntArray, Plays, Query
from training.metrics import TOP, Floats

DEPTH: Final = 100
# So many songs of each list enter a merger; more hardly reach the first TOP.
MERGED: Final = 50
OWN_HALF_LIFE_DAYS: Final = 14.0
FUSION: Final = 10.0
FILL_HALF_LIFE_DAYS: Final = 14.0


@dataclass(frozen=True)
class Tops:
    """A method's best songs of each query, best first, shape (queries, DEPTH), -1 = none."""

    songs: IntArray
    scores: Floats


@dataclass(frozen=True)
class Policy:
    """What may come again, the same choice for every method.

    `session` lets songs of the running session be proposed; `own` is the weight of the listener's
    own earlier songs, merged in by reciprocal ranks (0 = not at all).
    """

    session: bool = True
    own: float = 0.0


POLICIES: Final = tuple(
    Policy(session, own) for session in (True, False) for own in (0.0, 0.1, 0.3, 1.0)
)


def popularity(plays: Plays, half_life_days: float = FILL_HALF_LIFE_DAYS) -> Floats:
    """Return each song's recency-weighted plays."""
    weights = plays.recency(half_life_days)
    return np.bincount(plays.song, weights, plays.songs).astype(np.float64)


def best(scores: Floats, tie_break: Floats, depth: int = DEPTH) -> Tops:
    """Return the best songs of dense scores.

    Parameters
    ----------
    scores
        Shape (queries, songs); `-inf` is not proposed.
    tie_break
        Shape (songs,), 0 to 1: decides among equal scores, higher first.
    """
    depth = min(depth, scores.shape[1])
    proposed = np.isfinite(scores)
    size = np.where(proposed, np.abs(scores), 0).max(axis=1, keepdims=True)
    shifted = scores + 1e-6 * np.maximum(size, 1e-12) * tie_break
    part = np.argpartition(-shifted, depth - 1, axis=1)[:, :depth]
    part.sort(axis=1)
    order = np.argsort(-np.take_along_axis(shifted, part, axis=1), axis=1, kind="stable")
    songs = np.take_along_axis(part, order, axis=1)
    found = np.take_along_axis(scores, songs, axis=1)
    return padded(np.where(np.isfinite(found), songs, -1), found)


def padded(songs: IntArray, scores: Floats) -> Tops:
    """Return lists filled up to DEPTH with -1."""
    wide = ((0, 0), (0, DEPTH - songs.shape[1]))
    filled = np.pad(songs, wide, constant_values=-1).astype(np.int64)
    values = np.pad(scores.astype(np.float64), wide, constant_values=np.nan)
    return Tops(filled, np.where(filled >= 0, values, np.nan))


def percentiles(values: Floats) -> Floats:
    """Return each value's rank as a share, 0 to 1."""
    ranks = np.empty(len(values))
    ranks[np.argsort(values, kind="stable")] = np.arange(len(values))
    return ranks / max(len(values) - 1, 1)


def best_of_sparse(scores: csr_matrix, tie_break: Floats) -> Tops:
    """Return the best songs of sparse scores, of which only those above 0 are proposed."""
    rows = scores.tocsr()
    spans = zip(rows.indptr[:-1], rows.indptr[1:], strict=True)
    return joined([best_of(rows.indices[a:b], rows.data[a:b], tie_break) for a, b in spans])


def best_of(songs: IntArray, scores: Floats, tie_break: Floats) -> Tops:
    """Return one query's best of some songs and their scores, of which those above 0 count."""
    kept = scores > 0
    if not kept.any():
        return padded(np.empty((1, 0), dtype=np.int64), np.empty((1, 0)))
    songs = songs[kept]
    found = best(scores[kept][None, :].astype(np.float64), tie_break[songs])
    return Tops(np.where(found.songs >= 0, songs[found.songs], -1), found.scores)


def joined(parts: Sequence[Tops]) -> Tops:
    """Return several blocks of queries as one."""
    return Tops(
        np.concatenate([part.songs for part in parts]),
        np.concatenate([part.scores for part in parts]),
    )


def own_scores(
    query: Query, half_life_days: float = OWN_HALF_LIFE_DAYS, power: float = 1.0
) -> Floats:
    """Return the listener's earlier songs' scores: plays ** power × 0.5 ** (age / half-life)."""
    age = np.maximum(query.ts - query.history_ts, 0) / DAY
    scores: Floats = query.history_plays**power * 0.5 ** (age / half_life_days)
    return scores


def own_songs(query: Query) -> list[int]:
    """Return the listener's earlier songs, those played most and latest first."""
    order = np.argsort(-own_scores(query), kind="stable")[:MERGED]
    songs: list[int] = query.history[order].tolist()
    return songs


def answer(tops: Tops, queries: Sequence[Query], popular: IntArray, policy: Policy) -> IntArray:
    """Return the first TOP songs of each query under a policy, shape (queries, TOP).

    Parameters
    ----------
    popular
        Songs by recent popularity: what a method has nothing to say about is filled up with them.
    """
    fill = popular[: 2 * MERGED].tolist()
    found = np.full((len(queries), TOP), -1, dtype=np.int64)
    for row, (songs, query) in enumerate(zip(tops.songs, queries, strict=True)):
        one = one_answer(songs[songs >= 0].tolist(), query, fill, policy)
        found[row, : len(one)] = one
    return found


def one_answer(songs: list[int], query: Query, fill: list[int], policy: Policy) -> list[int]:
    """Return the first TOP songs of one query."""
    barred = set() if policy.session else set(query.session.tolist())
    songs = [song for song in songs if song not in barred][:MERGED]
    if policy.own:
        own = [song for song in own_songs(query) if song not in barred]
        songs = merged(songs, own, policy.own)
    filled = dict.fromkeys([*songs, *(song for song in fill if song not in barred)])
    return list(filled)[:TOP]


def merged(songs: list[int], own: list[int], weight: float) -> list[int]:
    """Return two lists in one by the sum of 1 / (FUSION + rank), the second's times a weight.

    Examples
    --------
    >>> merged([1, 2, 3], [3, 9], 1.0)
    [3, 1, 2, 9]
    """
    scores = {song: 1 / (FUSION + rank) for rank, song in enumerate(songs, start=1)}
    for rank, song in enumerate(own, start=1):
        scores[song] = scores.get(song, 0.0) + weight / (FUSION + rank)
    return sorted(scores, key=scores.__getitem__, reverse=True)
