"""The ranker's features of (query, candidate) pairs: one small function a group.

The same functions make training rows and answer requests. NaN means "not known", never zero.
"""

from collections.abc import Callable, Iterable
from typing import Any, Final

import numpy as np

from features.catalogue import ABSENT, Catalogue, FloatArray, IntArray
from features.columns import Song, SongRow, User, UserRow
from features.compiled import equals
from features.compiled_groups import own_plays, own_songs, steps_of_sound
from features.dayparts import DAYPARTS
from features.pairs import (
    Column,
    Group,
    Pairs,
    among,
    audio_distance,
    daypart_at,
    known_codes,
    local_hour,
    missing,
    same_as_last,
    scalar,
    share_of,
    tag_match,
    where_known,
)
from features.params import SIGNALS
from features.state import nobody
from features.times import DAY_US

TEEN_AGE: Final = 16
OWN_HISTORY: Final = ("own_place", "own_days_since", *(f"own_{signal}" for signal in SIGNALS))
SOUND: Final = ("tempo_step", "energy_step", "valence_step", "audio_from_session")
UNKNOWN: Final = np.float32(np.nan)


def session_state(pairs: Pairs) -> Group:
    """Say where the session stands; the same for every candidate."""
    state = pairs.state
    weekday, hour = local_hour(pairs.row, state.ts_us)
    n = len(state.course)
    shares = pairs.row.get(UserRow.DAYPART_SHARES)
    usual = (
        shares[daypart_at(pairs.row, state.ts_us)]
        if shares is not None and len(shares) == DAYPARTS
        else np.nan
    )
    return {
        "prefix_length": n,
        "session_skip_share": np.count_nonzero(state.skipped) / n if n else np.nan,
        "session_distinct_share": len(set(state.course.tolist())) / n if n else np.nan,
        "session_artist_run": _run_length(pairs.session_codes[Song.ARTISTS]),
        "weekday": weekday,
        "hour": hour,
        "daypart_share": usual,
    }


def listener_state(pairs: Pairs) -> Group:
    """Describe the listener who asks; the same for every candidate."""
    last = pairs.row.get(UserRow.LAST_PLAY_TS)
    away = np.nan if missing(last) else (pairs.state.ts_us - last.timestamp() * 1e6) / DAY_US
    return {
        "history_length": len(pairs.state.history),
        "days_away": away,
        **{
            f"listener_{name}": scalar(pairs, name)
            for name in (
                UserRow.REPEAT_SHARE,
                UserRow.SKIP_SHARE,
                UserRow.LIKE_SHARE,
                UserRow.MEAN_SESSION_PLAYS,
            )
        },
    }


def own_history(pairs: Pairs) -> Group:
    """Say what this listener did with this very song before the session."""
    state = pairs.state
    if not len(state.history):
        return dict.fromkeys(OWN_HISTORY)
    values = tuple(state.history_values[signal] for signal in SIGNALS)
    last_us = state.history_last_us
    found = own_songs(state.history, last_us, values, pairs.candidates, state.ts_us)
    return dict(zip(OWN_HISTORY, found, strict=True))


def own_session(pairs: Pairs) -> Group:
    """Say what this listener did with this very song in the running session."""
    state = pairs.state
    plays, ago, skipped = own_plays(state.session, state.skipped, state.radio, pairs.candidates)
    return {"session_plays": plays, "session_places_ago": ago, "session_skipped": skipped}


def artists(pairs: Pairs) -> Group:
    """How the candidate's artist and album stand to the listener and the session."""
    codes = pairs.songs.codes
    artist, album = pairs.code(Song.ARTISTS), pairs.code(Song.ALBUM)
    session_artists = pairs.session_codes[Song.ARTISTS]
    session_albums = pairs.session_codes[Song.ALBUM]
    favourites = pairs.row.get(User.FAVOURITE_ARTISTS)
    named = codes[Song.ARTISTS].code_of
    # An empty list is the store's word for "not known".
    favoured = (
        None
        if favourites is None or len(favourites) == 0
        else where_known(artist, among(artist, known_codes(named, favourites)))
    )
    return {
        "artist_share": pairs.share(Song.ARTISTS, UserRow.ARTIST_KEYS, UserRow.ARTIST_SHARES),
        "artist_favourite": favoured,
        "artist_session_share": share_of(artist, session_artists),
        "artist_same_as_last": same_as_last(artist, session_artists),
        "album_session_share": share_of(album, session_albums),
        "album_same_as_last": same_as_last(album, session_albums),
    }


