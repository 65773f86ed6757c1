"""From a request to an answer: the listener's row and latest events, then the recommender."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property, partial
from typing import Any, Final, TypeVar

import numpy as np

from features.query import Query
from serving.api import RecommendRequest
from serving.deadline import Bounded, Deadline, Guarded, ended, in_turn
from serving.exploration import Explore
from serving.exposures import Exposure
from serving.fallback import Outcome, Reached, best_effort, when_late
from serving.live import Loaded
from serving.logged import Logged
from serving.questions import filled, query_of, unknown_in_profile
from serving.recommender import RankedSong
from serving.stages import request_id, stage

log = logging.getLogger("serving.answers")

FEATURES: Final = "features"
EVENTS: Final = "events"
# Shares of the time by which the listener must be read, and the songs be ranked.
READ_SHARE: Final = 0.4
RANK_SHARE: Final = 0.9
FAIR_SECONDS: Final = 0.02
# Answers that are worked on at a time: one may wait for a source while another is ranked.
AT_A_TIME: Final = 2
Found = TypeVar("Found")


def no_events(user_id: str | None, session_id: str | None) -> list[Logged]:
    """Stand for an event log where there is none."""
    del user_id, session_id
    return []


class Sources:
    """What an answer needs besides its bundle, and the threads that answers are made in."""

    def __init__(
        self,
        read_row: Callable[[str], Mapping[str, Any]],
        read_events: Callable[[str | None, str | None], Sequence[Logged]] = no_events,
        expose: Callable[[Callable[[], Exposure]], None] = lambda _: None,
    ) -> None:
        self.rows = Guarded(read_row, FEATURES)
        self.events = Guarded(read_events, EVENTS)
        self.expose = expose
        # Each source may hang in two threads; two are left for the work itself.
        self.working = Bounded(Work.run, "answers", threads=4 + AT_A_TIME)
        self.turns = asyncio.Semaphore(AT_A_TIME)


@dataclass
class Work:
    """One request in its thread. Whoever waits for it sees how far it came.

    `asking` is the source that is being asked, `failed` names those that could not be read; a
    source in `done` is not asked again.
    """

    loaded: Loaded
    request: RecommendRequest
    explore: Explore
    deadline: Deadline
    row: Mapping[str, Any] = field(default_factory=dict)
    events: Sequence[Logged] = ()
    done: frozenset[str] = frozenset()
    failed: tuple[str, ...] = ()
    asking: Guarded[..., Any] | None = None
    reached: Reached = field(default_factory=Reached)

    def run(self, sources: Sources) -> Outcome:
        """Read the listener, then rank with all that works."""
        with stage("read"):
            self.read(sources)
        recommender, popular = self.loaded.recommender, self.loaded.popular
        k, explain = self.request.k, self.request.explain
        return best_effort(recommender, popular, self.query, k, explain, self.explore, self.reached)

    def read(self, sources: Sources) -> None:
        """Read the listener's row and latest events; what fails is left out."""
        user, session = self.request.user_id, self.request.session_id
        # Strangers have no row, and without a session no events either.
        if user is not None:
            self.row = self._asked(sources.rows, self.row, user)
        if user is not None or session:
            self.events = self._asked(sources.events, self.events, user, session)

    def _asked(self, source: Guarded[..., Found], default: Found, *args: Any) -> Found:
        if source.name in self.done:
            return default
        self.asking = source
        try:
            return source.ask(self.deadline, READ_SHARE, *args)
        except Exception as error:  # noqa: BLE001 - whatever ails the source, answer without it
            log.warning("No %s for this answer: %s: %s", source.name, type(error).__name__, error)
            self.failed += (source.name,)
            return default
        finally:
            self.asking = None
            self.done |= {source.name}

    def without(self, source: Guarded[..., Any]) -> "Work":
        """Return the same work as far as it came, to go on without a source that hangs."""
        source.late()
        log.warning("No %s for this answer: it took too long.", source.name)
        failed = (*self.failed, source.name)
        return replace(
            self, done=self.done | {source.name}, failed=failed, asking=None, reached=Reached()
        )

    @cached_property
    def query(self) -> Query:
        """The request as the recommender takes it, with what was read; without an unusable row."""
        try:
            return self._query(self.row)
        except Exception as error:  # noqa: BLE001 - whatever ails the row, answer without it
            log.warning("The listener's row is of no use: %s: %s", type(error).__name__, error)
            if FEATURES not in self.failed:
                self.failed += (FEATURES,)
            return self._query({})

    def _query(self, row: Mapping[str, Any]) -> Query:
        recommender = self.loaded.recommender
        row = filled(dict(row), self.request.profile)
        songs, length = recommender.retrieval.songs, recommender.history_songs
        return query_of(self.request, row, self.events, songs, length)


