"""From a request to an answer: the listener's row and latest events, then the recommender."""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

import numpy as np

from features.catalogue import Catalogue
from features.columns import User
from features.query import Query, SessionEvent, Wishes
from serving.api import (
    Context,
    Profile,
    RecommendedSong,
    RecommendRequest,
    RecommendResponse,
    Seed,
    Why,
)
from serving.context_songs import named
from serving.deadline import Bounded, Deadline, OutOfService
from serving.event_log import Logged, microseconds
from serving.exploration import Explore
from serving.exposures import Exposure
from serving.fallback import Outcome, Reached, best_effort, when_late
from serving.feedback import merged, newer, overlay, refused_songs, running_session
from serving.live import Loaded
from serving.recommender import RankedSong
from serving.stages import request_id, stage

log = logging.getLogger("serving.answers")

FEATURES: Final = "features"
NO_CONTEXT: Final = Context()
EVENTS: Final = "events"
# Shares of the time by which the listener must be read, and the songs be ranked.
READ_SHARE: Final = 0.4
RANK_SHARE: Final = 0.9
Row = Mapping[str, Any]
Found = TypeVar("Found")


def no_events(user_id: str | None, session_id: str | None) -> list[Logged]:
    """Stand for an event log where there is none."""
    del user_id, session_id
    return []


class Sources:
    """What an answer needs besides its bundle, each with a bound on the wait for it."""

    def __init__(
        self,
        read_row: Callable[[str], Row],
        read_events: Callable[[str | None, str | None], Sequence[Logged]] = no_events,
        expose: Callable[[Exposure], None] = lambda _: None,
    ) -> None:
        self.rows = Bounded(read_row, FEATURES)
        self.events = Bounded(read_events, EVENTS)
        self.expose = expose
        # Late rankings come with load; to stop ranking for a while would not be better.
        self.ranking = Bounded(best_effort, "ranking", trusted=math.inf)


@dataclass(frozen=True)
class Known:
    """A listener's row and latest events; `degraded` names what could not be read."""

    row: dict[str, Any]
    events: Sequence[Logged]
    degraded: tuple[str, ...]


def answer(
    loaded: Loaded, request: RecommendRequest, sources: Sources, deadline: Deadline
) -> RecommendResponse:
    """Answer one request from one bundle, by the deadline, from what can be had.

    `degraded` of the answer names what could not.
    """
    ident = request_id()
    with stage("read"):
        known = listener(request, sources, deadline)
    query = query_of(request, known, loaded.recommender.retrieval.songs)
    temperature = request.temperature
    if temperature is None:
        temperature = loaded.recommender.exploration.temperature
    explore = Explore.of(ident, temperature)
    outcome = ranked(loaded, query, request, explore, sources, deadline)
    degraded = (*known.degraded, *outcome.degraded)
    with stage("write"):
        sources.expose(exposure_of(loaded, request, query, outcome, ident, explore, degraded))
        return _response(loaded, ident, outcome, degraded)


def _response(
    loaded: Loaded, ident: str, outcome: Outcome, degraded: tuple[str, ...]
) -> RecommendResponse:
    return RecommendResponse(
        request_id=ident,
        model_version=loaded.recommender.version,
        variant=outcome.variant,
        degraded=list(degraded),
        unknown_songs=list(dict.fromkeys(outcome.slate.unknown_songs)),
        relaxed=list(outcome.slate.relaxed),
        notes=list(outcome.slate.notes),
        songs=_songs(loaded, outcome.slate.songs),
    )


def exposure_of(
    loaded: Loaded,
    request: RecommendRequest,
    query: Query,
    outcome: Outcome,
    request_id: str,
    explore: Explore,
    degraded: tuple[str, ...],
) -> Exposure:
    """Return what the answer leaves for training; without a pool, the slate is all there was."""
    slate, prepared = outcome.slate, outcome.prepared
    retrieval = loaded.recommender.retrieval
    sampled = prepared is not None and outcome.variant == "ranker"
    ids: Any = [song.song_id for song in slate.songs]
    if prepared is not None and len(slate.scores):
        # Their names are looked up behind the answer's back.
        ids = retrieval.songs.ids.chosen(prepared.pool.songs)
    return Exposure(
        request_id=request_id,
        ts=query.ts,
        user_id=request.user_id,
        variant=outcome.variant,
        model_version=loaded.recommender.version,
        temperature=explore.temperature if sampled else 0.0,
        degraded=degraded,
        request=request.model_dump_json(exclude_defaults=True),
        songs=ids,
        scores=slate.scores if len(slate.scores) else np.array([s.score for s in slate.songs]),
        shown=slate.places if len(slate.scores) else np.arange(len(slate.songs)),
        propensities=np.array([song.propensity for song in slate.songs]),
        features=prepared.features if prepared and len(slate.scores) else np.empty((0, 0), "f4"),
        feature_names=retrieval.feature_names,
    )


def listener(request: RecommendRequest, sources: Sources, deadline: Deadline) -> Known:
    """Read the listener's row and latest events side by side; what fails is left out."""
    user, session = request.user_id, request.session_id
    # Strangers have no row, and without a session no events either.
    row = begun(sources.rows, user) if user is not None else None
    events = begun(sources.events, user, session) if user is not None or session else None
    found_row, row_failed = ended(sources.rows, row, deadline, {})
    found_events, events_failed = ended(sources.events, events, deadline, [])
    return Known(
        filled(dict(found_row), request.profile or Profile()),
        found_events,
        (*([FEATURES] if row_failed else []), *([EVENTS] if events_failed else [])),
    )


