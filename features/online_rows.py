"""The online store, read one owner at a time: hundreds of times a second, within a request."""

import sqlite3
import struct
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from feast import FeatureStore, FeatureView, RepoConfig
from feast.infra.key_encoding_utils import serialize_entity_key
from feast.infra.online_stores.online_store import OnlineStore
from feast.infra.online_stores.sqlite import SqliteOnlineStore, _quote_id, _table_id
from feast.protos.feast.types.EntityKey_pb2 import EntityKey as EntityKeyProto
from feast.protos.feast.types.Value_pb2 import FloatList
from feast.protos.feast.types.Value_pb2 import Value as ValueProto
from feast.type_map import NULL_TIMESTAMP_INT_VALUE, feast_value_type_to_python_type

from features.online import Online, entity, online
from features.query import Row
from features.registered import VIEWS, references, register

MAPPED_BYTES: Final = 2**30
FLOATS: Final = "float_list_val"
LISTS: Final = frozenset({"string_list_val", "int64_list_val"})
PLAIN: Final = frozenset({"string_val", "int64_val", "double_val", "float_val", "bool_val"})
MOMENT: Final = "unix_timestamp_val"
# What protobuf writes before a list of floats, two bytes, and not before any other value.
FLOATS_TAG: Final = ValueProto(float_list_val=FloatList()).SerializeToString()[:2]


def online_rows(owner: str, ids: Sequence[str]) -> list[Row]:
    """Return the rows of listeners or songs as last materialised, in the order asked.

    Raises
    ------
    FileNotFoundError
        If nothing was materialised yet.
    """
    return [
        {name: v.tolist() if isinstance(v, array) else v for name, v in row.items()}
        for row in (online_row(owner, key) for key in ids)
    ]


def online_row(owner: str, key: str) -> Row:
    """Return one row as `online_rows` does, with lists of fractions as arrays.

    They are `array.array`s: NumPy takes them without looking at each number, and each by itself is
    the same number as in a list.
    """
    place = online()
    return {owner: key} | _reader(owner, place, place.generation()).row(key)


@dataclass(frozen=True)
class _Reader:
    """An open online store with what is read of one kind of owner.

    `FeatureStore.get_online_features` looks all of it up again for each row, which takes three
    times as long as the reading. `file` is the store's file and the statement that reads a key of
    all views; None where the store is no file.
    """

    owner: str
    online: OnlineStore
    config: RepoConfig
    views: list[FeatureView]
    absent: Row
    lists: frozenset[str]
    file: "_File | None"

    def row(self, key: str) -> Row:
        """Return one owner's features by name."""
        row = self.absent | {name: [] for name in self.lists}
        for name, value in self._read(key):
            # Redis names what it does not have; that leaves the default.
            if name in row and value is not None:
                row[name] = value
        return row

    def _read(self, key: str) -> Iterator[tuple[str, Any]]:
        if self.file is not None:
            return ((name, _parsed(stored)) for name, stored in self.file.stored(key))
        return self._read_by_view(entity(self.owner, key))

    def _read_by_view(self, entity: EntityKeyProto) -> Iterator[tuple[str, Any]]:
        for view in self.views:
            for _, values in self.online.online_read(self.config, view, [entity]):
                yield from ((name, _plain(value)) for name, value in (values or {}).items())


@dataclass(frozen=True)
class _File:
    """A SQLite store; a stored key is `prefix`, the key's length and the key."""

    connection: sqlite3.Connection
    sql: str
    prefix: bytes

    @classmethod
    def open(cls, path: str, sql: str, prefix: bytes) -> "_File":
        """Open a generation's file, which must be there."""
        # Not as immutable, which would save a fifth: `feast materialize` writes into it in place,
        # and a reader has to finish what such a writer left half done.
        address = f"{Path(path).resolve().as_uri()}?mode=rw"
        connection = sqlite3.connect(address, uri=True, check_same_thread=False)
        # Pages are looked at where they lie, instead of being copied for each reading.
        connection.execute(f"PRAGMA mmap_size = {MAPPED_BYTES}").close()
        return cls(connection, sql, prefix)

    def stored(self, key: str) -> list[tuple[str, bytes]]:
        """Return all values of a key by name, as Feast wrote them."""
        word = key.encode()
        stored_key = self.prefix + struct.pack("<I", len(word)) + word
        return self.connection.execute(self.sql, (stored_key,)).fetchall()

    def __del__(self) -> None:
        # By itself a connection holds on to itself, and so to a replaced file's space, until a
        # full garbage collection; the service freezes its first one out of those.
        self.connection.close()


def _parsed(stored: bytes) -> Any:
    """Return a value from its bytes; see `_plain`."""
    if stored.startswith(FLOATS_TAG):
        header = _header(len(stored))
        if header is not None and stored.startswith(header):
            return array("f", stored[len(header) :])
    return _plain(ValueProto.FromString(stored))


@lru_cache(maxsize=8192)
def _header(length: int) -> bytes | None:
    """Return how a list of floats begins that takes so many bytes in all; None if none does.

    What follows are the floats as they lie in memory. The longest lists, of 4,096 and more, are
    left to protobuf.
    """
    count = (length - 5) // 4
    if count < 1:
        return None
    like = ValueProto(float_list_val=FloatList(val=[0.0] * count)).SerializeToString()
    return like[: -4 * count] if len(like) == length else None


def _plain(value: Any) -> Any:
    """Return a value as Feast's own answers give it, a list of floats as an array."""
    kind = value.WhichOneof("val")
    if kind in PLAIN:
        return getattr(value, kind)
    if kind in LISTS:
        # A slice is a list, made faster than by going through the values.
        return getattr(value, kind).val[:]
    if kind == FLOATS:
        return array("f", value.float_list_val.val)
    if kind == MOMENT and value.unix_timestamp_val != NULL_TIMESTAMP_INT_VALUE:
        return datetime.fromtimestamp(value.unix_timestamp_val, UTC)
    return None if kind is None else feast_value_type_to_python_type(value)


@lru_cache(maxsize=2)
def _reader(owner: str, place: Online, generation: str) -> _Reader:
    """Return an open store of one generation."""
    with place.opened(generation, register) as config:
        store = FeatureStore(config=config)
        _, lists = references(store, owner)
        views = [store.get_feature_view(view) for view in VIEWS[owner]]
        provider = store._get_provider().online_store
    return _Reader(
        owner=owner,
        online=provider,
        config=config,
        views=views,
        absent=dict.fromkeys(name for view in VIEWS[owner].values() for name in view),
        lists=frozenset(lists),
        file=_file(owner, provider, config, views),
    )


def _file(
    owner: str, provider: OnlineStore, config: RepoConfig, views: Sequence[FeatureView]
) -> _File | None:
    if not isinstance(provider, SqliteOnlineStore):
        return None
    # Of an empty key Feast writes what comes before any, and then its length, four zeros.
    empty = serialize_entity_key(entity(owner, ""), config.entity_key_serialization_version)
    return _File.open(provider._get_db_path(config), _select(config, views), empty[:-4])


def _select(config: RepoConfig, views: Sequence[FeatureView]) -> str:
    """Return the statement that reads one key of all views."""
    versioned = config.registry.enable_online_feature_view_versioning
    tables = [_quote_id(_table_id(config.project, view, versioned)) for view in views]
    parts = [f"SELECT feature_name, value FROM {one} WHERE entity_key = ?1" for one in tables]
    return " UNION ALL ".join(parts)
