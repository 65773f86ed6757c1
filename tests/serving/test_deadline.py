"""Each fault in turn, planted into the whole service: answers come in time and say so."""

import asyncio
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from serving import deadline as module
from serving.deadline import (
    MOST_ASKING,
    Bounded,
    Breaker,
    Deadline,
    Guarded,
    OutOfService,
    ended,
    in_turn,
)
from serving.live import Loaded
from tests.serving.conftest import SONGS, Client, song_id

BODY = {"user_id": "user-1", "session": [{"song_id": "song-003"}], "k": 5}
IN_TIME = 0.5


@pytest.fixture
def segue(client: Client) -> Any:
    """Return the running service itself, to plant faults in."""
    from serving import service

    del client
    return service.running()


@contextmanager
def planted(target: Any, **faults: Any) -> Iterator[None]:
    kept = {name: getattr(target, name) for name in faults}
    for name, fault in faults.items():
        setattr(target, name, fault)
    try:
        yield
    finally:
        for name, value in kept.items():
            setattr(target, name, value)


def fail(*args: Any, **kwargs: Any) -> Any:
    raise ConnectionError(f"planted, asked for {args} {kwargs}")


class Hang:
    """Hangs until released."""

    def __init__(self) -> None:
        self.asked, self.released = threading.Event(), threading.Event()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        del args, kwargs
        self.asked.set()
        self.released.wait(60)
        return {}


def asked(client: Client, **body: Any) -> dict[str, Any]:
    answered = client.post("/recommend", json=BODY | body)
    assert answered.status_code == 200, answered.text
    return dict(answered.json())


def songs(answer: dict[str, Any]) -> list[str]:
    return [song["song_id"] for song in answer["songs"]]


@pytest.fixture
def healthy(client: Client, segue: Any) -> Iterator[dict[str, Any]]:
    """Yield the answer without a fault, and ask on after the test until it comes again."""
    before = asked(client)
    assert before["degraded"] == []
    yield before
    # Nothing is restarted or reset; sources that rest are tried again while others ask.
    until = time.monotonic() + 60
    while (after := asked(client))["degraded"]:
        assert time.monotonic() < until, after["degraded"]
    assert songs(after) == songs(before)
    del segue


@pytest.mark.parametrize(("source", "name"), [("rows", "features"), ("events", "events")])
@pytest.mark.parametrize("kind", ["gone", "slow"])
def test_a_source_that_is_gone_or_slow(
    client: Client, segue: Any, healthy: dict[str, Any], source: str, name: str, kind: str
) -> None:
    del healthy
    fault = fail if kind == "gone" else Hang()
    with planted(getattr(segue.sources, source), call=fault), planted(segue, seconds=IN_TIME):
        # More than the threads that can hang, and than it takes to leave the source alone.
        answers = [asked(client) for _ in range(6)]
    assert [answer["degraded"] for answer in answers] == [[name]] * 6
    assert all(answer["variant"] == "ranker" for answer in answers)
    assert all(len(answer["songs"]) == 5 for answer in answers)
    if isinstance(fault, Hang):
        fault.released.set()


@contextmanager
def with_recommender(segue: Any, **changes: Any) -> Iterator[None]:
    loaded: Loaded = segue.live.current
    broken = replace(loaded, recommender=replace(loaded.recommender, **changes))
    with planted(segue.live, current=broken):
        yield


class Failing:
    """Stands for any part of a bundle; all of it fails."""

    def __getattr__(self, name: str) -> Any:
        raise OSError(f"planted: {name}")


def test_a_ranker_that_fails(client: Client, segue: Any, healthy: dict[str, Any]) -> None:
    with with_recommender(segue, ranker=Failing()):
        answer = asked(client, temperature=0.5)
    assert (answer["variant"], answer["degraded"]) == ("retrieval", ["ranker"])
    # The generators alone still know the session's cluster, and nothing was left to chance.
    assert len(answer["songs"]) == 5
    assert {song["artists"][0] for song in answer["songs"]} == {"Artist 3"}
    assert [song["propensity"] for song in answer["songs"]] == [1.0] * 5
    assert "song-003" not in songs(answer)
    del healthy


