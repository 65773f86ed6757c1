"""Candidate generators at the time of a request: each turns a state into scores.

They hold only arrays that training fitted (`training.generators`, `training.factors`) and answer
the same way in training, evaluation and serving.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from features.catalogue import Catalogue, FloatArray, IntArray
from features.columns import Song, User, UserRow
from features.params import Recent, Seeds, Sessions, SignalName
from features.state import State
from features.times import DAY_US
from serving.compiled import (
    best_of_artists,
    best_of_shares,
    mean_shares,
    rows_decayed,
    rows_filled,
    worth_by_artist,
)
from serving.compiled_sessions import songs_of_nearest_sessions
from serving.fold_in import FactorModel, fold_in
from serving.index import VectorIndex
from serving.scores import NO_SCORES, FactorScores, MixedScores, Scores, SparseScores, add_up

# Songs kept of each region, language and artist: what a proposal is taken from.
LISTED: Final = 512
OF_ARTIST: Final = 256
# What a song of the history counts at least, before it decays: one only added or liked has no
# listening value.
LEAST_HEARD: Final = 0.1
# Whose songs are proposed: the artists of the last seeds, each one back worth less, the usual
# ones by their share, and those named at sign-up.
ARTIST_SEEDS: Final = 10
ARTIST_DECAY: Final = 0.7
USUAL_ARTISTS: Final = 20
FAVOURITE_WEIGHT: Final = 0.2
# A value that halved so often and some more still has single precision.
MOST_HALF_LIVES: Final = 60.0


class Generator(Protocol):
    """Proposes songs with a score."""

    def scores(self, state: State) -> Scores:
        """Score the catalogue for one listener at one moment."""


@dataclass(frozen=True)
class SignalFactors:
    """One signal's factors; the listener is folded in from history and session."""

    signal: SignalName
    model: FactorModel
    index: VectorIndex | None = None

    def observed(self, state: State) -> tuple[IntArray, FloatArray]:
        """Return what the listener is folded in from: songs and values, below 0 observed zeros."""
        weight = self.model.skip_weight
        return state.observed_net(self.signal, weight) if weight else state.observed(self.signal)

    def scores(self, state: State) -> Scores:
        """Return inner products with the folded-in listener; none without observations."""
        vector = fold_in(self.model, *self.observed(state))
        return NO_SCORES if vector is None else self.towards(vector)

    def towards(self, vector: FloatArray) -> FactorScores:
        """Return inner products with any vector."""
        near = None if self.index is None else partial(self.index.search, vector)
        model = self.model
        return FactorScores(vector, model.item_factors, model.known, near, model.complete)


@dataclass(frozen=True)
class Blend:
    """The signals' factors in one inner product: weighted, each scaled to a common spread.

    `stacked` is (songs, sum of factors): each signal's factors times weight / spread. Of a large
    catalogue, or where nobody is scored by the blend, nothing is stacked: the signals' scores are
    added up, times `scales`, and the best are taken from what the signals' indexes find.
    """

    signals: tuple[SignalName, ...]
    widths: tuple[int, ...]
    scales: tuple[float, ...]
    stacked: FloatArray

    def combine(self, scores: Mapping[str, Scores]) -> Scores:
        """Return the weighted sum of the signals' scores of one query."""
        parts = [scores[signal] for signal in self.signals]
        if self.stacked.shape[1] < sum(self.widths):
            return self._added(parts)
        vectors = [
            part.vector if isinstance(part, FactorScores) else np.zeros(width, dtype=np.float32)
            for part, width in zip(parts, self.widths, strict=True)
        ]
        known = [part.known for part in parts if isinstance(part, FactorScores)]
        if not known:
            return NO_SCORES
        return FactorScores(np.concatenate(vectors), self.stacked, np.logical_or.reduce(known))

    def _added(self, parts: Sequence[Scores]) -> Scores:
        given = {
            signal: (part, scale)
            for signal, part, scale in zip(self.signals, parts, self.scales, strict=True)
            if isinstance(part, FactorScores)
        }
        if not given:
            return NO_SCORES
        weights = np.array([scale for _, scale in given.values()], dtype=np.float32)
        return MixedScores({signal: part for signal, (part, _) in given.items()}, weights)


