"""Steering: what listeners wish bends the ranker's answer; without a wish it stays as it is.

Before the ranker: a radio's seeds, songs for the named context, hard rules. After it: scores moved
by mode, context, radio and "less like this", then spacing. Weights are in standard deviations of
the pool's scores, so that they mean the same for every ranker and listener.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from features.catalogue import Catalogue, FloatArray, IntArray
from features.columns import Song, SongRow
from features.compiled import standard_deviation
from features.params import Modes, ModeWeights, Steering
from features.query import Query, Wishes
from features.state import State, resolve
from serving.context_songs import LISTED, ContextSongs, context_match, named, words_of
from serving.exploration import Explore, drawn, drawn_within, propensities
from serving.generators import SignalFactors
from serving.nearness import nearness
from serving.radio import SameGenre, radio_seeds, tuned
from serving.retrieval import NONE, Pool, Retrieval
from serving.rules import (
    ALBUM,
    ARTIST,
    RECORDING,
    REPEATS,
    Following,
    Limit,
    Recordings,
    Rights,
    allowed,
    barred,
    kept_out,
    spaced,
)
from serving.scores import best

NEUTRAL: Final = Wishes()
CONTEXT, FURTHER = "context", "popular"
# Where fewer candidates than this are left, others are added.
ENOUGH: Final = 100
TRENDING: Final = 2_000
# More than a request may exclude and a session hold, so that songs are left.
POPULAR: Final = 20_000
ANCHORS: Final = 20
# Longer than any answer with the songs before it.
EVERYWHERE: Final = 1_000
BEST_FIFTH: Final = 0.8


@dataclass(frozen=True)
class Steered:
    """A pool that keeps the hard rules; `added` are songs that no generator proposed, by reason."""

    pool: Pool
    added: dict[str, IntArray]
    relaxed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Chosen:
    """An answer's places among the candidates, in order, and the probability of each.

    `relaxed` names the soft rules that gave way.
    """

    places: NDArray[np.intp]
    propensities: NDArray[np.float64]
    relaxed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Steerer:
    """Bends the answers of one bundle; `popular` are its most popular songs, in order."""

    retrieval: Retrieval
    modes: Modes
    params: Steering
    rights: Rights
    context: ContextSongs
    same_genre: SameGenre
    popular: IntArray

    @classmethod
    def of(cls, retrieval: Retrieval, modes: Modes, params: Steering) -> "Steerer":
        """Prepare what does not depend on a query."""
        songs = retrieval.songs
        return cls(
            retrieval,
            modes,
            params,
            Rights.of(songs),
            ContextSongs.of(songs),
            SameGenre.of(songs),
            most_popular_first(songs, POPULAR),
        )

    def state(self, query: Query) -> State:
        """Resolve a query; a radio's seeds begin its session and are not proposed themselves."""
        seeds = radio_seeds(self.retrieval, query.wishes)
        return tuned(resolve(query, self.retrieval.songs), seeds)

    def notes(self, state: State) -> list[str]:
        """Say what of the wishes the catalogue does not know."""
        return unknown(self.retrieval.songs, state.query)

    def pool(self, state: State, k: int = 0) -> Steered:
        """Return the candidates; where too few are left, further songs make up for them.

        Parameters
        ----------
        k
            How many songs will be asked for.
        """
        added = self._for_context(state)
        if state.query.wishes.mode == "popular":
            # A stranger's candidates are few, and trending.
            added[FURTHER] = self._permitted(state, self.popular[:ENOUGH])
        if state.radio:
            beside = self._permitted(state, self.same_genre.beside(state.session[: state.radio]))
            added[FURTHER] = _joined(added.get(FURTHER, NONE), beside[:ENOUGH])
        pool = self._kept(state, added)
        if len(pool.songs) < max(ENOUGH, k):
            further = allowed(self._further(state, max(ENOUGH, k)), pool.songs)
            added[FURTHER] = _joined(added.get(FURTHER, NONE), further)
            pool = self._kept(state, added)
        relaxed: tuple[str, ...] = ()
        if len(pool.songs) < k and state.query.wishes.fill and not state.query.allow_repeats:
            again = self._again(state)
            if len(again):
                relaxed, added[REPEATS] = (REPEATS,), again
                pool = self._kept(state, added)
        return Steered(pool, added, relaxed)

    def moved(self, state: State, songs: IntArray, scores: NDArray[Any]) -> NDArray[Any]:
        """Return the ranker's scores as the wishes move them; untouched where there are none."""
        wishes = state.query.wishes
        if wishes == NEUTRAL or len(songs) == 0:
            return scores
        steps = np.zeros(len(songs))
        if wishes.mode != "balanced":
            steps += self._mode(getattr(self.modes, wishes.mode), state, songs, scores)
        if wishes.heed_context:
            match = context_match(self.retrieval.songs, state.query.context, songs)
            steps += self.params.context_weight * match
        if state.radio:
            steps += self._towards_seeds(state, songs, scores)
        if wishes.less_like:
            # The last one is the latest.
            unwanted = self.retrieval.songs.indices(wishes.less_like)[::-1]
            steps -= self.params.less_like_weight * self._near(songs, unwanted[unwanted >= 0])
        return scores + steps * unit(scores)

    def raised(self, state: State, scores: NDArray[Any]) -> float:
        """Return by how much a match with one part of the named context raises a score."""
        parts = len(named(state.query.context)) if state.query.wishes.heed_context else 0
        return self.params.context_weight * unit(scores) / parts if parts else 0.0

    def chosen(
        self, state: State, songs: IntArray, scores: NDArray[Any], k: int, explore: Explore
    ) -> Chosen:
        """Choose the answer's songs, spaced where that is wished for."""
        if not state.query.wishes.spacing:
            places = drawn(scores, k, explore)
            return Chosen(places, propensities(scores, places, explore.temperature))
        limits = self._limits(state, songs)
        if explore.temperature:
            following = Following(limits, len(songs))
            return Chosen(*drawn_within(scores, k, explore, following), tuple(following.relaxed))
        best_spaced, relaxed = spaced(best(scores, len(scores)).tolist(), limits, k)
        places = np.array(best_spaced, dtype=np.intp)
        return Chosen(places, np.ones(len(places)), tuple(relaxed))

    def _for_context(self, state: State) -> dict[str, IntArray]:
        if not state.query.wishes.heed_context:
            return {}
        # All that are listed for the words: the rules may bar most of the best ones.
        songs = self.context.scores(state).top(len(self.retrieval.songs))
        return {CONTEXT: self._permitted(state, songs)[: self.params.context_candidates]}

    def _kept(self, state: State, added: dict[str, IntArray]) -> Pool:
        """Return the candidates of the generators, and those added, that the hard rules permit."""
        also = np.concatenate(list(added.values())) if added else None
        pool = self.retrieval.pool(state, also)
        mask = self.rights.permitted(state.query, self.retrieval.songs, pool.songs)
        return pool if mask is None else rows_of(pool, mask)

    def _further(self, state: State, count: int) -> IntArray:
        """Return songs that the rules permit: the most trending ones, then the most popular."""
        trending = self.retrieval.generators["trending"].scores(state)
        found = self._permitted(state, trending.top(TRENDING))
        if len(found) < count:
            found = _joined(found, self._permitted(state, self.popular))
        if len(found) < count:
            catalogue = self.retrieval.songs
            songs = self._permitted(state, np.arange(len(catalogue), dtype=np.int32))
            found = _joined(found, most_popular_first(catalogue, count, songs))
        return found[:count]

    def _permitted(self, state: State, songs: IntArray) -> IntArray:
        """Return those of the songs that may be proposed, in their order."""
        query, catalogue = state.query, self.retrieval.songs
        return self.rights.left(query, catalogue, songs, barred(query, catalogue, state.played))

    def _again(self, state: State) -> IntArray:
        """Return the songs that were played in this session and not skipped or excluded."""
        excluded = self.retrieval.songs.indices(sorted(kept_out(state.query)))
        skipped = state.session[state.skipped]
        return np.setdiff1d(state.played, np.concatenate([excluded, skipped])).astype(np.int32)

    def _mode(
        self, weights: ModeWeights, state: State, songs: IntArray, scores: NDArray[Any]
    ) -> FloatArray:
        catalogue = self.retrieval.songs
        heard = np.concatenate([state.history, state.played])
        known = np.isin(songs, heard)
        artists = catalogue.codes[Song.ARTISTS].codes
        theirs = np.isin(artists[songs], artists[heard]) & (artists[songs] >= 0) & ~known
        # Among the candidates: of the catalogue, nearly all of them may be of the upper hundredth.
        popularity = rankdata(np.nan_to_num(catalogue.numbers[SongRow.POPULARITY][songs]))
        return (
            (weights.known + _apart(scores, known, weights.known)) * known
            + weights.known_artist * theirs
            + weights.popularity * popularity / len(songs)
        )

    def _towards_seeds(self, state: State, songs: IntArray, scores: NDArray[Any]) -> FloatArray:
        """Return what a radio adds: by nearness, and the best of the nearest fifth lead."""
        near = self._near(songs, state.session[: state.radio])
        nearest = (near > 0) & (near >= np.quantile(near, BEST_FIFTH))
        weight = self.params.radio_weight
        return weight * near + _apart(scores, nearest, weight, 1.0) * nearest

    def _near(self, songs: IntArray, anchors: IntArray) -> FloatArray:
        listen = self.retrieval.generators.get("listen")
        model = listen.model if isinstance(listen, SignalFactors) else None
        return nearness(self.retrieval.songs, model, songs, anchors[:ANCHORS])

    def _limits(self, state: State, songs: IntArray) -> list[Limit]:
        codes = self.retrieval.songs.codes
        artists = codes[Song.ARTISTS].codes
        albums = codes[Song.ALBUM].codes
        asked = codes[Song.ARTISTS].code_of.get(state.query.wishes.seed_artist or "", -1)
        size = len(codes[Song.ARTISTS].vocabulary) + 1

        def album(places: IntArray) -> list[int]:
            # Albums of several artists share names such as "Greatest Hits".
            both = albums[places].astype(np.int64) * size + artists[places] + 1
            return np.where(albums[places] < 0, -1, both).tolist()

        def artist(places: IntArray) -> list[int]:
            # The radio of an artist may stay with them.
            return np.where(artists[places] == asked, -1, artists[places]).tolist()

        last = state.played[-max(self.params.artist.window, self.params.album.window) :]
        # What may itself come again bars nothing.
        heard = allowed(state.played[-ANCHORS:], songs)
        before = Recordings(self.retrieval.songs, heard)
        recordings, params = Recordings(self.retrieval.songs, songs), self.params
        return [
            Limit(ALBUM, album(songs), album(last), params.album.limit, params.album.window),
            Limit(ARTIST, artist(songs), artist(last), params.artist.limit, params.artist.window),
            Limit(RECORDING, recordings, [before[i] for i in range(len(heard))], 1, EVERYWHERE),
        ]