def test_a_ranker_that_hangs(client: Client, segue: Any, healthy: dict[str, Any]) -> None:
    del healthy
    hang = Hang()

    class Hanging:
        scores = staticmethod(hang)

    with with_recommender(segue, ranker=Hanging()), planted(segue, seconds=IN_TIME):
        answers = [asked(client) for _ in range(8)]
    assert answers[0]["degraded"] == ["deadline"]
    assert answers[0]["variant"] == "retrieval"
    # With all threads hanging nothing is ranked any more, but answered all the same.
    assert answers[7]["variant"] == "popularity"
    assert [len(answer["songs"]) for answer in answers] == [5] * 8
    hang.released.set()


def test_a_generator_that_fails(client: Client, segue: Any, healthy: dict[str, Any]) -> None:
    retrieval = segue.live.current.recommender.retrieval
    generators = dict(retrieval.generators) | {"listen": Failing(), "sessions": Failing()}
    with with_recommender(segue, retrieval=replace(retrieval, generators=generators)):
        answer = asked(client)
    assert answer["degraded"] == ["retrieval.listen", "retrieval.sessions"]
    assert answer["variant"] == "ranker"
    # The songs of one cluster share their last digit.
    assert {song[-1] for song in songs(answer)} == {song[-1] for song in songs(healthy)}


def test_an_index_that_is_missing(client: Client, segue: Any, healthy: dict[str, Any]) -> None:
    del healthy
    retrieval = segue.live.current.recommender.retrieval
    listen = replace(retrieval.generators["listen"], index=Failing())
    generators = {**retrieval.generators, "listen": listen}
    with with_recommender(segue, retrieval=replace(retrieval, generators=generators)):
        answer = asked(client)
    assert (answer["variant"], answer["degraded"]) == ("ranker", ["retrieval.listen"])
    assert len(answer["songs"]) == 5


def test_a_blend_that_is_missing(client: Client, segue: Any, healthy: dict[str, Any]) -> None:
    del healthy
    retrieval = segue.live.current.recommender.retrieval
    blend = replace(retrieval.blend, stacked=None)
    with with_recommender(segue, retrieval=replace(retrieval, blend=blend)):
        answer = asked(client)
    assert (answer["variant"], answer["degraded"]) == ("ranker", ["retrieval.blend"])
    assert len(answer["songs"]) == 5


def test_retrieval_that_fails_as_a_whole(
    client: Client, segue: Any, healthy: dict[str, Any]
) -> None:
    del healthy
    retrieval = segue.live.current.recommender.retrieval
    with with_recommender(segue, retrieval=replace(retrieval, quota=Failing())):
        answer = asked(client, exclude=["song-001"], user_id=None)
    assert (answer["variant"], answer["degraded"]) == ("popularity", ["retrieval"])
    # The most played songs come first in this catalogue; 1 is excluded, 3 is in the session.
    assert songs(answer) == [song_id(i) for i in (0, 2, 4, 5, 6)]


def test_everything_at_once(client: Client, segue: Any, healthy: dict[str, Any]) -> None:
    del healthy
    sources = segue.sources
    retrieval = segue.live.current.recommender.retrieval
    with (
        planted(sources.rows, call=fail),
        planted(sources.events, call=fail),
        with_recommender(segue, retrieval=replace(retrieval, quota=Failing())),
    ):
        answer = asked(client, k=100)
    assert answer["degraded"] == ["features", "events", "retrieval"]
    assert len(answer["songs"]) == 100
    assert len(set(songs(answer))) == 100 <= SONGS


def test_a_source_rests_after_three_failures_and_is_tried_again() -> None:
    now = [0.0]
    breaker = Breaker(now=lambda: now[0])
    for _ in range(3):
        assert breaker.may_try()
        breaker.report(good=False)
    assert not breaker.may_try()
    now[0] = 1.0
    # One call goes through to try; the others wait for what becomes of it.
    assert [breaker.may_try(), breaker.may_try()] == [True, False]
    breaker.report(good=False)
    now[0] = 2.5
    assert not breaker.may_try()
    now[0] = 3.0
    assert breaker.may_try()
    breaker.report(good=True)
    assert [breaker.may_try(), breaker.may_try()] == [True, True]


