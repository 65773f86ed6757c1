"""Read the lake: the validated events, users and songs that `features.ingest` wrote.

Frames hold ids and texts as strings (`None` where absent), times as `datetime64[us, UTC]`,
numbers as floats (`NaN` where absent) and lists as arrays of strings.
"""

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import reduce
from operator import and_
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
# In the summary, where there are any.
LATE = "events that arrived over a day late"
# Between listener and session id, where several listeners have a session of that id.
SESSION_MARK = "/"
_PARTITION = "date="
_TIME = pa.timestamp("us", "UTC")


def read_events(
    lake: Path,
    since: datetime | None = None,
    until: datetime | None = None,
    columns: Sequence[str] | None = None,
    known_by: datetime | None = None,
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
    known_by
        Leave out what had not reached us before this moment, with a time zone; `None` means that
        it does not matter when.

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
    bounds = [*_within(*span), *_arrived(_as_utc("known_by", known_by))]
    whole = reduce(and_, bounds) if bounds else None
    return _frame(ds.dataset(wanted, format="parquet").to_table(chosen, filter=whole))


def read_late(lake: Path, since: datetime, columns: Sequence[str]) -> pd.DataFrame:
    """Read what had happened before a moment and arrived only then or later, sorted by time."""
    moment = pa.scalar(_as_utc("since", since), _TIME)
    late = (ds.field(Event.TS) < moment) & (ds.field(Event.RECEIVED) >= moment)
    files = [path for _, path in event_files(lake)]
    return _frame(ds.dataset(files, format="parquet").to_table(list(columns), filter=late))


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


def _within(since: datetime | None, until: datetime | None) -> Iterator[ds.Expression]:
    if since is not None:
        yield ds.field(Event.TS) >= pa.scalar(since, _TIME)
    if until is not None:
        yield ds.field(Event.TS) < pa.scalar(until, _TIME)


def _arrived(known_by: datetime | None) -> Iterator[ds.Expression]:
    if known_by is not None:
        received = ds.field(Event.RECEIVED)
        yield received.is_null() | (received < pa.scalar(known_by, _TIME))


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