def tastes(pairs: Pairs) -> Group:
    """How the candidate fits the listener's language, region, era, genre and mood shares."""
    languages = pairs.row.get(User.LANGUAGES)
    known = pairs.songs.codes[Song.LANGUAGE].code_of
    language = pairs.code(Song.LANGUAGE)
    speaks = (
        None
        if languages is None or len(languages) == 0
        else where_known(language, among(language, known_codes(known, languages)))
    )
    region = pairs.songs.codes[Song.REGION].code(str(pairs.row.get(User.REGION)))
    return {
        "language_spoken": speaks,
        "language_share": pairs.share(
            Song.LANGUAGE, UserRow.LANGUAGE_KEYS, UserRow.LANGUAGE_SHARES
        ),
        "region_home": None if region == ABSENT else equals(pairs.code(Song.REGION), region),
        "region_share": pairs.share(Song.REGION, UserRow.REGION_KEYS, UserRow.REGION_SHARES),
        "era_share": pairs.share("era", UserRow.ERA_KEYS, UserRow.ERA_SHARES),
        "genre_share": pairs.share(Song.GENRES, UserRow.GENRE_KEYS, UserRow.GENRE_SHARES),
        "audio_from_usual": audio_distance(pairs, pairs.row.get(UserRow.AUDIO_MEANS)),
    }


def nostalgia(pairs: Pairs) -> Group:
    """How far the song's year lies from the listener's teens, and from the session's years."""
    year = pairs.number(Song.RELEASE_YEAR)
    from_teens = year - (scalar(pairs, User.BIRTH_YEAR) + TEEN_AGE)
    usual = pairs.session_means[pairs.songs.number_places[Song.RELEASE_YEAR]]
    return {
        "years_from_teens": from_teens,
        "years_from_teens_abs": np.abs(from_teens),
        "years_from_session": np.abs(year - usual),
    }


def flow(pairs: Pairs) -> Group:
    """How the song follows the last one: sound, genre, language."""
    steps = dict.fromkeys(SOUND)
    if len(pairs.state.course):
        first = len(pairs.songs.number_places)
        last, centre = pairs.session_numbers[first:, -1], pairs.session_means[first:]
        steps = dict(zip(SOUND, steps_of_sound(pairs.audio, last, centre), strict=True))
    return {
        **steps,
        "genre_session_share": share_of(pairs.code(Song.GENRES), pairs.session_codes[Song.GENRES]),
        "language_session_share": share_of(
            pairs.code(Song.LANGUAGE), pairs.session_codes[Song.LANGUAGE]
        ),
    }


def context_match(pairs: Pairs) -> Group:
    """Whether the song carries the tag, language, era or region that the request names."""
    context = pairs.state.query.context
    asked = {"language": Song.LANGUAGE, "era": "era", "region": Song.REGION}
    return {
        "occasion_match": tag_match(pairs, Song.OCCASIONS, context.get("occasion")),
        "mood_match": tag_match(pairs, Song.MOODS, context.get("mood")),
        **{
            f"asked_{key}_match": None
            if missing(context.get(key))
            else equals(pairs.code(name), pairs.songs.codes[name].code(str(context[key])))
            for key, name in asked.items()
        },
    }


def song_standing(pairs: Pairs) -> Group:
    """How the song stands by itself and among listeners like this one."""
    return {
        "popularity_percentile": pairs.number(SongRow.POPULARITY_PERCENTILE),
        "trend": pairs.number(SongRow.TREND),
        "song_skip_share": pairs.number(SongRow.SKIP_SHARE),
        "song_like_share": pairs.number(SongRow.LIKE_SHARE),
        "age_days": pairs.number(SongRow.AGE_DAYS),
        "duration_ms": pairs.number(Song.DURATION_MS),
        "plays_per_listener": pairs.number(SongRow.PLAYS)
        / np.maximum(pairs.number(SongRow.LISTENERS), 1),
        "popularity_in_region": _local(
            pairs, pairs.songs.region_popularity, pairs.songs.listener_regions, User.REGION
        ),
    }


GROUPS: Final[tuple[Callable[[Pairs], Group], ...]] = (
    session_state,
    listener_state,
    own_history,
    own_session,
    artists,
    tastes,
    nostalgia,
    flow,
    context_match,
    song_standing,
)


def pair_columns(pairs: Pairs) -> Group:
    """Return all groups: by name a value a candidate, one for all of them, or None: not known."""
    columns: Group = {}
    for group in GROUPS:
        columns.update(group(pairs))
    return columns


def fill(rows: FloatArray, columns: Iterable[Any]) -> None:
    """Write columns into the rows of a matrix, NaN for those that are not known."""
    # By number: going through the rows would make an object of each.
    for row, values in enumerate(columns):
        rows[row] = UNKNOWN if values is None else values


def pair_names(songs: Catalogue) -> tuple[str, ...]:
    """Return the names of what `pair_columns` returns."""
    return tuple(pair_columns(Pairs(nobody(songs), songs, np.empty(0, dtype=np.int32))))


def _local(pairs: Pairs, popularity: FloatArray, columns: dict[str, int], name: str) -> Column:
    column = columns.get(str(pairs.row.get(name)))
    if column is None:
        return None
    return np.log1p(popularity[pairs.candidates, column]).astype(np.float32)


def _run_length(codes: IntArray) -> float:
    """Return how many of the last songs in a row share the last one's code."""
    if len(codes) == 0 or codes[-1] < 0:
        return np.nan
    different = np.flatnonzero(codes != codes[-1])
    return float(len(codes) - 1 - different[-1]) if len(different) else float(len(codes))
