"""Rows of past moments, against rows that are computed anew at those moments."""

from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from features import store
from features.columns import Event, User, UserRow
from features.params import Params, load_params
from features.snapshots import write_snapshots
from features.times import microseconds
from serving.api import RecommendRequest
from serving.logged import MOST_RECENT, Logged
from serving.past import Past, rows_at
from serving.questions import query_of
from tests.features import naive, worlds

SNAPSHOT = worlds.START + timedelta(days=30)
LATER = [SNAPSHOT + timedelta(days=5), SNAPSHOT + timedelta(days=11, microseconds=1)]
LENGTH = 500
EVENTS, USERS, SONGS = worlds.random_world(seed=4)
EVENTS.sort(key=lambda event: event["ts"])
IDS = [f"u{number}" for number in range(26)]


def wide_params() -> Params:
    """Windows that nothing leaves, histories that nothing overflows."""
    params = load_params()
    features = params.features.model_copy(update={"window_days": 3650, "history_songs": LENGTH})
    return params.model_copy(update={"features": features})


WORLD = naive.World(EVENTS, USERS, SONGS, wide_params())


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Yield a lake whose listeners the store knows as of one early moment."""
    folder = tmp_path_factory.mktemp("data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEGUE_DATA", str(folder))
        worlds.write_lake(folder / "lake", EVENTS, USERS, SONGS)
        write_snapshots(folder / "lake", folder / "features", [SNAPSHOT], wide_params())
        store.apply()
        yield folder / "lake"


def asked(moments: list[Any], session: str | None = "none of these") -> pd.DataFrame:
    pairs = [(user, moment, session) for moment in moments for user in IDS]
    frame = pd.DataFrame(pairs, columns=[User.ID, UserRow.TS, Event.SESSION])
    return frame.astype({UserRow.TS: "datetime64[us, UTC]"})


def history(row: Any) -> dict[str, tuple[int, int, bool, bool]]:
    """Return by song when it was last played, how often, and whether it stands liked or added."""
    if not row or not len(row[UserRow.HISTORY_SONGS]):
        return {}
    names = (UserRow.HISTORY_LAST_TS, UserRow.HISTORY_PLAYS)
    marks = (UserRow.HISTORY_LIKE, UserRow.HISTORY_PLAYLIST)
    columns = [*(row[name] for name in names), *(np.asarray(row[name]) > 0 for name in marks)]
    cells = zip(*columns, strict=True)
    return dict(zip(row[UserRow.HISTORY_SONGS], cells, strict=True))


def test_a_history_is_what_a_snapshot_of_that_moment_would_say(lake: Path) -> None:
    frame = asked(LATER)
    changed = 0
    for row, user, moment in zip(
        rows_at(frame, lake, LENGTH), frame[User.ID], frame[UserRow.TS], strict=True
    ):
        then = WORLD.user_row(user, moment.to_pydatetime())
        assert history(row) == history(then)
        changed += bool(then) and then != WORLD.user_row(user, SNAPSHOT)
    assert changed > len(frame) / 2


def test_a_history_ends_at_the_very_moment_of_the_question(lake: Path) -> None:
    later = [event for event in EVENTS if event["ts"] > SNAPSHOT + timedelta(days=1)]
    times = {(event["user_id"], event["ts"]) for event in later if event["action"] == "play"}
    ticks = [timedelta(microseconds=tick) for tick in (0, 1)]
    asked_in = "none of these"
    questions = [(user, at + tick, asked_in) for user, at in sorted(times)[:60] for tick in ticks]
    frame = pd.DataFrame(questions, columns=[User.ID, UserRow.TS, Event.SESSION])
    frame = frame.astype({UserRow.TS: "datetime64[us, UTC]"})
    found = [history(row) for row in rows_at(frame, lake, LENGTH)]
    for (user, at, _), known in zip(questions, found, strict=True):
        assert known == history(WORLD.user_row(user, at))
    assert all(before != after for before, after in zip(found[::2], found[1::2], strict=True))


def test_what_is_laid_over_keeps_the_types_of_the_store(lake: Path) -> None:
    """Rows by the thousand are kept and sent to other processes, for which lists are too large."""
    frame = asked(LATER[:1])
    stored = store.historical_user_rows(frame[[User.ID, UserRow.TS]]).to_dict("records")
    pairs = [
        (row[name], before[name])
        for row, before in zip(rows_at(frame, lake, LENGTH), stored, strict=True)
        for name in UserRow.HISTORY
        if len(before[name])
    ]
    assert len(pairs) > len(IDS)
    assert all(isinstance(new, np.ndarray) and new.dtype == old.dtype for new, old in pairs)


def test_slow_columns_stay_those_of_the_snapshot(lake: Path) -> None:
    frame = asked(LATER[:1])
    for row, user in zip(rows_at(frame, lake, LENGTH), frame[User.ID], strict=True):
        before = WORLD.user_row(user, SNAPSHOT)
        if before and before[UserRow.PLAYS] is not None:
            assert row[UserRow.PLAYS] == before[UserRow.PLAYS]


def plays(*events: tuple[str, float, str, str], received: dict[str, float] | None = None) -> Past:
    """Return the past of plays: listener, seconds, session, song; some songs' `received` later."""
    names = [Event.USER, Event.TS, Event.SESSION, Event.SONG]
    frame = pd.DataFrame(list(events), columns=names)
    arrived = frame[Event.SONG].map(received or {})
    moments, later = (
        pd.to_datetime(seconds.astype(float), unit="s", utc=True)
        for seconds in (frame[Event.TS], arrived)
    )
    times = {Event.TS: moments, Event.RECEIVED: later}
    return Past.of(frame.assign(**times, **{Event.ACTION: "play", Event.PLAYED_MS: None}))


