"""One database behind the logs: SQLite in WAL mode, or PostgreSQL, through SQLAlchemy."""

import logging
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Column,
    Engine,
    Integer,
    MetaData,
    Select,
    Table,
    create_engine,
    event,
    make_url,
    text,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, Connection, Dialect
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection, QueuePool

from features.mistakes import Mistake
from serving.refusals import Unavailable, explained
from serving.sqlite_files import Files, clear, files_of

log = logging.getLogger("serving.database")

BUSY_MS: Final = 2000
CREATE_SECONDS: Final = 30
# Any number of ours: it keeps two workers from making the same tables at once.
CREATE_LOCK: Final = 74_011
# SQLite numbers rows by itself only where the key's type is INTEGER.
IDENTITY: Final = BigInteger().with_variant(Integer(), "sqlite")
_FILES: Final = "files"
# What SQLite and PostgreSQL's driver say, whatever the server's language.
_READ_ONLY: Final = ("readonly database", "ReadOnlySqlTransaction")


class Database:
    """Connections for writing, durable at commit, and for reading.

    Parameters
    ----------
    url
        `sqlite:///path` or `postgresql://...`.
    metadata
        The tables; made at first use where there are none.
    """

    def __init__(self, url: str, metadata: MetaData) -> None:
        self.url = address(url)
        self.metadata = metadata
        self._made = False
        # Device and inode of the SQLite files in use.
        self._files: Files | None = None
        self._reopening = threading.Lock()
        self._kept = threading.local()
        self._all_kept: list[PoolProxiedConnection] = []
        self._inserts: dict[Any, Any] = {}
        self.is_postgresql = self.url.get_backend_name() == "postgresql"
        if self.is_postgresql:
            self.writer = create_engine(
                self.url, pool_pre_ping=True, connect_args=_POSTGRESQL_ARGUMENTS
            )
            self.reader: Engine = self.writer.execution_options(isolation_level="AUTOCOMMIT")
        else:
            self.writer = _sqlite_engine(self.url)
            # As one reader waits for no writer in WAL mode, only the writer begins transactions.
            self.reader = _sqlite_engine(self.url)
            event.listen(self.writer, "begin", _begin_immediate)

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Yield a connection in one transaction: all of it is written, or nothing.

        Raises
        ------
        Unavailable
            If the database does not take it.
        """
        self.ensure()
        with self._refusals(), self.writer.begin() as connection:
            files = connection.info.get(_FILES)
            yield connection
        if files and files != self._found():
            raise Unavailable("gone", f"{self.url.database} was moved while it was written to.")

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        """Explain what the database refuses, and leave connections that are read-only.

        They stay so: of a file that can be written by now, of a server that gave up its lead.
        """
        try:
            with explained():
                yield
        except Unavailable as error:
            if any(words in str(error) for words in _READ_ONLY):
                with self._reopening:
                    self.close()
            raise

    def insert_new(
        self,
        connection: Connection,
        table: Table,
        rows: Sequence[Mapping[str, Any]],
        column: str,
    ) -> list[Any]:
        """Insert rows but those whose value of a unique column is there; return those inserted.

        All rows have the names of the first.
        """
        if not rows:
            return []
        insert = self._insert(connection.dialect, table, rows, column)
        return list(connection.execute(insert, list(rows)).scalars())

    def _insert(
        self,
        dialect: Dialect,
        table: Table,
        rows: Sequence[Mapping[str, Any]],
        column: str,
    ) -> Any:
        """Return the statement in SQL: SQLAlchemy keeps none that heeds conflicts.

        To make it anew takes ten times as long as to insert a row.
        """
        names, many = tuple(rows[0]), len(rows) > 1
        made, key = self._inserts, (table.name, names, column, many)
        if key not in made:
            kind = postgresql if self.is_postgresql else sqlite
            # Any other conflict is an error: such a row is not there, and would be lost in silence.
            insert = kind.insert(table).on_conflict_do_nothing(index_elements=[column])
            made[key] = insert.returning(table.c[column]).compile(
                dialect=dialect, column_keys=list(names), for_executemany=many
            )
        return made[key]

    def delete(self, key: Column[Any], wanted: Select[Any], rows: int) -> Iterator[int]:
        """Delete rows block by block; yield how many went each time.

        Others write between the blocks. A SQLite file stays as large as it is, and fills anew.

        Parameters
        ----------
        key
            The table's primary key.
        wanted
            Selects the keys of the rows.
        rows
            How many go at a time.
        """
        block = key.table.delete().where(key.in_(wanted.limit(rows)))
        gone = rows
        while gone == rows:
            with self.writing() as connection:
                gone = connection.execute(block).rowcount
            yield gone

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Yield a connection whose every statement sees what was committed before it."""
        self.ensure()
        with explained(), self.reader.connect() as connection:
            yield connection

    def rows(self, sql: str, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
        """Return what a query in the driver's own SQL finds (see `mark`).

        For what every request asks: each thread keeps a connection, and SQLAlchemy's work around
        a statement, several times that of the statement itself, is left out.

        Raises
        ------
        Unavailable
            If the database does not give it.
        """
        self.ensure()
        with explained():
            kept = self._kept
            if getattr(kept, "connection", None) is not None:
                try:
                    return self._fetched(kept, sql, parameters)
                except DBAPIError as error:
                    # A connection may have broken since it was last used; a new one will tell.
                    log.info("A kept connection failed: %s", error.orig)
            kept.connection = self._new_connection()
            return self._fetched(kept, sql, parameters)

    @property
    def mark(self) -> str:
        """What stands for a parameter in the SQL of `rows`."""
        return "%s" if self.is_postgresql else "?"

    def _new_connection(self) -> PoolProxiedConnection:
        connection = self.reader.raw_connection()
        if self.is_postgresql:
            connection.driver_connection.autocommit = True  # type: ignore[union-attr]
        self._all_kept.append(connection)
        return connection

    def _fetched(
        self, kept: threading.local, sql: str, parameters: Sequence[Any]
    ) -> list[tuple[Any, ...]]:
        connection = kept.connection
        try:
            cursor = connection.cursor()
            cursor.execute(sql, parameters)
            return list(cursor.fetchall())
        except self.reader.dialect.loaded_dbapi.Error as error:
            kept.connection = None
            if connection in self._all_kept:
                self._all_kept.remove(connection)
                connection.invalidate()
            raise DBAPIError(sql, list(parameters), error) from error

    def ensure(self) -> None:
        """Make the tables that are not there; several processes may do so at once.

        A SQLite file that was deleted or moved since it was opened is left, and one made in its
        place.

        Raises
        ------
        Unavailable
            If the database does not take them; the next use tries again.
        """
        if self._files and self._files != self._found():
            self._reopen()
        if self._made:
            return
        deadline = time.monotonic() + CREATE_SECONDS
        while True:
            try:
                self._create()
                self._made = True
                return
            except Unavailable as error:
                # Turning to WAL mode is refused at once while another process does the same.
                if error.reason != "locked" or time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def close(self) -> None:
        """Close all connections; the next use opens new ones."""
        self._kept = threading.local()
        while self._all_kept:
            self._all_kept.pop().close()
        self.writer.dispose()
        self.reader.dispose()

    def _create(self) -> None:
        with self._refusals():
            if not self.is_postgresql:
                Path(str(self.url.database)).parent.mkdir(parents=True, exist_ok=True)
            with self.writer.begin() as connection:
                if self.is_postgresql:
                    connection.execute(text(f"SELECT pg_advisory_xact_lock({CREATE_LOCK})"))
                self.metadata.create_all(connection)
                self._files = connection.info.get(_FILES)

    def _found(self) -> Files:
        return files_of(str(self.url.database))

    def _reopen(self) -> None:
        with self._reopening, explained():
            # Another thread may have done it meanwhile.
            if not self._files or self._files == self._found():
                return
            log.warning("%s was deleted or moved; it is opened anew.", self.url.database)
            self._check_in()
            self.close()
            clear(Path(str(self.url.database)))
            self._made, self._files = False, None

    def _check_in(self) -> None:
        """Bring what was committed into the file that was moved, away from its WAL."""
        pool = self.writer.pool
        # A new connection would make a new file, with the old one's WAL beside it.
        if not isinstance(pool, QueuePool) or not pool.checkedin():
            return
        connection = self.writer.raw_connection()
        try:
            connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.Error as error:
            log.warning("Not all may be in the file that was moved: %s", error)
        finally:
            connection.close()


_POSTGRESQL_ARGUMENTS: Final[dict[str, Any]] = {
    "connect_timeout": 2,
    # Of a database in SQL_ASCII, as a server set up without a locale makes it, the driver would
    # give bytes for texts.
    "client_encoding": "utf8",
    "options": f"-c statement_timeout={2 * BUSY_MS} -c lock_timeout={BUSY_MS}",
    # A server that lost its power says nothing any more, and whoever waits for it would do so for
    # hours: after 6 s of silence the connection is given up.
    "keepalives_idle": 3,
    "keepalives_interval": 1,
    "keepalives_count": 3,
    "tcp_user_timeout": 6000,
}


def address(url: str) -> URL:
    """Return a database's address with its driver.

    Raises
    ------
    Mistake
        If it is none of a database that events can lie in.
    """
    kinds = "give sqlite:///a/file or postgresql://user@host/database"
    try:
        parsed = make_url(url)
    except ArgumentError:
        # It may hold a password: it is not shown.
        raise Mistake(f"SEGUE_EVENTS_URL is no address; {kinds}.") from None
    backend = parsed.get_backend_name()
    if backend in ("postgresql", "postgres"):
        return parsed.set(drivername="postgresql+psycopg")
    # What lies in memory is lost with each connection.
    if backend != "sqlite" or parsed.database in (None, "", ":memory:"):
        raise Mistake(f"SEGUE_EVENTS_URL names {backend!r}; {kinds}.")
    return parsed


def refuse_missing(url: str) -> None:
    """Refuse an event log in a file that is not there, which would be made.

    Raises
    ------
    Mistake
        If there is none.
    """
    place = address(url)
    if place.get_backend_name() == "sqlite" and not Path(str(place.database)).exists():
        raise Mistake(
            f"There is no event log at {place.database}; name another by --url or SEGUE_EVENTS_URL."
        )


def _sqlite_engine(url: URL) -> Engine:
    engine = create_engine(url, connect_args={"timeout": BUSY_MS / 1000})

    def settle(connection: sqlite3.Connection, record: ConnectionPoolEntry) -> None:
        # SQLAlchemy's listener begins transactions, not Python's module.
        connection.isolation_level = None
        connection.execute("PRAGMA journal_mode=WAL")
        # Survives a power cut at every commit.
        connection.execute("PRAGMA synchronous=FULL")
        # The first read opens the WAL.
        connection.execute("SELECT 1 FROM sqlite_master").close()
        record.info[_FILES] = files_of(str(url.database))

    event.listen(engine, "connect", settle)
    return engine


def _begin_immediate(connection: Connection) -> None:
    # To wait for the writer's lock here; upgrading a read later would fail without waiting.
    connection.exec_driver_sql("BEGIN IMMEDIATE")
