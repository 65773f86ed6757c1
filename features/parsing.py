"""Read a raw column, of whatever type the source has, as one of the contract's six types."""

import ast
import re
from collections.abc import Callable
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from features.times import parsed

TEXT = pa.string()
TIME = pa.timestamp("us", "UTC")
WHOLE = pa.int64()
REAL = pa.float64()
TEXTS = pa.list_(pa.string())
TRUTH = pa.bool_()
# A list as Python, JSON and NumPy spell it. A band may be called [so].
_BEGINS, _ENDS = r"""(?:['"]|(?:None|nan)[,\s])""", r"""(?:['"]|\b(?:None|nan))"""
_SPELT_LIST = rf"""(?s)^\[\s*(?:{_BEGINS}.*{_ENDS}|None|nan)?\s*\]$"""
# One of its words, and what parts it from the next: NumPy writes no commas.
_WORD = re.compile(
    r"""\s*(?:None|nan|('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"))(?:\s*,|(?=\s|\]))""", re.DOTALL
)
# Integers end here.
MOST_WHOLE = 2.0**63
# What Python's times can hold, to the second.
_YEARS = (datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC))
_LIST_END = re.compile(r"\s*\]\s*\Z")
# The first number that `_spelt_date` takes for a day.
_FIRST_SPELT = 1800_01_01
_TRUE, _FALSE = ("true", "yes", "1", "1.0"), ("false", "no", "0", "0.0")


def without_blanks(raw: pa.Array) -> pa.Array:
    """Trim texts, and turn empty texts and NaN into nulls."""
    if pa.types.is_floating(raw.type):
        return pc.if_else(pc.is_nan(raw), pa.scalar(None, raw.type), raw)
    if not _is_text(raw.type):
        return raw
    trimmed = pc.utf8_trim_whitespace(raw.cast(TEXT))
    return pc.if_else(pc.equal(trimmed, ""), pa.scalar(None, TEXT), trimmed)


def without_nan_texts(raw: pa.Array) -> pa.Array:
    """Turn NaN that is spelt out into nulls; for numbers alone, as an artist may be called so."""
    if not _is_text(raw.type):
        return raw
    is_nan = pc.equal(pc.utf8_lower(raw), "nan")
    return pc.if_else(is_nan, pa.scalar(None, raw.type), raw)


def parse(raw: pa.Array, dtype: pa.DataType) -> pa.Array:
    """Return the column as `dtype`, null where a value cannot be read as one.

    Times are ISO 8601 (UTC if they name no zone) or unix seconds, milliseconds, microseconds or
    nanoseconds; numbers are rounded where whole ones are wanted; lists in texts are `a|b`
    or `["a", "b"]`, the commas left out or not; truths are true or false, yes or no, 1 or 0.
    """
    try:
        return _PARSERS[dtype](raw)
    except pa.ArrowException:
        # A type that cannot mean this at all, such as a struct for a time.
        return pa.nulls(len(raw), dtype)


def parse_date(raw: pa.Array) -> pa.Array:
    """Return `parse` as a time, but read 2019 as that year and 20190501 as that day.

    For dates of songs, where such numbers are no seconds since 1970.

    Examples
    --------
    >>> parse_date(pa.array(["2019", "20190501"])).cast("string").to_pylist()
    ['2019-01-01 00:00:00.000000Z', '2019-05-01 00:00:00.000000Z']
    """
    moments = parse(raw, TIME)
    if pa.types.is_temporal(raw.type):
        return moments
    spelt = pa.array([_spelt_date(value) for value in parse(raw, REAL).to_pylist()], TIME)
    return pc.coalesce(spelt, moments)


def parse_year(raw: pa.Array) -> pa.Array:
    """Return `parse` as a whole number, and the year of what is a date.

    Examples
    --------
    >>> parse_year(pa.array(["2019", "2019-06-14", "20190614", "of old"])).to_pylist()
    [2019, 2019, 2019, None]
    """
    if pa.types.is_temporal(raw.type):
        return pc.year(parse(raw, TIME))
    years = parse(raw, WHOLE)
    if pc.any(pc.greater_equal(years, _FIRST_SPELT)).as_py():
        years = pa.array(map(_year_of, years.to_pylist()), WHOLE)
    # Numbers are years already, and no moments.
    return pc.coalesce(years, pc.year(parse(raw, TIME))) if _is_text(raw.type) else years


def _year_of(number: int | None) -> int | None:
    date = _spelt_date(number)
    return date.year if date else number


