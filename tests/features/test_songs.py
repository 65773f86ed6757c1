from datetime import UTC, datetime, timedelta
from math import log2

import ibis
import pytest

from features.columns import Song, SongRow
from features.songs import song_rows
from tests.features import naive, worlds

pytestmark = pytest.mark.filterwarnings("ignore:fetch_arrow_table:DeprecationWarning")

PARAMS = worlds.small_params()
NOW = datetime(2024, 3, 1, tzinfo=UTC)


def rows_of(events, users, songs, as_of=NOW):
    tables = (ibis.memtable(part) for part in worlds.tables(events, users, songs))
    found = song_rows(*tables, as_of, PARAMS).to_pyarrow()
    return {row[Song.ID]: row for row in found.to_pylist()}


def event(action, song, days, user="u", **more):
    ts = NOW - timedelta(days=days)
    return {"ts": ts, "user_id": user, "song_id": song, "action": action, **more}


def song(name, **more):
    return {**dict.fromkeys(worlds.SONGS.names), "song_id": name, **more}


@pytest.mark.parametrize(("seed", "day"), [(0, 4), (1, 30), (2, 52)])
def test_every_feature_equals_a_loop_over_the_events(seed, day):
    events, users, songs = worlds.random_world(seed, events=1200)
    world = naive.World(events, users, songs, PARAMS)
    as_of = worlds.START + timedelta(days=day, hours=5)
    got = rows_of(events, users, songs, as_of)
    expected = {f"s{n}": world.song_row(f"s{n}", as_of) for n in range(len(songs) + 2)}
    assert set(got) == {name for name, row in expected.items() if row}
    for name, row in got.items():
        naive.assert_same(row, expected[name])


def test_columns_are_the_declared_ones():
    assert set(rows_of([], [], [song("s1")])["s1"]) == {*Song.ORDER, *SongRow.STATS}


def test_later_events_change_nothing():
    events, users, songs = worlds.random_world(5)
    as_of = worlds.START + timedelta(days=25)
    past = [one for one in events if one["ts"] < as_of]
    planted = [{**one, "ts": as_of, "action": "play"} for one in past]
    without = rows_of(past, users, songs, as_of)
    with_later = rows_of([*planted, *events], users, songs, as_of)
    assert len(past) < len(events)
    assert set(with_later) == set(without)
    for name, row in without.items():
        naive.assert_same(with_later[name], row)


def test_which_songs_are_present():
    later = NOW + timedelta(days=1)
    songs = [song("old", released_ts=NOW), song("dateless"), song("coming", released_ts=later)]
    assert set(rows_of([event("play", "uncatalogued", 1)], [], songs)) == {
        "old",
        "dateless",
        "uncatalogued",
    }
    assert "coming" in rows_of([event("play", "coming", 1)], [], songs)


def test_an_unplayed_song_counts_zero_and_its_shares_are_unknown():
    row = rows_of([event("skip", "s2", 1), event("like", "s2", 1)], [], [song("s1")])["s1"]
    assert [row[name] for name in ("plays", "listeners", "popularity")] == [0, 0, 0.0]
    unknown = ("trend", "skip_share", "like_share", "age_days", "first_seen_ts")
    assert {row[name] for name in unknown} == {None}
    assert row["listener_region_keys"] == []


def test_a_kind_of_event_that_comes_first_later_is_unknown_and_not_zero():
    played = [event("play", "s1", 2)]
    row = rows_of([*played, event("skip", "s2", -1), event("like", "s2", 0)], [], [])["s1"]
    assert (row["skip_share"], row["like_share"]) == (None, None)
    row = rows_of([*played, event("skip", "s2", 1), event("like", "s2", 1)], [], [])["s1"]
    assert (row["skip_share"], row["like_share"]) == (0, 0)


def test_shares_are_rounded_so_that_the_order_of_sums_is_none_of_theirs():
    events, users, songs = worlds.random_world(3)
    rows = rows_of(events, users, songs, worlds.START + timedelta(days=40))
    shares = [row[name] for row in rows.values() for name in ("skip_share", "like_share")]
    known = [share for share in shares if share is not None]
    assert any(0 < share < 1 for share in known)
    assert known == [round(share, 6) for share in known]


