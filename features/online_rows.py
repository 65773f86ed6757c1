"""The online store, read one owner at a time: hundreds of times a second, within a request."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from feast import FeatureStore, FeatureView, RepoConfig
from feast.infra.key_encoding_utils import serialize_entity_key
from feast.infra.online_stores.online_store import OnlineStore
from feast.infra.online_stores.sqlite import SqliteOnlineStore, _quote_id, _table_id
from feast.protos.feast.types.EntityKey_pb2 import EntityKey as EntityKeyProto
from feast.protos.feast.types.Value_pb2 import Value as ValueProto
from feast.type_map import feast_value_type_to_python_type

from features.online import Online, online
from features.query import Row
from features.registered import VIEWS, references, register

MAPPED_BYTES: Final = 2**30
LISTS: Final = frozenset({"string_list_val", "float_list_val", "int64_list_val"})
PLAIN: Final = frozenset({"string_val", "int64_val", "double_val", "float_val", "bool_val"})


def online_rows(owner: str, ids: Sequence[str]) -> list[Row]:
    """Return the rows of listeners or songs as last materialised, in the order asked.

    Raises
    ------
    FileNotFoundError
        If nothing was materialised yet.
    """
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
    if kind in LISTS:
        return list(getattr(value, kind).val)
    if kind in PLAIN:
        return getattr(value, kind)
    return None if kind is None else feast_value_type_to_python_type(value)


@lru_cache(maxsize=4)
def _reader(owner: str, place: Online, generation: str) -> _Reader:
    """Return an open store of one generation."""
    with place.opened(generation, register) as config:
        store = FeatureStore(config=config)
        _, lists = references(store, owner)
        views = [store.get_feature_view(view) for view in VIEWS[owner]]
        provider = store._get_provider().online_store
    is_sqlite = isinstance(provider, SqliteOnlineStore)
    if is_sqlite:
        # Pages are looked at where they lie, instead of being copied for each reading.
        provider._get_conn(config).execute(f"PRAGMA mmap_size = {MAPPED_BYTES}").close()
    return _Reader(
        online=provider,
        config=config,
        views=views,
        absent=dict.fromkeys(name for view in VIEWS[owner].values() for name in view),
        lists=frozenset(lists),
        sql=_select(config, views) if is_sqlite else None,
    )


def _select(config: RepoConfig, views: Sequence[FeatureView]) -> str:
    """Return the statement that reads one key of all views."""
    versioned = config.registry.enable_online_feature_view_versioning
    tables = [_quote_id(_table_id(config.project, view, versioned)) for view in views]
    parts = [f"SELECT feature_name, value FROM {one} WHERE entity_key = :key" for one in tables]
    return " UNION ALL ".join(parts)
