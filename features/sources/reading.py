"""Read CSV and Parquet in bounded memory; what is unreadable comes back as faults, not errors."""

import csv
import gzip
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from io import DEFAULT_BUFFER_SIZE
from itertools import islice
from os import SEEK_END
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from features.mistakes import Mistake
from features.sources.batch import Batch, Fault
from features.sources.objects import as_objects

SUFFIXES = (".csv", ".csv.gz", ".parquet")
BATCH_ROWS = 100_000

BROKEN_GZIP = "broken gzip"
BROKEN_QUOTES = "broken quotes"
BROKEN_PARQUET = "broken Parquet"
EMPTY_FILE = "empty file"
WRONG_ENCODING = "wrong encoding"
WRONG_FIELDS = "wrong number of fields"

# A quoted text may run over a few lines; a quote left open must not swallow the file.
_MAX_LINES = 20
# With the blank ones among them.
_MOST_LINES = 200
_CHUNK = 1 << 20
# Small, since a damaged gzip loses up to one chunk before the damage.
_ZIPPED_CHUNK = 1 << 12
_BOM = b"\xef\xbb\xbf"
_GZIP = b"\x1f\x8b"
_PARQUET = b"PAR1"
_RAW_BYTES = 2_000
# Ways to store texts besides those two whose UTF-8 is checked row by row.
_OTHER_BYTES = (
    pa.types.is_string_view,
    pa.types.is_binary_view,
    pa.types.is_large_binary,
    pa.types.is_fixed_size_binary,
)

# Given the names of a file's columns, those that are wanted of them.
Wanted = Callable[[Sequence[str]], Collection[str]]


class _Line(NamedTuple):
    number: int
    content: bytes

    @property
    def is_blank(self) -> bool:
        """Whether nothing is on it."""
        return not self.content.rstrip(b"\r")


class _Record(NamedTuple):
    number: int
    fields: list[str]


def read_table(path: Path, wanted: Wanted = set) -> Iterator[Batch]:
    """Yield the rows of a CSV, gzipped CSV or Parquet file as batches whose `rows` are `raw`.

    A CSV is UTF-8 with commas and a header; blank lines are no rows. Everything unreadable is a
    `Fault` of the batch in which it was met. Bytes in a Parquet file are texts, but those of
    columns that are not `wanted` (by default all are) are left out, as are nested ones: they may
    hold anything.

    Raises
    ------
    Mistake
        If two columns have one wanted name: which is meant is open. If a Parquet file is not called
        so, or what is called so is none.
    """
    with path.open("rb") as file:
        begins = file.read(len(_PARQUET))
    is_parquet = path.suffix == ".parquet"
    if begins and is_parquet != (begins == _PARQUET):
        told = "is no Parquet file; call it .csv" if is_parquet else "is Parquet; call it .parquet"
        raise Mistake(f"{path} {told}, or write it again.")
    return (_read_parquet if is_parquet else _read_csv)(path, wanted)


def _check_names(path: Path, names: Sequence[str], wanted: Collection[str]) -> None:
    counts = Counter(name for name in names if name in wanted)
    if doubles := sorted(name for name, count in counts.items() if count > 1):
        raise Mistake(
            f"{path} has several columns called {doubles}; rename or remove all but the one of "
            "each that is to be read."
        )


def _read_csv(path: Path, wanted: Wanted) -> Iterator[Batch]:
    faults: list[Fault] = []
    with path.open("rb") as file:
        lines = _Lines(_lines(path, file, faults))
        header = next((line for line in lines if not line.is_blank), None)
        if header is None:
            faults = faults or [Fault(str(path), None, EMPTY_FILE, "")]
            yield _batch(path, pa.table({}), [], faults, path.stat().st_size)
            return
        try:
            fields = _fields(_one([header]).removeprefix(_BOM).decode("utf-8", "replace"))
        except csv.Error:
            faults.append(Fault(str(path), None, BROKEN_QUOTES, _shown(header.content)))
            yield _batch(path, pa.table({}), [], faults, path.stat().st_size)
            return
        names = [name.strip() for name in fields]
        _check_names(path, names, wanted(names))
        done = 0
        for records in _chunked(_records(path, lines, len(names), faults)):
            here = file.tell()
            numbers = [record.number for record in records]
            yield _batch(path, _text_table(names, records), numbers, faults, here - done)
            done = here


