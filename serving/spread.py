"""Kept connections, spread over the workers.

All workers accept from one socket and a connection stays with the worker that took it: of a few
kept ones a single worker may have all, and the others nothing to do.
"""

import math
import mmap
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

CLOSE: Final = (b"connection", b"close")
# While another worker has so many fewer requests now (with one fewer they would only change places)
# and had so many fewer on the mean of late (at any one moment some worker has, by chance), a worker
# closes a connection at most every so often.
PACE_SECONDS: Final = 0.1
FEWER_NOW: Final = 2
FEWER_OF_LATE: Final = 1.5
LATE_SECONDS: Final = 0.5
# What the file holds of each worker: its requests, their mean, and when it was worked out; a worker
# that is not up has 0 for the last.
REQUESTS, MEAN, MOMENT, FIELDS = range(4)
BYTES: Final = 8


class Busy:
    """How much each worker has to do: a file that all of them map.

    `own` is this worker's place among `workers`, from 0. Whoever takes the place of a worker that
    died begins anew, and counts as not up until then.
    """

    def __init__(
        self, path: Path, workers: int, own: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        size = workers * FIELDS * BYTES
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            # Where there is no room it fails here, not by a signal once somebody counts.
            os.posix_fallocate(file, 0, size)
            numbers = memoryview(mmap.mmap(file, size)).cast("d")
        finally:
            os.close(file)
        places = [numbers[start : start + FIELDS] for start in range(0, workers * FIELDS, FIELDS)]
        self._own = places.pop(own)
        self._others = places
        self.clock = clock
        self._own[MOMENT] = 0

    def up(self) -> None:
        """Let the others know that this worker answers."""
        self._own[REQUESTS] = self._own[MEAN] = 0
        self._own[MOMENT] = self.clock()

    def count(self, change: int) -> None:
        """Count one request that came (1), or that is done with (-1)."""
        now = self.clock()
        self._own[MEAN] = mean(self._own, now)
        self._own[REQUESTS] += change
        self._own[MOMENT] = now

    def is_overloaded(self) -> bool:
        """Tell whether another worker that is up has enough less to do for a connection to move."""
        now = self.clock()
        requests = self._own[REQUESTS] - FEWER_NOW
        return any(
            place[MOMENT] > 0
            and place[REQUESTS] <= requests
            and mean(place, now) <= mean(self._own, now) - FEWER_OF_LATE
            for place in self._others
        )


def mean(place: "memoryview[float]", now: float) -> float:
    """Return a worker's mean number of requests, what was before weighing less the longer ago."""
    kept = math.exp((place[MOMENT] - now) / LATE_SECONDS)
    return float(place[REQUESTS] + kept * (place[MEAN] - place[REQUESTS]))


class Spread:
    """ASGI middleware: a worker with more to do than another closes some of its connections.

    It says so with the answer (RFC 9112, 9.6); whoever asked connects again, and some of them to
    the other worker. Once none has more to do, connections stay. A worker that died or stands still
    keeps its last numbers, so that the others may close in vain, at the same pace.
    """

    def __init__(self, app: ASGIApp, busy: Busy) -> None:
        self.app = app
        self.busy = busy
        self.not_before = 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass everything on; close a request's connection perhaps."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, self._up(send))
        elif scope["type"] != "http":
            await self.app(scope, receive, send)
        else:
            self.busy.count(1)
            try:
                await self.app(scope, receive, self._closing(send))
            finally:
                self.busy.count(-1)

    def _up(self, send: Send) -> Send:
        async def told(message: Message) -> None:
            if message["type"] == "lifespan.startup.complete":
                self.busy.up()
            await send(message)

        return told

    def _closing(self, send: Send) -> Send:
        async def closed(message: Message) -> None:
            if message["type"] == "http.response.start" and self._is_moved():
                message["headers"] = [*message.get("headers", ()), CLOSE]
            await send(message)

        return closed

    def _is_moved(self) -> bool:
        now = self.busy.clock()
        if now < self.not_before or not self.busy.is_overloaded():
            return False
        self.not_before = now + PACE_SECONDS
        return True