def begun(source: Bounded[..., Found], *args: Any) -> "Future[Found]":
    """Begin a call; a source out of service makes it fail at once."""
    try:
        return source.start(*args)
    except OutOfService as error:
        future: Future[Found] = Future()
        future.set_exception(error)
        return future


def ended(
    source: Bounded[..., Found], call: "Future[Found] | None", deadline: Deadline, default: Found
) -> tuple[Found, bool]:
    """Return what a call found, or the default and that it failed."""
    if call is None:
        return default, False
    try:
        return source.result(call, deadline.left(READ_SHARE)), False
    except Exception as error:  # noqa: BLE001 - whatever ails the source, answer without it
        log.warning("No %s for this answer: %s: %s", source.name, type(error).__name__, error)
        return default, True


def ranked(
    loaded: Loaded,
    query: Query,
    request: RecommendRequest,
    explore: Explore,
    sources: Sources,
    deadline: Deadline,
) -> Outcome:
    """Return the songs: ranked if that ends in time, else from what was reached."""
    reached = Reached()
    asked = (loaded.recommender, loaded.popular, query, request.k)
    try:
        call = sources.ranking.start(*asked, request.explain, explore, reached)
        return sources.ranking.result(call, deadline.left(RANK_SHARE))
    except Exception as error:  # noqa: BLE001 - whatever ails the ranking, answer without it
        log.warning("No ranking for this answer: %s: %s", type(error).__name__, error)
        return when_late(*asked, reached)


def filled(row: dict[str, Any], profile: Profile) -> dict[str, Any]:
    """Return the row with its absent sign-up columns taken from the profile."""
    said = {
        User.BIRTH_YEAR: profile.birth_year,
        User.COUNTRY: profile.country,
        User.REGION: profile.region,
        User.UTC_OFFSET: profile.utc_offset_minutes,
        User.LANGUAGES: profile.languages,
        User.FAVOURITE_ARTISTS: profile.favourite_artists,
    }
    new = {name: value for name, value in said.items() if value not in (None, [])}
    return row | {name: value for name, value in new.items() if is_absent(row.get(name))}


def is_absent(value: Any) -> bool:
    """Tell whether a cell says nothing: None, NaN, or an empty list."""
    if hasattr(value, "__len__"):
        return len(value) == 0
    return value is None or value != value


def query_of(request: RecommendRequest, known: Known, songs: Catalogue) -> Query:
    """Return the request as the recommender takes it, with what the event log adds.

    Events of the running session extend the request's session; the listener's others, as far as
    the row does not know them, its history. Songs refused in the session are excluded.
    """
    context = request.context or NO_CONTEXT
    said = context.model_dump(exclude={"ts"}, exclude_none=True) if request.context else {}
    ts = context.ts or datetime.now(UTC)
    now = microseconds(ts)
    # A moment that the request names knows nothing later; a clock that jumped must not hide events.
    logged = [e for e in known.events if context.ts is None or e.ts_us <= now]
    running = running_session(logged, request.session_id, now)
    asked = tuple(SessionEvent(e.song_id, e.action, e.played_ms) for e in request.session)
    session = merged([event for event in logged if event.session_id == running], asked)
    others = [event for event in logged if event.session_id != running]
    return Query(
        ts=ts,
        user=overlay(known.row, newer(known.row, others), songs, now),
        session=session,
        context=said,
        exclude=frozenset(request.exclude) | refused_songs(session),
        allow_repeats=request.allow_repeats,
        wishes=wishes_of(request, bool(named(said))),
    )


def wishes_of(request: RecommendRequest, heed_context: bool) -> Wishes:
    """Return how the request bends its answer; a named context is heeded."""
    seed = request.seed or Seed.model_construct()
    songs = seed.song_ids or ([seed.song_id] if seed.song_id else [])
    profile = request.profile or Profile()
    return Wishes(
        mode=request.mode,
        seed_songs=tuple(songs),
        seed_artist=seed.artist,
        less_like=tuple(request.less_like),
        heed_context=heed_context,
        spacing=request.spacing,
        refused_languages=frozenset(profile.refused_languages),
        allow_explicit=request.allow_explicit,
        fill=True,
    )


def _songs(loaded: Loaded, songs: Sequence[RankedSong]) -> list[RecommendedSong]:
    places = loaded.recommender.retrieval.songs.indices([song.song_id for song in songs])
    numbered = enumerate(zip(songs, places.tolist(), strict=True), start=1)
    return [_song(loaded, song, place, position) for position, (song, place) in numbered]


def _song(loaded: Loaded, song: RankedSong, place: int, position: int) -> RecommendedSong:
    return RecommendedSong(
        song_id=song.song_id,
        title=loaded.lookup.title(place),
        artists=loaded.lookup.artist_names(place),
        position=position,
        propensity=song.propensity,
        score=song.score,
        p_like=song.p_like,
        sources=list(song.sources),
        reasons=[one.text for one in song.reasons],
        why=[Why(**asdict(one)) for one in song.reasons],
    )
