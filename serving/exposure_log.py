"""Exposures on disk: each worker appends to files of its own, behind the answers' back.

An exposure is written by itself, as soon as its answer is made: in bursts of many they held up one
answer in seven (docs/speed.md).
"""

import logging
import math
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from heapq import heappop, heappush
from itertools import count
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Final

from prometheus_client import Counter

from features.columns import Event
from features.mistakes import Mistake
from features.times import microseconds
from serving.exposures import Exposure, packed, unpacked
from serving.segments import Appender, Record, begun, cut, records, segments

log = logging.getLogger("serving.exposure_log")

# At most so many answers wait (about 200 KB each).
MOST: Final = 256
STOP_SECONDS: Final = 10.0
MIB: Final = 1 << 20
# An exposure takes some sixty times an event's room, and no event may be refused for it: this
# much holds some 300,000 events, which is time to make room.
LEAST_ROOM_BYTES: Final = 128 * MIB
CROWDED: Final = (
    "Exposures are dropped: %.0f MiB are left on the disk, and the last %.0f are the events'. "
    "`python -m serving.forget_exposures` deletes old ones."
)
# What a clock may have been put back by while a file was being filled.
SLACK: Final = timedelta(hours=1)

exposures_total = Counter(
    "segue_exposures_total", "Answers logged as exposures, by outcome.", labelnames=["outcome"]
)


class ExposureWriter:
    """Makes and writes exposures in a thread of its own, one after the other."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._appender = Appender(folder)
        self._waiting: SimpleQueue[Callable[[], Exposure] | None] = SimpleQueue()
        self._stopped = False
        # What keeps exposures from being written now.
        self._ailment = ""
        # Whoever reads then finds no exposures instead of no log. What hinders, a write will say.
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
        self._thread = threading.Thread(target=self._run, name="exposures", daemon=True)
        self._thread.start()

    def put(self, make: Callable[[], Exposure]) -> None:
        """Hand in what makes an exposure; where too many wait it is counted and dropped.

        It is called in this writer's thread.
        """
        if self._stopped or self._waiting.qsize() >= MOST:
            exposures_total.labels("dropped").inc()
        else:
            self._waiting.put(make)

    def close(self) -> None:
        """Write what waits, and end."""
        self._stopped = True
        self._waiting.put(None)
        self._thread.join(STOP_SECONDS)

    def _run(self) -> None:
        while (make := self._waiting.get()) is not None:
            exposures_total.labels(self._outcome(make)).inc()
        self._appender.close()

    def _outcome(self, make: Callable[[], Exposure]) -> str:
        """Make and write an exposure; return what became of it."""
        try:
            made = packed(make())
        except Exception:
            log.exception("An exposure was not made.")
            return "failed"
        try:
            room = self._room_bytes()
            if room < LEAST_ROOM_BYTES:
                self._say_once("crowded", CROWDED, room / MIB, LEAST_ROOM_BYTES / MIB)
                return "dropped"
            self._appender.append(*made)
        except Exception as error:  # noqa: BLE001 - nobody waits for it; it is counted
            self._say_once(str(error), "Exposures are not written: %s", error)
            return "failed"
        self._ailment = ""
        return "written"

    def _room_bytes(self) -> float:
        """Return by how much the files can grow."""
        try:
            return shutil.disk_usage(self.folder).free
        except FileNotFoundError:
            # The next write makes it anew, or says why it cannot.
            return math.inf

    def _say_once(self, ailment: str, message: str, *values: object) -> None:
        """Log what keeps exposures from being written, once for as long as it lasts."""
        if ailment != self._ailment:
            self._ailment = ailment
            log.warning(message, *values)


class ExposureLog:
    """Reads and forgets exposures, while others are written.

    Raises
    ------
    Mistake
        If there is no such folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._paths()

    def read(self, since: datetime, until: datetime) -> Iterator[Exposure]:
        """Yield the exposures with since <= ts < until in order of time.

        In memory lie the files that were being filled at one moment, and the request ids of what
        was yielded: of one that came twice only the first is.
        """
        first, last = microseconds(since), microseconds(until)
        known: set[str] = set()
        for record in self._records(since, until):
            ts, ident = _when(record)
            if first <= ts < last and ident not in known:
                known.add(ident)
                yield unpacked(record.header, record.body)

    def forget(self, before: datetime) -> Iterator[int]:
        """Delete the exposures of before a moment, file by file; yield how many went each time."""
        last = microseconds(before)
        return self._cut(lambda header: header[Event.TS] < last)

    def forget_user(self, user_id: str) -> Iterator[int]:
        """Delete a listener's exposures, file by file; yield how many went each time."""
        return self._cut(lambda header: header[Event.USER] == user_id)

    def _records(self, since: datetime, until: datetime) -> Iterator[Record]:
        """Yield all records of the files that may hold some of a period, in order of time."""
        heap: list[tuple[tuple[int, str], int, Record]] = []
        number = count()
        for path in self._paths():
            if not _may_hold(path, since, until):
                continue
            # What is older than a file is older than all that is in it.
            while heap and heap[0][0][0] < microseconds(begun(path)):
                yield heappop(heap)[-1]
            for record in records(path):
                heappush(heap, (_when(record), next(number), record))
        while heap:
            yield heappop(heap)[-1]

    def _cut(self, unwanted: Callable[[Mapping[str, Any]], bool]) -> Iterator[int]:
        return (cut(path, unwanted) for path in self._paths())

    def _paths(self) -> list[Path]:
        try:
            return segments(self.folder)
        except OSError as error:
            raise Mistake(
                f"There is no exposure log at {self.folder}: {error.strerror}. SEGUE_EXPOSURES "
                "(or --folder) names another folder."
            ) from error


def _when(record: Record) -> tuple[int, str]:
    return record.header[Event.TS], record.header[Event.REQUEST]


def _may_hold(path: Path, since: datetime, until: datetime) -> bool:
    """Tell by a file's name and last change whether exposures of a period may be in it."""
    try:
        changed = datetime.fromtimestamp(path.stat().st_mtime, UTC)
    except FileNotFoundError:
        return False
    return begun(path) <= until + SLACK and changed >= since - SLACK
