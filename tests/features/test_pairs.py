from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from features.columns import SongRow, User, UserRow
from features.pair_groups import fill, pair_columns, pair_names
from features.pairs import Pairs, find, local_hour, share_of
from features.query import Query, SessionEvent
from features.state import resolve
from tests.features import small

# A Tuesday.
NOW = datetime(2024, 3, 5, 13, 30, tzinfo=UTC)
SONGS = small.songs(
    {
        "song_id": "a",
        "artists": ["Ann"],
        "album": "One",
        "language": "hi",
        "region": "south",
        "release_year": 1996,
        "genres": ["pop"],
        "duration_ms": 200_000,
        "tempo": 100,
        "energy": 0.2,
        "valence": 0.5,
        "danceability": 0.5,
        "acousticness": 0.5,
        "moods": ["calm"],
        "occasions": ["party", "diwali"],
        SongRow.PLAYS: 30,
        SongRow.LISTENERS: 10,
        SongRow.TREND: 0.25,
        SongRow.POPULARITY_PERCENTILE: 0.9,
        SongRow.REGION_KEYS: ["south"],
        SongRow.REGION_POPULARITY: [7.0],
    },
    {
        "song_id": "b",
        "artists": ["Ann"],
        "album": "Two",
        "language": "en",
        "region": "north",
        "release_year": 2010,
        "genres": ["rock"],
        "duration_ms": 100_000,
        "tempo": 120,
        "energy": 0.6,
        "valence": 0.5,
        "danceability": 0.5,
        "acousticness": 0.5,
        "occasions": ["workout"],
        SongRow.PLAYS: 4,
        SongRow.LISTENERS: 4,
    },
    # Nothing at all is known of `c`.
    {"song_id": "c"},
    {"song_id": "d", "artists": ["Dan"], "album": "Two", "language": "en", "genres": ["rock"]},
)
ALL = ["a", "b", "c", "d"]
USER = {
    "user_id": "u",
    "birth_year": 1980,
    "region": "south",
    "utc_offset_minutes": 330,
    "languages": ["hi", "xx"],
    "favourite_artists": ["Dan", "Nobody"],
    "plays": 40,
    "repeat_share": 0.5,
    "last_play_ts": pd.Timestamp(NOW - timedelta(hours=36)),
    "artist_keys": ["Ann", "Gone"],
    "artist_shares": [0.75, 0.25],
    "era_keys": ["1990"],
    "era_shares": [1.0],
    "language_keys": ["hi"],
    "language_shares": [0.6],
    "region_keys": [],
    "region_shares": [],
    "daypart_shares": np.arange(28) / 100,
    "history_songs": ["b", "a"],
    "history_last_ts": [
        int((NOW - timedelta(days=2)).timestamp()),
        int((NOW - timedelta(days=9)).timestamp()),
    ],
    "history_like": [0.0, 0.5],
    "history_listen": [2.0, 1.0],
}


def table(*, session=(), user=None, context=None, candidates=ALL):
    """Return {feature: {song: value}} with `None` where it is not known."""
    query = Query(ts=NOW, user=user or {}, session=session, context=context or {})
    state = resolve(query, SONGS)
    columns = pair_columns(Pairs(state, SONGS, SONGS.indices(candidates)))
    values = np.empty((len(columns), len(candidates)), np.float32)
    fill(values, columns.values())
    return {
        name: {
            song: None if np.isnan(v) else float(v)
            for song, v in zip(candidates, column, strict=True)
        }
        for name, column in zip(columns, values, strict=True)
    }


def heard(*songs, skipped=()):
    return tuple(
        SessionEvent(song, "skip" if song in skipped else "play", 50_000) for song in songs
    )


def of(values, *expected):
    return values == {
        song: None if value is None else pytest.approx(value, rel=1e-5)
        for song, value in zip(ALL, expected, strict=True)
    }


@pytest.mark.parametrize(
    ("utc", "offset", "expected"),
    [
        ("2024-03-05T13:30", None, (1, 13)),
        ("2024-03-05T13:30", np.nan, (1, 13)),
        ("2024-03-05T18:29", 330, (1, 23)),
        ("2024-03-05T18:30", 330, (2, 0)),
        ("2024-03-10T23:59", 1, (0, 0)),
        ("2024-03-04T07:59", -480, (6, 23)),
        ("2024-03-04T08:00", -480, (0, 0)),
        ("1969-12-31T23:00", 0, (2, 23)),
        ("1970-01-01T00:00", -60, (2, 23)),
    ],
)
def test_local_hours_pass_midnight_and_the_end_of_the_week(utc, offset, expected):
    moment = datetime.fromisoformat(utc).replace(tzinfo=UTC)
    row = {"utc_offset_minutes": offset}
    assert local_hour(row, int(moment.timestamp()) * 1_000_000) == expected


