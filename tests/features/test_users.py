from datetime import UTC, datetime, timedelta

import ibis
import numpy as np
import pytest

from features.columns import User, UserRow
from features.users import activity, dayparts, history, local_daypart, tastes, user_rows
from tests.features import naive, worlds

pytestmark = pytest.mark.filterwarnings("ignore:fetch_arrow_table:DeprecationWarning")

PARAMS = worlds.small_params()
NOW = datetime(2024, 3, 1, tzinfo=UTC)


def rows_of(events, users, songs, as_of=NOW, params=PARAMS):
    tables = (ibis.memtable(part) for part in worlds.tables(events, users, songs))
    found = user_rows(*tables, as_of, params).order_by(User.ID).to_pyarrow()
    return {row[User.ID]: row for row in found.to_pylist()}


def only(function, *inputs, as_of=NOW):
    """Return the one row of a part of the features, the listener's own."""
    tables = {
        name: ibis.memtable(table)
        for name, table in zip(("events", "users", "songs"), worlds.tables(*inputs), strict=True)
    }
    needs = {
        activity: ("events", "users", "songs"),
        dayparts: ("events", "users"),
        history: ("events", "songs"),
        tastes: ("events", "songs"),
    }[function]
    settings = PARAMS if function is history else PARAMS.features
    found = function(*(tables[name] for name in needs), as_of, settings).to_pyarrow().to_pylist()
    return next(row for row in found if row[User.ID] == "u")


def event(action, song, days, **more):
    """One event of listener u, `days` before NOW."""
    ts = NOW - timedelta(days=days)
    return {"ts": ts, "user_id": "u", "song_id": song, "action": action, **more}


def user(**more):
    return {**dict.fromkeys(worlds.USERS.names), "user_id": "u", **more}


def song(name, **more):
    return {**dict.fromkeys(worlds.SONGS.names), "song_id": name, **more}


@pytest.mark.parametrize(("seed", "day"), [(0, 0), (1, 30), (2, 52)])
def test_every_feature_equals_a_loop_over_the_events(seed, day):
    events, users, songs = worlds.random_world(seed)
    world = naive.World(events, users, songs, PARAMS)
    as_of = worlds.START + timedelta(days=day, hours=5)
    got = rows_of(events, users, songs, as_of)
    expected = {f"u{n}": world.user_row(f"u{n}", as_of) for n in range(len(users) + 2)}
    assert set(got) == {name for name, row in expected.items() if row}
    for name, row in got.items():
        naive.assert_same(row, expected[name])


def test_columns_are_the_declared_ones():
    row = rows_of([event("play", "s1", 1)], [], [])["u"]
    assert set(row) == {*User.ORDER, *UserRow.ACTIVITY, *UserRow.TASTES, *UserRow.HISTORY}


def test_later_events_change_nothing():
    events, users, songs = worlds.random_world(4)
    as_of = worlds.START + timedelta(days=25)
    past = [one for one in events if one["ts"] < as_of]
    planted = [{**one, "ts": as_of, "action": "unlike"} for one in past]
    without = rows_of(past, users, songs, as_of)
    with_later = rows_of([*planted, *events], users, songs, as_of)
    assert len(past) < len(events)
    assert set(with_later) == set(without)
    for name, row in without.items():
        naive.assert_same(with_later[name], row)


def test_only_an_event_before_the_moment_counts():
    as_of = NOW - timedelta(microseconds=1)
    seen, unseen = event("play", "s1", 0), event("play", "s2", 0)
    seen["ts"], unseen["ts"] = as_of - timedelta(microseconds=1), as_of
    assert only(history, [seen, unseen], [], [], as_of=as_of)["history_songs"] == ["s1"]


def test_a_listener_known_only_by_sign_up_has_a_profile_and_nothing_else():
    signed = user(signup_ts=NOW, region="north", languages=["hi"])
    row = rows_of([event("like", "s1", 1, user_id="other")], [signed], [])["u"]
    assert (row["region"], row["languages"]) == ("north", ["hi"])
    assert {row[name] for name in UserRow.ACTIVITY} == {None}
    assert all(row[name] == [] for name in (*UserRow.TASTES, *UserRow.HISTORY))


