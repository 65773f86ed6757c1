"""Turn staged rows into the lake's files, out of core, always the same bytes for the same rows."""

from collections.abc import Iterator
from datetime import date
from itertools import groupby, pairwise
from operator import itemgetter
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from features.columns import Event, Song, User
from features.contract import SEQUENCE, TABLES, Table
from features.lake import EVENTS, SESSION_MARK, SONGS, USERS, event_folder
from features.times import SESSION_PAUSE

_WRITE_ROWS = 100_000


def connect(work: Path) -> duckdb.DuckDBPyConnection:
    """Open DuckDB on the staged tables `work/<table>.parquet`.

    View `staged_<table>` has all rows, `<table>` only the first in reading order of those that
    share a key; `SEQUENCE` is that order. `all_<table>` adds what is derived: sessions of events
    that have none, or an id that other listeners have too (`shared_sessions`), and rows of the
    users and songs that occur in events only.
    """
    settings: dict[str, str | bool | int | float | list[str]] = {
        "memory_limit": "1GB",
        "threads": 2,
        "temp_directory": str(work / "spill"),
    }
    connection = duckdb.connect(config=settings)
    connection.execute("SET TimeZone = 'UTC'")
    for name, table in TABLES.items():
        connection.from_parquet(str(work / f"{name}.parquet")).create_view(f"staged_{name}")
        connection.execute(
            f"CREATE VIEW {name} AS FROM staged_{name} WHERE {SEQUENCE} IN "
            f"(SELECT min({SEQUENCE}) FROM staged_{name} GROUP BY {table.key})"
        )
    _find_shared_sessions(connection)
    _derive_sessions(connection)
    _complete_ids(connection, USERS, User.ID)
    _complete_ids(connection, SONGS, Song.ID)
    return connection


def write_lake(connection: duckdb.DuckDBPyConnection, new: Path) -> None:
    """Write events by day, users and songs into the folder `new`."""
    _write_events(connection, new)
    for name in (USERS, SONGS):
        with pq.ParquetWriter(new / f"{name}.parquet", TABLES[name].schema) as writer:
            for part in _sorted_parts(connection, f"all_{name}", TABLES[name]):
                writer.write_table(part)


def _find_shared_sessions(connection: duckdb.DuckDBPyConnection) -> None:
    """Find session ids that come with several listeners, as where each counts their own."""
    connection.execute(f"""
        CREATE TABLE shared_sessions AS SELECT {Event.SESSION} FROM events
        WHERE {Event.SESSION} IS NOT NULL
        GROUP BY {Event.SESSION} HAVING min({Event.USER}) <> max({Event.USER})
    """)


def _derive_sessions(connection: duckdb.DuckDBPyConnection) -> None:
    """Give events without a session one: a pause of more than 30 minutes starts the next."""
    connection.execute(f"""
        CREATE VIEW all_events AS
        WITH marked AS (
            SELECT *, CASE
                WHEN {Event.TS} - lag({Event.TS}) OVER events_of_user
                     <= INTERVAL {SESSION_PAUSE.seconds} SECOND THEN NULL
                ELSE {Event.TS} END AS start
            FROM events WHERE {Event.SESSION} IS NULL
            WINDOW events_of_user AS (PARTITION BY {Event.USER} ORDER BY {Event.TS}, {Event.ID})
        ), derived AS (
            SELECT * REPLACE ({Event.USER} || '-' || epoch_us(
                last_value(start IGNORE NULLS) OVER (
                    PARTITION BY {Event.USER} ORDER BY {Event.TS}, {Event.ID}
                    ROWS UNBOUNDED PRECEDING)) AS {Event.SESSION}) FROM marked
        )
        SELECT * REPLACE (CASE WHEN {Event.SESSION} IN (FROM shared_sessions)
            THEN {Event.USER} || '{SESSION_MARK}' || {Event.SESSION}
            ELSE {Event.SESSION} END AS {Event.SESSION})
        FROM events WHERE {Event.SESSION} IS NOT NULL
        UNION ALL BY NAME SELECT * EXCLUDE (start) FROM derived
    """)


def _complete_ids(connection: duckdb.DuckDBPyConnection, name: str, key: str) -> None:
    """Give every id that occurs in an event a row, with nothing but the id if need be."""
    connection.execute(f"""
        CREATE VIEW all_{name} AS FROM {name} UNION ALL BY NAME
        SELECT DISTINCT {key} FROM events WHERE {key} NOT IN (SELECT {key} FROM {name})
    """)


def _write_events(connection: duckdb.DuckDBPyConnection, new: Path) -> None:
    table = TABLES[EVENTS]
    pieces = (
        piece for part in _sorted_parts(connection, "all_events", table) for piece in _by_day(part)
    )
    for day, rows_of_day in groupby(pieces, key=itemgetter(0)):
        folder = event_folder(new, day)
        folder.mkdir(parents=True)
        with pq.ParquetWriter(folder / "part-0.parquet", table.schema) as writer:
            for _, rows in rows_of_day:
                writer.write_table(rows)


def _sorted_parts(
    connection: duckdb.DuckDBPyConnection, view: str, table: Table
) -> Iterator[pa.Table]:
    """Yield a view's rows in the table's order, in parts whose sizes are always the same.

    DuckDB cuts its result as it likes; row groups must not depend on that.
    """
    query = f"SELECT {', '.join(table.types)} FROM {view} ORDER BY {', '.join(table.order)}"
    waiting = table.schema.empty_table()
    for batch in connection.sql(query).to_arrow_reader(_WRITE_ROWS):
        waiting = pa.concat_tables([waiting, pa.Table.from_batches([batch]).cast(table.schema)])
        while waiting.num_rows >= _WRITE_ROWS:
            yield waiting.slice(0, _WRITE_ROWS).combine_chunks()
            waiting = waiting.slice(_WRITE_ROWS)
    yield waiting.combine_chunks()


def _by_day(part: pa.Table) -> Iterator[tuple[date, pa.Table]]:
    """Split rows that are sorted by time at the UTC midnights."""
    days = part[Event.TS].to_numpy().astype("datetime64[D]")
    bounds = [0, *(np.flatnonzero(days[1:] != days[:-1]) + 1), len(days)]
    for start, end in pairwise(bounds):
        if start < end:
            yield days[start].item(), part.slice(start, end - start)


def one(connection: duckdb.DuckDBPyConnection, query: str) -> tuple[Any, ...]:
    """Return the first row of a query's result."""
    row: tuple[Any, ...] = connection.execute(query).fetchall()[0]
    return row
