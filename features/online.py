"""Where the online features are: in a SQLite file, or in Redis for services on many machines.

Each materialisation is a generation of its own, written beside the one in use, which it then
replaces at once: readers see the old state or the new one.
"""

import json
import sqlite3
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, Protocol, TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit

import yaml
from feast import RepoConfig
from feast.infra.key_encoding_utils import serialize_entity_key
from feast.protos.feast.types.EntityKey_pb2 import EntityKey as EntityKeyProto
from feast.protos.feast.types.Value_pb2 import Value as ValueProto
from redis import Redis
from redis.exceptions import RedisError

from features.locks import alone_in
from features.paths import data_dir, online_url

REPO: Final = Path(__file__).resolve().parent / "repo"
# Without them whoever waits for a machine that lost its power would wait for ever.
PATIENCE: Final = {"socket_timeout": 5, "socket_connect_timeout": 5}
# How long a process may go on reading a generation that was replaced in Redis.
STALE_SECONDS: Final = 1.0
IN_USE, BEFORE, BEGUN = "segue:online", "segue:online:before", "segue:online:begun"
# Whatever was begun so long ago and is not in use was never ended.
LEFT_SECONDS: Final = 86_400.0
Fill = Callable[[RepoConfig], object]
Registered = TypeVar("Registered")


class Online(Protocol):
    """A place for online features."""

    def generation(self) -> str:
        """Name the generation in use.

        Raises
        ------
        FileNotFoundError
            If nothing was materialised yet.
        """

    def opened(self, generation: str, apply: Fill) -> AbstractContextManager[RepoConfig]:
        """Give Feast's configuration for reading a generation; `apply` fills a new registry."""

    def replace(self, fill: Fill) -> str:
        """Let `fill` write a new generation, put it to use, and say where it is."""

    def forget(self, owner: str, key: str) -> bool:
        """Delete the row of a listener or song, and tell whether there was one."""

    def __hash__(self) -> int:
        """Equal places have equal hashes."""


@dataclass(frozen=True)
class InFile:
    """One SQLite file; a new generation is a new file in its place."""

    path: Path

    def generation(self) -> str:
        """Return the file's number on its disk."""
        try:
            return str(self.path.stat().st_ino)
        except FileNotFoundError:
            raise FileNotFoundError(nothing_in(str(self.path))) from None

    @contextmanager
    def opened(self, generation: str, apply: Fill) -> Iterator[RepoConfig]:
        """Give the configuration of what lies there, with the registry beside it."""
        del generation, apply
        yield self.config()

    def replace(self, fill: Fill) -> str:
        """Write beside the file and move it there; two who do so wait for each other."""
        with self._renewed(self.registry, self.path) as (registry, part):
            fill(config_with(registry, _sqlite(part)))
        return str(self.path)

    def register(self, apply: Callable[[RepoConfig], Registered]) -> Registered:
        """Let `apply` write a new registry, and put it in the place of the one there is."""
        with self._renewed(self.registry) as (registry,):
            return apply(config_with(registry, _sqlite(self.path)))

    def forget(self, owner: str, key: str) -> bool:
        """Delete a row from all tables of the file, in one transaction."""
        # A file that is not there would be made.
        self.generation()
        stored = stored_key(owner, key)
        with alone_in(self.path.parent), closing(sqlite3.connect(self.path)) as connection:
            found = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            deletes = [f'DELETE FROM "{table}" WHERE entity_key = ?' for (table,) in found]
            gone = [connection.execute(sql, (stored,)).rowcount for sql in deletes]
            connection.commit()
        return any(gone)

    @contextmanager
    def _renewed(self, *paths: Path) -> Iterator[list[Path]]:
        """Give where to write files first; whole, they are moved to their places, in order."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        parts = [path.with_name(f"{path.name}.part") for path in paths]
        with alone_in(self.path.parent):
            _remove(parts)
            try:
                yield parts
                for part, path in zip(parts, paths, strict=True):
                    part.replace(path)
            except BaseException:
                # Half a store would keep the space that others need, as where the disk is full.
                _remove(parts)
                raise

    @property
    def registry(self) -> Path:
        """Where Feast's registry is: beside the file."""
        return self.path.with_name("registry.db")

    def config(self) -> RepoConfig:
        """Return the configuration, with a registry beside the file."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        return config_with(self.registry, _sqlite(self.path))


def _sqlite(path: Path) -> dict[str, Any]:
    return {"type": "sqlite", "path": str(path)}


def _remove(parts: Sequence[Path]) -> None:
    for part in parts:
        for left in (part, part.with_name(f"{part.name}-journal")):
            left.unlink(missing_ok=True)


@dataclass(frozen=True)
class InRedis:
    """A Redis database; a generation is a Feast project, and a key names the one in use.

    The generation before is kept for those who still read it, older ones are deleted, and after a
    day those that were never ended.
    """

    url: str

    @cached_property
    def client(self) -> Any:
        """A client of the server, which makes its connections when they are needed."""
        return Redis.from_url(self.url, **PATIENCE)

    def generation(self) -> str:
        """Return the project in use, as it was at most `STALE_SECONDS` ago."""
        with self._told():
            return _in_use(self, int(time.monotonic() / STALE_SECONDS))

    @contextmanager
    def opened(self, generation: str, apply: Fill) -> Iterator[RepoConfig]:
        """Give the configuration of one project, with a registry of its own."""
        online = {"type": "redis", "connection_string": connection_string(self.url)}
        with TemporaryDirectory() as scratch:
            config = config_with(Path(scratch) / "registry.db", online, generation)
            apply(config)
            yield config

    def replace(self, fill: Fill) -> str:
        """Write a new project, name it, and delete what is older than the one before."""
        new = f"segue_{uuid.uuid4().hex}"
        with self._told():
            return self._replace(new, fill)

    def forget(self, owner: str, key: str) -> bool:
        """Delete a row from all generations, of those that are being written, too."""
        stored = stored_key(owner, key)
        with self._told():
            kept = self.client.zrange(BEGUN, 0, -1) + self.client.mget(IN_USE, BEFORE)
            gone = self.client.delete(*{stored + project for project in kept if project})
        return bool(gone)

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Say of what Redis refuses where that Redis is."""
        try:
            yield
        except RedisError as error:
            raise OSError(f"Redis at {self.host}: {error}") from error

    def _replace(self, new: str, fill: Fill) -> str:
        # Noted before it is filled: what a killed run leaves is found by a later one.
        self.client.zadd(BEGUN, {new: time.time()})
        evicted = self._evicted()
        try:
            with self.opened(new, fill):
                pass
            if self._evicted() > evicted:
                raise OSError(
                    f"Redis at {self.host} threw keys out to make room for these: raise its "
                    "`maxmemory`, and set `maxmemory-policy noeviction`, since a listener whose "
                    "row is thrown out is answered as a stranger."
                )
        except BaseException:
            with suppress(RedisError):
                self._delete(new.encode())
            raise
        used, before = self.client.mget(IN_USE, BEFORE)
        self.client.mset({IN_USE: new, BEFORE: used or b""})
        _in_use.cache_clear()
        left = self.client.zrangebyscore(BEGUN, 0, time.time() - LEFT_SECONDS)
        for project in {before, *left} - {None, b"", used, new.encode()}:
            self._delete(project)
        return f"{new} in {self.host}"

    @property
    def host(self) -> str | None:
        """Where it is said to be: the address itself may hold a password."""
        return urlsplit(self.url).hostname

    def _evicted(self) -> int:
        """Return how many keys it has thrown out since its start, of those that never expire."""
        told = self.client.info()
        return int(told["evicted_keys"]) if told["maxmemory_policy"].startswith("allkeys") else 0

    def _delete(self, project: bytes) -> None:
        keys = list(self.client.scan_iter(match=b"*" + project, count=10_000))
        for start in range(0, len(keys), 10_000):
            self.client.unlink(*keys[start : start + 10_000])
        self.client.zrem(BEGUN, project)


