"""Kept connections, spread over the workers.

All workers accept from one socket and a connection stays with the worker that took it: of a few
kept ones a single worker may have all, and the others nothing to do.
"""

import mmap
import os
import random
from pathlib import Path
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

CLOSE: Final = (b"connection", b"close")
# One in so many is sent away while another worker has at least so many requests fewer: with one
# fewer they would only change places.
ONE_IN: Final = 8
FEWER: Final = 2
BYTES: Final = 8


class Busy:
    """How many requests each worker is answering: numbers in a file that all of them map.

    `own` is this worker's place, from 0. A place is 0 until its worker is up, and then one more
    than its requests; whoever follows a worker that died begins with 0 again.
    """

    def __init__(self, path: Path, workers: int, own: int) -> None:
        size = workers * BYTES
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            # Where there is no room it fails here, not by a signal once somebody counts.
            os.posix_fallocate(file, 0, size)
            self._places = memoryview(mmap.mmap(file, size)).cast("q")
        finally:
            os.close(file)
        self._own = own
        self._places[own] = 0

    def up(self) -> None:
        """Let the others know that this worker answers."""
        self._places[self._own] = 1

    def count(self, change: int) -> None:
        """Count one request that came (1), or that is done with (-1)."""
        self._places[self._own] += change

    def exceeds(self, fewer: int) -> bool:
        """Tell whether a worker that is up answers at least so many fewer requests than this."""
        most = self._places[self._own] - fewer
        return any(0 < place <= most for place in self._places)


class Spread:
    """ASGI middleware: a worker with more to do than another closes some of its connections.

    It says so with the answer (RFC 9112, 9.6); whoever asked connects again, and some of them to
    the other worker. Once none has more to do, connections stay.
    """

    def __init__(self, app: ASGIApp, busy: Busy, one_in: int = ONE_IN) -> None:
        self.app = app
        self.busy = busy
        self.share = 1 / one_in

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
            if (
                message["type"] == "http.response.start"
                and self.busy.exceeds(FEWER)
                and random.random() < self.share
            ):
                message["headers"] = [*message.get("headers", ()), CLOSE]
            await send(message)

        return closed
