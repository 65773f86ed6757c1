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
    """

    def __init__(
        self,
        write: Callable[[Sequence[Item]], Sequence[Result]],
        name: str,
        most: int,
        largest: int,
    ) -> None:
        self.write = write
        self.most = most
        self.largest = largest
        self._waiting: deque[tuple[Item, Future[Result]]] = deque()
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
        with self._changed:
            if self._stopped or len(self._waiting) >= self.most:
                raise FullError(f"{len(self._waiting)} items wait to be written; try again later.")
            self._waiting.append((item, future))
            self._changed.notify()
        return future

    def stop(self) -> None:
        """Write what waits, and end."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        self._thread.join(STOP_SECONDS)

    def _run(self) -> None:
        while group := self._take():
            # From here on a caller cannot withdraw its item any more.
            kept = [(i, f) for i, f in group if f.set_running_or_notify_cancel()]
            if not kept:
                continue
            items, futures = zip(*kept, strict=True)
            try:
                results = self.write(items)
            except BaseException as error:  # noqa: BLE001 - the callers are the ones to know
                for future in futures:
                    future.set_exception(error)
            else:
                for future, result in zip(futures, results, strict=True):
                    future.set_result(result)

    def _take(self) -> list[tuple[Item, "Future[Result]"]]:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._stopped)
            count = min(len(self._waiting), self.largest)
            return [self._waiting.popleft() for _ in range(count)]
