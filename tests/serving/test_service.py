"""The HTTP API, in process through `to_asgi()`, and for real through `bentoml serve`."""

import io
import json
import logging
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from tornado.ioloop import IOLoop

from features.paths import PROJECT, exposures_folder
from serving.api import EXAMPLE
from tests.serving.conftest import EVIL_TITLE, Client, free_port

SECONDS = 300
BENTOML = Path(sys.executable).with_name("bentoml")


async def in_parts(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), 500_000):
        yield body[start : start + 500_000]


def recommended(client: Client, **body: Any) -> dict[str, Any]:
    answered = client.post("/recommend", json=body)
    assert answered.status_code == 200, answered.text
    return dict(answered.json())


def test_an_answer_has_the_shape_of_the_design(client: Client) -> None:
    session = [{"song_id": "song-003", "action": "play", "played_ms": 1000}, {"song_id": "?"}]
    # Before anything that other tests' pages told of this listener.
    asked = {"session": session, "context": {"ts": "2024-03-01T00:00:00Z"}}
    answered = recommended(client, user_id="user-1", **asked, k=4, explain=True)
    assert list(answered) == [
        "request_id", "model_version", "variant", "degraded", "unknown_songs", "relaxed", "notes",
        "songs",
    ]  # fmt: skip
    assert answered["model_version"] == "test-1"
    assert answered["variant"] == "ranker"
    assert answered["degraded"] == []
    assert answered["unknown_songs"] == ["?"]
    assert len(answered["songs"]) == 4
    for song in answered["songs"]:
        assert list(song) == [
            "song_id", "title", "artists", "position", "propensity", "score", "p_like",
            "sources", "reasons", "why",
        ]  # fmt: skip
        # Songs of the session's cluster come first.
        assert song["artists"] == ["Artist 3"]
        assert song["sources"]
        assert song["reasons"]


def test_a_steered_request_is_answered(client: Client) -> None:
    for seed in ({"song_id": "song-006"}, {"artist": "Artist 6"}, {"song_ids": ["song-016"]}):
        answered = recommended(client, seed=seed)
        assert [song["artists"] for song in answered["songs"]] == [["Artist 6"]] * 10
    unknown = recommended(client, seed={"song_id": "?"}, mode="deep_cuts", less_like=["song-001"])
    assert unknown["notes"] == ["seed: the catalogue has no song '?'."]
    refused = {"refused_languages": ["en", "hi", "de"]}
    empty = recommended(client, profile=refused, spacing=True, allow_explicit=False)
    assert empty["songs"] == []
    assert empty["notes"] == ["short: only 0 of 10 songs may be proposed."]


def test_each_answer_has_its_own_request_id(client: Client) -> None:
    assert recommended(client)["request_id"] != recommended(client)["request_id"]


def test_the_listeners_features_are_read_from_feast(client: Client) -> None:
    for user, artist in (("user-1", "Artist 3"), ("user-2", "Artist 5")):
        context = {"ts": "2024-03-01T00:00:00Z"}
        answered = recommended(client, user_id=user, context=context, k=5, explain=True)
        assert answered["degraded"] == []
        assert {name for song in answered["songs"] for name in song["artists"]} == {artist}


def test_an_unknown_listener_is_answered_like_nobody(client: Client) -> None:
    context = {"ts": "2024-03-01T00:00:00Z"}
    stranger = recommended(client, user_id="never seen", context=context)
    assert stranger["degraded"] == []
    assert stranger["songs"] == recommended(client, context=context)["songs"]
    assert len(stranger["songs"]) == 10