def test_local_hours_agree_with_the_calendar():
    random = np.random.default_rng(0)
    for seconds, offset in random.integers([0, -720], [2_000_000_000, 841], size=(200, 2)):
        local = datetime.fromtimestamp(int(seconds), UTC) + timedelta(minutes=int(offset))
        found = local_hour({"utc_offset_minutes": int(offset)}, int(seconds) * 1_000_000)
        assert found == (local.weekday(), local.hour)


def test_daypart_share_is_of_the_local_weekday_and_six_hours():
    # Tuesday 13:30 UTC is Tuesday 19:00 in India: weekday 1, the fourth block.
    found = table(user=USER)
    assert of(found["daypart_share"], *[0.07] * 4)
    assert of(found["weekday"], 1, 1, 1, 1)
    assert of(found["hour"], 19, 19, 19, 19)


def test_own_history_is_known_only_of_songs_in_it():
    found = table(user=USER)
    assert of(found["own_place"], 1, 0, None, None)
    assert of(found["own_days_since"], 9, 2, None, None)
    assert of(found["own_like"], 0.5, 0, None, None)
    assert of(found["own_listen"], 1, 2, None, None)
    assert of(found["history_length"], 2, 2, 2, 2)
    assert of(found["days_away"], *[1.5] * 4)


def test_own_session_counts_plays_and_places():
    found = table(session=heard("a", "b", "a", "d", skipped=("d",)))
    assert of(found["session_plays"], 2, 1, 0, 1)
    assert of(found["session_places_ago"], 2, 3, None, 1)
    assert of(found["session_skipped"], 0, 0, 0, 1)
    assert of(found["prefix_length"], *[4] * 4)
    assert of(found["session_skip_share"], *[0.25] * 4)
    assert of(found["session_distinct_share"], *[0.75] * 4)


def test_artists_and_albums_of_the_session():
    found = table(session=heard("a", "d", "b"), user=USER)
    assert of(found["artist_session_share"], 2 / 3, 2 / 3, None, 1 / 3)
    assert of(found["album_session_share"], 1 / 3, 2 / 3, None, 2 / 3)
    assert of(found["artist_share"], 0.75, 0.75, None, 0)
    assert of(found["session_artist_run"], 1, 1, 1, 1)
    run = table(session=heard("d", "a", "b"))["session_artist_run"]
    assert of(run, 2, 2, 2, 2)


def test_favourites_and_the_same_artist_or_album_as_the_last():
    found = table(session=heard("b"), user=USER)
    assert of(found["artist_favourite"], 0, 0, None, 1)
    assert of(found["artist_same_as_last"], 1, 1, None, 0)
    assert of(found["album_same_as_last"], 0, 1, None, 1)


def test_tastes_are_shares_and_unknown_where_song_or_listener_is():
    found = table(user=USER)
    assert of(found["language_share"], 0.6, 0, None, 0)
    assert of(found["region_share"], None, None, None, None)
    assert of(found["era_share"], 1, 0, None, None)
    assert of(found["genre_share"], None, None, None, None)
    assert of(found["language_spoken"], 1, 0, None, 0)
    assert of(found["region_home"], 1, 0, None, None)


def test_nostalgia_counts_years_from_sixteen_and_from_the_session():
    found = table(user=USER, session=heard("b", "c"))
    assert of(found["years_from_teens"], 0, 14, None, None)
    assert of(found["years_from_teens_abs"], 0, 14, None, None)
    assert of(found["years_from_session"], 14, 0, None, None)
    assert of(table()["years_from_teens"], None, None, None, None)


def test_flow_is_the_step_from_the_last_song_in_spreads():
    found = table(session=heard("a"))
    # Tempo 100 and 120 lie one spread of 10 on either side of 110.
    assert of(found["tempo_step"], 0, 2, None, None)
    assert of(found["energy_step"], 0, 2, None, None)
    assert of(found["valence_step"], 0, 0, None, None)
    assert of(found["audio_from_session"], 0, 8**0.5, None, None)
    assert of(found["genre_session_share"], 1, 0, None, 0)


def test_the_usual_sound_is_standardised_like_the_songs():
    user = {"audio_means": [100, 0.4, 0.5, 0.5, 0.5]}
    assert of(table(user=user)["audio_from_usual"], 1, 5**0.5, None, None)


def test_the_sound_of_a_session_is_that_of_its_known_songs():
    alone, beside = table(session=heard("a")), table(session=heard("a", "d"))
    assert beside["audio_from_session"] == alone["audio_from_session"]
    assert of(table(session=heard("d"))["audio_from_session"], None, None, None, None)


