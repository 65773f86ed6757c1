"""The feature store: point-in-time rows for training, the latest rows for serving.

Besides `features/repo` and `features.online` the only place that knows Feast. DuckDB over Parquet
files offline; online a SQLite file, or Redis (`SEGUE_ONLINE_URL`). From the command line:

    python -m features.store apply
    python -m features.store materialize --until 2024-03-01T00:00:00Z
    python -m features.store lookup --user U1
    python -m features.store historical --user U1 --at 2024-02-01T12:00:00Z
"""

import argparse
import runpy
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from feast import Entity, FeatureService, FeatureStore, FeatureView, RepoConfig
from feast.infra.key_encoding_utils import serialize_entity_key
from feast.infra.online_stores.online_store import OnlineStore
from feast.infra.online_stores.sqlite import SqliteOnlineStore, _quote_id, _table_id
from feast.protos.feast.types.EntityKey_pb2 import EntityKey as EntityKeyProto
from feast.protos.feast.types.Value_pb2 import Value as ValueProto
from feast.type_map import feast_value_type_to_pa, feast_value_type_to_python_type
from feast.types import Array

from features.columns import FEATURE_SERVICE, SONG_VIEWS, USER_VIEWS, Song, User, UserRow
from features.online import REPO, InFile, Online, online
from features.paths import data_dir
from features.times import EPOCH, parsed

# Importing Feast shows all deprecations; of this one, Ibis 12 calling what DuckDB 2 renamed, the
# reader of a row has no use.
warnings.filterwarnings("ignore", "fetch_arrow_table", DeprecationWarning)

Row = dict[str, Any]
_VIEWS = {User.ID: USER_VIEWS, Song.ID: SONG_VIEWS}
_MAPPED_BYTES = 2**30


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

    An unknown listener has the same keys: None, and [] for lists.

    Raises
    ------
    FileNotFoundError
        If nothing was materialised yet.
    """
    return online_user_rows([user_id])[0]


def online_user_rows(user_ids: Sequence[str]) -> list[Row]:
    """Return several listeners' rows in the order asked; see `online_user_row`."""
    return _online_rows(User.ID, user_ids)


def online_song_rows(song_ids: Sequence[str]) -> list[Row]:
    """Return several songs' rows in the order asked; see `online_user_row`."""
    return _online_rows(Song.ID, song_ids)


def apply() -> list[str]:
    """Register the definitions of `features/repo`, and return the names of what is registered."""
    return _apply(InFile(data_dir() / "feast" / "online.db").config())


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
        _apply(config)
        # The interval is explicit: `apply` forgets how far an incremental run had come.
        FeatureStore(config=config).materialize(EPOCH, until.astimezone(UTC))

    return online().replace(fill)


def snapshot_before(moment: datetime) -> datetime | None:
    """Return when the latest snapshot of listeners was taken, up to a moment; None before all."""
    times = _snapshot_times(next(iter(USER_VIEWS)))[1]
    return max((time for time in times if time <= moment), default=None)


def _snapshot_times(view: str) -> tuple[Path, list[datetime]]:
    path = data_dir() / "features" / f"{view}.parquet"
    return path, pq.read_table(path, columns=[UserRow.TS])[UserRow.TS].unique().to_pylist()


def _refuse_empty(until: datetime) -> None:
    """Raise ValueError if a view of listeners has snapshots, but none by then."""
    for view in USER_VIEWS:
        path, times = _snapshot_times(view)
        if times and min(times) > until:
            taken = ", ".join(time.isoformat() for time in sorted(times))
            raise ValueError(
                f"{path} has no snapshot at or before {until.isoformat()}, so that every listener "
                f"would be without features; it has those of {taken}. For a moment before them, "
                "set phases.as_of in params.yaml to it and run `dvc repro snapshots`."
            )


