"""Bring your own events, songs and users as CSV, gzipped CSV or Parquet."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd
import pyarrow as pa

from features.columns import Action, Event, Song, User
from features.lake import EVENTS, SONGS, USERS
from features.mistakes import Mistake
from features.sources.batch import Batch
from features.sources.reading import SUFFIXES, read_table

_COLUMNS = {
    EVENTS: (*Event.ORDER, Event.RECEIVED),
    USERS: User.ORDER,
    SONGS: (*Song.ORDER, *Song.RIGHTS),
}
_NEEDED = {EVENTS: (Event.TS, Event.USER, Event.SONG), USERS: (User.ID,), SONGS: (Song.ID,)}
_MOST_SHOWN = 2_000
# What a header holds where a CSV is written otherwise: no name in the mapping would help.
_OTHERWISE = {
    "\0": "in UTF-16",
    "\r": "of lines that end in CR alone",
    "\t": "separated by tabs",
    ";": "separated by semicolons",
    '{"': "JSON",
}
# Two independent 64-bit hashes: an accidental collision would pass for a duplicate.
_HASH_KEYS = ("segue event id 1", "segue event id 2")


@dataclass(frozen=True)
class Files:
    """A folder with `events.*`, and `songs.*` and `users.*` if there are any.

    Each may be one file (`events.csv`), several (`events-1.csv`, `events-2.csv`), or a folder
    (`events/`).

    Parameters
    ----------
    path
        The folder.
    columns
        For `events`, `songs` and `users`: our column name to the name in the files, where they
        differ. A file without that name may have ours; one that is None is left out.
    """

    path: Path
    columns: Mapping[str, Mapping[str, str | None]] = field(default_factory=dict)

    def files(self) -> list[Path]:
        """Return all files that will be read; `FileNotFoundError` if there are no events."""
        _check_mapping(self.columns)
        events = find(self.path, EVENTS)
        if not events:
            raise FileNotFoundError(
                f"{self.path} holds no events; expected {EVENTS}.* or {EVENTS}/ as {SUFFIXES}."
            )
        return [*events, *find(self.path, USERS), *find(self.path, SONGS)]

    def unread(self) -> list[Path]:
        """Return what else lies in the folder, and in those of tables, and may have been meant."""
        read = {path for table in _COLUMNS for path in find(self.path, table)}
        folders = {self.path / table for table in _COLUMNS if (self.path / table).is_dir()}
        within = {path for folder in folders for path in folder.rglob("*") if path.is_file()}
        others = {*self.path.iterdir(), *within} - read - folders
        return sorted(path for path in others if not _is_within_hidden(path, self.path))

    def events(self) -> Iterator[Batch]:
        """Yield the events; without ids they get one made of their content."""
        for batch in self._read(EVENTS):
            yield replace(batch, rows=_completed(batch.rows)) if batch.rows.num_columns else batch

    def users(self) -> Iterator[Batch]:
        """Yield the listeners, if there is such a file."""
        return self._read(USERS)

    def songs(self) -> Iterator[Batch]:
        """Yield the songs, if there is such a file."""
        return self._read(SONGS)

    def _read(self, table: str) -> Iterator[Batch]:
        names = self.columns.get(table, {})
        for path in find(self.path, table):
            for batch in read_table(path, lambda theirs: _chosen(theirs, table, names).values()):
                yield _renamed(batch, table, names)


def is_hidden(name: str) -> bool:
    """Tell whether a file or folder is a system's or a tool's own, as `._a.csv` and `_SUCCESS`."""
    return name.startswith((".", "_"))


def _is_within_hidden(path: Path, folder: Path) -> bool:
    return any(map(is_hidden, path.relative_to(folder).parts))


def find(folder: Path, table: str) -> list[Path]:
    """Return the files of one table, sorted by path; hidden ones, and those in hidden folders, not.

    Raises
    ------
    FileNotFoundError
        If there is no such folder.
    Mistake
        If a file is there in two formats: which is meant, or whether both are, is open.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {folder}; give the folder that holds {table}.")
    patterns = (f"{table}.*", f"{table}-*", f"{table}/**/*")
    found = {
        path
        for pattern in patterns
        for path in folder.glob(pattern)
        if path.is_file() and not _is_within_hidden(path, folder)
    }
    files = sorted(path for path in found if path.name.endswith(SUFFIXES))
    by_name: dict[str, Path] = {}
    for path in files:
        suffix = next(one for one in SUFFIXES if path.name.endswith(one))
        name = str(path).removesuffix(suffix)
        if name in by_name:
            raise Mistake(
                f"{by_name[name]} and {path} are of one name; remove one, or if both are to be "
                f"read call them {table}-1 and {table}-2."
            )
        by_name[name] = path
    return files