@lru_cache(maxsize=2)
def _in_use(place: InRedis, moment: int) -> str:
    """Ask which project is in use; `moment` makes the answer forgotten."""
    del moment
    named = place.client.get(IN_USE)
    if named is None:
        raise FileNotFoundError(nothing_in(f"Redis at {place.host}"))
    return str(named.decode())


def online() -> Online:
    """Return the place that the environment names.

    Raises
    ------
    ValueError
        If it is neither empty nor a Redis address.
    """
    url = online_url()
    return in_redis(url) if url else in_file(data_dir())


@lru_cache(maxsize=4)
def in_file(folder: Path) -> InFile:
    """Return the file below a data folder; made once, since each request asks for it."""
    return InFile(folder / "feast" / "online.db")


@lru_cache(maxsize=4)
def in_redis(url: str) -> InRedis:
    """Return one client for all that read an address."""
    return InRedis(url)


def connection_string(url: str) -> str:
    """Return an address as Feast writes it.

    Examples
    --------
    >>> connection_string("redis://:secret@features:6380/2")
    'features:6380,db=2,socket_timeout=5,socket_connect_timeout=5,password=secret'
    """
    parts = urlsplit(url)
    settings = {"db": parts.path.strip("/") or "0"} | PATIENCE | dict(parse_qsl(parts.query))
    named = {"username": unquote(parts.username or ""), "password": unquote(parts.password or "")}
    settings |= {name: _as_text(value) for name, value in named.items() if value}
    if parts.scheme == "rediss":
        settings["ssl"] = "true"
    words = [f"{parts.hostname or 'localhost'}:{parts.port or 6379}"]
    return ",".join([*words, *(f"{name}={value}" for name, value in settings.items())])


def _as_text(value: str) -> str:
    """Return a value that stays a text where Feast reads it: as JSON, where that is possible."""
    try:
        json.loads(value)
    except json.JSONDecodeError:
        return value
    return json.dumps(value)


def stored_key(owner: str, key: str) -> bytes:
    """Return an owner's key as Feast stores it."""
    return serialize_entity_key(entity(owner, key), _settings()["entity_key_serialization_version"])


def entity(owner: str, key: str) -> EntityKeyProto:
    """Return a listener or song as Feast names it."""
    return EntityKeyProto(join_keys=[owner], entity_values=[ValueProto(string_val=key)])


def nothing_in(place: str) -> str:
    """Say that nothing was materialised, and what to do."""
    return f"There is no online store in {place}; `make deploy` fills one."


def config_with(
    registry: Path, online_store: dict[str, Any], project: str | None = None
) -> RepoConfig:
    """Return the repo's configuration with registry, online store and project of its own."""
    settings = _settings()
    settings["registry"]["path"] = str(registry)
    settings["online_store"] = online_store
    return RepoConfig(**(settings | ({"project": project} if project else {})))


def _settings() -> dict[str, Any]:
    return dict(yaml.safe_load((REPO / "feature_store.yaml").read_text(encoding="utf-8")))