async def answer(
    loaded: Loaded, request: RecommendRequest, sources: Sources, deadline: Deadline
) -> dict[str, Any]:
    """Answer one request from one bundle, by the deadline, from what can be had.

    Returns the fields of a `RecommendResponse`, in their order; `degraded` names what could not be
    had.
    """
    ident = request_id()
    temperature = request.temperature
    if temperature is None:
        temperature = loaded.recommender.exploration.temperature
    work = Work(loaded, request, Explore.of(ident, temperature), deadline)
    work, outcome = await carried_out(work, sources)
    degraded = (*work.failed, *outcome.degraded)
    with stage("write"):
        # Put together behind the answer's back; only its time is taken now.
        now = datetime.now(UTC)
        sources.expose(partial(exposure_of, work, outcome, ident, degraded, now))
        return _response(loaded, request, ident, outcome, degraded)


async def carried_out(work: Work, sources: Sources) -> tuple[Work, Outcome]:
    """Return the songs: ranked if that ends in time, else from what was reached."""
    deadline = work.deadline
    try:
        async with in_turn(sources.turns, deadline.left(RANK_SHARE)):
            call, hung = sources.working.start(work, sources), None
            patience = deadline.left(READ_SHARE)
            # A source that was given no time is not to blame.
            if patience > FAIR_SECONDS and not await ended(call, patience):
                hung = work.asking
            if hung is not None:
                # Its thread is left to it; another one goes on.
                work = work.without(hung)
                call = sources.working.start(work, sources)
            if not await ended(call, deadline.left(RANK_SHARE)):
                raise TimeoutError("it takes too long.")
            return work, call.result()
    except Exception as error:  # noqa: BLE001 - whatever ails the ranking, answer without it
        log.warning("No ranking for this answer: %s: %s", type(error).__name__, error)
        recommender, popular = work.loaded.recommender, work.loaded.popular
        return work, when_late(recommender, popular, work.query, work.request.k, work.reached)


def _response(
    loaded: Loaded,
    request: RecommendRequest,
    ident: str,
    outcome: Outcome,
    degraded: tuple[str, ...],
) -> dict[str, Any]:
    songs = loaded.recommender.retrieval.songs
    return {
        "request_id": ident,
        "model_version": loaded.recommender.version,
        "variant": outcome.variant,
        "degraded": list(degraded),
        "unknown_songs": list(dict.fromkeys(outcome.slate.unknown_songs)),
        "relaxed": list(outcome.slate.relaxed),
        "notes": [*outcome.slate.notes, *unknown_in_profile(request.profile, songs)],
        "songs": [
            _song(loaded, song, position)
            for position, song in enumerate(outcome.slate.songs, start=1)
        ],
    }


def exposure_of(
    work: Work, outcome: Outcome, request_id: str, degraded: tuple[str, ...], now: datetime
) -> Exposure:
    """Return what the answer leaves for training; without a pool, the slate is all there was.

    `now` is when the answer was made.
    """
    slate, prepared, request = outcome.slate, outcome.prepared, work.request
    retrieval = work.loaded.recommender.retrieval
    sampled = prepared is not None and outcome.variant == "ranker"
    ids: Any = [song.song_id for song in slate.songs]
    if prepared is not None and len(slate.scores):
        # Most of them are looked at only where they are packed.
        ids = retrieval.songs.ids.chosen(prepared.pool.songs)
    return Exposure(
        request_id=request_id,
        # The server's time: a request may ask for another moment, which its JSON keeps.
        ts=now if request.context and request.context.ts else work.query.ts,
        user_id=request.user_id,
        variant=outcome.variant,
        model_version=work.loaded.recommender.version,
        temperature=work.explore.temperature if sampled else 0.0,
        degraded=degraded,
        request=request.model_dump_json(exclude_defaults=True),
        songs=ids,
        scores=slate.scores if len(slate.scores) else np.array([s.score for s in slate.songs]),
        shown=slate.places if len(slate.scores) else np.arange(len(slate.songs)),
        propensities=np.array([song.propensity for song in slate.songs]),
        features=prepared.features if prepared and len(slate.scores) else np.empty((0, 0), "f4"),
        feature_names=retrieval.feature_names,
    )


def _song(loaded: Loaded, song: RankedSong, position: int) -> dict[str, Any]:
    return {
        "song_id": song.song_id,
        "title": loaded.lookup.title(song.place),
        "artists": loaded.lookup.artist_names(song.place),
        "position": position,
        "propensity": song.propensity,
        "score": song.score,
        "p_like": song.p_like,
        "sources": list(song.sources),
        "reasons": [one.text for one in song.reasons],
        "why": [asdict(one) for one in song.reasons],
    }
