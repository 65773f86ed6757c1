from datetime import UTC, datetime, timedelta

import ibis
import pyarrow as pa
import pytest

from features.params import SIGNALS
from features.signals import signal_scores, signal_values
from tests.features import naive, worlds

pytestmark = pytest.mark.filterwarnings("ignore:fetch_arrow_table:DeprecationWarning")

NOW = datetime(2024, 3, 1, tzinfo=UTC)
DURATIONS = {"s1": 200_000, "s2": 100_000, "unknown": None, "zero": 0}


def ago(days, **more):
    return NOW - timedelta(days=days, **more)


def events(*rows):
    """Events of listener u from (action, song, ts) or (action, song, ts, played_ms)."""
    listed = [
        {
            "ts": ts,
            "user_id": "u",
            "song_id": song,
            "action": action,
            "played_ms": rest[0] if rest else None,
        }
        for action, song, ts, *rest in rows
    ]
    return ibis.memtable(pa.Table.from_pylist(listed, worlds.EVENTS))


def songs(durations=DURATIONS):
    listed = [{"song_id": song, "duration_ms": ms} for song, ms in durations.items()]
    return ibis.memtable(pa.Table.from_pylist(listed, worlds.SONGS))


def scores(table, signal, as_of=NOW, window=30, half_life=10, catalogue=None):
    of_songs = songs() if catalogue is None else catalogue
    found = signal_scores(table, of_songs, signal, as_of, window, half_life).to_pyarrow()
    return {row["song_id"]: row["value"] for row in found.to_pylist()}


def test_a_like_halves_with_every_half_life():
    table = events(("like", "s1", ago(10)), ("like", "s2", ago(20)))
    assert scores(table, "like") == pytest.approx({"s1": 0.5, "s2": 0.25})


def test_the_window_holds_its_first_moment_and_not_the_one_before():
    table = events(("like", "s1", ago(30)), ("like", "s2", ago(30, microseconds=1)))
    assert scores(table, "like") == pytest.approx({"s1": 0.125})


@pytest.mark.parametrize("days", [1e6, float("inf")])
def test_a_window_longer_than_there_are_years_holds_everything(days):
    table = events(("like", "s1", ago(10)), ("like", "s2", ago(8_000)))
    assert scores(table, "like", window=days, half_life=days) == pytest.approx(
        {"s1": 1, "s2": 1}, rel=0.01
    )


def test_an_event_at_the_very_moment_is_not_seen():
    table = events(("like", "s1", NOW), ("like", "s2", NOW - timedelta(microseconds=1)))
    assert scores(table, "like") == pytest.approx({"s2": 1.0})


@pytest.mark.parametrize("action", ["unlike", "dislike"])
def test_a_like_is_cancelled_only_as_of_its_cancellation(action):
    table = events(("like", "s1", ago(10)), (action, "s1", ago(5)))
    assert scores(table, "like", as_of=ago(5)) == pytest.approx({"s1": 0.5**0.5})
    assert scores(table, "like", as_of=ago(5, microseconds=-1)) == {}


def test_of_two_actions_at_one_moment_the_cancellation_wins():
    table = events(("unlike", "s1", ago(5)), ("like", "s1", ago(5)))
    assert scores(table, "like") == {}


def test_a_song_liked_again_counts_once_from_the_later_like():
    table = events(
        ("like", "s1", ago(20)),
        ("unlike", "s1", ago(15)),
        ("like", "s1", ago(12)),
        ("like", "s1", ago(10)),
    )
    assert scores(table, "like") == pytest.approx({"s1": 0.5})


def test_a_playlist_add_is_cancelled_by_a_remove_and_by_nothing_else():
    table = events(
        ("playlist_add", "s1", ago(10)),
        ("playlist_add", "s2", ago(10)),
        ("dislike", "s1", ago(5)),
        ("playlist_remove", "s2", ago(5)),
    )
    assert scores(table, "playlist") == pytest.approx({"s1": 0.5})


def test_a_cancelled_like_is_a_value_of_zero_not_an_absent_signal():
    table = events(("like", "s1", ago(10)), ("unlike", "s1", ago(5)))
    values = signal_values(table, songs(), "like", NOW).to_pyarrow()
    assert values["value"].to_pylist() == [0.0]
    assert signal_values(table, songs(), "playlist", NOW).to_pyarrow().num_rows == 0


def test_skip_is_the_share_of_the_song_not_heard():
    table = events(
        ("skip", "s1", ago(10), 50_000),
        ("play", "s2", ago(10), 80_000),
        ("play", "s2", ago(20), 150_000),
    )
    assert scores(table, "skip") == pytest.approx({"s1": 0.75 * 0.5, "s2": 0.2 * 0.5})


def test_without_a_duration_only_the_skip_itself_speaks():
    table = events(
        ("skip", "unknown", ago(10), 50_000),
        ("skip", "zero", ago(10), 50_000),
        ("play", "zero", ago(10), 50_000),
        ("skip", "elsewhere", ago(10)),
        ("play", "s1", ago(10)),
    )
    assert scores(table, "skip") == pytest.approx({"unknown": 0.5, "zero": 0.5, "elsewhere": 0.5})


def test_a_source_without_skips_and_durations_has_no_skip_signal():
    table = events(("play", "s1", ago(1), 50_000), ("play", "s2", ago(1)))
    nothing = songs({"s1": None, "s2": None})
    assert scores(table, "skip", catalogue=nothing) == {}
    assert signal_values(table, nothing, "skip", NOW).to_pyarrow().num_rows == 0


def test_listen_is_the_share_heard_of_the_song_or_of_four_minutes():
    table = events(
        ("play", "s1", ago(10), 100_000),
        ("skip", "s2", ago(10), 25_000),
        ("play", "unknown", ago(10), 60_000),
        ("play", "zero", ago(10), 999_000),
    )
    assert scores(table, "listen") == pytest.approx(
        {"s1": 0.25, "s2": 0.125, "unknown": 0.125, "zero": 0.5}
    )


def test_without_time_played_a_play_is_heard_and_a_skip_is_not():
    table = events(("play", "s1", ago(10)), ("skip", "s2", ago(10)))
    assert scores(table, "listen") == pytest.approx({"s1": 0.5})


def test_listenings_add_up():
    table = events(("play", "s1", ago(10), 200_000), ("play", "s1", ago(20), 100_000))
    assert scores(table, "listen") == pytest.approx({"s1": 0.5 + 0.5 * 0.25})


@pytest.mark.parametrize("signal", SIGNALS)
@pytest.mark.parametrize("day", [4, 33, 60])
def test_scores_equal_a_loop_over_the_events(signal, day):
    happened, people, catalogue = worlds.random_world(seed=3)
    table, _, of_songs = (
        ibis.memtable(part) for part in worlds.tables(happened, people, catalogue)
    )
    as_of = worlds.START + timedelta(days=day, hours=7)
    found = signal_scores(table, of_songs, signal, as_of, 21, 9).to_pyarrow().to_pylist()
    got = {(row["user_id"], row["song_id"]): row["value"] for row in found}
    assert len(got) == len(found)
    assert got == pytest.approx(naive.scores(happened, catalogue, signal, as_of, 21, 9))


def test_a_moment_without_a_zone_is_refused():
    with pytest.raises(ValueError, match="no time zone"):
        signal_scores(events(), songs(), "like", datetime(2024, 3, 1), 30, 10)  # noqa: DTZ001
