"""Append-only files of records: each process fills files of its own, anyone reads and cuts them.

A file is a row of frames: `SEG1`, three lengths and sums (header bytes, body bytes, CRC-32 of
both; unsigned 32 bits, little endian), then a header, one JSON object, and a body. Whoever writes,
reads or cuts a file holds its lock (`flock`), so nobody sees half a record of a living process.
What a killed one left half is skipped.
"""

import fcntl
import json
import logging
import os
import re
import secrets
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from errno import ENOSPC
from functools import cached_property
from pathlib import Path
from typing import IO, Any, Final

log = logging.getLogger("serving.segments")

FRAME: Final = struct.Struct("<4sIII")
MAGIC: Final = b"SEG1"
# A full file is read whole: so much memory it takes.
MOST_BYTES: Final = 32 << 20
# Names begin with the moment that a file was begun at, so that they sort by it.
MOMENT: Final = "%Y%m%dT%H%M%S%fZ"
NAMED: Final = re.compile(r"\d{8}T\d{12}Z-[0-9a-f]{8}\.segment")
_json: Final = json.JSONEncoder(separators=(",", ":")).encode


@dataclass(frozen=True)
class Record:
    """One record as it lies in its file; `body` is a part of the file's bytes."""

    frame: memoryview
    header_bytes: int

    @cached_property
    def header(self) -> Mapping[str, Any]:
        """What is said of the body."""
        end = FRAME.size + self.header_bytes
        found: Mapping[str, Any] = json.loads(bytes(self.frame[FRAME.size : end]))
        return found

    @property
    def body(self) -> memoryview:
        """The body's bytes."""
        return self.frame[FRAME.size + self.header_bytes :]


class Appender:
    """Appends records to a file of its own in a folder; for one thread.

    A new file is begun where the last one is full, was deleted, or was cut by somebody.
    """

    def __init__(self, folder: Path, most_bytes: int = MOST_BYTES) -> None:
        self.folder = folder
        self.most_bytes = most_bytes
        self._writer = secrets.token_hex(4)
        self._file: int | None = None

    def append(self, header: Mapping[str, Any], body: bytes) -> None:
        """Append a record; a process that is killed afterwards loses nothing of it.

        Raises
        ------
        OSError
            If the disk does not take it; nothing of it stays then.
        """
        said = _json(header).encode()
        crc = zlib.crc32(body, zlib.crc32(said))
        parts = (FRAME.pack(MAGIC, len(said), len(body), crc), said, body)
        with self._locked() as (file, size):
            try:
                written = os.writev(file, parts)
                if written < sum(map(len, parts)):
                    raise OSError(ENOSPC, os.strerror(ENOSPC), str(self.folder))
            except OSError:
                os.ftruncate(file, size)
                raise

    def close(self) -> None:
        """Close the file; the next record begins another one."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    @contextmanager
    def _locked(self) -> Iterator[tuple[int, int]]:
        """Yield this writer's file, locked, and its size."""
        while True:
            file = self._begun() if self._file is None else self._file
            with _lock(file, fcntl.LOCK_EX) as found:
                if found.st_nlink and found.st_size < self.most_bytes:
                    yield file, found.st_size
                    return
            self.close()

    def _begun(self) -> int:
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{datetime.now(UTC):{MOMENT}}-{self._writer}.segment"
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o644)
        return self._file


def segments(folder: Path) -> list[Path]:
    """Return a folder's files in the order in which they were begun.

    Raises
    ------
    OSError
        If it cannot be read.
    """
    return sorted(path for path in folder.iterdir() if NAMED.fullmatch(path.name))


def begun(path: Path) -> datetime:
    """Return when a file was begun, by its name."""
    moment, _, _ = path.stem.partition("-")
    return datetime.strptime(moment, MOMENT).replace(tzinfo=UTC)


def records(path: Path) -> list[Record]:
    """Return a file's records, none of a file that is gone. What is no whole record is skipped."""
    with _opened(path, fcntl.LOCK_SH) as file:
        return _records(path, file.read()) if file else []


def cut(path: Path, unwanted: Callable[[Mapping[str, Any]], bool]) -> int:
    """Take records out of a file by their headers, while others write; return how many went.

    Its writer goes on in another file. A cut that is killed leaves all as it was. What is no whole
    record goes, too: it may be of anybody.
    """
    with _opened(path, fcntl.LOCK_EX) as file:
        if file is None:
            return 0
        content = file.read()
        found = _records(path, content)
        kept = [record.frame for record in found if not unwanted(record.header)]
        if not kept:
            path.unlink()
        elif sum(map(len, kept)) < len(content):
            _replace(path, kept)
        return len(found) - len(kept)


def _replace(path: Path, frames: Sequence[memoryview]) -> None:
    part = path.with_suffix(".part")
    try:
        with part.open("wb") as file:
            file.writelines(frames)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def _opened(path: Path, lock: int) -> Iterator[IO[bytes] | None]:
    """Yield the file that lies at a path, locked; None where there is none."""
    while True:
        try:
            file = path.open("rb")
        except FileNotFoundError:
            yield None
            return
        with file, _lock(file.fileno(), lock) as found:
            # While we waited it may have been cut: then another one lies there.
            if found.st_nlink:
                yield file
                return


@contextmanager
def _lock(file: int, kind: int) -> Iterator[os.stat_result]:
    """Hold a file's lock; yield what is known of it by then."""
    fcntl.flock(file, kind)
    try:
        yield os.fstat(file)
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)


def _records(path: Path, content: bytes) -> list[Record]:
    view, found, at, skipped = memoryview(content), [], 0, 0
    while at < len(content):
        record = _record(view[at:])
        if record is not None:
            found.append(record)
            at += len(record.frame)
            continue
        following = content.find(MAGIC, at + 1)
        end = following if following >= 0 else len(content)
        skipped, at = skipped + end - at, end
    if skipped:
        log.warning("%s: %d bytes are no whole record and are left out.", path, skipped)
    return found


def _record(rest: memoryview) -> Record | None:
    """Return the record that begins here, None where no whole one does."""
    if len(rest) < FRAME.size:
        return None
    magic, header, body, crc = FRAME.unpack_from(rest)
    end = FRAME.size + header + body
    if magic != MAGIC or end > len(rest) or zlib.crc32(rest[FRAME.size : end]) != crc:
        return None
    return Record(rest[:end], header)
