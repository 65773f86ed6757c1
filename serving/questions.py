"""From a request and what is known of its listener to the question that the recommender answers."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

from features.catalogue import Catalogue
from features.columns import Song, User
from features.pairs import missing
from features.query import Query, SessionEvent, Wishes
from features.times import microseconds
from serving.api import Context, Profile, RecommendRequest, Seed
from serving.context_songs import LISTED, named, words_of
from serving.logged import Logged
from serving.overlay import (
    caught_up,
    is_past,
    known_at,
    merged,
    refused_songs,
    row_at,
    running_session,
)

NO_CONTEXT: Final = Context()
NO_PROFILE: Final = Profile()
NO_SEED: Final = Seed.model_construct()


def filled(row: dict[str, Any], profile: Profile | None) -> dict[str, Any]:
    """Return the row with its absent sign-up columns taken from the profile."""
    if profile is None:
        return row
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
    return missing(value)


def query_of(
    request: RecommendRequest,
    row: dict[str, Any],
    events: Sequence[Logged],
    songs: Catalogue,
    history_songs: int,
    now: datetime | None = None,
) -> Query:
    """Return the request as the recommender takes it, with what the event log adds.

    Events of the running session extend the request's session; the listener's others, as far as
    the row does not know them, its history of `history_songs`. Songs refused in the session are
    excluded. `now` is the server's time where it is not given.
    """
    context = request.context or NO_CONTEXT
    said = context.model_dump(exclude={"ts"}, exclude_none=True) if request.context else {}
    now = now or datetime.now(UTC)
    ts = context.ts or now
    asked_us = microseconds(ts)
    logged = known_at(events, ts, now)
    if is_past(ts, now):
        row = row_at(row, asked_us)
    running = running_session(logged, request.session_id, asked_us)
    asked = tuple(SessionEvent(e.song_id, e.action, e.played_ms) for e in request.session)
    session = merged([event for event in logged if event.session_id == running], asked)
    return Query(
        ts=ts,
        user=caught_up(row, logged, running, songs.durations, asked_us, history_songs),
        session=session,
        context=said,
        exclude=frozenset(request.exclude) | refused_songs(session),
        allow_repeats=request.allow_repeats,
        wishes=wishes_of(request, request.heed_context and bool(named(said))),
    )


def wishes_of(request: RecommendRequest, heed_context: bool) -> Wishes:
    """Return how the request bends its answer; a named context is heeded."""
    seed = request.seed or NO_SEED
    songs = seed.song_ids or ([seed.song_id] if seed.song_id else [])
    profile = request.profile or NO_PROFILE
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


def unknown_in_profile(profile: Profile | None, songs: Catalogue) -> list[str]:
    """Say which words of a profile neither songs nor listeners are of, a note each."""
    if profile is None:
        return []
    artists = songs.codes[Song.ARTISTS].code_of
    lost = [
        f"profile.favourite_artists: the catalogue has no artist {name!r}."
        for name in profile.favourite_artists
        if name not in artists
    ]
    words = [("languages", "language", word) for word in profile.languages]
    if profile.region is not None:
        words.append(("region", "region", profile.region))
    of_listeners = {"language": songs.listener_languages, "region": songs.listener_regions}
    return lost + [
        f"profile.{field}: no song and no listener is of {word!r}; {LISTED}."
        for field, kind, word in words
        if word not in of_listeners[kind] and word not in words_of(songs, kind)
    ]
