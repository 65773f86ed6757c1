"""What Feast knows: entities, feature views over `features.snapshots`' files, and one service."""

from datetime import timedelta

from feast import Entity, FeatureService, FeatureView, Field, FileSource, ValueType
from feast.types import Array, FeastType, Float32, Float64, Int64, String, UnixTimestamp

from features.columns import FEATURE_SERVICE, Song, SongRow, User, UserRow
from features.paths import data_dir

STRINGS, FLOATS, INTEGERS = Array(String), Array(Float32), Array(Int64)


def view(name: str, entity: Entity, types: dict[str, FeastType]) -> FeatureView:
    """Return a view over `<name>.parquet`; no ttl, so the latest snapshot always holds."""
    path = data_dir() / "features" / f"{name}.parquet"
    return FeatureView(
        name=name,
        entities=[entity],
        ttl=timedelta(0),
        schema=[Field(name=column, dtype=kind) for column, kind in types.items()],
        source=FileSource(name=name, path=str(path), timestamp_field=UserRow.TS),
    )


user = Entity(name="user", join_keys=[User.ID], value_type=ValueType.STRING)
song = Entity(name="song", join_keys=[Song.ID], value_type=ValueType.STRING)

user_profile = view(
    "user_profile",
    user,
    {
        User.SIGNUP_TS: UnixTimestamp,
        User.BIRTH_YEAR: Int64,
        User.COUNTRY: String,
        User.REGION: String,
        User.UTC_OFFSET: Int64,
        User.LANGUAGES: STRINGS,
        User.FAVOURITE_ARTISTS: STRINGS,
    },
)
user_activity = view(
    "user_activity",
    user,
    {
        UserRow.PLAYS: Int64,
        UserRow.SESSIONS: Int64,
        UserRow.ACTIVE_DAYS: Int64,
        UserRow.DISTINCT_SONGS: Int64,
        UserRow.REPEAT_SHARE: Float64,
        UserRow.SKIP_SHARE: Float64,
        UserRow.LIKE_SHARE: Float64,
        UserRow.MEAN_SESSION_PLAYS: Float64,
        UserRow.LAST_PLAY_TS: UnixTimestamp,
    },
)
user_tastes = view(
    "user_tastes",
    user,
    {name: STRINGS if name.endswith("_keys") else FLOATS for name in UserRow.TASTES},
)
user_history = view(
    "user_history",
    user,
    {
        UserRow.HISTORY_SONGS: STRINGS,
        UserRow.HISTORY_LAST_TS: INTEGERS,
        UserRow.HISTORY_PLAYS: INTEGERS,
        UserRow.HISTORY_LIKE: FLOATS,
        UserRow.HISTORY_PLAYLIST: FLOATS,
        UserRow.HISTORY_SKIP: FLOATS,
        UserRow.HISTORY_LISTEN: FLOATS,
    },
)
song_profile = view(
    "song_profile",
    song,
    {
        Song.TITLE: String,
        Song.ARTISTS: STRINGS,
        Song.BAND: String,
        Song.COMPOSER: String,
        Song.ALBUM: String,
        Song.RELEASE_YEAR: Int64,
        Song.RELEASED_TS: UnixTimestamp,
        Song.LANGUAGE: String,
        Song.REGION: String,
        Song.GENRES: STRINGS,
        Song.DURATION_MS: Int64,
        **dict.fromkeys(Song.AUDIO, Float64),
        Song.MOODS: STRINGS,
        Song.OCCASIONS: STRINGS,
    },
)
song_stats = view(
    "song_stats",
    song,
    {
        SongRow.PLAYS: Int64,
        SongRow.LISTENERS: Int64,
        SongRow.POPULARITY: Float64,
        SongRow.POPULARITY_PERCENTILE: Float64,
        SongRow.TREND: Float64,
        SongRow.SKIP_SHARE: Float64,
        SongRow.LIKE_SHARE: Float64,
        SongRow.AGE_DAYS: Float64,
        SongRow.FIRST_SEEN_TS: UnixTimestamp,
        SongRow.REGION_KEYS: STRINGS,
        SongRow.REGION_POPULARITY: FLOATS,
        SongRow.LANGUAGE_KEYS: STRINGS,
        SongRow.LANGUAGE_POPULARITY: FLOATS,
    },
)

ranker = FeatureService(
    name=FEATURE_SERVICE,
    features=[user_profile, user_activity, user_tastes, user_history, song_profile, song_stats],
)