def test_only_a_listeners_own_events_before_the_moment_are_known() -> None:
    past = plays(("u", 1, "s", "a"), ("v", 2, "t", "b"), ("u", 3, "s", "c"), ("u", 3, "r", "d"))
    assert [event.song_id for event in past.recent("u", 3_000_000)] == ["a"]
    assert [event.song_id for event in past.recent("u", 3_000_001)] == ["a", "c", "d"]
    assert [event.song_id for event in past.recent("v", 9_000_000)] == ["b"]
    assert past.recent("w", 9_000_000) == []
    assert plays().recent("u", 1) == []


def test_as_many_events_as_the_service_heeds() -> None:
    past = plays(*(("u", n, "s", f"song {n}") for n in range(MOST_RECENT + 9)))
    found = past.recent("u", 10**12)
    assert [event.song_id for event in found] == [f"song {n}" for n in range(9, MOST_RECENT + 9)]


def test_what_arrived_late_is_known_only_then() -> None:
    listened = [("u", 1.0, "s", "late"), ("u", 2.0, "s", "b"), ("u", 4.0, "r", "c")]
    past = plays(*listened, received={"late": 6.0, "b": 2.5, "c": 3.0})
    known = {1: [], 2: [], 3: ["b"], 4: ["b"], 5: ["b", "c"], 6: ["b", "c"]}
    for second, songs in known.items():
        assert [event.song_id for event in past.recent("u", second * 1_000_000)] == songs
    assert [event.song_id for event in past.recent("u", 6_000_001)] == ["late", "b", "c"]


def test_late_ones_take_no_place_among_the_latest() -> None:
    late = {f"late {n}": 10_000.0 for n in range(9)}
    listened = [("u", 1.0 + n, "s", f"song {n}") for n in range(MOST_RECENT + 1)]
    past = plays(*listened, *(("u", 900.0, "s", name) for name in late), received=late)
    found = [event.song_id for event in past.recent("u", 1_000_000_000)]
    assert found == [f"song {n}" for n in range(1, MOST_RECENT + 1)]


def test_a_row_of_the_past_knows_no_late_event(tmp_path: Path, monkeypatch: Any) -> None:
    moment = LATER[0]
    late = [
        {**event, "event_id": f"late {event['event_id']}", "song_id": "s0", "received_ts": moment}
        for event in EVENTS
        if SNAPSHOT - timedelta(days=9) <= event["ts"] < moment
    ]
    found = []
    for name, events in (("without", EVENTS), ("with", EVENTS + late)):
        folder = tmp_path / name
        monkeypatch.setenv("SEGUE_DATA", str(folder))
        worlds.write_lake(folder / "lake", sorted(events, key=lambda e: e["ts"]), USERS, SONGS)
        write_snapshots(folder / "lake", folder / "features", [SNAPSHOT], wide_params())
        store.apply()
        found.append(
            [
                list(rows_at(asked([when]), folder / "lake", LENGTH))
                for when in (moment, moment + timedelta(seconds=1))
            ]
        )
    without, planted = ([list(map(history, rows)) for rows in moments] for moments in found)
    assert without[0] == planted[0]
    assert without[1] != planted[1]


def test_what_happened_before_the_first_snapshot_and_came_after_it_is_known_then(
    tmp_path: Path, monkeypatch: Any
) -> None:
    """As by the service's log, which has it, where it is later than all that the row knows."""
    hour = timedelta(hours=1)
    happened, came = SNAPSHOT - hour, SNAPSHOT + hour
    early, late = (
        {**EVENTS[0], "event_id": name, "user_id": "u0", "song_id": name, "action": "play"}
        for name in ("s0", "s1")
    )
    events = [early | {"ts": SNAPSHOT - 2 * hour}, late | {"ts": happened, "received_ts": came}]
    monkeypatch.setenv("SEGUE_DATA", str(tmp_path))
    worlds.write_lake(tmp_path / "lake", events, USERS, SONGS)
    write_snapshots(tmp_path / "lake", tmp_path / "features", [SNAPSHOT], wide_params())
    store.apply()
    frame = asked([came, came + hour])
    frame = frame[frame[User.ID] == "u0"].reset_index(drop=True)
    rows = rows_at(frame, tmp_path / "lake", LENGTH)
    found = [set(row[UserRow.HISTORY_SONGS]) for row in rows]
    assert found == [{"s0"}, {"s0", "s1"}]


def test_the_service_lays_the_same_over_the_same_row(lake: Path) -> None:
    """From its own log of the same events, at that moment, the service makes the same row."""
    moment = LATER[0]
    lengths = pd.DataFrame(SONGS).set_index("song_id")["duration_ms"].astype("float32")
    songs: Any = SimpleNamespace(durations=lambda ids: lengths.reindex(ids).to_numpy())
    frame = asked([moment])
    stored = store.historical_user_rows(frame[[User.ID, UserRow.TS]]).to_dict("records")
    differ = 0
    for offline, row, user in zip(rows_at(frame, lake, LENGTH), stored, IDS, strict=True):
        log = [
            Logged(
                e["song_id"],
                e["action"],
                e["played_ms"],
                str(e["session_id"]),
                microseconds(e["ts"]),
            )
            for e in EVENTS
            if e["user_id"] == user and e["ts"] < moment
        ]
        request = RecommendRequest(user_id=user, session_id="none of these")
        served = query_of(request, dict(row), log[-MOST_RECENT:], songs, LENGTH, now=moment).user
        for name in UserRow.HISTORY:
            assert list(served[name]) == list(offline[name])
        differ += list(served[UserRow.HISTORY_LAST_TS]) != list(row[UserRow.HISTORY_LAST_TS])
    assert differ > len(IDS) / 2
