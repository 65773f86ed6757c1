"""Candidate generators at the time of a request: each turns a state into scores.

They hold only arrays that training fitted (`training.generators`, `training.factors`) and answer
the same way in training, evaluation and serving.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from features.catalogue import Catalogue, FloatArray, IntArray
from features.columns import Song, User, UserRow
from features.pairs import DAY_US, find
from features.params import Recent, Seeds, Sessions, SignalName
from features.state import State
from serving.fold_in import FactorModel, fold_in
from serving.scores import NO_SCORES, FactorScores, Scores, SparseScores, add_up


class Generator(Protocol):
    """Proposes songs with a score."""

    def scores(self, state: State) -> Scores:
        """Score the catalogue for one listener at one moment."""


@dataclass(frozen=True)
class SignalFactors:
    """One signal's factors; the listener is folded in from history and session."""

    signal: SignalName
    model: FactorModel

    def scores(self, state: State) -> Scores:
        """Return inner products with the folded-in listener; none without observations."""
        weight = self.model.skip_weight
        songs, values = (
            state.observed_net(self.signal, weight) if weight else state.observed(self.signal)
        )
        vector = fold_in(self.model, songs, values)
        if vector is None:
            return NO_SCORES
        return FactorScores(vector, self.model.item_factors, self.model.known)


@dataclass(frozen=True)
class Blend:
    """The signals' factors in one inner product: weighted, each scaled to a common spread.

    `stacked` is (songs, sum of factors): each signal's factors times weight / spread, so that one
    index over it answers the whole blend.
    """

    signals: tuple[SignalName, ...]
    widths: tuple[int, ...]
    stacked: FloatArray
    known: NDArray[np.bool_]

    def combine(self, scores: Mapping[str, Scores]) -> Scores:
        """Return the weighted sum of the signals' scores of one query."""
        parts = [scores[signal] for signal in self.signals]
        vectors = [
            part.vector if isinstance(part, FactorScores) else np.zeros(width, dtype=np.float32)
            for part, width in zip(parts, self.widths, strict=True)
        ]
        if not any(isinstance(part, FactorScores) for part in parts):
            return NO_SCORES
        return FactorScores(np.concatenate(vectors), self.stacked, self.known)


@dataclass(frozen=True)
class Neighbours:
    """Songs linked to the seeds: rows of `links` (from song, to song), summed with decay."""

    links: csr_matrix
    params: Seeds

    def scores(self, state: State) -> Scores:
        """Return the decayed sum of the seeds' rows."""
        seeds = state.seeds(self.params.seeds)
        rows = [slice(self.links.indptr[s], self.links.indptr[s + 1]) for s in seeds]
        if not rows:
            return NO_SCORES
        decay = self.params.seed_decay ** np.arange(len(rows))
        songs = np.concatenate([self.links.indices[row] for row in rows])
        values = [self.links.data[row] * d for row, d in zip(rows, decay, strict=True)]
        return add_up(songs, np.concatenate(values))


@dataclass(frozen=True)
class NearestSessions:
    """Session nearest neighbours that heed order and time (STAN; Garg et al., SIGIR 2019).

    A past session is near if it shares songs with this one, the later played here and the rarer
    the better, and if it is recent. Its songs count the more the closer they lie to the shared
    song that was played last here; those before it count less than those after it.

    `song_sessions` (songs, sessions) lists each song's latest sessions; `session_songs`
    (sessions, songs) holds songs in the order of play; `recency` (sessions,) is in (0, 1].
    """

    song_sessions: csr_matrix
    session_songs: csr_matrix
    recency: FloatArray
    song_weight: FloatArray
    params: Sessions

    def scores(self, state: State) -> Scores:
        """Return summed closeness in the nearest sessions, of songs not in the running one."""
        seeds = state.seeds(self.params.seeds)
        near = self._similarities(seeds)
        if len(near.songs) == 0:
            return NO_SCORES
        sessions = near.top(self.params.neighbours)
        songs, lengths = gather(self.session_songs, sessions)
        value = np.repeat(near.of(sessions), lengths) * self._closeness(songs, lengths, seeds)
        fresh = ~np.isin(songs, state.session)
        return add_up(songs[fresh], value[fresh])

    def _similarities(self, seeds: IntArray) -> SparseScores:
        sessions, lengths = gather(self.song_sessions, seeds)
        weight = self.params.seed_decay ** np.arange(len(seeds)) * self.song_weight[seeds]
        return add_up(sessions, np.repeat(weight, lengths) * self.recency[sessions])

    def _closeness(self, songs: IntArray, lengths: IntArray, seeds: IntArray) -> FloatArray:
        """Return each played song's weight by its distance from its session's shared song."""
        starts = np.cumsum(lengths) - lengths
        place = np.arange(len(songs)) - np.repeat(starts, lengths)
        order, times = find(seeds, songs)
        # The earliest seed wins, then the earliest place: one minimum over both a session.
        rank = np.where(times > 0, order, len(seeds))
        longest = int(lengths.max())
        shared = np.minimum.reduceat(rank * longest + place, starts) % longest
        distance = place - np.repeat(shared, lengths)
        decay = np.exp(-np.maximum(np.abs(distance) - 1, 0) / self.params.distance)
        return np.where(distance > 0, decay, self.params.backward * decay).astype(np.float32)


