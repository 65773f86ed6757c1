"""`POST /events`, and how what was logged changes the next answer, in process."""

import asyncio
import threading
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from features.times import microseconds
from serving.event_log import EventLog
from serving.events import Clock, EventBatch, EventDesk, EventsAnswer, checked
from serving.logged import CLOCK_SLACK
from serving.refusals import Unavailable
from tests.serving.conftest import Client

NOW = datetime(2024, 3, 1, tzinfo=UTC)


def event(song: str = "song-003", action: str = "play", **more: Any) -> dict[str, Any]:
    base = {"event_id": uuid.uuid4().hex, "user_id": "fan", "song_id": song, "session_id": "now"}
    return base | {"action": action} | more


def sent(client: Client, *events: dict[str, Any]) -> dict[str, Any]:
    answered = client.post("/events", json={"events": list(events)})
    assert answered.status_code == 200, answered.text
    return dict(answered.json())


def recommended(client: Client, **body: Any) -> dict[str, Any]:
    answered = client.post("/recommend", json=body)
    assert answered.status_code == 200, answered.text
    assert answered.json()["degraded"] == []
    return dict(answered.json())


def songs(answer: dict[str, Any]) -> list[str]:
    return [song["song_id"] for song in answer["songs"]]


def someone() -> str:
    """Return a listener and session that no other test knows."""
    return f"listener-{uuid.uuid4().hex}"


def test_events_are_counted_once(client: Client) -> None:
    first, second = event(), event("song-013", "like")
    assert sent(client, first, second) == {"new": 2, "known": 0, "refused": []}
    assert sent(client, second, first, event()) == {"new": 1, "known": 2, "refused": []}
    twice = event()
    assert sent(client, twice, twice) == {"new": 1, "known": 1, "refused": []}


def test_a_time_that_breaks_the_contract_is_refused_by_the_imports_reason(client: Client) -> None:
    ahead = (datetime.now(UTC) + timedelta(minutes=6)).isoformat()
    late, old = event(ts=ahead), event(ts="1999-12-31T23:59:59Z")
    good = event(ts="2024-02-01T08:00:00+05:30")
    assert sent(client, late, good, old) == {
        "new": 1,
        "known": 0,
        "refused": [
            {"event_id": late["event_id"], "reason": "ts: in the future"},
            {"event_id": old["event_id"], "reason": "ts: before 2000"},
        ],
    }
    # None of the refused is in the log: with a right time they are new.
    mended = [e | {"ts": "2024-02-01T08:00:00Z"} for e in (late, old)]
    assert sent(client, *mended)["new"] == 2


def test_a_clients_clock_a_little_ahead_counts_as_now() -> None:
    told = [NOW + timedelta(seconds=1), NOW + CLOCK_SLACK, NOW - timedelta(seconds=1)]
    later = NOW + CLOCK_SLACK + timedelta(microseconds=1)
    batch = EventBatch.model_validate({"events": [event(ts=ts) for ts in (*told, later)]})
    rows, refused = checked(batch.events, Clock(now=lambda: NOW))
    now_us = microseconds(NOW)
    assert [row["ts"] for row in rows] == [now_us, now_us + 1, now_us - 1_000_000]
    assert [one.reason for one in refused] == ["ts: in the future"]


BAD = [
    ({"events": []}, "events"),
    ({"events": [event()] * 1001}, "events"),
    ({"events": [event(weather="rain")]}, "events.0.weather"),
    ({"events": [event()], "more": 1}, "more"),
    ({"events": [event(), event(action="dance")]}, "events.1.action"),
    ({"events": [event(song=" song")]}, "events.0.song_id"),
    ({"events": [event(song="")]}, "events.0.song_id"),
    ({"events": [event(song="a\x00b")]}, "events.0.song_id"),
    ({"events": [event(song="s" * 257)]}, "events.0.song_id"),
    ({"events": [event(song=None)]}, "events.0.song_id"),
    ({"events": [event(user_id=7)]}, "events.0.user_id"),
    ({"events": [event(ts=1_700_000_000)]}, "events.0.ts"),
    ({"events": [event(ts="2024-03-01T00:00:00")]}, "events.0.ts"),
    ({"events": [event(played_ms=-1)]}, "events.0.played_ms"),
    ({"events": [event(played_ms="9")]}, "events.0.played_ms"),
    ({"events": [event(propensity=0)]}, "events.0.propensity"),
    ({"events": [event(propensity=1.1)]}, "events.0.propensity"),
    ({"events": [event(position=-1)]}, "events.0.position"),
    ({"events": [{}]}, "events.0.event_id"),
    ([event()], ""),
]


@pytest.mark.parametrize(("body", "field"), BAD, ids=[field for _, field in BAD])
def test_a_wrong_field_is_refused_by_name(client: Client, body: Any, field: str) -> None:
    refused = client.post("/events", json=body)
    assert refused.status_code == 400
    assert ".".join(map(str, refused.json()["detail"][0]["loc"])) == field
    assert refused.json()["error"]


@pytest.mark.parametrize("content", [b"{", b"\xff", b"[" * 100_000, b'{"events": NaN}', b""])
def test_a_body_that_is_no_batch_is_refused(client: Client, content: bytes) -> None:
    kind = {"content-type": "application/json"}
    assert client.post("/events", content=content, headers=kind).status_code == 400


@pytest.mark.parametrize("action", ["like", "playlist_add", "play"])
@pytest.mark.parametrize("session", ["running", "over"])
def test_a_like_add_or_play_changes_the_next_answer(
    client: Client, action: str, session: str
) -> None:
    user = someone()
    before = recommended(client, user_id=user)
    sent(client, event("song-004", action, user_id=user, session_id=user))
    asked = {"user_id": user} | ({} if session == "running" else {"session_id": "the next"})
    after = recommended(client, **asked)
    assert songs(after) != songs(before)
    assert {artist for song in after["songs"][:3] for artist in song["artists"]} == {"Artist 4"}


