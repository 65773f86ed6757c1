"""Answers from what is left, when a generator, the ranker or time fails."""

import logging
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from features.catalogue import Catalogue, IntArray
from features.columns import Action, SongRow
from features.query import Query
from features.state import State
from serving.candidates import Prepared, most_popular_first
from serving.context_songs import named
from serving.exploration import Explore
from serving.generators import Blend, Generator
from serving.notes import too_short, unknown
from serving.recommender import BEST, RankedSong, Recommender, Slate
from serving.retrieval import BLEND, Retrieval
from serving.rules import Rights, barred
from serving.scores import NO_SCORES, Scores, best
from serving.spacing import ALBUM, ARTIST, RECORDING

log = logging.getLogger("serving.fallback")

RANKER: Final = "ranker"
RETRIEVAL: Final = "retrieval"
DEADLINE: Final = "deadline"
Variant = Literal["ranker", "retrieval", "popularity"]


@dataclass(frozen=True)
class Outcome:
    """A slate, what made it, and what could not be used for it."""

    slate: Slate
    variant: Variant
    degraded: tuple[str, ...] = ()
    prepared: Prepared | None = None


@dataclass
class Reached:
    """How far the work on a query came, for whoever stops waiting for it."""

    prepared: Prepared | None = None
    degraded: tuple[str, ...] = ()


@dataclass(frozen=True)
class Silent:
    """Stands for a generator that fails."""

    def scores(self, state: State) -> Scores:
        """Propose nothing."""
        del state
        return NO_SCORES


def best_effort(
    recommender: Recommender,
    popular: IntArray,
    query: Query,
    k: int,
    explain: bool,
    explore: Explore,
    reached: Reached,
) -> Outcome:
    """Answer a query with all that works."""
    try:
        reached.prepared, reached.degraded = prepared_with(recommender, query, k)
    except Exception:
        log.exception("Retrieval failed; the answer is what is popular")
        slate = most_popular(recommender.retrieval.songs, popular, query, k)
        return Outcome(slate, "popularity", (RETRIEVAL,))
    try:
        slate = recommender.answer(reached.prepared, k, explain, explore)
        return Outcome(slate, "ranker", reached.degraded, reached.prepared)
    except Exception:
        log.exception("The ranker failed; the answer is in retrieval's order")
        return proposed(recommender, reached.prepared, reached.degraded, k, RANKER)


def when_late(
    recommender: Recommender, popular: IntArray, query: Query, k: int, reached: Reached
) -> Outcome:
    """Answer a query whose ranking did not end in time."""
    if reached.prepared is not None:
        return proposed(recommender, reached.prepared, reached.degraded, k, DEADLINE)
    slate = most_popular(recommender.retrieval.songs, popular, query, k)
    return Outcome(slate, "popularity", (DEADLINE,))


def prepared_with(
    recommender: Recommender, query: Query, k: int
) -> tuple[Prepared, tuple[str, ...]]:
    """Return the ranker's input, and which generators had to be left out for it."""
    try:
        return recommender.prepare(query, k), ()
    except Exception:
        log.exception("A generator failed")
    broken = tuple(_broken(recommender.retrieval, recommender.candidates.state(query)))
    left = without(recommender.retrieval, broken)
    rest = replace(recommender.candidates, retrieval=left)
    return rest.prepare(query, k), tuple(f"{RETRIEVAL}.{name}" for name in broken)


def without(retrieval: Retrieval, broken: tuple[str, ...]) -> Retrieval:
    """Return a retrieval with some generators silenced; its features keep their columns."""
    generators: dict[str, Generator] = {
        name: Silent() if name in broken else generator
        for name, generator in retrieval.generators.items()
    }
    blend = retrieval.blend
    if BLEND in broken:
        blend = Blend((), (), (), np.zeros((len(retrieval.songs), 0), np.float32))
    return replace(retrieval, generators=generators, blend=blend)


