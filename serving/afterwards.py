"""Small things that can wait, done many at a time in a thread of their own."""

import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Final, Generic, TypeVar

log = logging.getLogger("serving.afterwards")

Item = TypeVar("Item")

# At most so many things wait; whoever hands in one more does them all.
MOST: Final = 1024
EVERY_SECONDS: Final = 0.03


class Afterwards(Generic[Item]):
    """Does something with each item handed in, in order, soon after.

    Between two answers the caches hold other things, and code that then runs once takes about four
    times as long as in a row.
    """

    def __init__(
        self, do: Callable[[Item], None], name: str, seconds: float = EVERY_SECONDS
    ) -> None:
        self.do = do
        self.name = name
        self.seconds = seconds
        self._waiting: deque[Item] = deque()
        self._one_at_a_time = threading.Lock()
        self._stopped = threading.Event()
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def put(self, item: Item) -> None:
        """Hand an item in; after `stop`, too, it is done."""
        self._waiting.append(item)
        if self._stopped.is_set() or len(self._waiting) >= MOST:
            self.flush()

    def flush(self) -> None:
        """Do now what waits."""
        with self._one_at_a_time:
            while self._waiting:
                self._do(self._waiting.popleft())

    def stop(self) -> None:
        """Do what waits, and end."""
        self._stopped.set()
        self.flush()

    def _run(self) -> None:
        while not self._stopped.wait(self.seconds):
            self.flush()

    def _do(self, item: Item) -> None:
        try:
            self.do(item)
        except Exception:
            log.exception("Something was left undone by %s.", self.name)
