"""Read the lake: the validated events, users and songs that `features.ingest` wrote.

Frames hold ids and texts as strings (`None` where absent), times as `datetime64[us, UTC]`,
numbers as floats (`NaN` where absent) and lists as arrays of strings.
"""

import json
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from features.columns import Event

EVENTS = "events"
USERS = "users"
SONGS = "songs"
QUARANTINE = "quarantine"
SUMMARY = "summary.json"
# Between listener and session id, where several listeners have a session of that id.
SESSION_MARK = "/"
_PARTITION = "date="


def read_events(
    lake: Path,
    since: datetime | None = None,
    until: datetime | None = None,
    columns: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Read the events of a time span, sorted by time, those of one moment as they were read in.

    Parameters
    ----------
    lake
        Folder written by `features.ingest`.
    since, until
        Half-open span [since, until), each with a time zone; `None` means unbounded. Only the
        days that the span touches are opened.
    columns
        Columns to read, in this order; all of them if `None`.

    Raises
    ------
    FileNotFoundError
        If there is no lake at `lake`.
    ValueError
        If a bound has no time zone.
    """
    days = event_files(lake)
    span = _as_utc("since", since), _as_utc("until", until)
    wanted = [path for day, path in days if _touches(day, *span)]
    if not wanted:
        return _frame(_project(pq.read_schema(days[0][1]).empty_table(), columns))
    chosen = None if columns is None else list(columns)
    table = ds.dataset(wanted, format="parquet").to_table(chosen, filter=_within(*span))
    return _frame(table)


def read_users(lake: Path) -> pd.DataFrame:
    """Read the listeners, sorted by id; `FileNotFoundError` if the lake is missing."""
    return _frame(pq.read_table(_existing(lake, "users.parquet")))


def read_songs(lake: Path) -> pd.DataFrame:
    """Read the songs, sorted by id; `FileNotFoundError` if the lake is missing."""
    return _frame(pq.read_table(_existing(lake, "songs.parquet")))


def read_summary(lake: Path) -> dict[str, Any]:
    """Read what the import counted; `FileNotFoundError` if the lake is missing."""
    summary: dict[str, Any] = json.loads(_existing(lake, SUMMARY).read_text(encoding="utf-8"))
    return summary


def event_files(lake: Path) -> list[tuple[date, Path]]:
    """Return the event files with their UTC day, in order of time."""
    folders = sorted(_existing(lake, EVENTS).glob(f"{_PARTITION}*"))
    files = [
        (_day(folder), path) for folder in folders for path in sorted(folder.glob("*.parquet"))
    ]
    if not files:
        raise FileNotFoundError(
            f"{lake / EVENTS} holds no events; run `python -m features.ingest`."
        )
    return files


def event_folder(lake: Path, day: date) -> Path:
    """Return the folder of one UTC day's events."""
    return lake / EVENTS / f"{_PARTITION}{day.isoformat()}"


def _existing(lake: Path, name: str) -> Path:
    path = lake / name
    if not path.exists():
        raise FileNotFoundError(
            f"There is no lake at {lake} ({name} is missing); run `python -m features.ingest`."
        )
    return path


def _day(folder: Path) -> date:
    return date.fromisoformat(folder.name.removeprefix(_PARTITION))


def _as_utc(name: str, moment: datetime | None) -> datetime | None:
    if moment is None:
        return None
    if moment.tzinfo is None:
        raise ValueError(f"`{name}` ({moment}) has no time zone; pass an aware time such as UTC.")
    return moment.astimezone(UTC)


def _touches(day: date, since: datetime | None, until: datetime | None) -> bool:
    start = datetime(day.year, day.month, day.day, tzinfo=UTC)
    starts_in_time = until is None or start < until
    return starts_in_time and (since is None or since < start + timedelta(days=1))


def _within(since: datetime | None, until: datetime | None) -> ds.Expression | None:
    ts = pa.timestamp("us", "UTC")
    bounds = []
    if since is not None:
        bounds.append(ds.field(Event.TS) >= pa.scalar(since, ts))
    if until is not None:
        bounds.append(ds.field(Event.TS) < pa.scalar(until, ts))
    return bounds[0] & bounds[-1] if bounds else None


def _project(table: pa.Table, columns: Sequence[str] | None) -> pa.Table:
    return table if columns is None else table.select(list(columns))


def _frame(table: pa.Table) -> pd.DataFrame:
    # Whether a column holds a null must not decide its dtype, so integers become floats always.
    fields = [
        field.with_type(pa.float64()) if pa.types.is_integer(field.type) else field
        for field in table.schema
    ]
    frame: pd.DataFrame = table.cast(pa.schema(fields)).to_pandas()
    return frame
