"""Write what many threads hand in, many items in one go."""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Final, Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

STOP_SECONDS: Final = 10.0


class FullError(RuntimeError):
    """So many items wait to be written that no more are taken."""


class Batcher(Generic[Item, Result]):
    """One thread that writes all that waits, so that one commit serves many callers.

    Parameters
    ----------
    write
        Writes items and returns one result each; its error is every caller's.
    most
        How many items may wait; `submit` refuses more.
    largest
        How many are written at most in one go.
    linger_seconds
        How long the first item waits for others.
    """

    def __init__(
        self,
        write: Callable[[Sequence[Item]], Sequence[Result]],
        name: str,
        most: int,
        largest: int,
        linger_seconds: float = 0.0,
    ) -> None:
        self.write = write
        self.most = most
        self.largest = largest
        self.linger_seconds = linger_seconds
        self._waiting: deque[tuple[Item, Future[Result] | None]] = deque()
        self._changed = threading.Condition()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, item: Item) -> "Future[Result]":
        """Hand an item in; its future has the result once it is written.

        Raises
        ------
        FullError
            If too many wait, or the batcher was stopped.
        """
        future: Future[Result] = Future()
        self._add(item, future)
        return future

    def put(self, item: Item) -> None:
        """Hand an item in whose result nobody but `write` wants.

        Raises
        ------
        FullError
            If too many wait, or the batcher was stopped.
        """
        self._add(item, None)

    def stop(self) -> None:
        """Write what waits, and end."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        self._thread.join(STOP_SECONDS)

    def _add(self, item: Item, future: "Future[Result] | None") -> None:
        with self._changed:
            if self._stopped or len(self._waiting) >= self.most:
                raise FullError(f"{len(self._waiting)} items wait to be written; try again later.")
            self._waiting.append((item, future))
            # In between the writer lingers; to wake it would only take time from its callers.
            if len(self._waiting) in (1, self.largest):
                self._changed.notify()

    def _run(self) -> None:
        while group := self._take():
            # From here on a caller cannot withdraw its item any more.
            kept = [(i, f) for i, f in group if f is None or f.set_running_or_notify_cancel()]
            if not kept:
                continue
            items, futures = zip(*kept, strict=True)
            try:
                results = self.write(items)
            except BaseException as error:  # noqa: BLE001 - the callers are the ones to know
                for future in filter(None, futures):
                    future.set_exception(error)
            else:
                for future, result in zip(futures, results, strict=True):
                    if future is not None:
                        future.set_result(result)

    def _take(self) -> list[tuple[Item, "Future[Result] | None"]]:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._stopped)
            self._changed.wait_for(
                lambda: self._stopped or len(self._waiting) >= self.largest, self.linger_seconds
            )
            count = min(len(self._waiting), self.largest)
            return [self._waiting.popleft() for _ in range(count)]
