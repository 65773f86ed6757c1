"""Candidates: which songs the ranker is to order for a query, and what it sees of them.

Those that the generators propose, in a radio that goes on from its seeds; songs for the named
context; and where the rules leave too few, songs that are trending, popular or were played before.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from features.catalogue import Catalogue, FloatArray, IntArray
from features.columns import SongRow
from features.params import Steering
from features.query import Query
from features.state import State, resolve
from serving.context_songs import ContextSongs
from serving.radio import SameGenre, radio_seeds, tuned
from serving.retrieval import NONE, Pool, Retrieval
from serving.rules import Rights, allowed, barred, kept_out
from serving.scores import best
from serving.stages import stage

# Why songs are added that no generator proposed.
CONTEXT, FURTHER, REPEATS = "context", "popular", "session_repeats"
# Where fewer candidates than this are left, others are added.
ENOUGH: Final = 100
TRENDING: Final = 2_000
# More than a request may exclude and a session hold, so that songs are left.
POPULAR: Final = 20_000


@dataclass(frozen=True)
class Gathered:
    """A pool that keeps the hard rules; `added` are songs that no generator proposed, by reason."""

    pool: Pool
    added: dict[str, IntArray]
    relaxed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Prepared:
    """A query on its way: resolved, with its pool and the ranker's input.

    `added` are songs in the pool that no generator proposed, by reason; `relaxed` names the rules
    that gave way so that there are enough.
    """

    state: State
    pool: Pool
    features: FloatArray
    added: dict[str, IntArray]
    relaxed: tuple[str, ...]


@dataclass(frozen=True)
class Candidates:
    """Finds the candidates in one bundle; `popular` are its most popular songs, in order."""

    retrieval: Retrieval
    params: Steering
    rights: Rights
    context: ContextSongs
    same_genre: SameGenre
    popular: IntArray

    @classmethod
    def of(cls, retrieval: Retrieval, params: Steering) -> "Candidates":
        """Prepare what does not depend on a query, which takes a second of a large catalogue."""
        songs = retrieval.songs
        return cls(
            retrieval,
            params,
            Rights.of(songs),
            ContextSongs.of(songs),
            SameGenre.of(songs),
            most_popular_first(songs, POPULAR),
        )

    def prepare(self, query: Query, k: int = 0) -> Prepared:
        """Do everything up to the ranker's input; the pool should hold `k` songs if it can."""
        with stage("resolve"):
            state = self.state(query)
        with stage("retrieve"):
            found = self.pool(state, k)
        with stage("features"):
            features = self.retrieval.features(state, found.pool)
        return Prepared(state, found.pool, features, found.added, found.relaxed)

    def state(self, query: Query) -> State:
        """Resolve a query; a radio's seeds begin its session and are not proposed themselves."""
        seeds = radio_seeds(self.retrieval, query.wishes)
        return tuned(resolve(query, self.retrieval.songs), seeds)

    def pool(self, state: State, k: int = 0) -> Gathered:
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
        return Gathered(pool, added, relaxed)

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
        return pool if mask is None else pool.only(mask)

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


def most_popular_first(songs: Catalogue, count: int, among: IntArray | None = None) -> IntArray:
    """Return at most `count` songs of the catalogue, or of some of it, the most popular first."""
    popularity = songs.numbers[SongRow.POPULARITY]
    if among is None:
        return best(np.nan_to_num(popularity), count).astype(np.int32)
    return among[best(np.nan_to_num(popularity[among]), count)]


def _joined(first: IntArray, more: IntArray) -> IntArray:
    return np.concatenate([first, allowed(more, first)])
