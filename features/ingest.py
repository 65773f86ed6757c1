"""Bring events in: `python -m features.ingest --source NAME --path PATH --lake LAKE`.

Every row of the source ends in exactly one place: the lake, the duplicates, or the quarantine.
The lake is a function of the source, and of the moment after which events are in the future:
importing twice changes nothing.
"""

import argparse
import json
import shutil
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from features.columns import Action, Event
from features.contract import SEQUENCE, TABLES, Table, conform
from features.doubts import doubts
from features.lake import EVENTS, LATE, QUARANTINE, SONGS, SUMMARY, USERS
from features.lake_writer import connect, one, write_lake
from features.mistakes import Mistake, run_command
from features.params import load_params
from features.paths import PROJECT, data_dir
from features.quarantine import Quarantine
from features.replacing import NEW, replaced
from features.sources import open_source
from features.sources.batch import Batch, Source
from features.sources.files import Files
from features.times import asked_moment

_TOP_REASONS = 5
SHARED = "session ids of several listeners"
DOUBTS = "doubts"


@dataclass
class Read:
    """What was read of one table: rows and unreadable items, bytes, and bytes lost by file."""

    rows: int = 0
    size: int = 0
    lost: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Counts:
    """What became of the rows of one table; a file that cannot be opened is one row."""

    rows_in: int
    kept: int
    duplicates: int
    quarantined: int
    by_reason: dict[str, int]


def ingest(source: Source, lake: Path, max_bad_share: float, now: datetime) -> dict[str, Any]:
    """Replace the lake by what the source holds, and return the summary.

    Parameters
    ----------
    source
        Where the rows come from.
    lake
        Folder to write; replaced as a whole at the very end, or not at all.
    max_bad_share
        Largest tolerated share of quarantined rows in each table, in [0, 1].
    now
        Time of the import, aware; events after it are in the future.

    Raises
    ------
    FileNotFoundError
        If the source is not there.
    Mistake
        If too many rows are bad or none is good. The quarantine is then in `<lake>-refused`.
    """
    lake = lake.absolute()
    _check_replaceable(lake)
    size = sum(path.stat().st_size for path in source.files())
    refused = lake.with_name(f"{lake.name}-refused")
    with replaced(lake) as work:
        new = work / NEW
        (new / QUARANTINE).mkdir(parents=True)
        with (
            Quarantine(new / QUARANTINE) as quarantine,
            tqdm(total=size, unit="B", unit_scale=True) as bar,
        ):
            read = {
                table: _stage(batches, TABLES[table], now, work, quarantine, bar)
                for table, batches in _batches(source)
            }
        with connect(work) as connection:
            counts = _counts(connection, read, quarantine)
            shutil.rmtree(refused, ignore_errors=True)
            if complaint := _complaint(counts, read, max_bad_share, quarantine.firsts):
                shutil.move(new, refused)
                raise Mistake(
                    f"{complaint} The lake at {lake} is as it was; the bad rows are in "
                    f"{refused / QUARANTINE}."
                )
            write_lake(connection, new)
            summary = _summary(connection, counts)
        (new / SUMMARY).write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    return summary


def _batches(source: Source) -> Iterator[tuple[str, Iterator[Batch]]]:
    yield EVENTS, source.events()
    yield USERS, source.users()
    yield SONGS, source.songs()


def _stage(
    batches: Iterator[Batch],
    table: Table,
    now: datetime,
    work: Path,
    quarantine: Quarantine,
    bar: "tqdm[Any]",
) -> Read:
    """Write the good rows in reading order to one file, the bad ones to the quarantine."""
    read = Read()
    schema = table.schema.append(pa.field(SEQUENCE, pa.int64()))
    with pq.ParquetWriter(work / f"{table.name}.parquet", schema) as staged:
        for batch in batches:
            typed, reasons = conform(batch.rows, table, now)
            quarantine.add_batch(table.name, batch, reasons)
            sequence = pa.array(np.arange(typed.num_rows) + read.rows)
            good = typed.append_column(SEQUENCE, sequence).filter(reasons.isna().to_numpy())
            staged.write_table(good)
            read.rows += typed.num_rows + len(batch.faults)
            read.size += batch.size
            for fault in batch.faults:
                if fault.lost:
                    read.lost[fault.file] += fault.lost
            bar.update(batch.size)
    return read


def _counts(
    connection: duckdb.DuckDBPyConnection, read: Mapping[str, Read], quarantine: Quarantine
) -> dict[str, Counts]:
    counts = {}
    for name, table in TABLES.items():
        staged, kept = one(
            connection, f"SELECT count(*), count(DISTINCT {table.key}) FROM staged_{name}"
        )
        reasons = quarantine.counts[name]
        by_reason = dict(sorted(reasons.items(), key=lambda item: (-item[1], item[0])))
        quarantined = sum(reasons.values())
        counts[name] = Counts(read[name].rows, kept, staged - kept, quarantined, by_reason)
    return counts


