"""The files of a SQLite database: telling when they were deleted or moved, and clearing up."""

import os
from pathlib import Path

from features.locks import alone_in

Inode = tuple[int, int]
Files = tuple[Inode | None, Inode | None]


def files_of(path: str) -> Files:
    """Return what tells a database and its WAL from others that came in their place."""
    return inode(path), inode(f"{path}-wal")


def inode(path: str) -> Inode | None:
    """Return a file's device and number there, None where there is no file."""
    try:
        found = os.stat(path)  # noqa: PTH116 - at every request, and a Path costs more than it
    except OSError:
        return None
    return found.st_dev, found.st_ino


def clear(path: Path) -> None:
    """Take away what a file that is gone has left, which the next would take for its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # The next worker finds the new file and leaves what belongs to it.
    with alone_in(path.parent):
        if not path.exists():
            for end in ("-wal", "-shm"):
                Path(f"{path}{end}").unlink(missing_ok=True)
            path.touch()
