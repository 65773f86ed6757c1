"""Connections are handed to a worker with less to do, and to no other."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from serving.spread import CLOSE, Busy, Spread

REQUESTS = 400
ONE_IN = 4


@pytest.fixture
def two(tmp_path: Path) -> list[Busy]:
    """Return the counts of two workers that are up, as each sees them."""
    workers = [Busy(tmp_path / "busy", 2, own) for own in range(2)]
    for worker in workers:
        worker.up()
    return workers


async def answering(scope: Any, receive: Any, send: Any) -> None:
    del scope, receive
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x", b"y")]})
    await send({"type": "http.response.body", "body": b"{}"})


def closed(busy: Busy, app: Any = answering) -> int:
    """Return how many of `REQUESTS` requests, one after the other, end their connections."""
    starts: list[Any] = []

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            starts.append(message)

    async def ask() -> None:
        spread = Spread(app, busy, ONE_IN)
        for _ in range(REQUESTS):
            await spread({"type": "http"}, None, send)  # type: ignore[arg-type]

    asyncio.run(ask())
    assert all((b"x", b"y") in start["headers"] for start in starts)
    return sum(CLOSE in start["headers"] for start in starts)


def occupy(busy: Busy, requests: int) -> None:
    for _ in range(requests):
        busy.count(1)


def test_who_has_more_to_do_closes_a_share_of_connections(two: list[Busy]) -> None:
    occupy(two[0], 1)
    # By chance: of 400, 100 plus or minus five standard deviations.
    assert closed(two[0]) == pytest.approx(REQUESTS / ONE_IN, abs=44)


def test_who_has_less_or_as_much_or_one_more_closes_none(two: list[Busy]) -> None:
    assert closed(two[0]) == 0
    occupy(two[0], 3)
    occupy(two[1], 3)
    assert [closed(one) for one in two] == [0, 0]
    occupy(two[1], 5)
    assert closed(two[0]) == 0


def test_a_worker_that_is_not_up_is_sent_nobody(tmp_path: Path) -> None:
    first = Busy(tmp_path / "busy", 2, 0)
    first.up()
    occupy(first, 5)
    assert closed(first) == 0
    second = Busy(tmp_path / "busy", 2, 1)
    assert closed(first) == 0
    second.up()
    assert closed(first) > 0


def test_who_follows_a_worker_that_died_does_not_inherit_its_requests(tmp_path: Path) -> None:
    first, dead = (Busy(tmp_path / "busy", 2, own) for own in range(2))
    first.up()
    dead.up()
    occupy(first, 2)
    occupy(dead, 5)
    assert not first.exceeds(2)
    Busy(tmp_path / "busy", 2, 1).up()
    assert first.exceeds(2)


def test_a_request_that_fails_is_done_with_too(two: list[Busy]) -> None:
    async def failing(scope: Any, receive: Any, send: Any) -> None:
        del scope, receive, send
        raise LookupError

    async def ask() -> None:
        with pytest.raises(LookupError):
            await Spread(failing, two[0])({"type": "http"}, None, None)  # type: ignore[arg-type]

    for _ in range(5):
        asyncio.run(ask())
    assert not two[0].exceeds(1)


def test_a_worker_is_up_once_its_service_has_started(tmp_path: Path) -> None:
    first, second = (Busy(tmp_path / "busy", 2, own) for own in range(2))
    first.up()
    occupy(first, 5)
    seen: list[tuple[str, bool]] = []

    async def starting(scope: Any, receive: Any, send: Any) -> None:
        del scope, receive
        seen.append(("before", first.exceeds(2)))
        await send({"type": "lifespan.startup.complete"})

    async def send(message: Any) -> None:
        seen.append((message["type"], first.exceeds(2)))

    asyncio.run(Spread(starting, second)({"type": "lifespan"}, None, send))  # type: ignore[arg-type]
    assert seen == [("before", False), ("lifespan.startup.complete", True)]