def _lines(path: Path, file: IO[bytes], faults: list[Fault]) -> Iterator[_Line]:
    """Yield all lines as they are, up to the end of the file or to the damage."""
    number, rest = 1, b""
    # By what it begins with: files get unpacked, or packed, without another name.
    zipped = file.read(len(_GZIP)) == _GZIP
    file.seek(0)
    stream: Any = gzip.GzipFile(fileobj=file) if zipped else file
    try:
        while chunk := stream.read1(_ZIPPED_CHUNK if zipped else _CHUNK):
            *whole, rest = (rest + chunk).split(b"\n")
            for content in whole:
                yield _Line(number, content)
                number += 1
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        # The damage lies within what was read ahead.
        read, size = max(file.tell() - DEFAULT_BUFFER_SIZE, 0), file.seek(0, SEEK_END)
        # How much is missing of a file that was cut off, nobody knows: as much as there is, say.
        lost = size if isinstance(error, EOFError) else size - read
        told = f"{error} {_shown(rest)}".strip()
        faults.append(Fault(str(path), number, BROKEN_GZIP, told, lost))
        return
    if rest:
        yield _Line(number, rest)


class _Lines:
    """Lines that can be put back, so that a stray quote costs one line only."""

    def __init__(self, lines: Iterator[_Line]) -> None:
        self._lines = lines
        self._again: list[_Line] = []

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> _Line:
        return self._again.pop() if self._again else next(self._lines)

    def put_back(self, lines: list[_Line]) -> None:
        self._again.extend(reversed(lines))


def _records(path: Path, lines: _Lines, width: int, faults: list[Fault]) -> Iterator[_Record]:
    """Yield every record that can be decoded and has `width` fields; the rest are faults."""
    for line in lines:
        if line.is_blank:
            continue
        more = _continuation(line, lines)
        try:
            fields = _fields(_one([line, *more]).decode())
        except UnicodeDecodeError:
            reason = WRONG_ENCODING
        except csv.Error:
            reason = BROKEN_QUOTES
        else:
            if len(fields) == width:
                yield _Record(line.number, fields)
                continue
            reason = WRONG_FIELDS
        lines.put_back(more)
        faults.append(Fault(str(path), line.number, reason, _shown(line.content)))


def _one(lines: Sequence[_Line]) -> bytes:
    """Put the lines of a record together, without its line end; those within texts stay."""
    return b"\n".join(line.content for line in lines).rstrip(b"\r")


def _continuation(line: _Line, lines: _Lines) -> list[_Line]:
    """Return the lines that a quoted text runs on to, none if its quote never closes."""
    quotes = line.content.count(b'"')
    more: list[_Line] = []
    if quotes % 2 and not _ends_open(line.content):
        return more
    while quotes % 2:
        full = sum(not one.is_blank for one in more) >= _MAX_LINES or len(more) >= _MOST_LINES
        following = None if full else next(lines, None)
        if following is None:
            lines.put_back(more)
            return []
        more.append(following)
        quotes += following.content.count(b'"')
    return more


def _ends_open(content: bytes) -> bool:
    # An odd quote within a field that is not quoted, such as `12" mix`, opens nothing.
    try:
        _fields(content.decode("utf-8", "replace"))
    except csv.Error:
        return True
    return False


def _fields(text: str) -> list[str]:
    # Splitting is several times faster, and the same where nothing is quoted.
    return next(csv.reader((text,), strict=True)) if '"' in text else text.split(",")


def _chunked(records: Iterable[_Record]) -> Iterator[list[_Record]]:
    """Yield batches of records, the last one short or empty, so that late faults are seen."""
    records = iter(records)
    while len(batch := list(islice(records, BATCH_ROWS))) == BATCH_ROWS:
        yield batch
    yield batch


def _text_table(names: list[str], records: list[_Record]) -> pa.Table:
    columns = zip(*(record.fields for record in records), strict=True)
    arrays = [pa.array(column, pa.string()) for column in columns] or [
        pa.array([], pa.string())
    ] * len(names)
    return pa.Table.from_arrays(arrays, names=names)


