"""The event log: what clients report, kept once per event id, durable before it is acknowledged.

SQLite in WAL mode by default, PostgreSQL by `SEGUE_EVENTS_URL`. From the command line:

    python -m serving.event_log count
    python -m serving.event_log export --out data/raw/mine [--form csv]

`export` writes `events/log-*.parquet` in the data contract: beside `songs.*` and `users.*` it is
what the source `files` of `features.ingest` reads.
"""

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from sqlalchemy import BigInteger, Column, Float, Index, MetaData, Table, Text, func, select
from sqlalchemy.engine import Row
from tqdm import tqdm

from features.columns import Event
from features.contract import TABLES
from features.lake import EVENTS as NAME
from features.mistakes import Mistake, run_command
from features.parsing import TIME
from features.paths import events_url
from features.replacing import NEW, replaced
from features.times import microseconds
from serving.database import IDENTITY, Database, refuse_missing
from serving.logged import CLOCK_SLACK, MOST_RECENT, RECENT, Logged
from serving.refusals import Unavailable

SEQ: Final = "seq"
RECEIVED: Final = "received"
EXPORT_ROWS: Final = 100_000
FORGET_ROWS: Final = 10_000

_WHOLE = (Event.TS, Event.PLAYED_MS, Event.POSITION)
_NEEDED = (Event.ID, Event.TS, Event.USER, Event.SONG, Event.SESSION, Event.ACTION)
metadata = MetaData()


def _column(name: str) -> "Column[Any]":
    kind = BigInteger() if name in _WHOLE else Float(53) if name == Event.PROPENSITY else Text()
    return Column(name, kind, nullable=name not in _NEEDED, unique=name == Event.ID)


# Times are whole microseconds since 1970: exact, and the same in every database.
events = Table(
    "events",
    metadata,
    Column(SEQ, IDENTITY, primary_key=True, autoincrement=True),
    Column(RECEIVED, BigInteger, nullable=False),
    *(_column(name) for name in Event.ORDER),
    Index("events_by_listener", Event.USER, Event.TS),
    Index("events_by_session", Event.SESSION, Event.TS),
)
_RECENT_SQL: Final = (
    f"SELECT {', '.join(RECENT)} FROM events WHERE {{column}} = {{mark}} AND {Event.TS} <= {{mark}}"
    f" ORDER BY {Event.TS} DESC, {SEQ} DESC LIMIT {{mark}}"
)


class EventLog:
    """Appends and reads events; safe for several threads and processes at once.

    Parameters
    ----------
    database
        Where the events are.

    Raises
    ------
    Unavailable
        From every method: the database is full, locked, gone or refuses; nothing was written.
    """

    def __init__(self, database: Database) -> None:
        self.database = database

    @classmethod
    def open(cls, url: str | None = None, eager: bool = True) -> "EventLog":
        """Open the log, and make its tables where there are none; at first use if not `eager`."""
        log = cls(Database(url or events_url(), metadata))
        if eager:
            log.database.ensure()
        return log

    def append(self, batches: Sequence[Sequence[Mapping[str, Any]]]) -> list[int]:
        """Write batches in one transaction and return how many events of each are new.

        Parameters
        ----------
        batches
            Rows with `received` and the columns of `Event`; times in microseconds. An event
            whose id is known, from an earlier batch or this one, is left as it was first written.
        """
        with self.database.writing() as connection:
            insert = partial(self.database.insert_new, connection, events, column=Event.ID)
            return [len(insert(rows=batch)) for batch in batches]

    def recent(
        self, user_id: str | None, session_id: str | None = None, limit: int = MOST_RECENT
    ) -> list[Logged]:
        """Return a listener's latest events, in order of time; of nobody, those of a session.

        Events further ahead than clocks differ are left out, until their time has come.
        """
        if user_id is not None:
            return self._read(Event.USER, user_id, limit)
        if session_id is not None:
            return self._read(Event.SESSION, session_id, limit)
        return []

    def count(self) -> int:
        """Return how many events there are."""
        with self.database.reading() as connection:
            return int(connection.execute(select(func.count()).select_from(events)).scalar_one())

    def blocks(self, rows: int = EXPORT_ROWS) -> Iterator[pa.Table]:
        """Yield all events in the types of the data contract, in the order they were written.

        What comes after the last block was read is left: where events keep coming there is always
        one more.
        """
        chosen = select(events.c[SEQ], *(events.c[n] for n in Event.ORDER), events.c[RECEIVED])
        ordered = chosen.order_by(events.c[SEQ]).limit(rows)
        last = -1
        while True:
            with self.database.reading() as connection:
                found = connection.execute(ordered.where(events.c[SEQ] > last)).all()
            if found:
                yield _contract_table(found)
            if len(found) < rows:
                return
            last = found[-1][0]

    def forget(self, user_id: str) -> Iterator[int]:
        """Delete a listener's events, block by block; yield how many went each time."""
        own = select(events.c[SEQ]).where(events.c[Event.USER] == user_id)
        return self.database.delete(events.c[SEQ], own, FORGET_ROWS)

    def close(self) -> None:
        """Close all connections."""
        self.database.close()

    def _read(self, column: str, whose: str, limit: int) -> list[Logged]:
        sql = _RECENT_SQL.format(column=column, mark=self.database.mark)
        latest = microseconds(datetime.now(UTC) + CLOCK_SLACK)
        found = self.database.rows(sql, (whose, latest, limit))
        return [Logged(*row) for row in reversed(found)]


