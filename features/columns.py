"""Every column name of the project, written once.

Ids are opaque strings at every edge; times are UTC with microseconds.
"""

from typing import Final, Literal, get_args

ActionName = Literal["play", "skip", "like", "unlike", "playlist_add", "playlist_remove", "dislike"]


class Event:
    """One action of one listener on one song at one moment."""

    ID: Final = "event_id"
    TS: Final = "ts"
    USER: Final = "user_id"
    SONG: Final = "song_id"
    SESSION: Final = "session_id"
    ACTION: Final = "action"
    PLAYED_MS: Final = "played_ms"
    SURFACE: Final = "surface"
    # Context, null where the source does not know it.
    OCCASION: Final = "occasion"
    MOOD: Final = "mood"
    ACTIVITY: Final = "activity"
    DEVICE: Final = "device"
    # Only on events that answer one of our recommendations.
    REQUEST: Final = "request_id"
    POSITION: Final = "position"
    PROPENSITY: Final = "propensity"
    VARIANT: Final = "variant"
    MODEL_VERSION: Final = "model_version"
    # When the event reached us, null where that was at once: before, nobody could know of it.
    RECEIVED: Final = "received_ts"

    CONTEXT: Final = (OCCASION, MOOD, ACTIVITY, DEVICE)
    ORDER: Final = (
        ID,
        TS,
        USER,
        SONG,
        SESSION,
        ACTION,
        PLAYED_MS,
        SURFACE,
        *CONTEXT,
        REQUEST,
        POSITION,
        PROPENSITY,
        VARIANT,
        MODEL_VERSION,
    )


class Action:
    """Values of `Event.ACTION`. A listening is one `play`, or one `skip` where it was cut short."""

    PLAY: Final = "play"
    SKIP: Final = "skip"
    LIKE: Final = "like"
    UNLIKE: Final = "unlike"
    PLAYLIST_ADD: Final = "playlist_add"
    PLAYLIST_REMOVE: Final = "playlist_remove"
    DISLIKE: Final = "dislike"

    LISTENINGS: Final = (PLAY, SKIP)
    # What brings a song into a listener's history.
    TOUCHES: Final = (*LISTENINGS, LIKE, PLAYLIST_ADD)
    ALL: Final[tuple[ActionName, ...]] = get_args(ActionName)
    # Signal -> the action that sets it, and those that cancel it.
    STATES: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
        "like": (LIKE, (UNLIKE, DISLIKE)),
        "playlist": (PLAYLIST_ADD, (PLAYLIST_REMOVE,)),
    }


class User:
    """A listener as signed up."""

    ID: Final = "user_id"
    SIGNUP_TS: Final = "signup_ts"
    BIRTH_YEAR: Final = "birth_year"
    COUNTRY: Final = "country"
    REGION: Final = "region"
    UTC_OFFSET: Final = "utc_offset_minutes"
    LANGUAGES: Final = "languages"
    FAVOURITE_ARTISTS: Final = "favourite_artists"

    ORDER: Final = (
        ID,
        SIGNUP_TS,
        BIRTH_YEAR,
        COUNTRY,
        REGION,
        UTC_OFFSET,
        LANGUAGES,
        FAVOURITE_ARTISTS,
    )


class Song:
    """A song as catalogued."""

    ID: Final = "song_id"
    TITLE: Final = "title"
    ARTISTS: Final = "artists"
    BAND: Final = "band"
    COMPOSER: Final = "composer"
    ALBUM: Final = "album"
    RELEASE_YEAR: Final = "release_year"
    RELEASED_TS: Final = "released_ts"
    LANGUAGE: Final = "language"
    REGION: Final = "region"
    GENRES: Final = "genres"
    DURATION_MS: Final = "duration_ms"
    TEMPO: Final = "tempo"
    ENERGY: Final = "energy"
    VALENCE: Final = "valence"
    DANCEABILITY: Final = "danceability"
    ACOUSTICNESS: Final = "acousticness"
    MOODS: Final = "moods"
    OCCASIONS: Final = "occasions"

    # Only where the source has them; null restricts nothing.
    EXPLICIT: Final = "explicit"
    REGIONS_AVAILABLE: Final = "regions_available"
    WITHDRAWN: Final = "withdrawn"

    AUDIO: Final = (TEMPO, ENERGY, VALENCE, DANCEABILITY, ACOUSTICNESS)
    RIGHTS: Final = (EXPLICIT, REGIONS_AVAILABLE, WITHDRAWN)
    ORDER: Final = (
        ID,
        TITLE,
        ARTISTS,
        BAND,
        COMPOSER,
        ALBUM,
        RELEASE_YEAR,
        RELEASED_TS,
        LANGUAGE,
        REGION,
        GENRES,
        DURATION_MS,
        *AUDIO,
        MOODS,
        OCCASIONS,
    )


