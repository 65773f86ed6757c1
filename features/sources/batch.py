"""What every source yields: batches of raw rows, and what could not be read at all."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import pyarrow as pa


@dataclass(frozen=True)
class Fault:
    """One unreadable item of a file: a line, a stretch of damage, or the whole file.

    Attributes
    ----------
    file
        Path of the file.
    row
        Its number as in `Batch.numbers`; `None` where the whole file is meant.
    reason
        Why it could not be read, a fixed phrase that can be counted.
    raw
        What stood there, or the reader's own words about the damage.
    lost
        Bytes of the file that cannot be read for it, where that is more than a row.
    """

    file: str
    row: int | None
    reason: str
    raw: str
    lost: int = 0


@dataclass(frozen=True)
class Batch:
    """Rows of one file, before the contract is applied.

    Attributes
    ----------
    file
        Path of the file.
    raw
        The rows as they stand in the file, under the file's own column names.
    rows
        The same rows under the contract's column names, any types; absent columns are left out.
    numbers
        One int64 a row: the line number in a CSV (the header is line 1), the row number from 1
        in a Parquet file.
    faults
        What was unreadable since the last batch.
    size
        Bytes of the file that were read for this batch.
    """

    file: str
    raw: pa.Table
    rows: pa.Table
    numbers: pa.Array
    faults: list[Fault] = field(default_factory=list)
    size: int = 0


class Source(Protocol):
    """One kind of input. Each method can be called once, and holds one batch in memory."""

    def files(self) -> list[Path]:
        """Return all files that will be read."""

    def events(self) -> Iterator[Batch]:
        """Yield the events."""

    def users(self) -> Iterator[Batch]:
        """Yield the listeners; nothing if the source has no table of them."""

    def songs(self) -> Iterator[Batch]:
        """Yield the songs; nothing if the source has no table of them."""
