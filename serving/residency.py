"""Bring the mapped files of a bundle into this process's page tables before it is in use.

A page that a process has not looked at yet costs a fault, and a request over a large catalogue
looks at hundreds that lie far apart. The kernel maps all of them in one call (Linux 5.14 and
newer); elsewhere requests find their pages one by one, as they did.

Of small pages each look then still costs several steps through the page tables, which do not stay
in the caches: at ten million songs more than all the rest. File systems that keep files in large
blocks (ext4 from Linux 6.16 on, XFS) map them as huge pages, if they were read so. A file that was
just written mostly was not: it is forgotten and read again, once, by the first process that maps
it.
"""

import ctypes
import errno
import gc
import logging
import mmap
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from serving.files import SEARCH_FILE, TEXT_FILE

log = logging.getLogger("serving.residency")

SMAPS: Final = Path("/proc/self/smaps")
MADV_DONTNEED: Final = 4
MADV_HUGEPAGE: Final = 14
MADV_POPULATE_READ: Final = 22
# Smaller files fit into the caches of page tables as they are.
LARGE: Final = 64 * 2**20
# Read once from the start to the end, or hardly at all.
SELDOM: Final = (TEXT_FILE, SEARCH_FILE)


@dataclass(frozen=True)
class Mapping:
    """A file's stretch of this process's memory; `huge` bytes of it are in huge pages."""

    path: Path
    start: int
    size: int
    huge: int


def make_resident(folder: Path) -> int:
    """Map all pages of the files in a folder that this process has opened; return how many bytes.

    Those of large files in huge pages, where the system has them.
    """
    if not SMAPS.exists():
        return 0
    try:
        for one in _mapped(folder):
            _populate(one)
        for path in {one.path for one in _mapped(folder) if small_paged(one)}:
            _read_again([one for one in _mapped(folder) if one.path == path])
            if any(small_paged(one) for one in _mapped(folder) if one.path == path):
                log.info("%s stays in small pages: its file system knows no others.", path.name)
                break
        return sum(_looked_at(one) for one in _mapped(folder))
    except OSError as error:
        log.info("Pages of %s are mapped as they are asked for: %s", folder, error)
        return 0


def small_paged(one: Mapping) -> bool:
    """Tell whether a large mapping is mostly in small pages."""
    return one.size >= LARGE and one.huge < one.size // 2


def mappings(smaps: Iterable[str]) -> Iterator[Mapping]:
    """Yield the readable mappings of files from the lines of `/proc/<pid>/smaps`.

    Examples
    --------
    >>> lines = ["1000-3000 r--p 00000000 fe:00 7  /data/a.npz", "FilePmdMapped:  4 kB"]
    >>> list(mappings(lines))
    [Mapping(path=PosixPath('/data/a.npz'), start=4096, size=8192, huge=4096)]
    """
    found: tuple[Path, int, int] | None = None
    for line in smaps:
        fields = line.split(maxsplit=5)
        if fields[0].endswith(":"):
            if fields[0] == "FilePmdMapped:" and found is not None:
                yield Mapping(*found, huge=int(fields[1]) * 1024)
        else:
            start, end = (int(part, 16) for part in fields[0].split("-"))
            readable = len(fields) == 6 and fields[1].startswith("r")
            found = (Path(fields[5].rstrip("\n")), start, end - start) if readable else None


def _mapped(folder: Path) -> list[Mapping]:
    """Return the mappings of a folder's files of which requests read rows all over."""
    with SMAPS.open(encoding="utf-8") as lines:
        found = [one for one in mappings(lines) if one.path.parent == folder]
    return [one for one in found if one.path.name not in SELDOM]


def _populate(one: Mapping) -> None:
    """Map all pages, in huge ones if they are there."""
    # A system without huge pages refuses the wish.
    with suppress(OSError):
        _advise(one, MADV_HUGEPAGE)
    _advise(one, MADV_POPULATE_READ)


def _looked_at(one: Mapping) -> int:
    """Look at each page, and return how many bytes there are.

    A virtual machine may find the memory behind a page only then.
    """
    content: Any = (ctypes.c_uint8 * one.size).from_address(one.start)
    np.frombuffer(content, np.uint8)[:: mmap.PAGESIZE].max(initial=0)
    return one.size


def _read_again(parts: Iterable[Mapping]) -> None:
    """Let the system forget a file that nobody else has mapped, and read it in large blocks."""
    for one in parts:
        _advise(one, MADV_DONTNEED)
        file = os.open(one.path, os.O_RDONLY)
        try:
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(file)
        _populate(one)


def _advise(one: Mapping, advice: int) -> None:
    madvise: Any = getattr(ctypes.CDLL(None, use_errno=True), "madvise", None)
    if madvise is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    if madvise(ctypes.c_void_p(one.start), ctypes.c_size_t(one.size), advice):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def give_back() -> None:
    """Return memory that was freed to the system, where the C library knows how (glibc)."""
    gc.collect()
    trim: Any = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