def _check_mapping(columns: Mapping[str, Mapping[str, str | None]]) -> None:
    for table, names in columns.items():
        if table not in _COLUMNS:
            raise Mistake(f"source.columns names {table!r}; it may hold {sorted(_COLUMNS)}.")
        if unknown := set(names) - set(_COLUMNS[table]):
            raise Mistake(
                f"source.columns.{table} maps {sorted(unknown)}, which the contract does not have; "
                f"its columns are {list(_COLUMNS[table])}."
            )


def _renamed(batch: Batch, table: str, names: Mapping[str, str | None]) -> Batch:
    """Bring a batch under the contract's column names; a file that broke has no columns."""
    theirs = batch.raw.column_names
    if not theirs:
        return batch
    chosen = _chosen(theirs, table, names)
    meant = {ours for ours, name in names.items() if name is not None}
    lacking = {*_NEEDED[table], *meant} - set(chosen)
    if missing := sorted({names.get(ours) or ours for ours in lacking}):
        raise Mistake(
            f"{batch.file} lacks the columns {missing}; it has {_shown(theirs)}. "
            f"{_advice(theirs, table)}"
        )
    rows = {ours: batch.raw.column(theirs.index(name)) for ours, name in chosen.items()}
    return replace(batch, rows=pa.table(rows))


def _shown(theirs: Sequence[str]) -> str:
    # Where a line does not end, the header is the whole file.
    text = str(list(theirs))
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]} …"


def _advice(theirs: Sequence[str], table: str) -> str:
    header = ",".join(theirs)
    for mark, what in _OTHERWISE.items():
        if mark in header:
            asked = "write it as CSV in UTF-8, with commas and usual line ends"
            return f"It seems to be {what}; {asked}."
    return f"Say in source.columns.{table} what they are called there."


def _chosen(theirs: Sequence[str], table: str, names: Mapping[str, str | None]) -> dict[str, str]:
    """Map our columns to those of a file: by the mapped name where it is there, else by our own.

    So files in the contract's names, as the service exports them, may lie beside a history in
    others.
    """
    # What the mapping calls another column is not ours, whatever its name.
    own = set(_COLUMNS[table]) - set(names.values())
    chosen = {}
    for ours in _COLUMNS[table]:
        mapped = names.get(ours, ours)
        if mapped is None:
            continue
        name = ours if mapped not in theirs and ours in own else mapped
        if name in theirs:
            chosen[ours] = name
    return chosen


def _completed(rows: pa.Table) -> pa.Table:
    """Add what may be left out of events: an id, and the action of a plain listening log."""
    if Event.ID not in rows.column_names:
        # An event that is sent again arrives at another time, and is the same.
        sent = rows.select([name for name in rows.column_names if name != Event.RECEIVED])
        rows = rows.append_column(Event.ID, pa.array(row_hashes(sent), pa.string()))
    if Event.ACTION not in rows.column_names:
        rows = rows.append_column(Event.ACTION, pa.repeat(pa.scalar(Action.PLAY), rows.num_rows))
    return rows


def row_hashes(rows: pa.Table) -> pd.Series:
    """Return 32 hexadecimal digits made of each row's content, shape (rows,)."""
    # Pandas cannot put no hashes together.
    if not rows.num_rows:
        return pd.Series([], dtype=object)
    texts = pd.DataFrame({name: _as_text(rows[name]) for name in rows.column_names})
    first, second = (
        pd.util.hash_pandas_object(texts, index=False, hash_key=key).map("{:016x}".format)
        for key in _HASH_KEYS
    )
    return first + second


def _as_text(column: pa.ChunkedArray) -> pd.Series:
    if pa.types.is_timestamp(column.type) and column.type.tz:
        # The same moments; a zone may be one that this machine does not know.
        column = column.cast(pa.timestamp(column.type.unit, "UTC"))
    try:
        return column.cast(pa.string()).to_pandas()
    except pa.ArrowNotImplementedError:
        # Lists and the like: whether the contract wants them is for the contract to say.
        return pa.array(
            [None if one is None else str(one) for one in column.to_pylist()]
        ).to_pandas()