@dataclass(frozen=True)
class Neighbours:
    """Songs linked to the seeds: rows of `links` (from song, to song), summed with decay."""

    links: csr_matrix
    params: Seeds

    def scores(self, state: State) -> Scores:
        """Return the decayed sum of the seeds' rows."""
        seeds = state.seeds(self.params.seeds)
        links, decay = self.links, self.params.seed_decay
        return add_up(*rows_decayed(links.indptr, links.indices, links.data, seeds, decay))


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
        seeds = state.seeds(self.params.seeds, enjoyed_first=True)
        if not len(seeds):
            return NO_SCORES
        songs, values, _ = songs_of_nearest_sessions(
            self.song_sessions.indptr,
            self.song_sessions.indices,
            self.recency,
            seeds,
            self._decays[: len(seeds)] * self.song_weight[seeds],
            self.params.neighbours,
            self.session_songs.indptr,
            self.session_songs.indices,
            state.played,
            self._closeness,
            self._closeness_before,
        )
        return SparseScores(songs, values) if len(songs) else NO_SCORES

    @cached_property
    def _decays(self) -> NDArray[np.float64]:
        """The weight of a seed by its place."""
        places = np.arange(self.params.seeds, dtype=np.float64)
        decays: NDArray[np.float64] = self.params.seed_decay**places
        return decays

    @cached_property
    def _closeness_before(self) -> FloatArray:
        """The weight of a song that comes before its session's shared song, by its distance."""
        return np.float32(self.params.backward) * self._closeness

    @cached_property
    def _closeness(self) -> FloatArray:
        """The weight of a song by its distance from its session's shared song."""
        longest = int(np.diff(self.session_songs.indptr).max(initial=1))
        away = np.maximum(np.arange(longest) - 1, 0)
        return np.exp(-away / self.params.distance).astype(np.float32)


@dataclass(frozen=True)
class Repeats:
    """The listener's own songs, of the history and of the running session."""

    params: Recent

    def scores(self, state: State) -> Scores:
        """Return listening value decayed by the time since the last play."""
        ages = np.maximum(state.ts_us - state.history_last_us, 0) / DAY_US
        ages /= self.params.half_life_days
        # Songs of long ago would all be worth 0 in single precision: what counts is their order.
        ages -= max(ages.min(initial=np.inf) - MOST_HALF_LIVES, 0)
        decay = 0.5**ages
        value = np.maximum(state.history_values["listen"], LEAST_HEARD) * decay
        songs = np.concatenate([state.history, state.played])
        return add_up(songs, np.concatenate([value, np.ones(len(state.played))]))


@dataclass(frozen=True)
class SameArtist:
    """Songs of the session's artists, of the listener's usual ones and of named favourites.

    `listed` (artists, songs) holds each artist's songs with popularity in (0, 1], the most popular
    first; `popularity` (songs,) that of every song.
    """

    listed: csr_matrix
    popularity: FloatArray
    songs: Catalogue

    def scores(self, state: State) -> Scores:
        """Return popularity within artist times the artist's weight for the listener."""
        listed = rows_filled(self.listed.indptr, *artist_weights(state, self.songs))
        return ArtistScores(self, *listed) if len(listed[0]) else NO_SCORES


def artist_weights(state: State, songs: Catalogue) -> tuple[IntArray, FloatArray]:
    """Return the artists of session, habit and sign-up, and their weights; found once a query."""
    if artist_weights not in state.worked_out:
        state.worked_out[artist_weights] = _weighed_artists(state, songs)
    found: tuple[IntArray, FloatArray] = state.worked_out[artist_weights]
    return found


