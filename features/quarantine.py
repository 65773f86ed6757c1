"""Keep what was not imported: every bad row with its place, its reason and its content."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from features.sources.batch import Batch, Fault
from features.sources.objects import as_objects

SCHEMA = pa.schema(
    {
        "table": pa.string(),
        "file": pa.string(),
        "row": pa.int64(),
        "reason": pa.string(),
        "raw": pa.string(),
    }
)
# Of what stands in a message.
_MOST_SHOWN = 200


class Quarantine:
    """Writes bad rows to `part-0.parquet` in a folder and counts them by table and reason.

    Parameters
    ----------
    folder
        An existing folder.

    Attributes
    ----------
    counts
        For each table the number of rows per reason.
    firsts
        For each table and reason where it was met first, and what stood there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self.firsts: dict[tuple[str, str], str] = {}

    def __enter__(self) -> "Quarantine":
        """Open the file."""
        self._writer = pq.ParquetWriter(self.folder / "part-0.parquet", SCHEMA)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the file."""
        self._writer.close()

    def add_batch(self, table: str, batch: Batch, reasons: pd.Series) -> None:
        """Add a batch's unreadable items and its rows that have a reason."""
        self.add(table, batch.faults)
        bad = reasons[reasons.notna()]
        numbers = batch.numbers.take(pa.array(bad.index, pa.int64())).to_pylist()
        raws = as_objects(batch.raw.take(pa.array(bad.index, pa.int64())))
        for index, number, reason in zip(bad.index, numbers, bad, strict=True):
            if (table, reason) not in self.firsts:
                self._note(table, batch.file, number, reason, _cell(batch.rows, index, reason))
        self.add(
            table,
            [
                Fault(batch.file, number, reason, json.dumps(raw, default=str, ensure_ascii=False))
                for number, reason, raw in zip(numbers, bad, raws, strict=True)
            ],
        )

    def add(self, table: str, faults: Iterable[Fault]) -> None:
        """Add unreadable items."""
        rows = [{"table": table, **vars(fault)} for fault in faults]
        for row in rows:
            self._note(table, row["file"], row["row"], row["reason"], row["raw"])
        self.counts[table].update(row["reason"] for row in rows)
        if rows:
            self._writer.write_table(pa.Table.from_pylist(rows, SCHEMA))

    def _note(self, table: str, file: str, row: int | None, reason: str, stood: object) -> None:
        place = file if row is None else f"{file}, row {row}"
        self.firsts.setdefault((table, reason), f"{place}: {_shortened(str(stood))!r}")


def _cell(rows: pa.Table, index: int, reason: str) -> object:
    """Return what a row has in the column that its reason begins with; None without the column."""
    column = reason.partition(":")[0]
    if column not in rows.column_names:
        return None
    return as_objects(rows.select([column]).slice(index, 1))[0][column]


def _shortened(text: str) -> str:
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]} …"
