"""Answer in time: how long is left, and calls that give up instead of hanging."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from contextvars import Context, ContextVar, copy_context
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any, Final, Generic, ParamSpec, TypeVar

log = logging.getLogger("serving.deadline")

Asked = ParamSpec("Asked")
Found = TypeVar("Found")
# What one thread is to do: where the result goes, in which context, and the arguments.
Jobs = SimpleQueue[tuple[Future[Any], Context, Any, Any]]
# When the request under way arrived (`time.monotonic`); the guard sets it.
arrived: ContextVar[float | None] = ContextVar("arrived", default=None)
# Failures in a row after which a source is left alone, and for how long, doubling, at most.
TRUSTED: Final = 3
MOST_ASKING: Final = 2
REST_SECONDS: Final = 1.0
LONGEST_REST_SECONDS: Final = 30.0


class OutOfService(RuntimeError):  # noqa: N818 - a state, told in `degraded`
    """A source that failed lately, or all of whose threads hang; it is not even asked."""


@dataclass(frozen=True)
class Deadline:
    """A moment of `time.monotonic`, `seconds` after the request came."""

    at: float
    seconds: float

    @classmethod
    def after(cls, seconds: float) -> "Deadline":
        """Return the deadline of the request under way; from now where none is."""
        return cls((arrived.get() or time.monotonic()) + seconds, seconds)

    def left(self, share: float = 1.0) -> float:
        """Return the seconds until `share` of the whole time is over, at least 0."""
        return max(self.at - (1 - share) * self.seconds - time.monotonic(), 0.0)


@dataclass
class Breaker:
    """Counts failures in a row; after `TRUSTED` of them lets one call through a rest."""

    now: Callable[[], float] = time.monotonic
    failures: int = 0
    closed_until: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def may_try(self) -> bool:
        """Tell whether to call; during a rest, no, and at its end one call to try."""
        with self._lock:
            if self.failures < TRUSTED:
                return True
            if self.now() < self.closed_until:
                return False
            self._rest()
            return True

    def report(self, good: bool) -> None:
        """Take note of how a call went."""
        with self._lock:
            self.failures = 0 if good else self.failures + 1
            if self.failures >= TRUSTED:
                self._rest()

    def _rest(self) -> None:
        doubled = REST_SECONDS * 2.0 ** min(self.failures - TRUSTED, 10)
        self.closed_until = self.now() + min(doubled, LONGEST_REST_SECONDS)


class Guarded(Generic[Asked, Found]):
    """A source that may fail or hang; it is left alone for a while after it did.

    Never more than `MOST_ASKING` ask at once: a source that hangs holds no more threads than that.
    """

    def __init__(self, call: Callable[Asked, Found], name: str) -> None:
        self.call = call
        self.name = name
        self.breaker = Breaker()
        self._free = threading.Semaphore(MOST_ASKING)

    def ask(
        self, deadline: Deadline, share: float, *args: Asked.args, **kwargs: Asked.kwargs
    ) -> Found:
        """Return what the source says.

        An answer that comes after `share` of the time says nothing good of the source: whoever
        waits has given it up by then, and told so by `late`.

        Raises
        ------
        OutOfService
            If it failed lately, or all that may ask hang.
        """
        if not self.breaker.may_try():
            raise OutOfService(f"{self.name} failed {self.breaker.failures} times; it rests.")
        if not self._free.acquire(blocking=False):
            raise OutOfService(f"All calls to {self.name} hang.")
        try:
            found = self.call(*args, **kwargs)
        except BaseException:
            self.breaker.report(good=False)
            raise
        finally:
            self._free.release()
        if deadline.left(share):
            self.breaker.report(good=True)
        return found

    def late(self) -> None:
        """Take note that somebody stopped waiting."""
        self.breaker.report(good=False)


async def ended(call: "Future[Any]", seconds: float) -> bool:
    """Wait for a call in another thread, at most so long; tell whether it ended.

    It goes on if it did not.
    """
    if call.done() or seconds <= 0:
        return call.done()
    loop = asyncio.get_running_loop()
    # One future and one timer; `wrap_future` and `wait` would make more of both.
    over = loop.create_future()
    timer = loop.call_later(seconds, _settle, over)
    call.add_done_callback(lambda _: _settle_from_afar(loop, over))
    try:
        await over
    finally:
        timer.cancel()
    return call.done()


def _settle(over: "asyncio.Future[None]") -> None:
    if not over.done():
        over.set_result(None)


def _settle_from_afar(loop: asyncio.AbstractEventLoop, over: "asyncio.Future[None]") -> None:
    # Whoever waited is gone with a loop that was closed.
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(_settle, over)


class in_turn:  # noqa: N801 - reads as a word of the language
    """Wait for a turn, at most so many seconds, and give it back at the end of the block.

    Raises
    ------
    TimeoutError
        If none became free.
    """

    # A generator made into the same takes four times as long.
    def __init__(self, turns: asyncio.Semaphore, seconds: float) -> None:
        self.turns = turns
        self.seconds = seconds

    async def __aenter__(self) -> None:
        """Wait for a turn."""
        if self.turns.locked():
            async with asyncio.timeout(self.seconds):
                await self.turns.acquire()
        else:
            # Comes back at once: there is nothing that a timer could end.
            await self.turns.acquire()

    async def __aexit__(self, *_: object) -> None:
        """Give the turn back."""
        self.turns.release()


class Bounded(Generic[Asked, Found]):
    """Calls a function in threads of its own, so that the caller can stop waiting.

    A call that hangs keeps its thread; with all threads gone nothing is called any more until one
    comes back.
    """

    def __init__(self, call: Callable[Asked, Found], name: str, threads: int) -> None:
        self.call = call
        self.name = name
        # What waits on top was busy last: its memory is still in the caches.
        self._idle = [Jobs() for _ in range(threads)]
        for number, jobs in enumerate(self._idle):
            threading.Thread(
                target=self._run, args=(jobs,), name=f"{name}-{number}", daemon=True
            ).start()

    def start(self, *args: Asked.args, **kwargs: Asked.kwargs) -> "Future[Found]":
        """Begin a call.

        Raises
        ------
        OutOfService
            If all threads hang.
        """
        try:
            jobs = self._idle.pop()
        except IndexError:
            raise OutOfService(f"All threads of {self.name} hang.") from None
        future: Future[Found] = Future()
        # The call's stages and request id are the caller's.
        jobs.put((future, copy_context(), args, kwargs))
        return future

    def _run(self, jobs: Jobs) -> None:
        while True:
            future, context, args, kwargs = jobs.get()
            try:
                found = context.run(self.call, *args, **kwargs)
            except BaseException as error:  # noqa: BLE001 - the caller is the one to know
                self._idle.append(jobs)
                future.set_exception(error)
            else:
                self._idle.append(jobs)
                future.set_result(found)