def proposed(
    recommender: Recommender, prepared: Prepared, degraded: tuple[str, ...], k: int, why: str
) -> Outcome:
    """Return the pool by reciprocal rank, summed over the generators that proposed a song.

    As the wishes move and space it, unless just that fails, or there is no more time for it.
    """
    pool, state, songs = prepared.pool, prepared.state, recommender.retrieval.songs
    ranks = np.where(np.isfinite(pool.ranks), pool.ranks, np.inf)
    scores = (1.0 / (1.0 + ranks)).sum(axis=1)
    places, relaxed, lost = best(scores, k), unspaced(state.query), unheeded(state.query)
    if why != DEADLINE:
        try:
            moved = recommender.steerer.moved(state, pool.songs, scores)
            chosen = recommender.spacing.chosen(state, pool.songs, moved, k, BEST)
            scores, places, relaxed, lost = moved, chosen.places, chosen.relaxed, []
        except Exception:
            log.exception("The wishes cannot be heeded; the answer is in retrieval's order")
    found = _listed(songs, pool.songs[places], scores[places])
    notes = (*unknown(songs, state.query), *lost, *too_short(len(found), k))
    gave_way = (*prepared.relaxed, *relaxed)
    slate = Slate(found, state.unknown_songs, gave_way, notes, scores, places)
    return Outcome(slate, "retrieval", (*degraded, why), prepared)


def most_popular(songs: Catalogue, popular: IntArray, query: Query, k: int) -> Slate:
    """Return the most popular songs that the query does not bar; other wishes are not heeded."""
    played = [event.song_id for event in query.session if event.action in Action.LISTENINGS]
    out, rights = barred(query, songs, songs.indices(played)), Rights.of(songs)
    left = rights.left(query, songs, popular, out)[:k]
    if len(left) < k and len(popular) < len(songs):
        everything = np.arange(len(songs), dtype=np.int32)
        left = most_popular_first(songs, k, rights.left(query, songs, everything, out))
    scores = np.nan_to_num(songs.numbers[SongRow.POPULARITY][left])
    found = _listed(songs, left, scores)
    strange = (e.song_id for e in query.session if e.song_id not in songs.index_of)
    lost = unheeded(query, ("balanced", "popular"))
    notes = (*unknown(songs, query), *lost, *too_short(len(found), k))
    return Slate(found, tuple(strange), unspaced(query), notes)


def unspaced(query: Query) -> tuple[str, ...]:
    """Return the soft rules of a query, which an answer that is not spaced does not keep."""
    return (ALBUM, ARTIST, RECORDING) if query.wishes.spacing else ()


def unheeded(query: Query, modes: Collection[str] = ("balanced",)) -> list[str]:
    """Say which wishes of a query an answer from what is left does not heed, in one note.

    It is of one of the `modes` by itself.
    """
    wishes = query.wishes
    asked = {
        "mode": wishes.mode not in modes,
        "seed": bool(wishes.seed_songs or wishes.seed_artist),
        "less_like": bool(wishes.less_like),
        "context": wishes.heed_context and bool(named(query.context)),
    }
    lost = [name for name, is_asked in asked.items() if is_asked]
    return [f"{', '.join(lost)}: not heeded in a degraded answer."] if lost else []


def _listed(
    songs: Catalogue, places: IntArray, scores: NDArray[np.floating]
) -> tuple[RankedSong, ...]:
    """Return songs in their order, without sources and reasons."""
    return tuple(
        RankedSong(song_id, place, score, None, (), ())
        for song_id, place, score in zip(
            songs.ids[places].tolist(), places.tolist(), scores.tolist(), strict=True
        )
    )


def _broken(retrieval: Retrieval, state: State) -> Iterator[str]:
    """Yield the generators that fail when asked alone."""
    scores: dict[str, Scores] = {}
    for name, generator in retrieval.generators.items():
        try:
            scores[name] = generator.scores(state)
            scores[name].top(1)
        except Exception:  # noqa: BLE001 - told by its name in the answer
            scores[name] = NO_SCORES
            yield name
    if not retrieval.blends:
        return
    try:
        retrieval.blend.combine(scores).top(1)
    except Exception:  # noqa: BLE001 - told by its name in the answer
        yield BLEND