def most_popular_first(songs: Catalogue, count: int, among: IntArray | None = None) -> IntArray:
    """Return at most `count` songs of the catalogue, or of some of it, the most popular first."""
    popularity = songs.numbers[SongRow.POPULARITY]
    if among is None:
        return best(np.nan_to_num(popularity), count).astype(np.int32)
    return among[best(np.nan_to_num(popularity[among]), count)]


def _apart(
    scores: NDArray[Any], some: NDArray[np.bool_], weight: float, share: float = BEST_FIFTH
) -> float:
    """Return the step that takes the best fifth of some songs past a `share` of the others.

    By default to where the best fifth of those begins. Where a ranker keeps known and unknown
    songs far apart, `weight` alone would not cross the gap. 0 where they already lie on the side
    that the weight's sign wishes for, or where there is but one kind.
    """
    if weight == 0 or some.all() or not some.any():
        return 0.0
    theirs = float(np.quantile(scores[some], BEST_FIFTH))
    gap = (float(np.quantile(scores[~some], share)) - theirs) / unit(scores)
    return min(gap, 0.0) if weight < 0 else max(gap, 0.0)


def _joined(first: IntArray, more: IntArray) -> IntArray:
    return np.concatenate([first, allowed(more, first)])


def unknown(songs: Catalogue, query: Query) -> list[str]:
    """Say which ids and words of a query's wishes the catalogue does not know, a note each."""
    wishes = query.wishes
    if wishes == NEUTRAL:
        return []
    ids = [("seed", one) for one in wishes.seed_songs]
    ids += [("less_like", one) for one in wishes.less_like]
    lost = [
        f"{field}: the catalogue has no song {i!r}." for field, i in ids if i not in songs.index_of
    ]
    artist = wishes.seed_artist
    if artist and artist not in songs.codes[Song.ARTISTS].code_of:
        lost.append(f"seed: the catalogue has no artist {artist!r}.")
    words = [
        (f"context.{kind}", word)
        for kind, word in (named(query.context) if wishes.heed_context else ())
        if word not in words_of(songs, kind)
    ]
    words += [
        ("profile.refused_languages", word)
        for word in sorted(wishes.refused_languages)
        if word not in words_of(songs, "language") and word not in songs.listener_languages
    ]
    return lost + [f"{field}: no song is of {word!r}; {LISTED}." for field, word in words]


def too_short(found: int, k: int) -> tuple[str, ...]:
    """Return the note that an answer has fewer songs than were asked for; none where it has all."""
    return (f"short: only {found} of {k} songs may be proposed.",) if found < k else ()


def unit(scores: NDArray[Any]) -> float:
    """Return the standard deviation of a pool's scores, in which wishes are weighed."""
    return (float(standard_deviation(scores)) or 1.0) if len(scores) else 1.0


def rows_of(pool: Pool, mask: NDArray[np.bool_]) -> Pool:
    """Return the marked candidates of a pool."""
    return Pool(pool.songs[mask], pool.scores[mask], pool.ranks[mask])
