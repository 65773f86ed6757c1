"""Methods that count: popularity, own repeats, followers, rules, item neighbours, EASE.

All but the first two are linear: the last songs of the context, each further back worth `decay`
of the one after it, times a matrix songs × songs.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from scipy.linalg.lapack import spotrf, spotri
from scipy.sparse import csr_matrix, diags

from benchmarks.peers.data import IntArray, Plays, Query
from benchmarks.peers.ranking import (
    Tops,
    best,
    best_of,
    best_of_sparse,
    joined,
    own_scores,
    percentiles,
    popularity,
)
from training.metrics import Floats


class Peer(Protocol):
    """A method: its settings are its fields, `fit` learns, `tops` answers."""

    def fit(self, plays: Plays) -> "Peer":
        """Learn from plays and return itself."""
        ...

    def tops(self, queries: Sequence[Query]) -> Tops:
        """Return the best songs of each query, before any policy."""
        ...


@dataclass
class Popularity:
    """Recency-weighted plays, the same for everybody."""

    half_life_days: float = 14.0
    scores_: Floats = field(init=False, repr=False)

    def fit(self, plays: Plays) -> "Popularity":
        """Count the plays."""
        self.scores_ = popularity(plays, self.half_life_days)
        return self

    def tops(self, queries: Sequence[Query]) -> Tops:
        """Return the same songs for every query."""
        once = best(self.scores_[None, :], percentiles(self.scores_))
        return Tops(
            np.repeat(once.songs, len(queries), axis=0),
            np.repeat(once.scores, len(queries), axis=0),
        )


@dataclass
class OwnRepeats:
    """The listener's own songs: plays ** power × recency, and the running session's songs."""

    half_life_days: float = 14.0
    power: float = 1.0
    session_weight: float = 0.0
    popularity_: Floats = field(init=False, repr=False)

    def fit(self, plays: Plays) -> "OwnRepeats":
        """Learn only what breaks ties."""
        self.popularity_ = percentiles(popularity(plays))
        return self

    def tops(self, queries: Sequence[Query]) -> Tops:
        """Return the songs of history and session."""
        return joined([self.one(query) for query in queries])

    def one(self, query: Query) -> Tops:
        """Return the songs of one query's history and session."""
        known = own_scores(query, self.half_life_days, self.power)
        running = np.full(len(query.session), self.session_weight)
        both, place = np.unique(np.concatenate([query.history, query.session]), return_inverse=True)
        scores = np.zeros(len(both))
        np.add.at(scores, place, np.concatenate([known, running]))
        return best_of(both, scores, self.popularity_)


def context_weights(
    queries: Sequence[Query], songs: int, fill: int, last: int, decay: float
) -> csr_matrix:
    """Return queries × songs: the last songs of each context, the latest worth 1.

    A song that comes twice counts at its latest place.
    """
    rows, columns, values = [], [], []
    for row, query in enumerate(queries):
        recent = query.context(fill)[::-1]
        recent = recent[np.sort(np.unique(recent, return_index=True)[1])][:last]
        rows.append(np.full(len(recent), row))
        columns.append(recent)
        values.append(decay ** np.arange(len(recent)))
    shape = (len(queries), songs)
    return csr_matrix(
        (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))), shape=shape
    )


@dataclass
class Linear:
    """What the linear methods share: how the context is read, and the product."""

    fill: int = 10
    last: int = 1
    decay: float = 0.5
    popularity_: Floats = field(init=False, repr=False)
    weights_: csr_matrix = field(init=False, repr=False)

    def fit(self, plays: Plays) -> "Linear":
        """Learn the matrix songs × songs."""
        self.popularity_ = percentiles(popularity(plays))
        self.weights_ = self.learn(plays)
        return self

    def learn(self, plays: Plays) -> csr_matrix:
        """Return the matrix songs × songs."""
        raise NotImplementedError

    def context(self, queries: Sequence[Query]) -> csr_matrix:
        """Return the queries' contexts as a matrix queries × songs."""
        songs = len(self.popularity_)
        return context_weights(queries, songs, self.fill, self.last, self.decay)

    def tops(self, queries: Sequence[Query]) -> Tops:
        """Return the best songs of context × matrix."""
        return best_of_sparse(self.context(queries) @ self.weights_, self.popularity_)


def follow_counts(plays: Plays, gaps: Sequence[float], half_life_days: float) -> csr_matrix:
    """Return songs × songs: how often the column came `i + 1` places after the row, × gaps[i]."""
    recency = plays.recency(half_life_days)
    total = csr_matrix((plays.songs, plays.songs))
    for gap, weight in enumerate(gaps, start=1):
        same = plays.session[gap:] == plays.session[:-gap]
        here, there = plays.song[:-gap][same], plays.song[gap:][same]
        values = weight * recency[gap:][same]
        total = total + csr_matrix((values, (here, there)), shape=total.shape)
    return total.tocsr()


def rows_to_one(counts: csr_matrix, power: float) -> csr_matrix:
    """Return each row divided by its sum ** power: 1 gives probabilities, 0 leaves counts."""
    sums = np.asarray(counts.sum(axis=1)).ravel()
    return (diags(np.where(sums > 0, np.maximum(sums, 1e-300) ** -power, 0)) @ counts).tocsr()


@dataclass
class Transitions(Linear):
    """First-order transitions: what directly followed the last song."""

    half_life_days: float = np.inf
    norm: float = 1.0

    def learn(self, plays: Plays) -> csr_matrix:
        """Count who followed whom."""
        return rows_to_one(follow_counts(plays, [1.0], self.half_life_days), self.norm)