def test_without_a_store_the_answer_says_so(
    client: Client, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SEGUE_DATA", str(tmp_path))
    answered = recommended(client, user_id="user-1")
    assert answered["degraded"] == ["features"]
    assert len(answered["songs"]) == 10


def test_the_example_of_the_documentation_works(client: Client) -> None:
    answered = recommended(client, **EXAMPLE)
    assert len(answered["songs"]) == EXAMPLE["k"]


BAD = [
    ({"k": 0}, "k"),
    ({"k": 101}, "k"),
    ({"k": 10**30}, "k"),
    ({"k": "10"}, "k"),
    ({"k": 1.5}, "k"),
    ({"k": None}, "k"),
    ({"user_id": 7}, "user_id"),
    ({"user_id": ""}, "user_id"),
    ({"user_id": "u" * 257}, "user_id"),
    ({"user_id": "a\x00b"}, "user_id"),
    ({"user_id": " u"}, "user_id"),
    ({"session_id": "a\x00"}, "session_id"),
    ({"session": [{"song_id": "\x00"}]}, "session.0.song_id"),
    ({"exclude": ["a", "b\x00"]}, "exclude.1"),
    ({"less_like": ["\x00a"]}, "less_like.0"),
    ({"seed": {"song_id": "a\x00"}}, "seed.song_id"),
    ({"seed": {"song_ids": ["a\x00"]}}, "seed.song_ids.0"),
    ({"seed": {"artist": "a\x00"}}, "seed.artist"),
    ({"temperature": 1e-310}, "temperature"),
    ({"temperature": 0.0009}, "temperature"),
    ({"temperature": -1}, "temperature"),
    ({"mode": "loud"}, "mode"),
    ({"variant": "ranker"}, "variant"),
    ({"seed": {}}, "seed"),
    ({"seed": {"song_id": "a", "artist": "b"}}, "seed"),
    ({"seed": {"song_ids": []}}, "seed.song_ids"),
    ({"seed": {"song_ids": ["a"] * 101}}, "seed.song_ids"),
    ({"less_like": ["a"] * 101}, "less_like"),
    ({"spacing": "yes"}, "spacing"),
    ({"profile": {"refused_languages": [""]}}, "profile.refused_languages.0"),
    ({"session": "song-003"}, "session"),
    ({"session": [{}]}, "session.0.song_id"),
    ({"session": [{"song_id": "a"}, {"song_id": "s" * 257}]}, "session.1.song_id"),
    ({"session": [{"song_id": "a", "action": "dance"}]}, "session.0.action"),
    ({"session": [{"song_id": "a", "played_ms": -1}]}, "session.0.played_ms"),
    ({"session": [{"song_id": "a", "played_ms": 10**12}]}, "session.0.played_ms"),
    ({"session": [{"song_id": "a", "volume": 3}]}, "session.0.volume"),
    ({"session": [{"song_id": "a"}] * 501}, "session"),
    ({"exclude": ["a"] * 10_001}, "exclude"),
    ({"exclude": [None]}, "exclude.0"),
    ({"context": {"weather": "rain"}}, "context.weather"),
    ({"context": {"era": "nineties"}}, "context.era"),
    ({"context": {"ts": "yesterday"}}, "context.ts"),
    ({"context": {"ts": "2024-03-01T00:00:00"}}, "context.ts"),
    *(({"context": {"ts": ts}}, "context.ts") for ts in ("20231226", "2023", "-1", "12.5", 12)),
    ({"context": []}, "context"),
    ({"profile": {"birth_year": 12}}, "profile.birth_year"),
    ({"profile": {"languages": "en"}}, "profile.languages"),
    ({"profile": {"utc_offset_minutes": 9000}}, "profile.utc_offset_minutes"),
    ({"explain": "yes"}, "explain"),
    ({"allow_repeats": 1}, "allow_repeats"),
]


@pytest.mark.parametrize(("body", "field"), BAD, ids=[f"{field}" for _, field in BAD])
def test_a_wrong_field_is_refused_by_name(client: Client, body: dict[str, Any], field: str) -> None:
    refused = client.post("/recommend", json=body)
    assert refused.status_code == 400
    assert refused.json()["error"].startswith(f"{field}: ")
    fault = refused.json()["detail"][0]
    assert ".".join(map(str, fault["loc"])) == field
    assert fault["msg"]


def test_an_id_that_no_id_can_be_is_refused_in_words(client: Client) -> None:
    for user in (" u1", "u1 ", "a\0b"):
        refused = client.post("/recommend", json={"user_id": user})
        told = "user_id: String should begin and end without a blank, and hold no NUL"
        assert refused.json()["error"] == told


@pytest.mark.parametrize("path", ["/recommend", "/events"])
def test_of_very_many_faults_the_first_are_told(client: Client, path: str) -> None:
    refused = client.post(path, json={f"wrong-{number}": 1 for number in range(20_000)})
    assert refused.status_code == 400
    assert refused.json()["error"].endswith("; ...")
    assert [one["loc"] for one in refused.json()["detail"]] == [[f"wrong-{i}"] for i in range(1000)]


@pytest.mark.parametrize(
    "content",
    [b"{", b"[1]", b'"x"', b"null", b"7", b"\xff\xfe", b'{"k": NaN}', b"[" * 100_000]
    + [b'{"user_id": "\\ud800"}', b'{"k": 1' + b" " * 1000],
)
def test_a_body_that_is_no_request_is_refused(client: Client, content: bytes) -> None:
    kind = {"content-type": "application/json"}
    refused = client.post("/recommend", content=content, headers=kind)
    assert refused.status_code == 400
    assert refused.json()["error"]


def test_the_lowest_temperatures_give_propensities(client: Client) -> None:
    for temperature in (0, 0.0, 0.001, 1):
        shown = recommended(client, user_id="user-1", temperature=temperature)["songs"]
        assert all(0 < song["propensity"] <= 1 for song in shown)


def test_odd_but_valid_requests_are_answered(client: Client) -> None:
    limits = {
        "user_id": "\x01\n'; drop table--🎵",
        "session": [{"song_id": "song-003", "action": "like"}] * 500,
        "exclude": ["song-003"] * 10_000,
        "context": {"ts": "9999-12-31T23:59:59-12:00", "occasion": "🎉", "region": "nowhere"},
        "profile": {"birth_year": 2100, "utc_offset_minutes": -720, "languages": ["xx"]},
        "k": 100,
        "explain": True,
    }
    assert recommended(client, **limits)["songs"]
    assert recommended(client, context={"ts": "0001-01-01T00:00:00+14:00"})["songs"]
    assert recommended(client, context={}, profile={}, session=[])["songs"]


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"]
    + ["application/vnd.bentoml+pickle"],
)  # fmt: skip
def test_other_content_types_are_refused(client: Client, kind: str) -> None:
    refused = client.post("/recommend", content=b"k=3", headers={"content-type": kind})
    assert refused.status_code == 415
    assert kind in refused.json()["error"]