def test_a_rest_has_an_end() -> None:
    now = [0.0]
    breaker = Breaker(now=lambda: now[0])
    for _ in range(100):
        breaker.report(good=False)
    assert breaker.closed_until == module.LONGEST_REST_SECONDS


def test_calls_that_hang_take_no_more_than_their_threads() -> None:
    hang = Hang()
    bounded = Bounded(hang, "slow", threads=2)
    waiting = [bounded.start(), bounded.start()]
    with pytest.raises(OutOfService, match="hang"):
        bounded.start()
    for call in waiting:
        with pytest.raises(TimeoutError):
            call.result(0.0)
    hang.released.set()
    assert [call.result(30) for call in waiting] == [{}, {}]


def test_the_callers_error_is_its_own() -> None:
    bounded = Bounded(fail, "failing", threads=1)
    with pytest.raises(ConnectionError, match="planted"):
        bounded.start("x").result(30)


def test_a_source_that_hangs_holds_no_more_than_its_share_of_threads() -> None:
    hang = Hang()
    source = Guarded(hang, "slow")
    deadline = Deadline.after(60)
    threads = [
        threading.Thread(target=source.ask, args=(deadline, 1.0)) for _ in range(MOST_ASKING)
    ]
    for thread in threads:
        thread.start()
    until = time.monotonic() + 30
    while source._free.acquire(blocking=False):
        source._free.release()
        assert time.monotonic() < until
    with pytest.raises(OutOfService, match="hang"):
        source.ask(deadline, 1.0)
    hang.released.set()
    for thread in threads:
        thread.join()
    assert source.ask(deadline, 1.0) == {}


def test_a_late_answer_says_nothing_good_of_its_source() -> None:
    source = Guarded(lambda: 1, "late")
    for _ in range(3):
        source.late()
        source.breaker.closed_until = 0.0
        assert source.ask(Deadline(time.monotonic() - 1, 1.0), 1.0) == 1
    with pytest.raises(OutOfService, match="rests"):
        source.ask(Deadline.after(60), 1.0)


def test_what_is_left_of_a_deadline_counts_from_arrival() -> None:
    token = module.arrived.set(time.monotonic() - 10)
    late = Deadline.after(5)
    module.arrived.reset(token)
    assert late.left() == 0.0
    assert 50 < Deadline.after(100).left(0.6) <= 60


def test_others_are_answered_while_a_source_hangs(client: Client, segue: Any) -> None:
    hang = Hang()
    ask = partial(client.http.request, "POST", "/recommend", json=BODY)
    with planted(segue.sources.rows, call=hang):
        waiting = client.portal.start_task_soon(ask)
        assert hang.asked.wait(30)
        assert client.get("/livez").status_code == 200
        assert asked(client, user_id=None)["degraded"] == []
        assert not waiting.done()
        hang.released.set()
        assert waiting.result(60).status_code == 200


def test_whoever_waits_for_a_call_keeps_the_loop_free() -> None:
    hang = Hang()
    bounded = Bounded(hang, "slow", threads=1)

    async def waited() -> list[bool]:
        call = bounded.start()
        first = asyncio.create_task(ended(call, 30))
        # Another task of the same loop lets the call go on.
        hang.released.set()
        return [await first, await ended(call, 0.0), await ended(Future(), 0.01)]

    assert asyncio.run(waited()) == [True, True, False]


def test_a_call_that_ends_after_its_loop_harms_nobody() -> None:
    hang = Hang()
    bounded = Bounded(hang, "slow", threads=1)

    async def waited() -> tuple[bool, Future[Any]]:
        call = bounded.start()
        return await ended(call, 0.01), call

    over, call = asyncio.run(waited())
    assert not over
    hang.released.set()
    assert call.result(30) == {}
    assert bounded.start().result(30) == {}


def test_a_turn_is_waited_for_no_longer_than_said_and_given_back() -> None:
    async def turns() -> None:
        two = asyncio.Semaphore(2)
        async with in_turn(two, 0.0), in_turn(two, 0.0):
            with pytest.raises(TimeoutError):
                async with in_turn(two, 0.01):
                    pytest.fail("There was no turn to be had.")
        async with in_turn(two, 0.0), in_turn(two, 0.0):
            assert two.locked()

    asyncio.run(turns())