def distance_weights(shape: str, steps: int) -> Floats:
    """Return the weight of a rule by the distance of its songs, 1 to `steps`."""
    far = np.arange(1, steps + 1, dtype=np.float64)
    return {
        "div": 1 / far,
        "linear": np.maximum(1 - 0.1 * (far - 1), 0),
        "quadratic": 1 / far**2,
        "log": 1 / np.log10(far + 1.7),
        "same": np.ones(steps),
    }[shape]


@dataclass
class SequentialRules(Linear):
    """Sequential rules (Kamehkhosh, Jannach, Ludewig 2017): A, later B, worth less the farther.

    `pruning` keeps so many rules a song; 0 keeps all.
    """

    steps: int = 10
    shape: str = "div"
    pruning: int = 20
    half_life_days: float = np.inf
    norm: float = 1.0

    def learn(self, plays: Plays) -> csr_matrix:
        """Count the rules and keep the heaviest of each song."""
        gaps = distance_weights(self.shape, self.steps)
        counts = follow_counts(plays, list(gaps), self.half_life_days)
        return rows_to_one(heaviest(counts, self.pruning), self.norm)


def heaviest(matrix: csr_matrix, count: int) -> csr_matrix:
    """Return the matrix with only the `count` largest entries of each row; 0 keeps all."""
    if not count:
        return matrix
    matrix = matrix.tocsr()
    rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    order = np.lexsort((matrix.indices, -matrix.data, rows))
    place = np.arange(len(order)) - matrix.indptr[rows[order]]
    kept = order[place < count]
    return csr_matrix((matrix.data[kept], (rows[kept], matrix.indices[kept])), shape=matrix.shape)


@dataclass
class ItemNeighbours(Linear):
    """Item-item neighbours by cosine of the songs' columns, damped for rare songs.

    `unit` says what a row is (sessions or listeners); `power` 0.5 is the cosine, less favours
    popular songs; `damping` is added to the norms; `neighbours` are kept of each song.
    """

    unit: str = "sessions"
    half_life_days: float = np.inf
    damping: float = 20.0
    power: float = 0.5
    neighbours: int = 100

    def learn(self, plays: Plays) -> csr_matrix:
        """Return the similarities, a song not its own neighbour."""
        items = binary(plays, self.unit, self.half_life_days)
        shared = (items.T @ items).tolil()
        norms = shared.diagonal() + self.damping
        shared.setdiag(0)
        shared = shared.tocsr()
        shared.eliminate_zeros()
        scale = diags(norms**-self.power)
        return heaviest((scale @ shared @ scale).tocsr(), self.neighbours)


def binary(plays: Plays, unit: str, half_life_days: float = np.inf) -> csr_matrix:
    """Return sessions or listeners × songs: 1 where played, × the root of the latest recency."""
    row, size = (plays.session, plays.sessions) if unit == "sessions" else (plays.user, plays.users)
    key = row * plays.songs + plays.song
    order = np.lexsort((plays.ts, key))
    last = order[np.append(key[order][1:] != key[order][:-1], True)]
    values = np.sqrt(plays.recency(half_life_days)[last])
    return csr_matrix((values, (row[last], plays.song[last])), shape=(size, plays.songs))


@dataclass
class Ease(Linear):
    """EASE (Steck 2019): the closed form of a linear autoencoder without self-similarity.

    Only songs with at least `least` plays enter, for the inverse is dense.
    """

    last: int = 20
    decay: float = 0.8
    unit: str = "sessions"
    half_life_days: float = np.inf
    regularization: float = 100.0
    least: int = 3
    kept_: IntArray = field(init=False, repr=False)
    dense_: Floats = field(init=False, repr=False)

    def learn(self, plays: Plays) -> csr_matrix:
        """Invert the regularised Gram matrix."""
        items = binary(plays, self.unit, self.half_life_days)
        played = np.bincount(plays.song, minlength=plays.songs)
        self.kept_ = np.flatnonzero(played >= self.least)
        kept = items[:, self.kept_]
        gram = (kept.T @ kept).toarray().astype(np.float32)
        gram[np.diag_indices_from(gram)] += self.regularization
        inverse = inverted(gram)
        weights = inverse / -np.diag(inverse)
        weights[np.diag_indices_from(weights)] = 0
        self.dense_ = weights
        return csr_matrix((plays.songs, plays.songs))

    def tops(self, queries: Sequence[Query]) -> Tops:
        """Return the best of the songs that entered."""
        context = self.context(queries)[:, self.kept_].astype(np.float32)
        parts = []
        for start in range(0, len(queries), 500):
            scores = np.asarray(context[start : start + 500] @ self.dense_, dtype=np.float64)
            parts.append(best(scores, self.popularity_[self.kept_]))
        found = joined(parts)
        songs = np.where(found.songs >= 0, self.kept_[np.maximum(found.songs, 0)], -1)
        return Tops(songs, found.scores)


def inverted(gram: Floats) -> Floats:
    """Return the inverse of a symmetric positive definite float32 matrix, which is overwritten.

    Raises
    ------
    ValueError
        If the matrix is not positive definite.
    """
    factor, failed = spotrf(gram.T, lower=False, overwrite_a=True)
    if not failed:
        upper, failed = spotri(factor, lower=False, overwrite_c=True)
    if failed:
        raise ValueError("EASE's Gram matrix can't be inverted; raise `regularization`.")
    inverse: Floats = np.triu(upper)
    inverse += np.triu(upper, 1).T
    return inverse