def _complaint(
    counts: Mapping[str, Counts],
    read: Mapping[str, Read],
    max_bad_share: float,
    firsts: Mapping[tuple[str, str], str],
) -> str | None:
    for name, table in read.items():
        # A file, or a part of it, is a single row of the quarantine, however many rows it held.
        lost = sum(table.lost.values())
        if lost > max_bad_share * table.size:
            files = ", ".join(f"{file} ({size:,})" for file, size in table.lost.most_common(3))
            return (
                f"{lost:,} of {table.size:,} bytes of {name} ({lost / table.size:.1%}) cannot be "
                "read, or are of files that were cut off, more than ingest.max_bad_share = "
                f"{max_bad_share:.1%} allows; bring them anew: {files}."
            )
    for name, found in counts.items():
        if found.quarantined > max_bad_share * found.rows_in:
            top = list(found.by_reason.items())[:_TOP_REASONS]
            return (
                f"{found.quarantined:,} of {found.rows_in:,} rows of {name} "
                f"({found.quarantined / found.rows_in:.1%}) are bad, more than "
                f"ingest.max_bad_share = {max_bad_share:.1%} allows: "
                + ", ".join(f"{reason} ({count:,})" for reason, count in top)
                + f". The first of `{top[0][0]}` is in {firsts[name, top[0][0]]}; "
                "docs/data.md says what is read, and how."
            )
    if not counts[EVENTS].kept:
        return "The source holds not one good event; give it another path."
    return None


def _summary(connection: duckdb.DuckDBPyConnection, counts: dict[str, Counts]) -> dict[str, Any]:
    sessions, first, last, last_known = one(
        connection,
        f"SELECT count(DISTINCT {Event.SESSION}), min({Event.TS}), max({Event.TS}), "
        f"max(greatest({Event.TS}, {Event.RECEIVED})) FROM all_events",
    )
    told = doubts(connection)
    signals = dict(
        connection.execute(
            f"SELECT {Event.ACTION}, count(*) FROM events GROUP BY {Event.ACTION}"
        ).fetchall()
    )
    shared = one(connection, "SELECT count(*) FROM shared_sessions")[0]
    late_sql = f"SELECT count(*) FROM events WHERE {Event.RECEIVED} > {Event.TS} + INTERVAL 1 DAY"
    late = one(connection, late_sql)[0]
    return {
        **vars(counts[EVENTS]),
        "users": one(connection, "SELECT count(*) FROM all_users")[0],
        "songs": one(connection, "SELECT count(*) FROM all_songs")[0],
        "sessions": sessions,
        **({SHARED: shared} if shared else {}),
        **({LATE: late} if late else {}),
        **({DOUBTS: told} if told else {}),
        "first_ts": first.isoformat(),
        "last_ts": last.isoformat(),
        "last_known_ts": last_known.isoformat(),
        "signals": {action: signals.get(action, 0) for action in Action.ALL},
        "tables": {name: vars(counts[name]) for name in (USERS, SONGS)},
    }


def _check_replaceable(lake: Path) -> None:
    if lake.exists() and any(lake.iterdir()) and not (lake / SUMMARY).exists():
        raise Mistake(
            f"{lake} holds something that is no lake, and the import would replace it; "
            "give another --lake, or remove it."
        )


def format_summary(summary: dict[str, Any]) -> str:
    """Return the summary as an aligned table, with the sum that must hold."""
    lines: list[tuple[str, int | str]] = [
        ("rows in", summary["rows_in"]),
        ("  kept", summary["kept"]),
        ("  duplicates", summary["duplicates"]),
        ("  quarantined", summary["quarantined"]),
        *((f"    {reason}", count) for reason, count in summary["by_reason"].items()),
    ]
    for name, table in summary["tables"].items():
        lines.append((f"rows of {name} in", table["rows_in"]))
        if table["duplicates"]:
            lines.append(("  duplicates", table["duplicates"]))
        if table["quarantined"]:
            lines.append(("  quarantined", table["quarantined"]))
        lines.extend((f"    {reason}", count) for reason, count in table["by_reason"].items())
        if table["kept"] and summary[name] > table["kept"]:
            lines.append(("  in events only", summary[name] - table["kept"]))
    totals = ("users", "songs", "sessions", SHARED, LATE)
    lines.extend((name, summary[name]) for name in totals if name in summary)
    lines.extend((f"{action} events", count) for action, count in summary["signals"].items())
    lines.extend((("first event", summary["first_ts"]), ("last event", summary["last_ts"])))
    texts = [(label, value if isinstance(value, str) else f"{value:,}") for label, value in lines]
    left = max(len(label) for label, _ in texts)
    right = max(len(value) for _, value in texts)
    return "".join(f"{label:<{left}}  {value:>{right}}\n" for label, value in texts)


def _arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m features.ingest", description=__doc__)
    parser.add_argument("--source", help="simulated, 30music or files (default: params.yaml)")
    parser.add_argument("--path", type=Path, help="file or folder to read (default: params.yaml)")
    parser.add_argument("--lake", type=Path, default=data_dir() / "lake", help="folder to write")
    parser.add_argument("--params", type=Path, default=PROJECT / "params.yaml")
    parser.add_argument(
        "--now",
        type=asked_moment,
        default=datetime.now(UTC),
        help="time of the import, ISO 8601; later events are in the future",
    )
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    """Import, and print the summary."""
    options = _arguments(arguments)
    params = load_params(options.params)
    source = open_source(
        options.source or params.source.name,
        options.path or Path(params.source.path),
        params.source.columns,
    )
    share = params.ingest.max_bad_share
    summary = ingest(source, options.lake, share, options.now)
    if isinstance(source, Files) and (unread := source.unread()):
        names = ", ".join(path.name for path in unread)
        sys.stdout.write(f"not read, by name or format: {names}\n")
    sys.stdout.write(f"{format_summary(summary)}wrote {options.lake}\n")
    sys.stdout.writelines(f"{doubt}\n" for doubt in summary.get(DOUBTS, ()))


if __name__ == "__main__":
    run_command(main)