def _spelt_date(number: float | None) -> datetime | None:
    if number is None or number != int(number):
        return None
    if 1000 <= number < 3000:
        return datetime(int(number), 1, 1, tzinfo=UTC)
    year, day = divmod(int(number), 10_000)
    try:
        return datetime(year, *divmod(day, 100), tzinfo=UTC) if 1800 <= year < 2200 else None
    except ValueError:
        return None


def _text(raw: pa.Array) -> pa.Array:
    if pa.types.is_decimal(raw.type):
        return _decimal_text(raw)
    if not pa.types.is_floating(raw.type):
        return raw.cast(TEXT)
    # Whole ids that passed through a float column, as pandas writes them beside nulls.
    whole = pc.and_(pc.equal(raw, pc.round(raw)), pc.less(pc.abs(raw), MOST_WHOLE))
    ids = pc.if_else(whole, raw, None).cast(WHOLE).cast(TEXT)
    return pc.coalesce(ids, raw.cast(TEXT))


def _decimal_text(raw: pa.Array) -> pa.Array:
    """Spell whole ids without a point: Spark stores Oracle's as `decimal(38, 10)`."""
    # The widest, since cutting at the point may need a digit more than the column has.
    wide = raw.cast(pa.decimal256(76, raw.type.scale))
    whole = pc.if_else(pc.equal(pc.trunc(wide), wide), wide, None)
    return pc.coalesce(whole.cast(pa.decimal256(76, 0)).cast(TEXT), raw.cast(TEXT))


def _number(raw: pa.Array) -> pa.Array:
    if not _is_text(raw.type):
        return raw.cast(REAL, safe=False)
    try:
        return raw.cast(REAL)
    except pa.ArrowInvalid:
        return pa.array([_float(text) for text in raw.to_pylist()], REAL)