class UserRow:
    """A listener's features as of a snapshot: what one Feast read returns.

    `*_keys` and `*_shares` are aligned lists, highest share first; shares sum to at most 1.
    `history_*` are aligned lists over the listener's latest distinct songs, latest first; a
    signal that the source does not have is an empty list.
    """

    TS: Final = "event_timestamp"
    # activity
    PLAYS: Final = "plays"
    SESSIONS: Final = "sessions"
    ACTIVE_DAYS: Final = "active_days"
    DISTINCT_SONGS: Final = "distinct_songs"
    REPEAT_SHARE: Final = "repeat_share"
    SKIP_SHARE: Final = "skip_share"
    LIKE_SHARE: Final = "like_share"
    MEAN_SESSION_PLAYS: Final = "mean_session_plays"
    LAST_PLAY_TS: Final = "last_play_ts"
    # tastes
    ARTIST_KEYS: Final = "artist_keys"
    ARTIST_SHARES: Final = "artist_shares"
    ERA_KEYS: Final = "era_keys"
    ERA_SHARES: Final = "era_shares"
    LANGUAGE_KEYS: Final = "language_keys"
    LANGUAGE_SHARES: Final = "language_shares"
    REGION_KEYS: Final = "region_keys"
    REGION_SHARES: Final = "region_shares"
    GENRE_KEYS: Final = "genre_keys"
    GENRE_SHARES: Final = "genre_shares"
    MOOD_KEYS: Final = "mood_keys"
    MOOD_SHARES: Final = "mood_shares"
    DAYPART_SHARES: Final = "daypart_shares"
    AUDIO_MEANS: Final = "audio_means"
    # history
    HISTORY_SONGS: Final = "history_songs"
    HISTORY_LAST_TS: Final = "history_last_ts"
    HISTORY_PLAYS: Final = "history_plays"
    HISTORY_LIKE: Final = "history_like"
    HISTORY_PLAYLIST: Final = "history_playlist"
    HISTORY_SKIP: Final = "history_skip"
    HISTORY_LISTEN: Final = "history_listen"
    # Signal -> its values by song of the history.
    HISTORY_VALUES: Final[dict[str, str]] = {
        "like": HISTORY_LIKE,
        "playlist": HISTORY_PLAYLIST,
        "skip": HISTORY_SKIP,
        "listen": HISTORY_LISTEN,
    }

    ACTIVITY: Final = (
        PLAYS,
        SESSIONS,
        ACTIVE_DAYS,
        DISTINCT_SONGS,
        REPEAT_SHARE,
        SKIP_SHARE,
        LIKE_SHARE,
        MEAN_SESSION_PLAYS,
        LAST_PLAY_TS,
    )
    TASTES: Final = (
        ARTIST_KEYS,
        ARTIST_SHARES,
        ERA_KEYS,
        ERA_SHARES,
        LANGUAGE_KEYS,
        LANGUAGE_SHARES,
        REGION_KEYS,
        REGION_SHARES,
        GENRE_KEYS,
        GENRE_SHARES,
        MOOD_KEYS,
        MOOD_SHARES,
        DAYPART_SHARES,
        AUDIO_MEANS,
    )
    HISTORY: Final = (
        HISTORY_SONGS,
        HISTORY_LAST_TS,
        HISTORY_PLAYS,
        HISTORY_LIKE,
        HISTORY_PLAYLIST,
        HISTORY_SKIP,
        HISTORY_LISTEN,
    )


class SongRow:
    """A song's features as of a snapshot."""

    TS: Final = "event_timestamp"
    PLAYS: Final = "plays"
    LISTENERS: Final = "listeners"
    POPULARITY: Final = "popularity"
    POPULARITY_PERCENTILE: Final = "popularity_percentile"
    TREND: Final = "trend"
    SKIP_SHARE: Final = "skip_share"
    LIKE_SHARE: Final = "like_share"
    AGE_DAYS: Final = "age_days"
    FIRST_SEEN_TS: Final = "first_seen_ts"
    REGION_KEYS: Final = "listener_region_keys"
    REGION_POPULARITY: Final = "listener_region_popularity"
    LANGUAGE_KEYS: Final = "listener_language_keys"
    LANGUAGE_POPULARITY: Final = "listener_language_popularity"

    STATS: Final = (
        PLAYS,
        LISTENERS,
        POPULARITY,
        POPULARITY_PERCENTILE,
        TREND,
        SKIP_SHARE,
        LIKE_SHARE,
        AGE_DAYS,
        FIRST_SEEN_TS,
        REGION_KEYS,
        REGION_POPULARITY,
        LANGUAGE_KEYS,
        LANGUAGE_POPULARITY,
    )


# Feature view -> its features; the same names are its Parquet file's columns.
USER_VIEWS: Final[dict[str, tuple[str, ...]]] = {
    "user_profile": tuple(name for name in User.ORDER if name != User.ID),
    "user_activity": UserRow.ACTIVITY,
    "user_tastes": UserRow.TASTES,
    "user_history": UserRow.HISTORY,
}
SONG_VIEWS: Final[dict[str, tuple[str, ...]]] = {
    "song_profile": tuple(name for name in Song.ORDER if name != Song.ID),
    "song_stats": SongRow.STATS,
}
# What the store's FeatureService of this generation of features is called.
FEATURE_SERVICE: Final = "ranker_v1"
