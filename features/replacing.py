"""A folder that is replaced as a whole or not at all, by one process at a time."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from features.locks import alone_in

NEW: Final = "new"
# What is replaced, for the moment of the swap.
OLD: Final = "old"


@contextmanager
def replaced(folder: Path) -> Iterator[Path]:
    """Give a scratch folder beside one; what is made as `NEW` in it takes its place at the end.

    Not if the block raises. What a killed process left is put right or goes first.
    """
    # One name for each: of `lake-*`, what is made for `lake-2` would be taken, too.
    scratch = folder.with_name(f".{folder.name}.part")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with alone_in(folder.parent):
        _clear(scratch, folder)
        scratch.mkdir()
        try:
            yield scratch
            if folder.exists():
                folder.rename(scratch / OLD)
            (scratch / NEW).rename(folder)
        finally:
            _clear(scratch, folder)


def _clear(scratch: Path, folder: Path) -> None:
    """Delete a scratch folder; what a swap that was broken off took away goes back first."""
    if not folder.exists() and (scratch / OLD).exists():
        (scratch / OLD).rename(folder)
    shutil.rmtree(scratch, ignore_errors=True)
