"""Connections are handed to a worker with less to do, and to no other."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from serving.spread import CLOSE, PACE_SECONDS, Busy, Spread

REQUESTS = 40


class Clock:
    """A time that tests set."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def place(tmp_path: Path, clock: Clock) -> Callable[[int], Busy]:
    """Return what makes the counts of one of two workers."""
    return lambda own: Busy(tmp_path / "busy", 2, own, clock)


@pytest.fixture
def two(place: Callable[[int], Busy]) -> list[Busy]:
    """Return the counts of two workers that are up."""
    workers = [place(own) for own in range(2)]
    for worker in workers:
        worker.up()
    return workers


async def answering(scope: Any, receive: Any, send: Any) -> None:
    del scope, receive
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x", b"y")]})
    await send({"type": "http.response.body", "body": b"{}"})


def closed(busy: Busy, clock: Clock, seconds: float = PACE_SECONDS) -> int:
    """Return how many of `REQUESTS` requests, so many seconds apart, end their connections."""
    starts: list[Any] = []

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            starts.append(message)

    async def ask() -> None:
        spread = Spread(answering, busy)
        for _ in range(REQUESTS):
            await spread({"type": "http"}, None, send)  # type: ignore[arg-type]
            clock.now += seconds

    asyncio.run(ask())
    assert all((b"x", b"y") in start["headers"] for start in starts)
    return sum(CLOSE in start["headers"] for start in starts)


def occupy(busy: Busy, requests: int) -> None:
    for _ in range(requests):
        busy.count(1)


def test_who_has_more_to_do_closes_connections_one_after_the_other(
    two: list[Busy], clock: Clock
) -> None:
    occupy(two[0], 2)
    clock.now += 60
    assert closed(two[0], clock, 1.1 * PACE_SECONDS) == REQUESTS
    # However many answers there are meanwhile.
    assert closed(two[0], clock, PACE_SECONDS / 9.9) == REQUESTS / 10
    assert closed(two[1], clock) == 0


def test_who_has_as_much_to_do_or_one_request_more_closes_none(
    two: list[Busy], clock: Clock
) -> None:
    assert closed(two[0], clock) == 0
    occupy(two[0], 3)
    occupy(two[1], 3)
    clock.now += 60
    # The one that is asked has one more than the other.
    assert [closed(one, clock) for one in two] == [0, 0]


def test_more_to_do_for_a_moment_moves_nobody(two: list[Busy], clock: Clock) -> None:
    occupy(two[0], 5)
    clock.now += 0.01
    assert not two[0].is_overloaded()
    clock.now += 60
    assert two[0].is_overloaded()
    # And what is over moves nobody, though the mean does not yet know.
    for _ in range(5):
        two[0].count(-1)
    assert not two[0].is_overloaded()


def test_the_mean_is_of_the_time_that_requests_take(two: list[Busy], clock: Clock) -> None:
    # Three requests at once, for three quarters of the time and then for a quarter.
    for share, is_overloaded in ((0.75, True), (0.25, False)):
        for _ in range(200):
            occupy(two[0], 3)
            clock.now += 0.01 * share
            two[0].count(-3)
            clock.now += 0.01 * (1 - share)
        occupy(two[0], 3)
        assert two[0].is_overloaded() is is_overloaded
        two[0].count(-3)


def test_a_worker_that_is_not_up_is_sent_nobody(place: Callable[[int], Busy], clock: Clock) -> None:
    first = place(0)
    first.up()
    occupy(first, 5)
    clock.now += 60
    assert closed(first, clock) == 0
    second = place(1)
    assert closed(first, clock) == 0
    second.up()
    assert closed(first, clock) > 0


def test_who_follows_a_worker_that_died_does_not_inherit_its_requests(
    place: Callable[[int], Busy], clock: Clock
) -> None:
    first, dead = place(0), place(1)
    first.up()
    dead.up()
    occupy(first, 2)
    occupy(dead, 5)
    clock.now += 60
    assert not first.is_overloaded()
    place(1).up()
    assert first.is_overloaded()


def test_a_request_that_fails_is_done_with_too(two: list[Busy], clock: Clock) -> None:
    async def failing(scope: Any, receive: Any, send: Any) -> None:
        del scope, receive, send
        raise LookupError

    async def ask() -> None:
        with pytest.raises(LookupError):
            await Spread(failing, two[0])({"type": "http"}, None, None)  # type: ignore[arg-type]

    for _ in range(5):
        asyncio.run(ask())
        clock.now += 60
    assert not two[0].is_overloaded()
    occupy(two[0], 2)
    clock.now += 60
    assert two[0].is_overloaded()


def test_a_worker_is_up_once_its_service_has_started(
    place: Callable[[int], Busy], clock: Clock
) -> None:
    first, second = place(0), place(1)
    first.up()
    occupy(first, 5)
    clock.now += 60
    seen: list[tuple[str, bool]] = []

    async def starting(scope: Any, receive: Any, send: Any) -> None:
        del scope, receive
        seen.append(("before", first.is_overloaded()))
        await send({"type": "lifespan.startup.complete"})

    async def send(message: Any) -> None:
        seen.append((message["type"], first.is_overloaded()))

    asyncio.run(Spread(starting, second)({"type": "lifespan"}, None, send))  # type: ignore[arg-type]
    assert seen == [("before", False), ("lifespan.startup.complete", True)]