@dataclass(frozen=True)
class Repeats:
    """The listener's own songs, of the history and of the running session."""

    params: Recent

    def scores(self, state: State) -> Scores:
        """Return listening value decayed by the time since the last play."""
        days = (state.ts_us - state.history_last_us) / DAY_US
        decay = 0.5 ** (np.maximum(days, 0) / self.params.half_life_days)
        value = np.maximum(state.history_values["listen"], 0.1) * decay
        songs = np.concatenate([state.history, state.session])
        return add_up(songs, np.concatenate([value, np.ones(len(state.session))]))


@dataclass(frozen=True)
class SameArtist:
    """Songs of the session's artists, of the listener's usual ones and of named favourites.

    `artist_songs` (artists, songs) holds popularity in (0, 1].
    """

    artist_songs: csr_matrix
    songs: Catalogue

    def scores(self, state: State) -> Scores:
        """Return popularity within artist times the artist's weight for the listener."""
        artists, weights = self._artists(state)
        songs, lengths = gather(self.artist_songs, artists)
        values, _ = gather(self.artist_songs, artists, data=True)
        return add_up(songs, values * np.repeat(weights, lengths))

    def _artists(self, state: State) -> tuple[IntArray, FloatArray]:
        codes = self.songs.codes[Song.ARTISTS]
        weights: dict[int, float] = {}
        for place, code in enumerate(codes.codes[state.seeds(10)]):
            weights[int(code)] = weights.get(int(code), 0.0) + 0.7**place
        usual = state.query.user.get(UserRow.ARTIST_KEYS)
        if usual is not None and len(usual):
            shares = state.query.user[UserRow.ARTIST_SHARES]
            for name, share in zip(usual[:20], shares, strict=False):
                code = codes.code_of.get(name, -1)
                weights[code] = weights.get(code, 0.0) + float(share)
        favourites = state.query.user.get(User.FAVOURITE_ARTISTS)
        for name in favourites if favourites is not None else ():
            code = codes.code_of.get(name, -1)
            weights[code] = weights.get(code, 0.0) + 0.2
        weights.pop(-1, None)
        keys = np.fromiter(weights, dtype=np.int32, count=len(weights))
        return keys, np.fromiter(weights.values(), dtype=np.float32, count=len(weights))


@dataclass(frozen=True)
class Trending:
    """What is heard now: overall, and in the listener's region and language.

    `overall` is (songs,); `by_region` and `by_language` are (songs, groups), each column scaled to
    a sum of 1.
    """

    overall: FloatArray
    songs: Catalogue
    by_region: FloatArray
    by_language: FloatArray

    def scores(self, state: State) -> Scores:
        """Return the mean of the shares that apply to the listener."""
        parts = [self.overall]
        region = self.songs.listener_regions.get(str(state.query.user.get(User.REGION)))
        if region is not None:
            parts.append(self.by_region[:, region])
        languages = state.query.user.get(User.LANGUAGES)
        for language in languages if languages is not None else ():
            column = self.songs.listener_languages.get(language)
            if column is not None:
                parts.append(self.by_language[:, column])
        score = np.mean(parts, axis=0) if len(parts) > 1 else self.overall
        heard = np.flatnonzero(score > 0).astype(np.int32)
        return SparseScores(heard, score[heard])


def gather(matrix: csr_matrix, rows: IntArray, data: bool = False) -> tuple[NDArray[Any], IntArray]:
    """Return the concatenated column indices (or values) of some rows, and each row's length."""
    starts, ends = matrix.indptr[rows], matrix.indptr[rows + 1]
    lengths = ends - starts
    within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    places = within + np.repeat(starts, lengths)
    return (matrix.data if data else matrix.indices)[places], lengths
