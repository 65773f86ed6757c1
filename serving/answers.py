"""From a request to an answer: one read of the listener's row, then the recommender."""

import logging
import uuid
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Final

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
from serving.live import Loaded
from serving.recommender import RankedSong

log = logging.getLogger("serving.answers")

FEATURES: Final = "features"
Row = Mapping[str, Any]


def answer(
    loaded: Loaded, request: RecommendRequest, read_row: Callable[[str], Row]
) -> RecommendResponse:
    """Answer one request from one bundle.

    Parameters
    ----------
    read_row
        Returns the feature row of a user id; where it fails, the answer is made without and
        `degraded` says so.
    """
    row, degraded = listener_row(request, read_row)
    slate = loaded.recommender.recommend(query_of(request, row), request.k, request.explain)
    return RecommendResponse(
        request_id=uuid.uuid4().hex,
        model_version=loaded.recommender.version,
        variant="ranker",
        degraded=degraded,
        unknown_songs=list(dict.fromkeys(slate.unknown_songs)),
        relaxed=list(slate.relaxed),
        notes=list(slate.notes),
        songs=[_song(loaded, song) for song in slate.songs],
    )


def listener_row(
    request: RecommendRequest, read_row: Callable[[str], Row]
) -> tuple[dict[str, Any], list[str]]:
    """Return the listener's row, its gaps filled from the profile, and what failed."""
    row: dict[str, Any] = {}
    degraded: list[str] = []
    if request.user_id is not None:
        try:
            row = dict(read_row(request.user_id))
        except Exception as error:  # noqa: BLE001 - whatever ails the store, answer without it
            log.warning("No features for this answer: %s: %s", type(error).__name__, error)
            degraded.append(FEATURES)
    return filled(row, request.profile or Profile()), degraded


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


def query_of(request: RecommendRequest, row: Row) -> Query:
    """Return the request as the recommender takes it."""
    context = request.context or Context()
    return Query(
        ts=context.ts or datetime.now(UTC),
        user=row,
        session=tuple(SessionEvent(e.song_id, e.action, e.played_ms) for e in request.session),
        context=context.model_dump(exclude={"ts"}, exclude_none=True),
        exclude=frozenset(request.exclude),
        allow_repeats=request.allow_repeats,
        wishes=wishes_of(request, bool(named(context.model_dump()))),
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


def _song(loaded: Loaded, song: RankedSong) -> RecommendedSong:
    place = loaded.recommender.retrieval.songs.index_of[song.song_id]
    return RecommendedSong(
        song_id=song.song_id,
        title=loaded.lookup.title(place),
        artists=loaded.lookup.artist_names(place),
        score=song.score,
        p_like=song.p_like,
        sources=list(song.sources),
        reasons=[one.text for one in song.reasons],
        why=[Why(**asdict(one)) for one in song.reasons],
    )