def _contract_table(rows: Sequence[Row[Any]]) -> pa.Table:
    schema = TABLES[NAME].schema
    columns = zip(*(tuple(row)[1:] for row in rows), strict=True)
    arrays = [
        pa.array(values, pa.int64()).cast(field.type)
        if field.type == TIME
        else pa.array(values, field.type)
        for values, field in zip(columns, schema, strict=True)
    ]
    return pa.Table.from_arrays(arrays, schema=schema)


def export(log: EventLog, out: Path, form: str = "parquet") -> int:
    """Write the whole log below `out` as the source `files` reads it; return how many events.

    The folder `out/events` is replaced as a whole at the end; other files in `out` stay. Two that
    export to one folder wait for each other.

    Raises
    ------
    Mistake
        If `out/events` holds something that no export wrote.
    """
    target = out / NAME
    with replaced(target) as work:
        strange = [path for path in target.glob("*") if not path.name.startswith("log-")]
        if strange:
            name = strange[0].name
            raise Mistake(
                f"{target} holds {name}, which is no export. Put it beside that folder, as "
                f"{NAME}-{name}: it is imported all the same."
            )
        new = work / NEW
        new.mkdir()
        return _write(log, new, form)


def _write(log: EventLog, folder: Path, form: str) -> int:
    written = 0
    with tqdm(total=log.count(), unit="event") as bar:
        for number, block in enumerate(log.blocks()):
            _WRITERS[form](block, folder / f"log-{number:05}.{form}")
            written += block.num_rows
            bar.update(block.num_rows)
    return written


_WRITERS: Final = {"parquet": pyarrow.parquet.write_table, "csv": pyarrow.csv.write_csv}


def main(arguments: list[str] | None = None) -> None:
    """Count or export the events."""
    parser = argparse.ArgumentParser(prog="python -m serving.event_log", description=main.__doc__)
    parser.add_argument("--url", help="the database (default: SEGUE_EVENTS_URL)")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("count", help="print how many events there are")
    write = commands.add_parser("export", help="write the log as the source `files` reads it")
    write.add_argument("--out", type=Path, required=True, help="folder; events/ in it is replaced")
    write.add_argument("--form", choices=sorted(_WRITERS), default="parquet")
    options = parser.parse_args(arguments)
    refuse_missing(options.url or events_url())
    try:
        with closing(EventLog.open(options.url)) as log:
            if options.command == "count":
                sys.stdout.write(f"{log.count():,} events\n")
            else:
                count = export(log, options.out, options.form)
                sys.stdout.write(f"wrote {count:,} events to {options.out / NAME}\n")
    except Unavailable as error:
        sys.exit(str(error))


if __name__ == "__main__":
    run_command(main)
