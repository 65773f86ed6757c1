"""Logged events over a listener's row and the running session, worked out by hand."""

from datetime import UTC, datetime, timedelta
from typing import Any

import ibis
import numpy as np
import pytest

from features.catalogue import Catalogue, catalogue
from features.columns import UserRow
from features.query import SessionEvent
from features.users import history
from serving.logged import Logged
from serving.overlay import (
    known_at,
    merged,
    newer,
    overlay,
    refused_songs,
    row_at,
    running_session,
)
from tests.features.worlds import small_params, tables
from tests.serving.conftest import songs_frame

SECOND = 1_000_000
NOW = 1_709_251_200 * SECOND
LENGTH = 128
ROW: dict[str, Any] = {
    UserRow.HISTORY_SONGS: ["song-001", "song-002"],
    UserRow.HISTORY_LAST_TS: [1000, 900],
    UserRow.HISTORY_PLAYS: [3, 1],
    UserRow.HISTORY_LIKE: [0.0, 0.7],
    UserRow.HISTORY_PLAYLIST: [],
    UserRow.HISTORY_SKIP: [0.5, 0.0],
    UserRow.HISTORY_LISTEN: [2.0, 1.0],
}


@pytest.fixture(scope="module")
def songs() -> Catalogue:
    return catalogue(songs_frame())


def logged(song: str, action: str = "play", seconds: int = 2000, **more: Any) -> Logged:
    base = {"played_ms": None, "session_id": "s1"} | more
    return Logged(song, action, base["played_ms"], base["session_id"], seconds * SECOND)


def test_a_history_with_events_by_hand(songs: Catalogue) -> None:
    # Song i lasts 180 + i seconds: half of song 2 is 91 s.
    events = [
        logged("song-002", "skip", 2000, played_ms=91_000),
        logged("song-002", "unlike", 2001),
        logged("song-003", "like", 2002),
        logged("song-001", "playlist_add", 2003),
        logged("song-009", "dislike", 2004),
        logged("unheard of", "play", 2005),
    ]
    found = overlay(ROW, events, songs.durations, NOW, LENGTH)
    assert found[UserRow.HISTORY_SONGS] == ["unheard of", "song-001", "song-003", "song-002"]
    assert found[UserRow.HISTORY_LAST_TS] == [2005, 2003, 2002, 2000]
    assert found[UserRow.HISTORY_PLAYS] == [1, 3, 0, 2]
    assert found[UserRow.HISTORY_LIKE] == [0, 0, 1, 0]
    assert found[UserRow.HISTORY_PLAYLIST] == [0, 1, 0, 0]
    assert found[UserRow.HISTORY_SKIP] == pytest.approx([0, 0.5, 0, 0.5])
    assert found[UserRow.HISTORY_LISTEN] == pytest.approx([1, 2, 0, 1.5])
    assert found[UserRow.LAST_PLAY_TS] == datetime.fromtimestamp(2005, UTC)


@pytest.mark.parametrize("order", [1, -1])
def test_of_a_like_and_its_cancellation_at_one_moment_the_cancellation_wins(
    songs: Catalogue, order: int
) -> None:
    events = [
        *[logged("song-001", "like"), logged("song-001", "unlike")][::order],
        *[logged("song-002", "playlist_add"), logged("song-002", "playlist_remove")][::order],
    ]
    found = overlay(ROW, events, songs.durations, NOW, LENGTH)
    assert found[UserRow.HISTORY_SONGS] == ["song-001", "song-002"]
    assert found[UserRow.HISTORY_LIKE] == [0, 0.7]
    assert found[UserRow.HISTORY_PLAYLIST] == [0, 0]


def test_without_events_the_row_stays_as_it_is(songs: Catalogue) -> None:
    assert overlay(ROW, [], songs.durations, NOW, LENGTH) == ROW


def test_a_stranger_gets_a_history(songs: Catalogue) -> None:
    found = overlay({}, [logged("song-004", "like")], songs.durations, NOW, LENGTH)
    assert found[UserRow.HISTORY_SONGS] == ["song-004"]
    assert found[UserRow.HISTORY_LIKE] == [1]
    assert UserRow.LAST_PLAY_TS not in found


