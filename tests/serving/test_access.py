"""API keys, rates and the depth of bodies."""

import asyncio
import hashlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from anyio.from_thread import start_blocking_portal
from starlette.responses import PlainTextResponse
from starlette.types import Message, Receive, Scope, Send

from features.paths import PROJECT
from serving.access import AccessGuard, Buckets, main, read_keys, right_for
from serving.deadline import arrived
from serving.guard import MAX_DEPTH, BodyGuard, depth
from tests.serving.conftest import Client

PATHS = {"recommend": "/recommend", "events": "/events", "operate": "/metrics"}


def entry(name: str, rights: str) -> str:
    return f"{name}:{rights}:{hashlib.sha256(f'secret of {name}'.encode()).hexdigest()}"


def bearer(secret: str) -> dict[str, str]:
    return {"authorization": f"Bearer {secret}"}


@pytest.fixture
def guarded(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Return a function that opens a client of a guarded app which answers everything with 200."""

    @contextmanager
    def opened(**env: str) -> Iterator[Client]:
        for name, value in env.items():
            monkeypatch.setenv(name, value)
        app = AccessGuard(BodyGuard(PlainTextResponse("in")))
        http = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://segue")
        with start_blocking_portal() as portal, portal.wrap_async_context_manager(http):
            yield Client(portal, http)

    return opened


def test_without_keys_everything_is_open(guarded: Callable[..., Any]) -> None:
    with guarded() as client:
        assert [client.get(path).status_code for path in PATHS.values()] == [200] * 3


@pytest.mark.parametrize("right", PATHS)
def test_a_key_opens_what_its_rights_say_and_nothing_else(
    guarded: Callable[..., Any], right: str
) -> None:
    keys = " ".join([entry("one", right), entry("all", "recommend+events+operate")])
    with guarded(SEGUE_API_KEYS=keys) as client:
        for other, path in PATHS.items():
            expected = 200 if other == right else 403
            answered = client.get(path, headers=bearer("secret of one"))
            assert answered.status_code == expected
            assert client.get(path, headers=bearer("secret of all")).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [{}, bearer("guessed"), bearer(""), {"authorization": "Basic secret of one"}]
    + [{"authorization": "secret of one"}, {"authorization": "Bearer"}]
    + [bearer(hashlib.sha256(b"secret of one").hexdigest()), bearer("\xff".encode().hex())],
)
def test_without_a_known_key_nothing_opens(
    guarded: Callable[..., Any], headers: dict[str, str]
) -> None:
    with guarded(SEGUE_API_KEYS=entry("one", "recommend")) as client:
        for path in (*PATHS.values(), "/status", "/metrics/", "/Web/", "/anything"):
            refused = client.get(path, headers=headers)
            assert refused.status_code == 401
            assert refused.headers["www-authenticate"] == "Bearer"
            assert "secret" not in refused.text
        for path in ("/", "/docs", "/operator", "/web/player.js", "/static_content/x.js", "/livez"):
            assert client.get(path, headers=headers).status_code == 200


def test_paths_and_their_rights() -> None:
    assert right_for("/recommend") == right_for("/songs/search") == "recommend"
    assert right_for("/events") == right_for("/events/") == "events"
    assert right_for("/metrics") == right_for("/metrics/") == "operate"
    assert right_for("/") is None


@pytest.mark.parametrize("text", ["one", "one:recommend:abc", entry("one", "dance"), "a:b:c:d"])
def test_malformed_keys_stop_the_start_without_telling_them(text: str) -> None:
    with pytest.raises(ValueError, match="SEGUE_API_KEYS: entry 2") as caught:
        read_keys(f"{entry('good', 'events')} {text}")
    assert "abc" not in str(caught.value)
    assert entry("one", "dance")[-20:] not in str(caught.value)


def test_a_made_key_works(guarded: Callable[..., Any]) -> None:
    words = [sys.executable, "-m", "serving.access", "player", "recommend", "events"]
    made = subprocess.run(words, cwd=PROJECT, capture_output=True, text=True, check=True)
    secret, keys = (line.split(": ")[1] for line in made.stdout.splitlines())
    assert secret not in keys
    with guarded(SEGUE_API_KEYS=keys) as client:
        assert client.get("/events", headers=bearer(secret)).status_code == 200
        assert client.get("/metrics", headers=bearer(secret)).status_code == 403


def test_a_strangers_body_is_not_even_read(guarded: Callable[..., Any]) -> None:
    with guarded(SEGUE_API_KEYS=entry("one", "recommend")) as client:
        for content_type in ("application/json", "text/plain"):
            kind = {"content-type": content_type}
            assert client.post("/recommend", content=b"[" * 40, headers=kind).status_code == 401


def test_who_left_in_the_middle_of_a_body_is_not_answered() -> None:
    """A prefix of a batch may be one itself."""
    messages: list[Message] = [
        {"type": "http.request", "body": b"{}", "more_body": True},
        {"type": "http.disconnect"},
    ]
    passed_on = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        passed_on.append(scope)

    async def receive() -> Message:
        return messages.pop(0)

    async def send(message: Message) -> None:
        passed_on.append(message)

    headers = [(b"content-type", b"application/json")]
    asyncio.run(
        BodyGuard(app)({"type": "http", "method": "POST", "headers": headers}, receive, send)
    )
    assert passed_on == []


def test_the_time_that_a_body_takes_to_come_is_not_the_answers() -> None:
    seen: list[float | None] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        del scope, receive, send
        seen.append(arrived.get())

    async def receive() -> Message:
        # When the last of it is there.
        begun.append(time.monotonic())
        return {"type": "http.request", "body": b"{}", "more_body": len(begun) < 3}

    async def send(message: Message) -> None:
        raise AssertionError(message)

    begun: list[float] = []
    headers = [(b"content-type", b"application/json")]
    asyncio.run(
        BodyGuard(app)({"type": "http", "method": "POST", "headers": headers}, receive, send)
    )
    assert len(begun) == 3
    assert seen[0] is not None
    assert seen[0] >= begun[-1]


def test_a_body_lost_by_an_upgrade_is_explained(guarded: Callable[..., Any]) -> None:
    # What the server leaves of such a request: its headers.
    headers = {"content-type": "application/json", "content-length": "7", "upgrade": "h2c"}
    with guarded() as client:
        answer = client.post("/recommend", content=b"", headers=headers)
        assert (answer.status_code, "HttpClient.Version.HTTP_1_1" in answer.text) == (400, True)
        # A body that came all the same is taken, and so is none where none was said.
        assert client.post("/recommend", content=b'{"k":1}', headers=headers).status_code == 200
        assert client.post("/recommend", headers={"upgrade": "h2c"}).status_code == 200


def test_a_name_that_a_key_cannot_have_is_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["access", "my player", "recommend"])
    with pytest.raises(SystemExit, match="2"):
        main()
    assert "the name 'my player' is not of letters" in capsys.readouterr().err


def test_a_body_says_that_it_is_json(guarded: Callable[..., Any]) -> None:
    with guarded() as client:
        # As a browser sends an untyped blob to any site, without asking it first.
        assert client.post("/events", content=b"{}").status_code == 415
        assert client.post("/events").status_code == 200
        assert client.post("/events", json={}).status_code == 200


def test_a_bucket_by_hand() -> None:
    clock = [0.0]
    buckets = Buckets(rate=2, burst=3, now=lambda: clock[0])
    assert [buckets.wait("a") for _ in range(4)] == [0, 0, 0, 0.5]
    assert buckets.wait("b") == 0
    clock[0] = 0.5
    assert [buckets.wait("a") for _ in range(2)] == [0, 0.5]
    clock[0] = 100.0
    assert [buckets.wait("a") for _ in range(4)] == [0, 0, 0, 0.5]


def test_very_many_clients_are_forgotten_oldest_first() -> None:
    buckets = Buckets(rate=1, burst=1, now=lambda: 0.0)
    for number in range(10_001):
        assert buckets.wait(str(number)) == 0
    assert buckets.wait("10000") > 0
    assert buckets.wait("0") == 0


def test_too_many_requests_are_refused_by_client(guarded: Callable[..., Any]) -> None:
    keys = f"{entry('one', 'recommend')} {entry('two', 'recommend')}"
    with guarded(SEGUE_API_KEYS=keys, SEGUE_RATE="0.001", SEGUE_BURST="2") as client:
        one, two = bearer("secret of one"), bearer("secret of two")
        codes = [client.get("/status", headers=one).status_code for _ in range(3)]
        assert codes == [200, 200, 429]
        assert client.get("/status", headers=two).status_code == 200
        late = client.get("/status", headers=one)
        assert 900 < int(late.headers["retry-after"]) <= 1001
        assert client.get("/livez").status_code == 200


def test_depth_by_hand() -> None:
    deep = b'{"a": ' + b"[" * 40 + b"]" * 40 + b"}"
    assert depth(deep) == 41
    assert depth(b"[" + b"[[]]," * 100 + b"[]]") == 3
    in_strings = b'["' + b"[{" * 50 + rb"\"[[" + b'", ' + b'"\\\\", ' + b"[[]]]"
    assert depth(in_strings) == 3
    assert depth(b'"' + b"[" * 40) == 0
    assert depth(b"]" * 40 + b"[" * 40) <= 40
    # A step for each byte: the square of them would take hours.
    assert depth(b"[" * 40 + b'"' + rb"\"" * 1_000_000) == 40


def test_a_deep_body_is_refused(guarded: Callable[..., Any]) -> None:
    with guarded() as client:
        kind = {"content-type": "application/json"}
        body = b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1)
        refused = client.post("/recommend", content=body, headers=kind)
        assert refused.status_code == 400
        assert str(MAX_DEPTH) in refused.json()["error"]
        wide = b"[" + b"[]," * 1000 + b"[]]"
        assert client.post("/recommend", content=wide, headers=kind).status_code == 200