def test_a_listener_who_signs_up_later_is_not_there_yet():
    assert rows_of([], [user(signup_ts=NOW + timedelta(microseconds=1))], []) == {}


def test_absent_signals_are_absent_not_zero():
    row = rows_of([event("play", "s1", 1, played_ms=60_000)], [user()], [song("s1")])["u"]
    assert row["skip_share"] is None
    assert row["like_share"] is None
    assert [row[f"history_{name}"] for name in ("like", "playlist", "skip")] == [[], [], []]
    # A quarter of four minutes, one day old, at the listen signal's half-life of 5 days.
    assert row["history_listen"] == pytest.approx([0.25 * 0.5**0.2])


def test_where_others_like_a_listener_who_does_not_has_zeros():
    events = [event("play", "s1", 1), event("like", "s1", 1, user_id="other")]
    assert only(activity, events, [], [])["like_share"] == 0.0
    assert only(history, events, [], [])["history_like"] == [0.0]


def test_shares_are_weighted_by_recency():
    # One half-life apart, and heard whole: weights 1/2 and 1/4, so two thirds to one third.
    events = [event("play", "s1", 7), event("play", "s2", 14)]
    songs = [song("s1", artists=["a", "b"], release_year=1999), song("s2", artists=["a"])]
    row = only(tastes, events, [], songs)
    assert row["artist_keys"] == ["a", "b"]
    assert row["artist_shares"] == pytest.approx([2 / 3, 1 / 3], abs=1e-6)
    assert (row["era_keys"], row["era_shares"]) == (["1990"], [1.0])


def test_daypart_is_the_listeners_own():
    # NOW is a Friday, 00:00 UTC: the day before at 23:00 UTC is Friday 04:30 in India.
    events = [event("play", "s1", 1 / 24)]
    for offset, place in ((None, 3 * 4 + 3), (330, 4 * 4 + 0)):
        row = only(dayparts, events, [user(utc_offset_minutes=offset)], [])
        assert row["daypart_shares"] == [float(part == place) for part in range(28)]


def test_daypart_agrees_with_the_calendar():
    rng = np.random.default_rng(0)
    seconds, offsets = rng.integers(0, 2_000_000_000, 300), rng.integers(-720, 841, 300)
    local = [
        datetime.fromtimestamp(int(second), UTC) + timedelta(minutes=int(offset))
        for second, offset in zip(seconds, offsets, strict=True)
    ]
    expected = [moment.weekday() * 4 + moment.hour // 6 for moment in local]
    assert local_daypart(seconds, offsets).tolist() == expected


def test_old_songs_still_liked_keep_a_quarter_of_the_places():
    # Twelve places; s20 down to s1, s20 the latest; of the oldest, five stand liked or added.
    plays = [event("play", f"s{number}", 21 - number) for number in range(2, 21)]
    set_now = [event("like", f"s{number}", 21 - number) for number in (3, 4, 5, 6)]
    gone = [event("like", "s7", 14), event("unlike", "s7", 13)]
    row = only(history, [*plays, *set_now, *gone, event("playlist_add", "s2", 19)], [], [])
    latest = [f"s{number}" for number in range(20, 11, -1)]
    assert row["history_songs"] == [*latest, "s6", "s5", "s4"]
    assert [value > 0 for value in row["history_like"]] == [False] * 9 + [True] * 3


def test_without_old_likes_the_history_is_simply_the_latest():
    plays = [event("play", f"s{number}", 21 - number) for number in range(2, 21)]
    row = only(history, [*plays, event("play", "s20", 0.5), event("like", "s20", 0.5)], [], [])
    assert row["history_songs"] == [f"s{number}" for number in range(20, 8, -1)]
    assert row["history_plays"] == [2] + [1] * 11
    assert row["history_last_ts"][0] == int((NOW - timedelta(hours=12)).timestamp())