def test_the_history_keeps_its_length(songs: Catalogue) -> None:
    events = [logged(f"song-{i:03d}", seconds=2000 + i) for i in range(190)]
    found = overlay(ROW, events, songs.durations, NOW, LENGTH)
    # Song 2 stands liked; the last quarter of the places is for such songs first.
    latest = [f"song-{i:03d}" for i in range(189, 62, -1)]
    assert found[UserRow.HISTORY_SONGS] == [*latest, "song-002"]


def test_a_history_is_as_long_as_the_bundle_says(songs: Catalogue) -> None:
    events = [logged(f"song-{i:03d}", seconds=2000 + i) for i in range(50)]
    assert len(overlay({}, events, songs.durations, NOW, 20)[UserRow.HISTORY_SONGS]) == 20


def test_within_a_second_too_the_latest_comes_first(songs: Catalogue) -> None:
    """A batch without times gets those of the server, one microsecond apart."""
    row = ROW | {UserRow.HISTORY_LAST_TS: [1000, 1000]}
    places = {"song-005": 1, "song-004": 2, "song-009": 3, "song-008": 3, "song-003": 4}
    events = [Logged(song, "play", None, "s1", NOW - SECOND + us) for song, us in places.items()]
    found = overlay(row, events, songs.durations, NOW, LENGTH)[UserRow.HISTORY_SONGS]
    # At one moment by id, as in the feature row; what the row held stays in its order.
    latest = ["song-003", "song-008", "song-009", "song-004", "song-005"]
    assert found == [*latest, "song-001", "song-002"]
    assert overlay(row, events, songs.durations, NOW, 4)[UserRow.HISTORY_SONGS] == [
        *latest[:3],
        "song-002",
    ]


def test_a_day_of_plays_does_not_drop_old_likes(songs: Catalogue) -> None:
    old = [f"old {i}" for i in range(128)]
    row: dict[str, Any] = {name: [0] * 128 for name in ROW}
    row[UserRow.HISTORY_SONGS] = old
    row[UserRow.HISTORY_LIKE] = [0.0] * 96 + [1.0] * 32
    plays = [logged(f"song-{i:03d}", seconds=2000 + i) for i in range(96)]
    found = overlay(row, plays, songs.durations, NOW, LENGTH)[UserRow.HISTORY_SONGS]
    assert found == [*(f"song-{i:03d}" for i in range(95, -1, -1)), *old[96:]]


@pytest.mark.filterwarnings("ignore:fetch_arrow_table:DeprecationWarning")
@pytest.mark.parametrize("seed", range(3))
def test_the_same_songs_have_a_place_as_in_the_feature_row(songs: Catalogue, seed: int) -> None:
    random = np.random.default_rng(seed)
    params = small_params()
    length = params.features.history_songs
    actions = random.choice(["play", "skip", "like", "unlike", "playlist_add"], 150)
    names = [f"song-{i:03d}" for i in random.integers(0, 40, 150)]
    # No more songs in the row than it has places: what it had dropped is nowhere to be found.
    names[:60] = [f"song-{i:03d}" for i in random.integers(0, length, 60)]
    begun = NOW // SECOND - 1000
    events = [logged(n, a, begun + i) for i, (n, a) in enumerate(zip(names, actions, strict=True))]

    def row_after(count: int) -> dict[str, Any]:
        rows = [
            {"user_id": "u", "song_id": e.song_id, "action": e.action}
            | {"ts": datetime.fromtimestamp(e.ts_us / SECOND, UTC)}
            for e in events[:count]
        ]
        lake_events, _, lake_songs = map(ibis.memtable, tables(rows, [], []))
        now = datetime.fromtimestamp(NOW / SECOND, UTC)
        return dict(history(lake_events, lake_songs, now, params).to_pyarrow().to_pylist()[0])

    laid_over = overlay(row_after(60), events[60:], songs.durations, NOW, length)
    expected = row_after(150)
    assert len(expected[UserRow.HISTORY_SONGS]) == length
    for name in (UserRow.HISTORY_SONGS, UserRow.HISTORY_LAST_TS, UserRow.HISTORY_PLAYS):
        assert laid_over[name] == expected[name]


