"""The data contract: typed tables, and the reason why a row does not fit.

`conform` is the border: behind it every table has exactly these columns and types.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Final

import pandas as pd
import pandera.pandas as pandera
import pyarrow as pa
import pyarrow.compute as pc

from features.columns import Action, Event, Song, User
from features.lake import EVENTS, SONGS, USERS
from features.parsing import (
    REAL,
    TEXT,
    TEXTS,
    TIME,
    TRUTH,
    WHOLE,
    parse,
    parse_date,
    parse_year,
    without_blanks,
    without_nan_texts,
)
from features.times import FIRST_MOMENT, UTC_OFFSETS

# The order of reading, beside a table's own columns until the lake is written.
SEQUENCE = "sequence"
MISSING = "missing"
UNPARSABLE = "unparsable"
UNKNOWN = "unknown"
NEGATIVE = "negative"
NOT_POSITIVE = "not positive"
IN_THE_FUTURE = "in the future"
BEFORE_2000 = "before 2000"
OUT_OF_RANGE = "out of range"
TOO_LONG = "too long"
HOLDS_NUL = "holds NUL"
# So long ids may be, here and in the API: a longer one would widen all in memory.
MOST_CHARACTERS = 256
# Beyond lie the marks that tools put for what they don't know, whose squares no float holds.
MOST_AUDIO = 1e6


@dataclass(frozen=True)
class Table:
    """One table of the contract.

    Attributes
    ----------
    name
        `events`, `users` or `songs`.
    types
        Type of every column, in order.
    key
        The column that identifies a row: a second row with the same key is a duplicate.
    order
        Columns that the lake sorts the table by.
    rules
        What a column must fulfil, given the time of the import; the first broken rule, in this
        order, is the reason of a bad row.
    """

    name: str
    types: Mapping[str, pa.DataType]
    key: str
    order: tuple[str, ...]
    rules: Callable[[datetime], dict[str, pandera.Column]]

    @property
    def schema(self) -> pa.Schema:
        """The table as it is stored."""
        return pa.schema(list(self.types.items()))


def _column(dtype: pa.DataType, *checks: pandera.Check, nullable: bool = True) -> pandera.Column:
    return pandera.Column(pd.ArrowDtype(dtype), list(checks), nullable=nullable, required=False)


def _id() -> pandera.Column:
    short = pandera.Check.str_length(max_value=MOST_CHARACTERS, error=TOO_LONG)
    # The API and PostgreSQL take none, and NumPy drops those at an id's end.
    without_nul = pandera.Check.str_matches(r"^[^\x00]*$", error=HOLDS_NUL)
    return _column(TEXT, short, without_nul, nullable=False)


def _event_rules(now: datetime) -> dict[str, pandera.Column]:
    check = pandera.Check
    past = (
        check.le(pd.Timestamp(now), error=IN_THE_FUTURE),
        check.ge(pd.Timestamp(FIRST_MOMENT), error=BEFORE_2000),
    )
    return {
        Event.USER: _id(),
        Event.SONG: _id(),
        Event.SESSION: _id(),
        Event.ID: _id(),
        Event.TS: _column(TIME, *past, nullable=False),
        Event.RECEIVED: _column(TIME, *past),
        Event.ACTION: _column(TEXT, check.isin(Action.ALL, error=UNKNOWN), nullable=False),
        Event.PLAYED_MS: _column(WHOLE, check.ge(0, error=NEGATIVE)),
        Event.POSITION: _column(WHOLE, check.ge(0, error=NEGATIVE)),
        Event.PROPENSITY: _column(
            REAL, check.in_range(0, 1, include_min=False, error=OUT_OF_RANGE)
        ),
    }


def _user_rules(now: datetime) -> dict[str, pandera.Column]:
    check = pandera.Check
    return {
        User.ID: _id(),
        User.BIRTH_YEAR: _column(WHOLE, check.in_range(1900, now.year, error=OUT_OF_RANGE)),
        User.UTC_OFFSET: _column(WHOLE, check.in_range(*UTC_OFFSETS, error=OUT_OF_RANGE)),
    }


def _song_rules(now: datetime) -> dict[str, pandera.Column]:
    del now
    audible = pandera.Check.in_range(-MOST_AUDIO, MOST_AUDIO, error=OUT_OF_RANGE)
    return {
        Song.ID: _id(),
        Song.DURATION_MS: _column(WHOLE, pandera.Check.gt(0, error=NOT_POSITIVE)),
        **dict.fromkeys(Song.AUDIO, _column(REAL, audible)),
    }


def _types(order: tuple[str, ...], special: Mapping[str, pa.DataType]) -> dict[str, pa.DataType]:
    return {name: special.get(name, TEXT) for name in order}


TABLES: dict[str, Table] = {
    EVENTS: Table(
        EVENTS,
        _types(
            (*Event.ORDER, Event.RECEIVED),
            {
                Event.TS: TIME,
                Event.RECEIVED: TIME,
                Event.PLAYED_MS: WHOLE,
                Event.POSITION: WHOLE,
                Event.PROPENSITY: REAL,
            },
        ),
        Event.ID,
        # At one moment in the order of reading: ids may be hashes, and tell of none.
        (Event.TS, SEQUENCE),
        _event_rules,
    ),
    USERS: Table(
        USERS,
        _types(
            User.ORDER,
            {
                User.SIGNUP_TS: TIME,
                User.BIRTH_YEAR: WHOLE,
                User.UTC_OFFSET: WHOLE,
                User.LANGUAGES: TEXTS,
                User.FAVOURITE_ARTISTS: TEXTS,
            },
        ),
        User.ID,
        (User.ID,),
        _user_rules,
    ),
    SONGS: Table(
        SONGS,
        _types(
            (*Song.ORDER, *Song.RIGHTS),
            {
                Song.ARTISTS: TEXTS,
                Song.RELEASE_YEAR: WHOLE,
                Song.RELEASED_TS: TIME,
                Song.GENRES: TEXTS,
                Song.DURATION_MS: WHOLE,
                **dict.fromkeys(Song.AUDIO, REAL),
                Song.MOODS: TEXTS,
                Song.OCCASIONS: TEXTS,
                Song.EXPLICIT: TRUTH,
                Song.REGIONS_AVAILABLE: TEXTS,
                Song.WITHDRAWN: TRUTH,
            },
        ),
        Song.ID,
        (Song.ID,),
        _song_rules,
    ),
}


def conform(rows: pa.Table, table: Table, now: datetime) -> tuple[pa.Table, pd.Series]:
    """Bring raw rows into the table's types, and say which do not fit.

    Parameters
    ----------
    rows
        Raw rows under the contract's names, of any types; columns may be left out.
    table
        The table they are meant for.
    now
        Time of the import, aware; events after it are in the future.

    Returns
    -------
    typed
        As many rows with all columns of the table; what is absent or unparsable is null.
    reasons
        Per row `<column>: <what is wrong>`, or `None` where the row fits.
    """
    typed, unparsable = _parse(rows, table)
    broken = _broken_rules(typed, table, now, set(rows.column_names))
    reasons = unparsable.where(unparsable.notna(), broken)
    return typed, reasons.astype(object).where(reasons.notna(), None)


def _parse(rows: pa.Table, table: Table) -> tuple[pa.Table, pd.Series]:
    columns, reasons = [], pd.Series([None] * rows.num_rows, dtype=object)
    for name, dtype in table.types.items():
        if name not in rows.column_names:
            columns.append(pa.nulls(rows.num_rows, dtype))
            continue
        raw = without_blanks(rows[name].combine_chunks())
        if dtype in (WHOLE, REAL):
            raw = without_nan_texts(raw)
        values = _READ.get(name, partial(parse, dtype=dtype))(raw)
        lost = pc.and_(pc.is_valid(raw), pc.is_null(values)).to_numpy(zero_copy_only=False)
        reasons[lost & reasons.isna().to_numpy()] = f"{name}: {UNPARSABLE}"
        columns.append(values)
    return pa.Table.from_arrays(columns, schema=table.schema), reasons


# Columns that are read otherwise than others of their type.
_READ: Final[Mapping[str, Callable[[pa.Array], pa.Array]]] = {
    Song.RELEASED_TS: parse_date,
    Song.RELEASE_YEAR: parse_year,
}


def _broken_rules(typed: pa.Table, table: Table, now: datetime, present: set[str]) -> pd.Series:
    """Return the first broken rule of each row, or null.

    A session id must be filled where the source has the column; where it has none, the import
    derives it. All other needed columns are needed in any case.
    """
    rules = table.rules(now)
    if Event.SESSION not in present:
        rules.pop(Event.SESSION, None)
    frame = typed.select(list(rules)).to_pandas(types_mapper=pd.ArrowDtype)
    reasons = pd.Series(None, index=frame.index, dtype=object)
    for name, column in rules.items():
        for rows, what in _violations(frame[name], column):
            reasons[rows[reasons[rows].isna()]] = f"{name}: {what}"
    pandera.DataFrameSchema(rules).validate(frame[reasons.isna()])
    return reasons


def _violations(values: pd.Series, column: pandera.Column) -> Iterator[tuple[pd.Index, str]]:
    """Yield the rows that break each rule of a column.

    Pandera's own report of all failures at once costs a row-wise loop and mixes their types.
    """
    if not column.nullable:
        yield values.index[values.isna()], MISSING
    for check in column.checks:
        passed = check(values).check_output
        yield passed.index[~passed], check.error