def _historical_rows(owner: str, entities: pd.DataFrame) -> pd.DataFrame:
    keys = _checked_keys(owner, entities)
    # A registry of its own: what training reads does not hang on what was last applied.
    with TemporaryDirectory() as scratch:
        config = InFile(Path(scratch) / "online.db").config()
        _apply(config)
        store = FeatureStore(config=config)
        references, lists = _references(store, owner)
        # Feast gives one row for each distinct pair, in an order of its own.
        job = store.get_historical_features(keys.drop_duplicates(ignore_index=True), references)
        found = job.to_arrow().to_pandas()
    found[UserRow.TS] = found[UserRow.TS].astype(keys.dtypes[UserRow.TS])
    rows = keys.merge(found, how="left", on=[owner, UserRow.TS], validate="many_to_one")
    for name in lists:
        rows[name] = _filled(rows[name])
    for name in rows.select_dtypes("datetime").columns.astype(str):
        rows[name] = rows[name].dt.tz_localize(UTC)
    columns = [name for names in _VIEWS[owner].values() for name in names]
    return rows[[owner, UserRow.TS, *columns]].set_index(entities.index)


def _checked_keys(owner: str, entities: pd.DataFrame) -> pd.DataFrame:
    missing = {owner, UserRow.TS} - set(entities.columns)
    if missing:
        raise ValueError(f"The entities lack {sorted(missing)}; pass {owner} and {UserRow.TS}.")
    moments = entities[UserRow.TS]
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


def _online_rows(owner: str, ids: Sequence[str]) -> list[Row]:
    place = online()
    reader = _reader(owner, place, place.generation())
    return [{owner: key} | reader.row(owner, key) for key in ids]


@dataclass(frozen=True)
class _Reader:
    """An open online store with what is read of one kind of owner.

    `FeatureStore.get_online_features` looks all of it up again for each row, which takes three
    times as long as the reading.
    """

    online: OnlineStore
    config: RepoConfig
    views: list[FeatureView]
    absent: Row
    lists: frozenset[str]
    sql: str | None

    def row(self, owner: str, key: str) -> Row:
        """Return one owner's features by name."""
        row = {name: [] if name in self.lists else value for name, value in self.absent.items()}
        entity = EntityKeyProto(join_keys=[owner], entity_values=[ValueProto(string_val=key)])
        read = self._stored_by_view(entity) if self.sql is None else self._stored(entity)
        for name, value in read:
            # Redis names what it does not have; that leaves the default.
            if name in row and value.WhichOneof("val"):
                row[name] = _plain(value)
        return row

    def _stored(self, entity: EntityKeyProto) -> Iterator[tuple[str, ValueProto]]:
        """Read all views of a SQLite store in one statement, without the times of each value."""
        version = self.config.entity_key_serialization_version
        key = serialize_entity_key(entity, version)
        cursor = self.online._get_conn(self.config).execute(self.sql, {"key": key})
        return ((name, ValueProto.FromString(stored)) for name, stored in cursor.fetchall())

    def _stored_by_view(self, entity: EntityKeyProto) -> Iterator[tuple[str, ValueProto]]:
        for view in self.views:
            for _, values in self.online.online_read(self.config, view, [entity]):
                yield from (values or {}).items()


def _plain(value: Any) -> Any:
    """Return a stored value as Feast's own answers give it."""
    kind = value.WhichOneof("val")
    if kind in _LISTS:
        return list(getattr(value, kind).val)
    if kind in _PLAIN:
        return getattr(value, kind)
    return None if kind is None else feast_value_type_to_python_type(value)


_PLAIN = frozenset({"string_val", "int64_val", "double_val", "float_val", "bool_val"})
_LISTS = frozenset({"string_list_val", "float_list_val", "int64_list_val"})


