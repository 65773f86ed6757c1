"""Write the features as of several moments, one Parquet file a feature view.

`python -m features.snapshots --lake data/lake --phases data/phases.json --out data/features`
"""

import argparse
import json
import logging
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import ibis
import ibis.expr.types as ir
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from features.columns import SONG_VIEWS, USER_VIEWS, Event, Song, User, UserRow
from features.lake import event_files
from features.mistakes import run_command
from features.params import Params, load_params
from features.paths import PROJECT, data_dir
from features.signals import arrived
from features.songs import song_rows
from features.times import parsed
from features.users import user_rows

log = logging.getLogger("features.snapshots")

# The phases whose queries are asked; training.phases gives them.
_ASKED = ("earlier", "labels", "test")
_READ = (
    Event.TS,
    Event.USER,
    Event.SONG,
    Event.SESSION,
    Event.ACTION,
    Event.PLAYED_MS,
    Event.RECEIVED,
)


def snapshot_times(phases: dict[str, Any], per_phase: int) -> list[datetime]:
    """Return when to take snapshots, in order of time.

    Parameters
    ----------
    phases
        `earlier`, `labels` and `test` as [start, end], and `as_of`, in ISO 8601.
    per_phase
        How many evenly spaced moments to add inside each of the three.

    Examples
    --------
    >>> phases = {"earlier": ["2023-12-30T00:00:00Z", "2023-12-31T23:00:00Z"],
    ...           "labels": ["2024-01-01T00:00:00Z", "2024-01-03T00:00:00Z"],
    ...           "test": ["2024-01-03T01:00:00Z", "2024-01-05T01:00:00Z"],
    ...           "as_of": "2024-01-05T01:00:00Z"}
    >>> [f"{time:%d %H}" for time in snapshot_times(phases, 1)]
    ['30 00', '30 23', '01 00', '02 00', '03 01', '04 01', '05 01']
    """
    times = {parsed(phases["as_of"]).astimezone(UTC)}
    for name in _ASKED:
        start, end = (parsed(text).astimezone(UTC) for text in phases[name])
        steps = range(per_phase + 1)
        inside = (start + (end - start) * step / (per_phase + 1) for step in steps)
        times.update(moment.replace(microsecond=0) for moment in inside)
    return sorted(times)


def write_snapshots(
    lake: Path, out: Path, times: Sequence[datetime], params: Params
) -> dict[str, int]:
    """Write every view's rows as of every time, and return the number of rows by view.

    Raises
    ------
    FileNotFoundError
        If the lake lacks events, users or songs.
    """
    out.mkdir(parents=True, exist_ok=True)
    rows = dict.fromkeys((*USER_VIEWS, *SONG_VIEWS), 0)
    with _tables(lake) as (events, users, songs), ExitStack() as stack:
        writers: dict[str, pq.ParquetWriter] = {}
        for as_of in tqdm(times, desc="snapshots", unit="snapshot"):
            known = arrived(events, as_of)
            of_users = user_rows(known, users, songs, as_of, params)
            of_songs = song_rows(known, users, songs, as_of, params)
            tables = {
                **_views(of_users, User.ID, USER_VIEWS, as_of),
                **_views(of_songs, Song.ID, SONG_VIEWS, as_of),
            }
            for name, table in tables.items():
                if name not in writers:
                    path = _part(out, name)
                    writers[name] = stack.enter_context(pq.ParquetWriter(path, table.schema))
                writers[name].write_table(table)
                rows[name] += table.num_rows
    for name in rows:
        _part(out, name).replace(out / f"{name}.parquet")
    return rows


def _part(out: Path, name: str) -> Path:
    """Return where this process writes a view first; a run whose DVC was killed may live on."""
    return out / f".{name}.{os.getpid()}.part"


@contextmanager
def _tables(lake: Path) -> Iterator[tuple[ir.Table, ir.Table, ir.Table]]:
    """Yield the lake's events, users and songs as tables of a scratch database on disk."""
    missing = [
        name for name in ("events", "users.parquet", "songs.parquet") if not (lake / name).exists()
    ]
    if missing:
        raise FileNotFoundError(f"{lake} lacks {missing}; run `python -m features.ingest`.")
    with tempfile.TemporaryDirectory() as scratch:
        connection = ibis.duckdb.connect(Path(scratch) / "lake.duckdb", memory_limit="2GB")
        try:
            # By name: in a pattern, brackets of the path would mean something.
            files = [path for _, path in event_files(lake)]
            events = connection.read_parquet(files).select(*_READ)
            yield (
                connection.create_table("events", events),
                connection.create_table("users", connection.read_parquet(lake / "users.parquet")),
                connection.create_table("songs", connection.read_parquet(lake / "songs.parquet")),
            )
        finally:
            connection.disconnect()


def _views(
    rows: ir.Table, owner: str, views: dict[str, tuple[str, ...]], as_of: datetime
) -> dict[str, pa.Table]:
    """Compute the rows and cut them into one table a view, sorted by owner."""
    table = rows.order_by(owner).to_pyarrow()
    moment = pa.array([as_of] * table.num_rows, pa.timestamp("us", "UTC"))
    table = table.append_column(UserRow.TS, moment)
    return {name: table.select([owner, UserRow.TS, *columns]) for name, columns in views.items()}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lake", type=Path, default=data_dir() / "lake")
    parser.add_argument("--phases", type=Path, default=data_dir() / "phases.json")
    parser.add_argument("--out", type=Path, default=data_dir() / "features")
    parser.add_argument("--params", type=Path, default=PROJECT / "params.yaml")
    return parser.parse_args()


def main() -> None:
    """Read the phases, write the snapshots and say what was written."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    arguments = _arguments()
    params = load_params(arguments.params)
    phases = json.loads(arguments.phases.read_text(encoding="utf-8"))
    times = snapshot_times(phases, params.features.snapshots_per_phase)
    rows = write_snapshots(arguments.lake, arguments.out, times, params)
    for name, count in rows.items():
        log.info(
            "wrote %s rows of %s snapshots to %s",
            count,
            len(times),
            arguments.out / f"{name}.parquet",
        )


if __name__ == "__main__":
    run_command(main)
