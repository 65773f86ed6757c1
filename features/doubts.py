"""What an import kept, though it may be meant otherwise: said, and left to who knows the data."""

from collections.abc import Iterator
from typing import Final

import duckdb
import pyarrow as pa

from features.columns import Event, Song, User
from features.contract import TABLES
from features.lake import EVENTS, SONGS, USERS
from features.times import SECOND_US

# As tools write that they know none, in small letters.
_NONE: Final = ("null", "(null)", "none", "nan", "<na>", "n/a", "#n/a", "\\n", "undefined")
_IN_MS: Final = ((EVENTS, Event.PLAYED_MS), (SONGS, Song.DURATION_MS))
_SECOND_MS: Final = 1_000
_YEARS: Final = (1000, 2100)
# Words that are compared with each other, as listeners' languages with songs'.
_WORDS: Final = {
    "languages": ((SONGS, Song.LANGUAGE), (USERS, User.LANGUAGES)),
    "regions": ((SONGS, Song.REGION), (SONGS, Song.REGIONS_AVAILABLE), (USERS, User.REGION)),
    "genres": ((SONGS, Song.GENRES),),
    "moods": ((SONGS, Song.MOODS), (EVENTS, Event.MOOD)),
    "occasions": ((SONGS, Song.OCCASIONS), (EVENTS, Event.OCCASION)),
}
_HOUR_US: Final = 3_600 * SECOND_US
# Shares of the events that are no chance, and from how many events on.
_FEW: Final = 0.1
_MOST: Final = 0.9
_SOME: Final = 10


def doubts(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """Return a sentence for each thing in the staged tables (`lake_writer.connect`) that looks odd.

    Ids that spell "none", sessions that go on for days, times that name no more than days,
    milliseconds that look like seconds, years that are none, words that differ by case only,
    listeners or songs none of whose ids occurs in an event.
    """
    looks = (_ids_of_none, _endless_sessions, _bare_days, _seconds, _odd_years, _cases, _unmet)
    return [doubt for look in looks for doubt in look(connection)]


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


def _endless_sessions(connection: duckdb.DuckDBPyConnection) -> Iterator[str]:
    share = connection.execute(
        f"SELECT sum(events) FILTER (WHERE lasts > INTERVAL 1 DAY) / sum(events) FROM ("
        f"SELECT count(*) AS events, max({Event.TS}) - min({Event.TS}) AS lasts "
        f"FROM staged_{EVENTS} WHERE {Event.SESSION} IS NOT NULL "
        f"GROUP BY {Event.USER}, {Event.SESSION})"
    ).fetchall()[0][0]
    if (share or 0) > _FEW:
        yield (
            f"{share:.0%} of the events are of sessions that last longer than a day: if "
            f"{Event.SESSION} names no sitting, leave it out (`{Event.SESSION}: null` in "
            "source.columns.events), and pauses part the sessions."
        )


def _bare_days(connection: duckdb.DuckDBPyConnection) -> Iterator[str]:
    # Midnight is a full hour in nearly all zones.
    count, share = connection.execute(
        f"SELECT count(*), avg((epoch_us({Event.TS}) % {_HOUR_US} = 0)::INT) FROM staged_{EVENTS}"
    ).fetchall()[0]
    if count >= _SOME and share > _MOST:
        yield (
            f"{share:.0%} of the events are at full hours: if {Event.TS} names days only, nobody "
            "knows what followed what, and sessions are days."
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


def _odd_years(connection: duckdb.DuckDBPyConnection) -> Iterator[str]:
    # `mode` names one that many share, such as the 0 of catalogues that know no year.
    count, usual = connection.execute(
        f"SELECT count(*), mode({Song.RELEASE_YEAR}) FROM staged_{SONGS} "
        f"WHERE {Song.RELEASE_YEAR} NOT BETWEEN {_YEARS[0]} AND {_YEARS[1]}"
    ).fetchall()[0]
    if count:
        yield (
            f"{count:,} songs have a {Song.RELEASE_YEAR} such as {usual}, an era of its own: if "
            "the year is not known, leave it empty."
        )


def _cases(connection: duckdb.DuckDBPyConnection) -> Iterator[str]:
    for words, columns in _WORDS.items():
        spelt = " UNION ALL ".join(_words(name, column) for name, column in columns)
        found = connection.execute(
            f"SELECT list(DISTINCT word ORDER BY word) AS ways FROM ({spelt}) "
            "WHERE word IS NOT NULL GROUP BY lower(word) HAVING len(ways) > 1 ORDER BY ways LIMIT 1"
        ).fetchall()
        if found:
            yield (
                f"Some {words} differ by case only, such as {', '.join(found[0][0])}: each is a "
                "word of its own, and who asks for one, or refuses it, does not mean the others. "
                "Spell them alike."
            )


def _words(name: str, column: str) -> str:
    is_list = pa.types.is_list(TABLES[name].schema.field(column).type)
    return f"SELECT {f'unnest({column})' if is_list else column} AS word FROM staged_{name}"


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