@lru_cache(maxsize=4)
def _reader(owner: str, place: Online, generation: str) -> _Reader:
    """Return an open store of one generation."""
    with place.opened(generation, _apply) as config:
        store = FeatureStore(config=config)
        _, lists = _references(store, owner)
        views = [store.get_feature_view(view) for view in _VIEWS[owner]]
        provider = store._get_provider().online_store
    is_sqlite = isinstance(provider, SqliteOnlineStore)
    if is_sqlite:
        # Pages are looked at where they lie, instead of being copied for each reading.
        provider._get_conn(config).execute(f"PRAGMA mmap_size = {_MAPPED_BYTES}").close()
    return _Reader(
        online=provider,
        config=config,
        views=views,
        absent=dict.fromkeys(name for view in _VIEWS[owner].values() for name in view),
        lists=frozenset(lists),
        sql=_select(config, views) if is_sqlite else None,
    )


def _select(config: RepoConfig, views: Sequence[FeatureView]) -> str:
    """Return the statement that reads one key of all views."""
    versioned = config.registry.enable_online_feature_view_versioning
    tables = [_quote_id(_table_id(config.project, view, versioned)) for view in views]
    parts = [f"SELECT feature_name, value FROM {one} WHERE entity_key = :key" for one in tables]
    return " UNION ALL ".join(parts)


def _references(store: FeatureStore, owner: str) -> tuple[list[str], list[str]]:
    """Return `view:feature` for the service's features of an owner, and the names of the lists."""
    service = store.get_feature_service(FEATURE_SERVICE)
    views = [view for view in service.feature_view_projections if view.name in _VIEWS[owner]]
    features = [(view.name, feature) for view in views for feature in view.features]
    lists = [feature.name for _, feature in features if isinstance(feature.dtype, Array)]
    return [f"{view}:{feature.name}" for view, feature in features], lists


def view_schemas() -> dict[str, pa.Schema]:
    """Return the columns that each feature view's Parquet file must have."""
    named = runpy.run_path(str(REPO / "definitions.py")).values()
    found = {}
    owners = {view: owner for owner, views in _VIEWS.items() for view in views}
    for view in (thing for thing in named if isinstance(thing, FeatureView)):
        kinds = [
            (feature.name, feast_value_type_to_pa(feature.dtype.to_value_type()))
            for feature in view.features
        ]
        stamp = (UserRow.TS, pa.timestamp("us", "UTC"))
        found[view.name] = pa.schema([(owners[view.name], pa.string()), stamp, *kinds])
    return found


def _apply(config: RepoConfig) -> list[str]:
    # Run, not imported: the definitions name files under the data folder of this moment.
    named = runpy.run_path(str(REPO / "definitions.py")).values()
    kinds = (Entity, FeatureView, FeatureService)
    objects = [thing for thing in named if isinstance(thing, kinds)]
    FeatureStore(config=config).apply(objects)
    return [thing.name for thing in objects]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Apply, fill and read the feature store.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("apply", help="register the definitions of features/repo")
    fill = commands.add_parser("materialize", help="fill the online store")
    fill.add_argument("--until", type=parsed, required=True, help="ISO 8601, UTC if no zone")
    lookup = commands.add_parser("lookup", help="read the online store")
    past = commands.add_parser("historical", help="read the features as of a moment")
    past.add_argument("--at", type=parsed, required=True, help="ISO 8601, UTC if no zone")
    for command in (lookup, past):
        key = command.add_mutually_exclusive_group(required=True)
        key.add_argument("--user", help="a user_id")
        key.add_argument("--song", help="a song_id")
    return parser.parse_args()


def _looked_up(arguments: argparse.Namespace) -> Row:
    of_user = arguments.user is not None
    owner, key = (User.ID, arguments.user) if of_user else (Song.ID, arguments.song)
    if arguments.command == "lookup":
        return _online_rows(owner, [key])[0]
    entities = pd.DataFrame({owner: [key], UserRow.TS: pd.to_datetime([arguments.at])})
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


def _shown(value: object, length: int = 8) -> str:
    if not isinstance(value, list | np.ndarray):
        return str(value)
    parts = [
        f"{part:.4g}" if isinstance(part, float | np.floating) else str(part) for part in value
    ]
    rest = f", ... {len(parts)} in all" if len(parts) > length else ""
    return f"[{', '.join(parts[:length])}{rest}]"


if __name__ == "__main__":
    main()
