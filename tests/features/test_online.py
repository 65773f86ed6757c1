"""Online features in Redis: the same rows as in the file; generations replace each other."""

import fcntl
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from feast.infra.online_stores.redis import RedisOnlineStore
from redis import Redis
from redis.exceptions import ConnectionError as NotYet

from features import online, store
from features.columns import User
from tests.features.test_store import TIMES, USER_IDS, data, defaults  # noqa: F401 - a fixture

SECONDS = 30


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Yield the address of a real Redis server of its own."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("Redis is not installed (Debian's package `redis-server`).")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    words = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir"]
    folder = tmp_path_factory.mktemp("redis")
    with subprocess.Popen([*words, str(folder)], stdout=subprocess.DEVNULL) as process:
        wait_for(Redis(port=port))
        yield f"redis://127.0.0.1:{port}/1"
        process.terminate()


def wait_for(client: Any) -> None:
    deadline = time.monotonic() + SECONDS
    pause = threading.Event()
    while True:
        try:
            client.ping()
        except NotYet:
            assert time.monotonic() < deadline, "Redis did not come up."
            pause.wait(0.02)
        else:
            return


@pytest.fixture
def in_redis(server: str, data: Path, monkeypatch: pytest.MonkeyPatch) -> Any:  # noqa: F811
    monkeypatch.setenv("SEGUE_ONLINE_URL", server)
    place = online.in_redis(server)
    place.client.flushdb()
    online._in_use.cache_clear()
    return place.client


def test_redis_and_the_file_hold_the_same(in_redis: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    store.materialize(TIMES[-1])
    ids = [*USER_IDS, "nobody"]
    from_redis = store.online_user_rows(ids)
    monkeypatch.delenv("SEGUE_ONLINE_URL")
    store.materialize(TIMES[-1])
    for ours, theirs in zip(from_redis, store.online_user_rows(ids), strict=True):
        # As text: what is not a number is not even equal to itself.
        assert {k: v for k, v in ours.items() if str(v) != str(theirs[k])} == {}
    assert from_redis[-1] == defaults(User.ID, "nobody")
    assert any(row["plays"] for row in from_redis)


def test_an_earlier_moment_goes_back_and_old_generations_leave(in_redis: Any) -> None:
    store.materialize(TIMES[0])
    first = store.online_user_rows(USER_IDS)
    used = in_redis.get(online.IN_USE)
    store.materialize(TIMES[-1])
    assert str(store.online_user_rows(USER_IDS)) != str(first)
    # Who reads the generation before may go on for a while.
    assert list(in_redis.scan_iter(match=b"*" + used))
    store.materialize(TIMES[0])
    assert str(store.online_user_rows(USER_IDS)) == str(first)
    assert not list(in_redis.scan_iter(match=b"*" + used))


def test_what_a_broken_run_wrote_leaves(in_redis: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    store.materialize(TIMES[0])
    whole = set(in_redis.scan_iter())
    monkeypatch.setattr(online, "LEFT_SECONDS", -1.0)

    def full(config: Any) -> None:
        in_redis.set(f"half of it, {config.project}", 1)
        raise OSError("No space left on device")

    place = online.online()
    with pytest.raises(OSError, match="No space left"):
        place.replace(full)
    assert set(in_redis.scan_iter()) == whole
    # One that was killed: it was begun, and nobody cleaned up.
    in_redis.zadd(online.BEGUN, {"segue_killed": 1.0})
    in_redis.set("some key of segue_killed", 1)
    store.materialize(TIMES[0])
    assert not list(in_redis.scan_iter(match="*segue_killed"))
    assert store.online_user_rows(USER_IDS)


def test_a_listener_is_forgotten_in_all_generations(in_redis: Any) -> None:
    for moment in (TIMES[0], TIMES[-1]):
        store.materialize(moment)
    keys, row = len(list(in_redis.scan_iter())), str(store.online_user_row("u2"))
    assert store.forget_online_user("u1") is True
    assert store.online_user_row("u1") == defaults(User.ID, "u1")
    assert str(store.online_user_row("u2")) == row
    assert len(list(in_redis.scan_iter())) == keys - 2
    assert store.forget_online_user("u1") is False


def test_a_fill_that_pushed_keys_out_is_not_put_to_use(in_redis: Any) -> None:
    store.materialize(TIMES[0])
    room = in_redis.info("memory")["used_memory"] + (4 << 20)
    in_redis.config_set("maxmemory-policy", "allkeys-random")

    def fill(config: Any) -> None:
        in_redis.config_set("maxmemory", room)
        for number in range(100):
            in_redis.set(f"{number} of {config.project}", b"0" * (1 << 20))

    try:
        with pytest.raises(OSError, match="threw keys out .* noeviction"):
            online.online().replace(fill)
    finally:
        in_redis.config_set("maxmemory", 0)
        in_redis.config_set("maxmemory-policy", "noeviction")
    assert not list(in_redis.scan_iter(match="* of *"))


def test_a_server_that_is_gone_is_told(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setenv("SEGUE_ONLINE_URL", "redis://localhost:1")
    with pytest.raises(OSError, match=r"Redis at localhost: .*refused"):
        store.online_user_row("u1")


def test_half_a_file_leaves(data: Path) -> None:  # noqa: F811
    store.materialize(TIMES[0])
    folder = data / "feast"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def full(config: Any) -> None:
        Path(config.online_store.path).write_text("half of it")
        raise OSError("No space left on device")

    with pytest.raises(OSError, match="No space left"):
        online.online().replace(full)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_nobody_else_replaces_the_file_meanwhile(data: Path) -> None:  # noqa: F811
    place = online.InFile(data / "feast" / "online.db")
    refused = []

    def fill(config: Any) -> None:
        for path in (config.registry.path, config.online_store.path):
            Path(path).write_text("whole")
        handle = os.open(place.path.parent, os.O_RDONLY)
        try:
            # As the other would, but without waiting.
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            refused.append(error)
        finally:
            os.close(handle)

    for _ in range(2):
        place.replace(fill)
    assert len(refused) == 2
    assert place.path.read_text() == "whole"


def test_an_empty_server_is_explained_without_its_password(
    server: str,
    in_redis: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SEGUE_ONLINE_URL", server.replace("redis://", "redis://:secret@"))
    in_redis.config_set("requirepass", "secret")
    try:
        with pytest.raises(
            FileNotFoundError, match=r"Redis at 127\.0\.0\.1; .make deploy"
        ) as caught:
            store.online_user_row("u1")
    finally:
        in_redis.config_set("requirepass", "")
    assert "secret" not in str(caught.value)


def test_an_address_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for url in (
        "postgresql://x",
        "redis://x:port/0",
        "redis://x/segue",
        "redis://:a%2Cb@x/0",
        "redis://[::1]:6379/0",
    ):
        monkeypatch.setenv("SEGUE_ONLINE_URL", url)
        with pytest.raises(ValueError, match="redis://host:port/database"):
            store.online_user_row("u1")


def test_addresses_are_written_as_feast_reads_them() -> None:
    patience = "socket_timeout=5,socket_connect_timeout=5"
    assert online.connection_string("redis://localhost") == f"localhost:6379,db=0,{patience}"
    asked = "rediss://me:secret@features:6380/2"
    expected = f"features:6380,db=2,{patience},username=me,password=secret,ssl=true"
    assert online.connection_string(asked) == expected
    spelt = online.connection_string("redis://:p%40ss%2Fw@localhost")
    assert spelt == f"localhost:6379,db=0,{patience},password=p@ss/w"
    spelt = online.connection_string("redis://localhost?socket_timeout=1")
    assert spelt == "localhost:6379,db=0,socket_timeout=1,socket_connect_timeout=5"


@pytest.mark.parametrize("secret", ["1e3", "true", "1.50", "null", "12", '"q"', "a=b", "[1"])
def test_a_password_is_a_text_for_feast_whatever_it_looks_like(secret: str) -> None:
    spelt = online.connection_string(f"redis://user:{quote(secret)}@localhost")
    _, read = RedisOnlineStore._parse_connection_string(spelt)
    assert read == {"db": 0, **online.PATIENCE, "username": "user", "password": secret}