def test_a_skipped_song_does_not_come_back_in_the_session(client: Client) -> None:
    user = someone()
    whose = {"user_id": user, "session_id": user}
    sent(client, event("song-004", **whose))
    asked = {"user_id": user, "session_id": user, "allow_repeats": True, "k": 100}
    offered = songs(recommended(client, **asked))
    skipped = offered[0]
    sent(client, event(skipped, "skip", played_ms=2000, **whose))
    assert skipped not in songs(recommended(client, **asked))
    # Nor where the client tells less than was logged, or nothing at all.
    told = asked | {"session": [{"song_id": "song-004"}]}
    assert skipped not in songs(recommended(client, **told))
    assert skipped not in songs(recommended(client, user_id=user, allow_repeats=True, k=100))
    # In another session it may.
    assert skipped in songs(recommended(client, **(asked | {"session_id": "another"})))


def test_a_stranger_is_known_by_the_session(client: Client) -> None:
    session = someone()
    sent(client, event("song-005", session_id=session), event("song-015", session_id=session))
    answered = recommended(client, session_id=session, explain=True)
    assert {artist for song in answered["songs"] for artist in song["artists"]} == {"Artist 5"}
    said = [{"song_id": "song-005"}, {"song_id": "song-015"}]
    assert songs(answered) == songs(recommended(client, session=said))


def test_a_moment_in_the_past_knows_nothing_later(client: Client) -> None:
    user = someone()
    context = {"ts": "2024-03-01T00:00:00Z"}
    before = recommended(client, user_id=user, context=context)
    sent(client, event("song-004", "like", user_id=user))
    assert songs(recommended(client, user_id=user, context=context)) == songs(before)


def test_a_clock_a_little_behind_still_knows_the_skip(client: Client) -> None:
    user = someone()
    asked = {"user_id": user, "session_id": user}
    skipped = songs(recommended(client, **asked))[0]
    sent(client, event(skipped, "skip", user_id=user, session_id=user))
    behind = {"ts": (datetime.now(UTC) - timedelta(seconds=2)).isoformat()}
    assert skipped not in songs(recommended(client, **asked, context=behind))


class Broken(EventLog):
    """A log that fails as told."""

    def __init__(self, reason: str) -> None:
        self.reason = reason

    def append(self, batches: Sequence[Any]) -> list[int]:
        raise Unavailable(self.reason, "planted")


@pytest.mark.parametrize(("reason", "seconds"), [("full", "30"), ("locked", "1"), ("gone", "5")])
def test_a_log_that_does_not_write_answers_503_and_recovers(
    client: Client, monkeypatch: pytest.MonkeyPatch, reason: str, seconds: str
) -> None:
    from serving import service

    one = event()
    with monkeypatch.context() as patch:
        patch.setattr(service.desk(), "_batcher", EventDesk(Broken(reason))._batcher)
        refused = client.post("/events", json={"events": [one]})
    assert refused.status_code == 503
    assert refused.headers["retry-after"] == seconds
    assert reason in refused.json()["error"]
    assert sent(client, one) == {"new": 1, "known": 0, "refused": []}


def test_batches_that_wait_are_written_in_one_transaction(tmp_path: Path) -> None:
    log = EventLog.open(f"sqlite:///{tmp_path / 'events.db'}")
    groups: list[int] = []
    gate = threading.Event()
    real = log.append

    def append(batches: Sequence[Any]) -> list[int]:
        gate.wait(30)
        groups.append(len(batches))
        return real(batches)

    log.append = append  # type: ignore[method-assign]
    desk = EventDesk(log)

    async def take() -> list[EventsAnswer]:
        batches = [EventBatch.model_validate({"events": [event(), event()]}) for _ in range(20)]
        tasks = [asyncio.create_task(desk.take(batch)) for batch in batches]
        await asyncio.sleep(0)
        gate.set()
        return await asyncio.gather(*tasks)

    answers = asyncio.run(take())
    assert [answer.new for answer in answers] == [2] * 20
    assert log.count() == 40
    assert len(groups) <= 2
    desk.close()
    log.close()


def test_the_clock_does_not_go_back_when_the_machines_does() -> None:
    times = iter([NOW, NOW - timedelta(minutes=4), NOW + timedelta(seconds=1)])
    clock = Clock(now=lambda: next(times))
    microsecond = timedelta(microseconds=1)
    assert clock.take(3) == NOW
    assert clock.take(1) == NOW + 3 * microsecond
    assert clock.take(1) == NOW + timedelta(seconds=1)


def test_a_clock_put_right_after_a_jump_ahead_is_believed() -> None:
    times = iter([NOW + timedelta(days=400), NOW, NOW])
    clock = Clock(now=lambda: next(times))
    assert clock.take(1) == NOW + timedelta(days=400)
    assert clock.take(1) == NOW
    assert clock.take(1) == NOW + timedelta(microseconds=1)


@pytest.mark.parametrize("minutes", [1, 4, 6, 30, 59])
def test_what_is_done_after_a_clock_was_put_back_is_heeded(minutes: int) -> None:
    back = NOW - timedelta(minutes=minutes)
    times = iter([NOW, back])
    clock = Clock(now=lambda: next(times))
    clock.take(1)
    rows, _ = checked(EventBatch.model_validate({"events": [event()]}).events, clock)
    assert rows[0]["ts"] <= microseconds(back + CLOCK_SLACK)