def _read_parquet(path: Path, wanted: Wanted) -> Iterator[Batch]:
    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        size = path.stat().st_size
        faults = [Fault(str(path), None, BROKEN_PARQUET, str(error), lost=size)]
        yield _batch(path, pa.table({}), [], faults, size)
        return
    with file:
        names = file.schema_arrow.names
        kept = wanted(names)
        _check_names(path, names, kept)
        for group in range(file.num_row_groups):
            yield from _read_row_group(path, file, group, kept)


def _read_row_group(
    path: Path, file: pq.ParquetFile, group: int, wanted: Collection[str]
) -> Iterator[Batch]:
    """Yield the rows of one row group; damage ends the group, and the next one is tried."""
    row = 1 + sum(file.metadata.row_group(before).num_rows for before in range(group))
    end = row + file.metadata.row_group(group).num_rows
    bytes_per_row = path.stat().st_size / max(file.metadata.num_rows, 1)
    batches = file.iter_batches(BATCH_ROWS, row_groups=[group])
    while True:
        try:
            batch = next(batches, None)
        except (pa.ArrowException, OSError) as error:
            told, lost = f"row group {group}: {error}", round((end - row) * bytes_per_row)
            faults = [Fault(str(path), row, BROKEN_PARQUET, told, lost)]
            yield _batch(path, pa.table({}), [], faults, lost)
            return
        if batch is None:
            return
        table = _plain(pa.Table.from_batches([batch]), wanted)
        yield _decodable(path, table, row, round(table.num_rows * bytes_per_row))
        row += table.num_rows


def _decodable(path: Path, table: pa.Table, first: int, size: int) -> Batch:
    """Return a batch without the rows whose texts are not UTF-8; those are its faults."""
    bad = np.array(_undecodable(table), np.int64)
    good = np.setdiff1d(np.arange(table.num_rows), bad)
    rows = table.take(good) if len(bad) else table
    faults = [
        Fault(str(path), first + index, WRONG_ENCODING, str(row))
        for index, row in zip(bad.tolist(), as_objects(table.take(bad)), strict=True)
    ]
    return _batch(path, rows, first + good, faults, size)


def _plain(table: pa.Table, wanted: Collection[str]) -> pa.Table:
    """Relabel bytes as text, still unchecked, and spell out categories and UUIDs.

    Of what is not wanted, columns that may hold anything are left out.
    """
    columns: dict[str, pa.ChunkedArray] = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        if isinstance(column.type, pa.UuidType):
            texts = [None if one is None else str(one) for one in column.to_pylist()]
            column = pa.chunked_array([texts], pa.string())
        elif pa.types.is_large_string(column.type):
            column = column.cast(pa.string())
        elif any(is_kind(column.type) for is_kind in _OTHER_BYTES):
            column = column.cast(pa.large_binary()).cast(pa.binary())
        is_any = pa.types.is_binary(column.type) or pa.types.is_nested(column.type)
        if is_any and name not in wanted:
            continue
        if pa.types.is_binary(column.type):
            column = pa.chunked_array(
                [part.view(pa.string()) for part in column.chunks], pa.string()
            )
        columns.setdefault(name, column)
    return pa.table(columns)


def _undecodable(table: pa.Table, first: int = 0) -> list[int]:
    """Return the rows that hold invalid UTF-8, found by halving."""
    try:
        table.validate(full=True)
    except pa.ArrowInvalid:
        if table.num_rows == 1:
            return [first]
        half = table.num_rows // 2
        # `take` copies: a slice of a list column would still be judged by all its neighbours.
        return [
            *_undecodable(table.take(np.arange(half)), first),
            *_undecodable(table.take(np.arange(half, table.num_rows)), first + half),
        ]
    return []


def _batch(
    path: Path,
    rows: pa.Table,
    numbers: list[int] | npt.NDArray[np.int64],
    faults: list[Fault],
    size: int,
) -> Batch:
    """Make a batch that takes the faults met so far with it."""
    taken = list(faults)
    faults.clear()
    return Batch(str(path), rows, rows, pa.array(numbers, pa.int64()), taken, size)


def _shown(content: bytes) -> str:
    return content[:_RAW_BYTES].decode("utf-8", "backslashreplace")