def test_a_match_needs_a_tagged_song_and_a_question():
    found = table(context={"occasion": "party", "mood": "calm", "language": "en", "era": "1990"})
    assert of(found["occasion_match"], 1, 0, None, None)
    assert of(found["mood_match"], 1, None, None, None)
    assert of(found["asked_language_match"], 0, 1, None, 1)
    assert of(found["asked_era_match"], 1, 0, None, None)
    assert of(found["asked_region_match"], None, None, None, None)
    assert of(table(context={"occasion": "funeral"})["occasion_match"], 0, 0, None, None)
    assert of(table(context={"occasion": None})["occasion_match"], None, None, None, None)


def test_the_songs_own_standing():
    found = table(user=USER)
    assert of(found["plays_per_listener"], 3, 1, None, None)
    assert of(found["trend"], 0.25, None, None, None)
    assert found["popularity_in_region"]["a"] == pytest.approx(np.log(8))


LISTENERS_WORD = {
    "daypart_share",
    "days_away",
    "artist_share",
    "artist_favourite",
    "language_spoken",
    "language_share",
    "region_home",
    "region_share",
    "era_share",
    "genre_share",
    "audio_from_usual",
    "years_from_teens",
    "own_place",
    "own_like",
    "own_skip",
    "own_days_since",
    "popularity_in_region",
    "listener_skip_share",
    "listener_like_share",
    "session_skip_share",
    "session_artist_run",
    "artist_session_share",
    "artist_same_as_last",
    "tempo_step",
    "audio_from_session",
    "years_from_session",
    "occasion_match",
    "mood_match",
}


@pytest.mark.parametrize("feature", sorted(LISTENERS_WORD))
def test_what_an_unknown_listener_never_said_is_not_known_never_zero(feature):
    assert of(table()[feature], None, None, None, None)


def test_who_has_no_row_is_as_one_whom_the_store_does_not_know():
    lists = (User.LANGUAGES, User.FAVOURITE_ARTISTS, *UserRow.TASTES, *UserRow.HISTORY)
    unknown = dict.fromkeys((*User.ORDER, *UserRow.ACTIVITY)) | {name: [] for name in lists}
    assert table(user=unknown) == table()


SONGS_WORD = {
    "artist_session_share",
    "artist_share",
    "artist_favourite",
    "artist_same_as_last",
    "album_session_share",
    "album_same_as_last",
    "language_spoken",
    "language_share",
    "region_home",
    "region_share",
    "era_share",
    "genre_session_share",
    "language_session_share",
    "tempo_step",
    "occasion_match",
    "asked_language_match",
    "asked_era_match",
    "asked_region_match",
    "plays_per_listener",
    "trend",
    "song_skip_share",
    "duration_ms",
}


@pytest.mark.parametrize("feature", sorted(SONGS_WORD))
def test_what_the_catalogue_does_not_say_of_a_song_is_not_known_never_zero(feature):
    context = {"occasion": "party", "language": "en", "era": "1990", "region": "north"}
    found = table(session=heard("a", "b"), user=USER, context=context)
    assert found[feature]["c"] is None


def test_names_are_the_same_for_everyone_and_unique():
    names = pair_names(SONGS)
    assert tuple(table(user=USER, session=heard("a"))) == names
    assert len(set(names)) == len(names)


def test_one_candidate_gives_the_same_row_alone_as_among_others():
    whole = table(user=USER, session=heard("a", "b"))
    alone = table(user=USER, session=heard("a", "b"), candidates=["b"])
    for name, values in alone.items():
        assert values["b"] == whole[name]["b"], name


def test_find_agrees_with_a_loop():
    random = np.random.default_rng(1)
    for _ in range(50):
        songs = random.integers(0, 6, random.integers(0, 8)).astype(np.int32)
        wanted = random.integers(0, 7, 5).astype(np.int32)
        first, times = find(songs, wanted)
        listed = songs.tolist()
        assert times.tolist() == [listed.count(song) for song in wanted]
        for song, place in zip(wanted, first, strict=True):
            assert song not in listed or listed.index(song) == place


def test_share_of_agrees_with_a_loop():
    random = np.random.default_rng(2)
    for _ in range(50):
        codes = random.integers(-1, 5, 6).astype(np.int32)
        session = random.integers(-1, 5, random.integers(0, 6)).astype(np.int32)
        expected = [
            np.nan if code < 0 or not len(session) else np.mean(session == code) for code in codes
        ]
        found = share_of(codes, session)
        # Of an empty session nothing is known.
        assert (found is None) == (not len(session))
        if found is not None:
            np.testing.assert_allclose(found, expected, rtol=1e-6)
