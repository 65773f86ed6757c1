"""What an import kept, though it may be meant otherwise: said, and left to who knows the data."""

from collections.abc import Iterator
from typing import Final

import duckdb

from features.columns import Event, Song
from features.contract import TABLES
from features.lake import EVENTS, SONGS, USERS

# As tools write that they know none, in small letters.
_NONE: Final = ("null", "(null)", "none", "nan", "<na>", "n/a", "#n/a", "\\n", "undefined")
_IN_MS: Final = ((EVENTS, Event.PLAYED_MS), (SONGS, Song.DURATION_MS))
_SECOND_MS: Final = 1_000


def doubts(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """Return a sentence for each thing in the staged tables (`lake_writer.connect`) that looks odd.

    Ids that spell "none", milliseconds that look like seconds, and listeners or songs none of
    whose ids occurs in an event.
    """
    return [*_ids_of_none(connection), *_seconds(connection), *_unmet(connection)]


def _ids_of_none(connection: duckdb.DuckDBPyConnection) -> Iterator[str]:
    for column in (Event.USER, Event.SONG, Event.SESSION):
        found = connection.execute(
            f"SELECT {column}, count(*) FROM staged_{EVENTS} WHERE list_contains($1, "
            f"lower({column})) GROUP BY 1 ORDER BY 1",
            [_NONE],
        ).fetchall()
        for value, count in found:
            yield (
                f"{count:,} events have the {column} {value!r}, as if it were one: if it means "
                "none, leave it empty."
            )


def _seconds(connection: duckdb.DuckDBPyConnection) -> Iterator[str]:
    for name, column in _IN_MS:
        typical = connection.execute(
            f"SELECT median({column}) FROM staged_{name} WHERE {column} > 0"
        ).fetchall()[0][0]
        if typical is not None and typical < _SECOND_MS:
            yield (
                f"Half of the {name}' {column} are {typical:,.0f} milliseconds or less: if they "
                "are seconds, multiply them by 1,000."
            )


def _unmet(connection: duckdb.DuckDBPyConnection) -> Iterator[str]:
    for name in (USERS, SONGS):
        key = TABLES[name].key
        met = f"{key} IN (SELECT {key} FROM staged_{EVENTS})"
        rows, known = connection.execute(
            f"SELECT count(*), count(*) FILTER (WHERE {met}) FROM staged_{name}"
        ).fetchall()[0]
        if rows and not known:
            yield (
                f"Not one of the {name} has an id that occurs in an event, so nothing is known of "
                "those that do: spell ids alike in all files (12 and 12.0 are two, as 7 and 007)."
            )