@pytest.mark.parametrize("chunked", [True, False])
def test_a_huge_body_is_refused(client: Client, chunked: bool) -> None:
    body = b" " * (4 * 1024 * 1024 + 1)
    content = in_parts(body) if chunked else body
    refused = client.post(
        "/recommend", content=content, headers={"content-type": "application/json"}
    )
    assert refused.status_code == 413
    assert "4194304 bytes" in refused.json()["error"]


def test_a_refusal_is_logged_in_one_line(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        client.post("/recommend", json={"k": 0})
    (record,) = [r for r in caplog.records if "Refused" in r.getMessage()]
    assert "k: Input should be greater than or equal to 1" in record.getMessage()
    assert record.levelname == "INFO"
    assert record.exc_info is None


def test_search_finds_titles_artists_and_ids(client: Client) -> None:
    found = client.get("/songs/search", params={"q": "SCHLUSS", "k": 3}).json()["songs"]
    assert found == [{"song_id": "song-003", "title": EVIL_TITLE, "artists": ["Artist 3"]}]
    untitled = client.get("/songs/search", params={"q": "song-007"}).json()["songs"]
    assert untitled == [{"song_id": "song-007", "title": None, "artists": ["Artist 7"]}]


@pytest.mark.usefixtures("client")
def test_dead_workers_are_looked_for_by_a_clock_that_does_not_go_back() -> None:
    """Circus does so by the time of Tornado's loop, in the process that imports the service."""
    loop = IOLoop(make_current=False)
    try:
        before = time.monotonic()
        assert before <= loop.time() <= time.monotonic()
    finally:
        loop.close()


def test_similar_songs(client: Client) -> None:
    similar = client.get("/songs/similar", params={"song_id": "song-003", "k": 4}).json()
    assert similar["by"] == "listen"
    assert [song["artists"] for song in similar["songs"]] == [["Artist 3"]] * 4
    unknown = client.get("/songs/similar", params={"song_id": "song-999"})
    assert unknown.status_code == 404
    assert "song-999" in unknown.json()["error"]


@pytest.mark.parametrize(
    ("url", "field"),
    [
        ("/songs/search", "q"),
        ("/songs/search?q=", "q"),
        (f"/songs/search?q={'a' * 201}", "q"),
        ("/songs/search?q=a&k=0", "k"),
        ("/songs/search?q=a&k=many", "k"),
        ("/songs/similar", "song_id"),
        ("/songs/similar?song_id=song-003&k=101", "k"),
        ("/songs/similar?song_id=song-003%00", "song_id"),
        ("/listeners?k=-1", "k"),
    ],
)
def test_wrong_parameters_are_refused_by_name(client: Client, url: str, field: str) -> None:
    refused = client.get(url)
    assert refused.status_code == 422
    assert refused.json()["error"].startswith(f"query.{field}: ")
    assert refused.json()["detail"][0]["loc"] == ["query", field]


@pytest.mark.parametrize(
    ("method", "url", "status"),
    [
        ("GET", "/recommend", 405),
        ("POST", "/status", 405),
        ("POST", "/livez", 405),
        ("GET", "/nothing", 404),
        ("GET", "/static_content/nothing", 404),
        ("GET", "/web/../service.py", 404),
        ("GET", "/web/%2e%2e/service.py", 404),
    ],
)
def test_wrong_addresses(client: Client, method: str, url: str, status: int) -> None:
    refused = client.request(method, url)
    assert refused.status_code == status
    assert refused.headers["content-type"] == "application/json"
    assert refused.json() == {"error": HTTPStatus(status).phrase}
    assert ("allow" in refused.headers) == (status == 405)


def test_listeners_of_the_bundle(client: Client) -> None:
    expected = {
        "listeners": [{"user_id": "user-1", "label": "South Asia, born 1995, 1,846 plays of late"}]
    }
    assert client.get("/listeners").json() == expected


def test_status_health_and_metrics(client: Client) -> None:
    status = client.get("/status").json()
    assert (status["model_version"], status["songs"]) == ("test-1", 200)
    assert status["feature_service"] == "ranker_v1"
    assert status["as_of"].startswith("2024-03-01")
    for path in ("/healthz", "/livez", "/readyz"):
        assert client.get(path).status_code == 200
    line = (
        r'segue_answers_total\{degraded="none",model_version="test-1",variant="ranker"\} ([0-9.]+)'
    )
    before = re.search(line, client.get("/metrics").text)
    recommended(client)
    after = re.search(line, client.get("/metrics").text)
    assert after is not None
    assert float(after[1]) == (float(before[1]) if before else 0) + 1
    metrics = client.get("/metrics").text
    for stage in ("read", "resolve", "retrieve", "features", "rank", "write", "total"):
        assert f'segue_stage_seconds_count{{model_version="test-1",stage="{stage}"}}' in metrics
    assert re.search(r'segue_songs_total\{model_version="test-1",source="\w+"\}', metrics)


def test_an_answer_says_where_its_time_went(client: Client) -> None:
    body = {"user_id": "user-1", "session": [{"song_id": "song-003"}], "k": 7}
    headers = {"X-Request-ID": "a-well-formed-id", "X-Segue-Trace": "1"}
    answer = client.post("/recommend", json=body, headers=headers)
    assert answer.headers["x-request-id"] == answer.json()["request_id"] == "a-well-formed-id"
    timing = dict(part.split(";dur=") for part in answer.headers["server-timing"].split(", "))
    total = float(timing.pop("total"))
    assert set(timing) == {"read", "resolve", "retrieve", "features", "rank", "write"}
    assert sum(map(float, timing.values())) <= total + 0.01
    trace = json.loads(answer.headers["x-segue-trace"])
    assert sum(trace["sources"].values()) == 7
    assert trace["version"] == "test-1"
    assert trace["pool"] >= max(trace["proposed"].values())
    bad = client.post("/recommend", json=body, headers={"X-Request-ID": "no\tgood id"})
    assert re.fullmatch("[0-9a-f]{32}", bad.json()["request_id"])
    assert "x-segue-trace" not in bad.headers


def test_each_answer_is_logged_in_one_line(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    output = io.StringIO()
    handlers = [logging.StreamHandler(output)]
    monkeypatch.setattr(logging.getLogger("serving.requests"), "handlers", handlers)
    headers = {"X-Segue-Trace": "1"}
    answers = [client.post("/recommend", json={"k": k}, headers=headers) for k in (1, 2, 3)]
    # Whoever reads metrics finds each answer counted, and so logged.
    client.get("/metrics")
    traces = [answer.headers["x-segue-trace"] for answer in answers]
    assert output.getvalue().splitlines()[-3:] == traces


def test_paths_that_nobody_serves_are_counted_as_one(client: Client) -> None:
    paths = [f"/nothing/{i}" for i in range(5)] + ["/web/nothing.js", "/recommend%00"]
    assert [client.get(path).status_code for path in paths] == [404] * len(paths)
    assert client.get("/status").status_code == 200
    lines = client.get("/metrics").text
    counted = set(re.findall(r'request_total{endpoint="([^"]*)"', lines))
    assert {"/recommend", "/status", "/web/", "other"} <= counted
    assert not [path for path in counted if "nothing" in path or "\0" in path]


def test_the_documentation_has_typed_requests_with_examples(client: Client) -> None:
    spec = client.get("/docs.json").json()
    paths = spec["paths"]
    assert {"/recommend", "/songs/search", "/songs/similar", "/listeners", "/status"} <= set(paths)
    body = paths["/recommend"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    name = body.get("$ref", "").rsplit("/", 1)[-1]
    schema = spec["components"]["schemas"][name] if name else body
    assert schema["example"] == EXAMPLE
    assert {"type": "null"} in schema["properties"]["user_id"]["anyOf"]
    assert schema["properties"]["k"]["maximum"] == 100
    assert schema["additionalProperties"] is False
    parameters = {p["name"]: p for p in paths["/songs/search"]["get"]["parameters"]}
    assert parameters["q"]["required"] is True


def test_pages_are_served_with_a_policy_that_keeps_them_at_home(client: Client) -> None:
    for path in ("/", "/docs"):
        page = client.get(path)
        assert page.status_code == 200
        assert "default-src 'self'" in page.headers["content-security-policy"]
        assert not re.search(r"https?://", page.text)


def test_usage_is_not_reported(client: Client) -> None:
    from bentoml._internal.utils.analytics import usage_stats

    assert usage_stats.do_not_track()


# The same through real processes.


@contextmanager
def outside() -> Iterator[tuple[str, list[bytes]]]:
    """Yield the address of a proxy to the outside world, and what is asked of it."""
    asked: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def listen() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    asked.append(connection.recv(200))

        thread = threading.Thread(target=listen, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}", asked
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


def environment(tmp_path: Path, **more: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("BENTOML", "SEGUE"))}
    # A process of its own must not inherit the pytest process's metrics folder.
    kept.pop("PROMETHEUS_MULTIPROC_DIR", None)
    # Tests ask for what is true, on machines however busy.
    patient = {"SEGUE_DEADLINE_MS": "60000"}
    home = {"BENTOML_HOME": str(tmp_path / "bentoml"), "NO_PROXY": "127.0.0.1"}
    return kept | home | patient | more


@contextmanager
def serving(folder: Path, env: dict[str, str]) -> Iterator[httpx.Client]:
    """Run `bentoml serve` in a folder and yield a client for it, once it is ready."""
    port = free_port()
    process = subprocess.Popen(
        [BENTOML, "serve", "--port", str(port)],
        cwd=folder,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30, trust_env=False) as http:
            wait_for(lambda: process.poll() is not None or is_ready(http))
            assert process.poll() is None, process.communicate()[0]
            yield http
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.communicate(timeout=SECONDS)


def is_ready(http: httpx.Client) -> bool:
    try:
        return http.get("/readyz").status_code == 200
    except httpx.TransportError:
        return False


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, "It did not come about in time."
        pause.wait(0.1)


@pytest.mark.slow
def test_two_services_of_one_user_count_apart(
    served: Path, store_data: Path, tmp_path: Path
) -> None:
    env = environment(tmp_path, SEGUE_BUNDLE=str(served), SEGUE_DATA=str(store_data))
    with serving(PROJECT, env) as first:
        for _ in range(2):
            first.post("/recommend", json={"k": 1})
        with serving(PROJECT, env) as second:
            second.post("/recommend", json={"k": 1})
            assert [answered(http) for http in (first, second)] == [2, 1]


def test_counts_lie_where_no_full_disk_kills_who_counts(tmp_path: Path) -> None:
    ask = (
        "import serving.service; from bentoml.serving import ensure_prometheus_dir; "
        "print(ensure_prometheus_dir())"
    )
    found = subprocess.check_output(
        [sys.executable, "-c", ask], cwd=PROJECT, env=environment(tmp_path), text=True
    )
    memory = Path("/dev/shm")
    expected = memory if os.access(memory, os.W_OK) else Path(tempfile.gettempdir())
    assert Path(found.strip()).parent == expected
    # It goes with the service.
    assert not Path(found.strip()).exists()


def answered(http: httpx.Client) -> int:
    """Return how many answers a service counts."""
    return sum(
        int(float(line.rpartition(" ")[2]))
        for line in http.get("/metrics").text.splitlines()
        if line.startswith("segue_answers_total{")
    )


@pytest.mark.slow
def test_bentoml_serve_answers_and_takes_up_a_new_bundle(
    served: Path, copy_bundle: Callable[[str], Path], store_data: Path, tmp_path: Path
) -> None:
    with outside() as (proxy, asked):
        env = environment(
            tmp_path,
            SEGUE_BUNDLE=str(served),
            SEGUE_DATA=str(store_data),
            HTTPS_PROXY=proxy,
            HTTP_PROXY=proxy,
        )
        with serving(PROJECT, env) as http:
            body = {"user_id": "user-1", "k": 2}
            first = http.post("/recommend", json=body).json()
            assert (first["model_version"], first["degraded"]) == ("test-1", [])
            new = served.with_name("new")
            new.symlink_to(copy_bundle("test-2"))
            new.replace(served)
            wait_for(lambda: http.get("/status").json()["model_version"] == "test-2")
            second = http.post("/recommend", json=body).json()
            assert second["model_version"] == "test-2"
            assert second["songs"] == first["songs"]
            metrics = http.get("/metrics").text
            for version in ("test-1", "test-2"):
                labels = f'degraded="none",model_version="{version}",variant="ranker"'
            assert f"segue_answers_total{{{labels}}} 1.0" in metrics
    assert asked == []


@pytest.mark.slow
def test_kept_connections_are_spread_over_two_workers(
    served: Path, store_data: Path, tmp_path: Path
) -> None:
    env = environment(
        tmp_path, SEGUE_BUNDLE=str(served), SEGUE_DATA=str(store_data), SEGUE_WORKERS="2"
    )
    last: dict[int, str] = {}
    stopped = threading.Event()

    def lie() -> list[int]:
        return sorted(Counter(list(last.values())).values())

    with serving(PROJECT, env) as http, ThreadPoolExecutor(8) as pool:

        def ask(listener: int) -> None:
            # A client of its own: one connection, kept as long as it is let.
            with httpx.Client(base_url=http.base_url, timeout=SECONDS, trust_env=False) as one:
                while not stopped.is_set():
                    answer = one.post("/recommend", json={"user_id": "user-1", "k": 1})
                    last[listener] = answer.headers["x-worker"]

        asking = []
        try:
            # While one of them stands still, the other takes all connections.
            other = another_worker(http)
            other.suspend()
            asking = [pool.submit(ask, listener) for listener in range(8)]
            wait_for(lambda: lie() == [8])
            other.resume()
            wait_for(lambda: lie() == [4, 4])
        finally:
            stopped.set()
        # None was refused or cut off.
        for one in asking:
            one.result()


def another_worker(http: httpx.Client) -> psutil.Process:
    """Return a worker that does not hold this client's connection."""
    mine = int(http.post("/recommend", json={"k": 1}).headers["x-worker"])
    service = psutil.Process(mine).parent()
    assert service is not None
    family = [one for one in service.children() if "--worker-id" in one.cmdline()]
    return next(one for one in family if one.pid != mine)


@pytest.mark.slow
def test_a_damaged_bundle_stops_the_start_with_a_clear_message(
    copy_bundle: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = copy_bundle("damaged")
    (folder / "ranker.txt").write_text("", encoding="utf-8")
    started = subprocess.run(
        [BENTOML, "serve", "--port", str(free_port())],
        cwd=PROJECT,
        env=environment(tmp_path, SEGUE_BUNDLE=str(folder)),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert started.returncode != 0
    assert re.search(r"damaged.*ranker\.txt.*deploy it again", started.stderr)
    assert "Traceback" not in started.stderr


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("SEGUE_ONLINE_URL", "http://features", "must be empty or redis://"),
        ("SEGUE_EVENTS_URL", "mysql://x/y", "names 'mysql'; give sqlite"),
        ("SEGUE_EXPOSURES", "of", "a folder's path or `off`, not 'of'"),
        ("SEGUE_EXPOSURES", "sqlite:///x/y.db", "a folder's path or `off`"),
        ("SEGUE_DEADLINE_MS", "fast", "at least 1, not 'fast'"),
        ("SEGUE_DEADLINE_MS", "0", "at least 1, not '0'"),
        ("SEGUE_RATE", "-1", "at least 0, not '-1'"),
        ("SEGUE_API_KEYS", "nonsense", "SEGUE_API_KEYS"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(
    app: Any, monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=said) as caught:
        checked(app)
    assert name in str(caught.value)


def checked(app: Any) -> None:
    """Check the settings, once the service is imported."""
    del app
    from serving.service import check_settings

    check_settings()


def test_settings_in_white_space_are_as_if_not_there(
    app: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SEGUE_DEADLINE_MS", "SEGUE_EVENTS_URL"):
        monkeypatch.setenv(name, " ")
    monkeypatch.setenv("SEGUE_EXPOSURES", "off ")
    checked(app)
    assert exposures_folder() is None


@pytest.mark.slow
def test_an_address_that_is_no_store_stops_the_start(bundle: Path, tmp_path: Path) -> None:
    more = {"SEGUE_BUNDLE": str(bundle), "SEGUE_ONLINE_URL": "http://features"}
    started = subprocess.run(
        [BENTOML, "serve", "--port", str(free_port())],
        cwd=PROJECT,
        env=environment(tmp_path, **more),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert started.returncode != 0
    assert "SEGUE_ONLINE_URL must be empty or redis://" in started.stderr
    assert "Traceback" not in started.stderr


@pytest.mark.slow
def test_a_bento_serves_elsewhere(bundle: Path, store_data: Path, tmp_path: Path) -> None:
    project, elsewhere = tmp_path / "project", tmp_path / "elsewhere"
    ignored = shutil.ignore_patterns("__pycache__")
    for name in ("features", "serving"):
        shutil.copytree(PROJECT / name, project / name, ignore=ignored)
    for name in ("bentofile.yaml", "params.yaml", "requirements.txt", "pyproject.toml"):
        shutil.copy(PROJECT / name, project / name)
    shutil.copytree(bundle, project / "data" / "served" / "test-1")
    (project / "data" / "served" / "current").symlink_to("test-1")
    shutil.copytree(store_data / "feast", project / "data" / "feast")
    with outside() as (proxy, asked):
        env = environment(tmp_path, HTTPS_PROXY=proxy, HTTP_PROXY=proxy)
        archive = tmp_path / "segue.bento"
        # Exporting runs none of our code, so that it must be told not to report.
        quiet = {"BENTOML_DO_NOT_TRACK": "True"}
        for command, more in ((["build"], {}), (["export", "segue:latest", str(archive)], quiet)):
            done = subprocess.run(
                [BENTOML, *command],
                cwd=project,
                env=env | more,
                capture_output=True,
                text=True,
                timeout=SECONDS,
                check=False,
            )
            assert done.returncode == 0, done.stdout + done.stderr
        shutil.rmtree(project)
        shutil.rmtree(tmp_path / "bentoml")
        shutil.unpack_archive(archive, elsewhere, "tar")
        with serving(elsewhere, env) as http:
            answered = http.post("/recommend", json={"user_id": "user-2", "k": 3, "explain": True})
            assert answered.json()["model_version"] == "test-1"
            assert answered.json()["degraded"] == []
            assert [s["artists"] for s in answered.json()["songs"]] == [["Artist 5"]] * 3
            assert "Segue" in http.get("/").text
    assert asked == []
    label = (elsewhere / "bento.yaml").read_text(encoding="utf-8")
    assert re.search(r"bundle: test-1", label)
    assert json.loads((elsewhere / "apis" / "schema.json").read_text())["name"] == "segue"


@pytest.mark.parametrize("workers", ["abc", "0"])
def test_a_number_of_workers_that_is_none_stops_the_start_with_a_sentence(
    served: Path, tmp_path: Path, workers: str
) -> None:
    started = subprocess.run(
        [BENTOML, "serve", "--port", str(free_port())],
        cwd=PROJECT,
        env=environment(tmp_path, SEGUE_BUNDLE=str(served), SEGUE_WORKERS=workers),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert started.returncode != 0
    assert f"SEGUE_WORKERS must be a number of at least 1, not '{workers}'" in started.stderr
    assert "Traceback" not in started.stderr


@pytest.mark.parametrize("path", ["/", "/operator", "/docs"])
def test_head_describes_the_page_that_get_gives(client: Client, path: str) -> None:
    head, whole = client.request("HEAD", path), client.get(path)
    assert (head.status_code, head.content) == (200, b"")
    for name in ("content-length", "etag", "content-security-policy", "cache-control"):
        assert head.headers.get(name) == whole.headers.get(name)
    assert whole.headers["content-security-policy"]
