"""The feature store: point-in-time rows for training, the latest rows for serving.

DuckDB over Parquet files offline; online a SQLite file, or Redis (`SEGUE_ONLINE_URL`). Besides what
this module is made of, nothing knows Feast. From the command line:

    python -m features.store apply
    python -m features.store materialize --until 2024-03-01T00:00:00Z
    python -m features.store lookup --user U1
    python -m features.store historical --user U1 --at 2024-02-01T12:00:00Z
"""

import argparse
import sys
import warnings
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from feast import FeatureStore, RepoConfig

from features.columns import USER_VIEWS, Song, User, UserRow
from features.mistakes import Mistake, run_command
from features.online import InFile, in_file, online
from features.online_rows import online_row, online_rows
from features.paths import data_dir
from features.query import Row
from features.registered import VIEWS, references, register
from features.times import EPOCH, asked_moment

# So many values of a list are printed.
SHOWN: Final = 8

# Importing Feast shows all deprecations; of this one, Ibis 12 calling what DuckDB 2 renamed, the
# reader of a row has no use.
warnings.filterwarnings("ignore", "fetch_arrow_table", DeprecationWarning)


def historical_user_rows(entities: pd.DataFrame) -> pd.DataFrame:
    """Return each listener's features as of each row's own moment.

    Parameters
    ----------
    entities
        user_id (strings) and event_timestamp (with a time zone); rows may repeat.

    Returns
    -------
    pd.DataFrame
        The two columns and every user feature, row by row as `entities` with its index. A row
        holds the latest snapshot at or before its moment, which in turn read only earlier
        events. Integers come as floats, lists as arrays; a listener without a snapshot by
        then has the defaults: NaN, NaT or None, and empty lists.

    Raises
    ------
    ValueError
        If a column is missing or the moments have no time zone.
    """
    return _historical_rows(User.ID, entities)


def historical_song_rows(entities: pd.DataFrame) -> pd.DataFrame:
    """Return each song's features as of each row's own moment; see `historical_user_rows`."""
    return _historical_rows(Song.ID, entities)


def online_user_row(user_id: str) -> Row:
    """Return a listener's features as last materialised, by name.

    An unknown listener has the same keys: None, and [] for lists. Lists of fractions are arrays
    (`array.array`), which takes a third less time than lists do.

    Raises
    ------
    FileNotFoundError
        If nothing was materialised yet.
    """
    return online_row(User.ID, user_id)


def online_user_rows(user_ids: Sequence[str]) -> list[Row]:
    """Return several listeners' rows in the order asked, with lists for arrays."""
    return online_rows(User.ID, user_ids)


def online_song_rows(song_ids: Sequence[str]) -> list[Row]:
    """Return several songs' rows in the order asked; see `online_user_rows`."""
    return online_rows(Song.ID, song_ids)


def apply() -> list[str]:
    """Register the definitions of `features/repo`, and return the names of what is registered."""
    return in_file(data_dir()).register(register)


def materialize(until: datetime) -> str:
    """Make the online store hold the full state at a moment: each key's latest row by then.

    The new state is built beside the old one and takes its place at once: readers see the old
    state or the new one, and materialising to an earlier moment goes back to it.

    Returns
    -------
    str
        Where it was written.

    Raises
    ------
    ValueError
        If `until` has no time zone, or no snapshot was taken by then.
    """
    if until.tzinfo is None:
        raise ValueError(f"`until` ({until.isoformat()}) has no time zone; pass it in UTC.")
    _refuse_empty(until)

    def fill(config: RepoConfig) -> None:
        register(config)
        # The interval is explicit: `apply` forgets how far an incremental run had come.
        FeatureStore(config=config).materialize(EPOCH, until.astimezone(UTC))

    return online().replace(fill)


def reach_online() -> None:
    """Do nothing where the online store is there and can be reached.

    Raises
    ------
    FileNotFoundError
        If nothing was materialised yet.
    OSError
        If it cannot be reached.
    """
    online().generation()


def forget_online_user(user_id: str) -> bool:
    """Delete a listener's row, and tell whether there was one.

    The next materialisation writes what the snapshots have of the listener.

    Raises
    ------
    OSError
        If the online store cannot be reached or does not take it.
    """
    return online().forget(User.ID, user_id)


def snapshot_before(moment: datetime) -> datetime | None:
    """Return when the latest snapshot of listeners was taken, up to a moment; None before all."""
    times = _snapshot_times(next(iter(USER_VIEWS)))[1]
    return max((time for time in times if time <= moment), default=None)


def _snapshot_times(view: str) -> tuple[Path, list[datetime]]:
    path = _snapshots(view)
    return path, pq.read_table(path, columns=[UserRow.TS])[UserRow.TS].unique().to_pylist()


def _snapshots(view: str) -> Path:
    path = data_dir() / "features" / f"{view}.parquet"
    if not path.exists():
        raise FileNotFoundError(f"There are no snapshots at {path}; run `dvc repro snapshots`.")
    return path


