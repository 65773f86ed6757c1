"""Bring the mapped files of a bundle into this process's page tables before it is in use.

A page that a process has not looked at yet costs a fault, and a request over a large catalogue
looks at hundreds that lie far apart. The kernel maps all of them in one call (Linux 5.14 and
newer); elsewhere requests find their pages one by one, as they did.
"""

import ctypes
import logging
import os
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Final

log = logging.getLogger("serving.residency")

MAPS: Final = Path("/proc/self/maps")
MADV_POPULATE_READ: Final = 22
# Files of which a request reads rows all over; of the others it reads little, or what is popular.
SCATTERED: Final = ("factors_*", "sessions.npz", "trending.npz", "artists.npz")


def make_resident(folder: Path) -> int:
    """Map all pages of the scattered files that this process has opened; return how many bytes."""
    madvise = getattr(ctypes.CDLL(None, use_errno=True), "madvise", None)
    if madvise is None or not MAPS.exists():
        return 0
    done = 0
    for start, size in _mappings(folder):
        if madvise(ctypes.c_void_p(start), ctypes.c_size_t(size), MADV_POPULATE_READ):
            reason = os.strerror(ctypes.get_errno())
            log.info("Pages of %s are mapped as they are asked for: %s", folder, reason)
            return done
        done += size
    return done


def _mappings(folder: Path) -> Iterator[tuple[int, int]]:
    """Yield address and size of each mapping of a scattered file."""
    for line in MAPS.read_text(encoding="utf-8").splitlines():
        fields = line.split(maxsplit=5)
        if len(fields) < 6 or not fields[1].startswith("r"):
            continue
        path = Path(fields[5])
        if path.parent == folder and any(fnmatch(path.name, one) for one in SCATTERED):
            start, end = (int(part, 16) for part in fields[0].split("-"))
            yield start, end - start
