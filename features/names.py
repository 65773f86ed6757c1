"""Titles and artists by row, as Arrow keeps them: on disk, mapped, read when asked for."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pandas as pd
import pyarrow as pa

from features.columns import Song

ROWS: Final = 65_536
SCHEMA: Final = pa.schema([(Song.TITLE, pa.string()), (Song.ARTISTS, pa.list_(pa.string()))])


@dataclass(frozen=True)
class Names:
    """Record batches of `ROWS` rows each, the last one shorter."""

    batches: Sequence[Any]

    def title(self, row: int) -> str | None:
        """Return a song's title, None where the source has none."""
        title: str | None = self.batches[row // ROWS].column(0)[row % ROWS].as_py()
        return title

    def artists(self, row: int) -> list[str]:
        """Return a song's artists, main artist first; empty where the source names none."""
        found = self.batches[row // ROWS].column(1)[row % ROWS].as_py()
        return [name for name in found or () if name is not None]


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
