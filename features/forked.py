"""Processes that share a command's work, forked from it, and end with it."""

import ctypes
import signal
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Final

_PR_SET_PDEATHSIG: Final = 1


@contextmanager
def forked(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Give a pool of processes that have all that this one has in memory.

    Raises
    ------
    OSError
        If one of them was killed.
    """
    try:
        with ProcessPoolExecutor(workers, get_context("fork"), _end_with_parent) as pool:
            yield pool
    except BrokenProcessPool as error:
        raise OSError(
            "A process of this command was killed, as where memory runs out; free some (`free -h`),"
            " then run it again."
        ) from error


def _end_with_parent() -> None:
    """Have this process killed where its parent is: it would wait for work for ever."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