def _float(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None


def _real(raw: pa.Array) -> pa.Array:
    numbers = _number(raw)
    return pc.if_else(pc.is_finite(numbers), numbers, pa.scalar(None, REAL))


def _whole(raw: pa.Array) -> pa.Array:
    if pa.types.is_uint64(raw.type):
        # A cast would fail for all where one is too large.
        fits = pc.less(raw, pa.scalar(int(MOST_WHOLE), raw.type))
        raw = pc.if_else(fits, raw, pa.scalar(None, raw.type))
    if pa.types.is_integer(raw.type):
        return raw.cast(WHOLE)
    numbers = pc.round(_real(raw))
    exact = pc.less(pc.abs(numbers), 2.0**53)
    return pc.if_else(exact, numbers, pa.scalar(None, REAL)).cast(WHOLE)


def _time(raw: pa.Array) -> pa.Array:
    if pa.types.is_timestamp(raw.type):
        aware = raw if raw.type.tz else pc.assume_timezone(raw, "UTC")
        return _within_years(aware).cast(TIME, safe=False)
    if pa.types.is_date(raw.type):
        return pc.assume_timezone(raw.cast(pa.timestamp("us")), "UTC")
    numbers = _real(raw)
    moments = _unix_time(numbers.to_numpy(zero_copy_only=False))
    if not _is_text(raw.type) or not pc.any(pc.is_null(numbers)).as_py():
        return moments
    return pc.coalesce(moments, _iso_time(raw))


def _within_years(moments: pa.Array) -> pa.Array:
    """Turn moments beyond the years 1 to 9999, as of mistaken units, into nulls."""
    # Nanoseconds end in 2262, and could not hold these bounds.
    if moments.type.unit == "ns":
        return moments
    first, last = (pa.scalar(bound, moments.type) for bound in _YEARS)
    known = pc.and_(pc.greater_equal(moments, first), pc.less_equal(moments, last))
    return pc.if_else(known, moments, None)


def _iso_time(texts: pa.Array) -> pa.Array:
    # BigQuery writes ` UTC`; some write t and z.
    plain = pc.replace_substring_regex(texts, r"(?i)(\d)\s*(UTC|Z)\s*$", r"\1Z")
    plain = pc.replace_substring_regex(plain, r"^(\s*[\d/-]+)t", r"\1T")
    # Pandas 2.3 gives a text without an offset that of the text before it: spell UTC out.
    spelt = pc.replace_substring_regex(plain, r"^(\s*[\d/-]+[T ][\d:.]+)\s*$", r"\1Z")
    # To Pandas the words `now` and `today` are times, too: those of the import.
    dated = pc.if_else(pc.match_substring_regex(spelt, r"^\s*\d"), spelt, None)
    fast = pd.to_datetime(dated.to_pandas(), format="ISO8601", utc=True, errors="coerce")
    moments = pa.array(fast).cast(TIME, safe=False)
    if moments.null_count == texts.null_count:
        return moments
    # Pandas' nanoseconds end in 2262; a later time is a time all the same.
    lost = moments.is_null().to_pylist()
    late = [
        _late_time(text) if is_lost else None
        for text, is_lost in zip(plain.to_pylist(), lost, strict=True)
    ]
    return pc.coalesce(moments, pa.array(late, TIME))


def _late_time(text: str | None) -> datetime | None:
    try:
        return parsed(text or "").astimezone(UTC)
    except ValueError:
        return None


def _unix_time(numbers: npt.NDArray[np.float64]) -> pa.Array:
    """Read seconds, milliseconds, microseconds or nanoseconds; the size of a number tells which."""
    size = np.abs(numbers)
    factor = np.select([size < 1e11, size < 1e14, size < 1e17], [1e6, 1e3, 1.0], 1e-3)
    micros = np.round(numbers * factor)
    # Beyond the year 9999 a number is no time.
    absent = ~(np.abs(micros) < 2.5e17)
    return pa.array(np.where(absent, 0, micros).astype(np.int64), mask=absent).cast(TIME)


def _texts(raw: pa.Array) -> pa.Array:
    """Return lists of texts, each text once, without blank ones."""
    lists = _split(raw) if _is_text(raw.type) else raw.cast(TEXTS)
    words = without_blanks(lists.flatten())
    full = pc.is_valid(words)
    # What lies behind a null is neither flattened nor counted.
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy()
    owners = np.repeat(np.arange(len(lists)), lengths)[full.to_numpy(zero_copy_only=False)]
    words = words.filter(full)
    once = _first_of_each(owners, words)
    counts = np.bincount(owners[once], minlength=len(lists))
    offsets = pa.array(np.concatenate([[0], np.cumsum(counts)]), pa.int32())
    return pa.ListArray.from_arrays(offsets, words.take(once), mask=pc.is_null(lists))


def _first_of_each(owners: npt.NDArray[np.int64], words: pa.Array) -> npt.NDArray[np.int64]:
    """Return the places, ascending, at which an owner's words stand for the first time."""
    encoded = words.dictionary_encode()
    pairs = owners * max(len(encoded.dictionary), 1) + encoded.indices.to_numpy()
    return np.sort(np.unique(pairs, return_index=True)[1])


def _split(texts: pa.Array) -> pa.Array:
    lists = pc.split_pattern_regex(pc.utf8_trim(texts, "| "), r"\s*\|[\s|]*").cast(TEXTS)
    # As Pandas writes lists into a CSV: the whole would pass for one word.
    spelt = pc.fill_null(pc.match_substring_regex(texts, _SPELT_LIST), False)
    if not pc.any(spelt).as_py():
        return lists
    read = [
        _literal_list(text) if is_spelt else None
        for text, is_spelt in zip(texts.to_pylist(), spelt.to_pylist(), strict=True)
    ]
    return pc.if_else(spelt, pa.array(read, TEXTS), lists)


def _literal_list(text: str) -> list[str] | None:
    """Return the words of a spelt list, absent ones left out; None where it is spelt otherwise."""
    words, at = list[str](), 1
    while not _LIST_END.match(text, at):
        found = _WORD.match(text, at)
        if not found:
            return None
        at = found.end()
        if found[1]:
            try:
                words.append(_unquoted(found[1]))
            except (SyntaxError, ValueError):
                return None
    return words


def _unquoted(word: str) -> str:
    if "\\" not in word and "\n" not in word:
        return word[1:-1]
    # JSON writes what lies beyond 16 bits in two halves.
    halves: str = ast.literal_eval(word)
    return halves.encode("utf-16", "surrogatepass").decode("utf-16")


def _truth(raw: pa.Array) -> pa.Array:
    words = pc.utf8_lower(raw.cast(TEXT))
    true, false = (pc.is_in(words, pa.array(these)) for these in (_TRUE, _FALSE))
    return pc.if_else(pc.or_(true, false), true, pa.scalar(None, TRUTH))


def _is_text(dtype: pa.DataType) -> bool:
    return bool(pa.types.is_string(dtype) or pa.types.is_large_string(dtype))


_PARSERS: dict[pa.DataType, Callable[[pa.Array], pa.Array]] = {
    TEXT: _text,
    TIME: _time,
    WHOLE: _whole,
    REAL: _real,
    TEXTS: _texts,
    TRUTH: _truth,
}
