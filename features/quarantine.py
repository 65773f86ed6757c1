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
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.counts: defaultdict[str, Counter[str]] = defaultdict(Counter)

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
        self.counts[table].update(row["reason"] for row in rows)
        if rows:
            self._writer.write_table(pa.Table.from_pylist(rows, SCHEMA))