def test_a_time_ahead_counts_as_now(songs: Catalogue) -> None:
    ahead = logged("song-004", seconds=NOW // SECOND + 900)
    found = overlay(ROW, [ahead], songs.durations, NOW, LENGTH)
    assert found[UserRow.HISTORY_LAST_TS][0] == NOW // SECOND


def test_only_what_the_row_does_not_know_is_newer() -> None:
    events = [logged("a", seconds=second) for second in (900, 1000, 1001)]
    assert newer(ROW, events) == events[2:]
    assert newer({}, events) == events
    assert newer({UserRow.HISTORY_LAST_TS: []}, events) == events


def test_the_running_session_is_the_named_one_or_that_of_late() -> None:
    latest = logged("a", session_id="now", seconds=NOW // SECOND - 60)
    assert running_session([latest], "named", NOW) == "named"
    assert running_session([latest], None, NOW) == "now"
    # As the import parts sessions: by a pause of more than half an hour.
    half_an_hour = NOW + 29 * 60 * SECOND
    assert running_session([latest], None, half_an_hour) == "now"
    assert running_session([latest], None, half_an_hour + 1) is None
    assert running_session([], None, NOW) is None


def test_a_session_that_a_wrong_clock_wrote_ahead_does_not_run() -> None:
    late = logged("a", session_id="now", seconds=NOW // SECOND - 60)
    near = logged("b", session_id="near", seconds=NOW // SECOND + 299)
    far = logged("c", session_id="far", seconds=NOW // SECOND + 301)
    assert running_session([late, far], None, NOW) == "now"
    assert running_session([late, near, far], None, NOW) == "near"
    assert running_session([far], None, NOW) is None


def test_what_an_answer_may_know() -> None:
    now = datetime.fromtimestamp(NOW / SECOND, UTC)
    minute = timedelta(minutes=1)
    events = [logged(str(m), seconds=NOW // SECOND + 60 * m) for m in (-10, -6, -1, 0, 5, 6)]

    def known(asked: datetime) -> list[str]:
        return [event.song_id for event in known_at(events, asked, now)]

    # As in training: what happened at that very moment may be the answer.
    assert known(now - 6 * minute) == ["-10"]
    assert known(now - 6 * minute + timedelta(microseconds=1)) == ["-10", "-6"]
    # A client's clock that is behind, right or ahead hides nothing.
    for asked in (now - 5 * minute, now, now + 600 * minute):
        assert known(asked) == ["-10", "-6", "-1", "0", "5"]


def test_a_row_of_later_is_put_back() -> None:
    row = ROW | {UserRow.LAST_PLAY_TS: datetime.fromtimestamp(1000, UTC), "genre_keys": ["pop"]}
    found = row_at(row, 1000 * SECOND)
    assert found[UserRow.HISTORY_SONGS] == ["song-002"]
    assert found[UserRow.HISTORY_LAST_TS] == [900]
    assert found[UserRow.HISTORY_LIKE] == [0.7]
    assert found[UserRow.HISTORY_PLAYLIST] == []
    assert found[UserRow.LAST_PLAY_TS] is None
    assert found["genre_keys"] == ["pop"]
    assert row_at(row, 1000 * SECOND + 1) == row
    assert row_at({}, 5) == {}


def test_a_request_that_says_as_much_is_taken_at_its_word() -> None:
    log = [logged("a"), logged("b", "skip")]
    said = (SessionEvent("b", "skip", 5), SessionEvent("a"), SessionEvent("c"))
    assert merged(log, said) == said
    assert merged([], said) == said
    assert merged([], ()) == ()


def test_a_request_that_says_less_is_completed() -> None:
    log = [logged("a"), logged("a"), logged("b", "skip", played_ms=7)]
    a, b = SessionEvent("a"), SessionEvent("b", "skip", 7)
    assert merged(log, ()) == (a, a, b)
    assert merged(log, (a,)) == (a, a, b)
    # What only the request knows comes after what is logged.
    assert merged(log, (a, SessionEvent("c"))) == (a, a, b, SessionEvent("c"))
    assert merged(log, (SessionEvent("a", "like"),)) == (a, a, b, SessionEvent("a", "like"))


def test_long_sessions_keep_their_end() -> None:
    log = [logged(str(i)) for i in range(600)]
    assert [e.song_id for e in merged(log, ())] == [str(i) for i in range(100, 600)]


def test_skipped_and_disliked_songs_are_refused() -> None:
    session = [SessionEvent(*pair) for pair in (("a", "skip"), ("b", "play"), ("c", "dislike"))]
    assert refused_songs(session) == {"a", "c"}