def test_songs_that_come_later_change_nothing():
    past = [event("play", f"s{n}", n + 1) for n in range(4) for _ in range(n + 1)]
    later = [event("play", f"new{n}", -n - 1) for n in range(9)]
    songs = [song(f"s{n}") for n in range(4)]
    without = rows_of(past, [], songs)
    # The lake gives each id of an event a row, whenever it comes.
    lake = [*songs, *(song(f"new{n}") for n in range(9))]
    found = rows_of([*past, *later], [], lake)
    assert {name: found[name] for name in without} == without
    assert [without[f"s{n}"]["popularity_percentile"] for n in range(4)] == [0, 1 / 3, 2 / 3, 1]


def test_popularity_halves_with_every_half_life_and_ranks_the_songs():
    events = [event("play", "s1", 7), event("play", "s2", 14), event("play", "s2", 14, user="v")]
    rows = rows_of(
        [*events, event("play", "s3", 7), event("play", "s3", 7)], [], [song("s4", released_ts=NOW)]
    )
    assert [rows[f"s{n}"]["popularity"] for n in (1, 2, 3, 4)] == [0.5, 0.5, 1.0, 0.0]
    percentiles = [rows[f"s{n}"]["popularity_percentile"] for n in (1, 2, 3, 4)]
    assert percentiles == pytest.approx([1 / 3, 1 / 3, 1.0, 0.0])
    assert [rows[f"s{n}"]["listeners"] for n in (1, 2, 3, 4)] == [1, 2, 1, 0]


def test_trend_compares_the_last_days_with_the_earlier_rate():
    # Five days of trend against the ten days before, from the first event at day 15:
    # one play in ten days foresees half a play in five; three came.
    plays = [event("play", "s1", days) for days in (1, 2, 5, 15)]
    rows = rows_of([*plays, event("play", "s2", 12)], [], [])
    assert rows["s1"]["trend"] == pytest.approx(log2((3 + 1) / (0.5 + 1)))
    assert rows["s2"]["trend"] == pytest.approx(log2((0 + 1) / (0.5 + 1)))


def test_without_an_earlier_time_there_is_no_trend():
    assert rows_of([event("play", "s1", 4)], [], [])["s1"]["trend"] is None


def test_the_earlier_rate_is_over_all_of_the_window_that_the_source_knows():
    """A gap in the data, or an event that is no listening, makes no song rarer or more frequent."""
    window = PARAMS.features.window_days
    plays = [event("play", "s1", days) for days in (1, 2, 5, 9)]
    for earliest in (event("play", "s3", 300), event("like", "s3", window + 1.0)):
        foreseen = 1 * 5 / (window - 5)
        row = rows_of([*plays, earliest], [], [])["s1"]
        assert row["trend"] == pytest.approx(log2((3 + 1) / (foreseen + 1)))
    # Ten days of an earlier time, though all listenings are of the last ones.
    row = rows_of([event("like", "s3", 15), *plays[:3]], [], [])["s1"]
    assert row["trend"] == pytest.approx(log2(4))


def test_popularity_by_region_and_by_language():
    users = [
        {"user_id": "u", "region": "north", "languages": ["hi", "en"]},
        {"user_id": "v", "region": "south", "languages": ["en"]},
    ]
    events = [event("play", "s1", 7), event("play", "s1", 14, user="v")]
    row = rows_of([*events, event("play", "s1", 1, user="stranger")], users, [])["s1"]
    assert row["listener_region_keys"] == ["north", "south"]
    assert row["listener_region_popularity"] == [0.5, 0.25]
    assert row["listener_language_keys"] == ["en", "hi"]
    assert row["listener_language_popularity"] == [0.5, 0.25]


def test_age_counts_from_release_or_else_from_the_first_event():
    songs = [song("s1", released_ts=NOW - timedelta(days=9)), song("s2")]
    rows = rows_of([event("like", "s1", 4), event("like", "s2", 4)], [], songs)
    assert [rows[name]["age_days"] for name in ("s1", "s2")] == [9.0, 4.0]
    assert rows["s1"]["first_seen_ts"] == NOW - timedelta(days=4)
    # Heard before it was released, again or by mistake.
    again = [song("s1", released_ts=NOW + timedelta(days=200))]
    assert rows_of([event("play", "s1", 4)], [], again)["s1"]["age_days"] == 4.0