def _refuse_empty(until: datetime) -> None:
    """Raise Mistake if a view of listeners has snapshots, but none by then."""
    for view in USER_VIEWS:
        path, times = _snapshot_times(view)
        if times and min(times) > until:
            taken = ", ".join(time.isoformat() for time in sorted(times))
            raise Mistake(
                f"{path} has no snapshot at or before {until.isoformat()}, so that every listener "
                f"would be without features; it has those of {taken}. For a moment before them, "
                "set phases.as_of in params.yaml to it and run `dvc repro snapshots`."
            )


def _historical_rows(owner: str, entities: pd.DataFrame) -> pd.DataFrame:
    keys = _checked_keys(owner, entities)
    for view in VIEWS[owner]:
        _snapshots(view)
    # A registry of its own: what training reads does not hang on what was last applied.
    with TemporaryDirectory() as scratch:
        config = InFile(Path(scratch) / "online.db").config()
        register(config)
        store = FeatureStore(config=config)
        asked, lists = references(store, owner)
        # Feast gives one row for each distinct pair, in an order of its own.
        job = store.get_historical_features(keys.drop_duplicates(ignore_index=True), asked)
        found = job.to_arrow().to_pandas()
    found[UserRow.TS] = found[UserRow.TS].astype(keys.dtypes[UserRow.TS])
    rows = keys.merge(found, how="left", on=[owner, UserRow.TS], validate="many_to_one")
    for name in lists:
        rows[name] = _filled(rows[name])
    for name in rows.select_dtypes("datetime").columns.astype(str):
        rows[name] = rows[name].dt.tz_localize(UTC)
    columns = [name for names in VIEWS[owner].values() for name in names]
    return rows[[owner, UserRow.TS, *columns]].set_index(entities.index)


def _checked_keys(owner: str, entities: pd.DataFrame) -> pd.DataFrame:
    missing = {owner, UserRow.TS} - set(entities.columns)
    if missing:
        raise ValueError(f"The entities lack {sorted(missing)}; pass {owner} and {UserRow.TS}.")
    moments = entities[UserRow.TS]
    # As Pandas reads Parquet with `dtype_backend="pyarrow"`.
    if getattr(getattr(moments.dtype, "pyarrow_dtype", None), "tz", None):
        moments = moments.astype("datetime64[us, UTC]")
    if not isinstance(moments.dtype, pd.DatetimeTZDtype):
        raise ValueError(f"`{UserRow.TS}` is {moments.dtype}; pass moments with a time zone.")
    # Rounding down keeps a moment from reaching a later snapshot.
    exact = moments.dt.tz_convert(UTC).dt.floor("us").astype("datetime64[us, UTC]")
    # As a type that a column without rows has, too.
    ids = entities[owner].astype("string") if entities.empty else entities[owner]
    if not pd.api.types.is_string_dtype(ids):
        raise ValueError(f"`{owner}` is {ids.dtype}; pass ids as texts.")
    return pd.DataFrame({owner: ids, UserRow.TS: exact}).reset_index(drop=True)


def _filled(lists: pd.Series) -> pd.Series:
    values = np.empty(len(lists), dtype=object)
    for place, value in enumerate(lists):
        values[place] = value if isinstance(value, np.ndarray) else np.empty(0)
    return pd.Series(values, index=lists.index)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Apply, fill and read the feature store.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("apply", help="register the definitions of features/repo")
    fill = commands.add_parser("materialize", help="fill the online store")
    fill.add_argument("--until", type=asked_moment, required=True, help="ISO 8601, UTC if no zone")
    lookup = commands.add_parser("lookup", help="read the online store")
    past = commands.add_parser("historical", help="read the features as of a moment")
    past.add_argument("--at", type=asked_moment, required=True, help="ISO 8601, UTC if no zone")
    for command in (lookup, past):
        key = command.add_mutually_exclusive_group(required=True)
        key.add_argument("--user", help="a user_id")
        key.add_argument("--song", help="a song_id")
    return parser.parse_args()


def _looked_up(arguments: argparse.Namespace) -> Row:
    of_user = arguments.user is not None
    owner, key = (User.ID, arguments.user) if of_user else (Song.ID, arguments.song)
    if arguments.command == "lookup":
        return online_rows(owner, [key])[0]
    # In microseconds: nanoseconds end in the year 2262.
    moments = pd.DatetimeIndex([arguments.at], dtype="datetime64[us, UTC]")
    entities = pd.DataFrame({owner: [key], UserRow.TS: moments})
    return dict(_historical_rows(owner, entities).iloc[0])


def main() -> None:
    """Run one command and print what it did or found."""
    arguments = _arguments()
    if arguments.command == "apply":
        lines = [f"registered {name}" for name in apply()]
    elif arguments.command == "materialize":
        lines = [
            f"wrote the state at {arguments.until.isoformat()} to {materialize(arguments.until)}"
        ]
    else:
        row = _looked_up(arguments)
        lines = [f"{name:<24} {_shown(value)}" for name, value in row.items()]
    sys.stdout.write("\n".join(lines) + "\n")


def _shown(value: object) -> str:
    if not isinstance(value, list | np.ndarray):
        return str(value)
    parts = [
        f"{part:.4g}" if isinstance(part, float | np.floating) else str(part) for part in value
    ]
    rest = f", ... {len(parts)} in all" if len(parts) > SHOWN else ""
    return f"[{', '.join(parts[:SHOWN])}{rest}]"


if __name__ == "__main__":
    run_command(main)