def _weighed_artists(state: State, songs: Catalogue) -> tuple[IntArray, FloatArray]:
    codes = songs.codes[Song.ARTISTS]
    weights: dict[int, float] = {}
    seeds = state.seeds(ARTIST_SEEDS, enjoyed_first=True)
    for place, code in enumerate(codes.codes[seeds].tolist()):
        weights[code] = weights.get(code, 0.0) + ARTIST_DECAY**place
    usual = state.query.user.get(UserRow.ARTIST_KEYS)
    if usual is not None and len(usual):
        shares = state.query.user[UserRow.ARTIST_SHARES]
        found = codes.vocabulary.find(list(usual[:USUAL_ARTISTS])).tolist()
        for code, share in zip(found, shares, strict=False):
            weights[code] = weights.get(code, 0.0) + float(share)
    favourites = state.query.user.get(User.FAVOURITE_ARTISTS)
    for name in favourites if favourites is not None else ():
        code = codes.code_of.get(name, -1)
        weights[code] = weights.get(code, 0.0) + FAVOURITE_WEIGHT
    weights.pop(-1, None)
    keys = np.fromiter(weights, dtype=np.int32, count=len(weights))
    return keys, np.fromiter(weights.values(), dtype=np.float32, count=len(weights))


@dataclass(frozen=True)
class ArtistScores:
    """The scores of `SameArtist`: those of any song by its artist, the best from the lists."""

    generator: SameArtist
    artists: IntArray
    weights: FloatArray

    def top(self, count: int) -> IntArray:
        """Return the best songs, best first; of each artist at most `OF_ARTIST`."""
        listed = self.generator.listed
        found: IntArray = best_of_artists(
            listed.indptr, listed.indices, listed.data, self.artists, self.weights, count
        )
        return found

    def of(self, songs: IntArray) -> FloatArray:
        """Return the scores; NaN for songs of other artists."""
        one = self.generator
        artist_of = one.songs.codes[Song.ARTISTS].codes
        found: FloatArray = worth_by_artist(
            artist_of, one.popularity, self.artists, self.weights, songs
        )[0]
        return found


@dataclass(frozen=True)
class Trending:
    """What is heard now: overall, and in the listener's region and language.

    `overall` is (songs,). A region's or language's share of a song is its popularity there over
    the column's total; `totals` holds those of the regions, then of the languages. `listed`
    (1 + regions + languages, LISTED) holds the largest of `overall` and of each column, the
    largest first, -1 where there are fewer.
    """

    overall: FloatArray
    totals: FloatArray
    listed: IntArray
    songs: Catalogue

    def scores(self, state: State) -> Scores:
        """Return the mean of the shares that apply to the listener."""
        columns = []
        region = self.songs.listener_regions.get(str(state.query.user.get(User.REGION)))
        if region is not None:
            columns.append(region)
        languages = state.query.user.get(User.LANGUAGES)
        for language in languages if languages is not None else ():
            column = self.songs.listener_languages.get(language)
            if column is not None:
                columns.append(len(self.songs.listener_regions) + column)
        return TrendingScores(self, columns)


@dataclass(frozen=True)
class TrendingScores:
    """The scores of `Trending`: the mean of `overall` and some columns, zero being no score."""

    generator: Trending
    columns: Sequence[int]

    def top(self, count: int) -> IntArray:
        """Return the best of the columns' lists, best first.

        A song that is beyond twice the count on each list is below all of those: hardly any is
        missed.
        """
        one = self.generator
        regions, languages = one.songs.region_popularity, one.songs.language_popularity
        found: IntArray = best_of_shares(
            one.overall, regions, languages, self._columns, one.totals, one.listed, count
        )
        return found

    def of(self, songs: IntArray) -> FloatArray:
        """Return the mean shares; NaN where nobody heard the song."""
        one = self.generator
        regions, languages = one.songs.region_popularity, one.songs.language_popularity
        found: FloatArray = mean_shares(
            one.overall, regions, languages, self._columns, one.totals, songs
        )[0]
        return found

    @cached_property
    def _columns(self) -> NDArray[np.int64]:
        return np.array(self.columns, dtype=np.int64)
