"""Titles and artists by row, as Arrow keeps them: on disk, mapped, read when asked for."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa

from features.columns import Song

ROWS: Final = 65_536
SCHEMA: Final = pa.schema([(Song.TITLE, pa.string()), (Song.ARTISTS, pa.list_(pa.string()))])


_NOTHING: Final = np.zeros(1, np.int32).data


@dataclass(frozen=True)
class Names:
    """Record batches of `ROWS` rows each, the last one shorter."""

    batches: Sequence[Any]

    def title(self, row: int) -> str | None:
        """Return a song's title, None where the source has none."""
        titles, _, _ = self._columns[row // ROWS]
        return titles[row % ROWS]

    def artists(self, row: int) -> list[str]:
        """Return a song's artists, main artist first; empty where the source names none."""
        _, starts, names = self._columns[row // ROWS]
        first, end = starts[row % ROWS], starts[row % ROWS + 1]
        return [name for place in range(first, end) if (name := names[place]) is not None]

    @cached_property
    def _columns(self) -> list[tuple["_Texts", Any, "_Texts"]]:
        """Titles, the starts of the artists of each row, and artists, by batch."""
        return [
            (
                _Texts(batch.column(0)),
                batch.column(1).offsets.to_numpy().data,
                _Texts(batch.column(1).values),
            )
            for batch in self.batches
        ]


class _Texts:
    """A column of strings, read from its buffers: Arrow makes three objects for each it returns."""

    def __init__(self, column: Any) -> None:
        present, offsets, content = column.buffers()
        # Views give plain integers; an array would make an object of its own of each.
        self.offsets = (memoryview(offsets).cast("i") if offsets else _NOTHING)[column.offset :]
        self.content = memoryview(content) if content else memoryview(b"")
        self.column = column if present and column.null_count else None

    def __getitem__(self, place: int) -> str | None:
        if self.column is not None and not self.column[place].is_valid:
            return None
        return str(self.content[self.offsets[place] : self.offsets[place + 1]], "utf-8")


def names(songs: pd.DataFrame) -> Names:
    """Take titles and artists of a frame with one row a song."""
    columns = songs[[Song.TITLE, Song.ARTISTS]]
    table = pa.Table.from_pandas(columns, SCHEMA, preserve_index=False).combine_chunks()
    return Names(table.to_batches(max_chunksize=ROWS))


def save_names(path: Path, batches: Iterable[Any]) -> None:
    """Write record batches of `SCHEMA`, each of `ROWS` rows but the last."""
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, SCHEMA) as writer:
        for batch in batches:
            writer.write_batch(batch)


def map_names(path: Path) -> Names:
    """Return the names of a file, mapped."""
    reader = pa.ipc.open_file(pa.memory_map(str(path)))
    return Names([reader.get_batch(i) for i in range(reader.num_record_batches)])
