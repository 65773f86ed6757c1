"""30Music: plays crawled from Last.fm, one gzipped CSV without songs, listeners or likes."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from features.columns import Action, Event, Song
from features.mistakes import Mistake
from features.sources.batch import Batch
from features.sources.files import row_hashes
from features.sources.reading import read_table

_SECONDS = "seconds_played"
_COLUMNS = ("session_id", "user_id", "ts", "song_id", _SECONDS)
# Skips are not logged; a play under half the song's usual time is the only sign of one.
_SKIP_SHARE = 0.5


@dataclass(frozen=True)
class ThirtyMusic:
    """The plays, and each song's usual time as an estimate of its length.

    The usual time is the median of all its plays: a constant of the song, like a catalogue's
    duration, which tells nothing about a listener. It takes a first pass over the file.

    Parameters
    ----------
    path
        The `.csv.gz` or `.csv` file, or the folder that holds it.
    """

    path: Path

    def files(self) -> list[Path]:
        """Return the one file; `FileNotFoundError` if there is none, or more than one."""
        return [self._file]

    def events(self) -> Iterator[Batch]:
        """Yield the plays, as skips where cut short; the id is made of the play's own values."""
        for batch in read_table(self._file, set(_COLUMNS).intersection):
            yield self._events(batch) if _has_columns(batch) else batch

    def users(self) -> Iterator[Batch]:
        """Yield nothing: listeners are known by their id only."""
        return iter(())

    def songs(self) -> Iterator[Batch]:
        """Yield id and estimated duration of each song; nothing else is known."""
        usual = self._usual_seconds
        rows = pa.table(
            {
                Song.ID: pa.array(usual.index, pa.string()),
                Song.DURATION_MS: pa.array((usual * 1000).round(), pa.int64(), safe=False),
            }
        )
        numbers = pa.array(range(1, rows.num_rows + 1), pa.int64())
        yield Batch(str(self._file), rows, rows, numbers)

    @cached_property
    def _file(self) -> Path:
        if self.path.is_file():
            return self.path
        found = [*self.path.glob("*.csv.gz"), *self.path.glob("*.csv")]
        if len(found) != 1:
            raise FileNotFoundError(
                f"{self.path} holds {len(found)} files ending in .csv.gz or .csv; give the folder "
                "of the one 30Music file, or the file itself."
            )
        return found[0]

    @cached_property
    def _usual_seconds(self) -> pd.Series:
        """Median seconds played, indexed by song."""
        parts = [
            pd.DataFrame({Song.ID: _ids(batch.raw)["song_id"], _SECONDS: _seconds(batch.raw)})
            for batch in read_table(self._file, set(_COLUMNS).intersection)
            if _has_columns(batch)
        ]
        plays = pd.concat(parts) if parts else pd.DataFrame({Song.ID: [], _SECONDS: []})
        known = plays[(plays[Song.ID] != "") & (plays[_SECONDS] >= 0)]
        usual = known.groupby(Song.ID)[_SECONDS].median()
        return usual[usual > 0]

    def _events(self, batch: Batch) -> Batch:
        ids, seconds = _ids(batch.raw), _seconds(batch.raw)
        usual = ids["song_id"].to_pandas().map(self._usual_seconds)
        skipped = pa.array(seconds < usual * _SKIP_SHARE)
        rows = {
            Event.ID: pa.array(row_hashes(ids), pa.string()),
            Event.TS: ids["ts"],
            Event.USER: ids["user_id"],
            Event.SONG: ids["song_id"],
            Event.SESSION: ids["session_id"],
            Event.ACTION: pc.if_else(skipped, Action.SKIP, Action.PLAY),
            Event.PLAYED_MS: _milliseconds(batch.raw[_SECONDS], seconds),
        }
        return replace(batch, rows=pa.table(rows))


def _has_columns(batch: Batch) -> bool:
    """Tell a file that was read from one that broke before its header; refuse another file."""
    if not batch.raw.num_columns:
        return False
    if missing := sorted(set(_COLUMNS) - set(batch.raw.column_names)):
        raise Mistake(
            f"{batch.file} is not the 30Music file: it lacks the columns {missing} and has "
            f"{batch.raw.column_names}."
        )
    return True


def _ids(raw: pa.Table) -> pa.Table:
    """Return what identifies each play, without the blanks around it that the contract drops."""
    names = _COLUMNS[:4]
    return pa.table({name: pc.utf8_trim_whitespace(raw[name]) for name in names})


def _seconds(raw: pa.Table) -> pd.Series:
    return pd.to_numeric(raw[_SECONDS].to_pandas(), errors="coerce")


def _milliseconds(texts: pa.ChunkedArray, seconds: pd.Series) -> pa.Array:
    """Turn seconds into milliseconds, and leave for the contract to judge what is no number."""
    known = pa.array(seconds.notna())
    milliseconds = pa.array(seconds * 1000, pa.float64()).cast(pa.string())
    return pc.if_else(known, milliseconds, texts.combine_chunks())
