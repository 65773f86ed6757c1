"""Nothing that a client may send brings a 5xx: schemathesis over the OpenAPI, and a fuzz."""

import json
import os
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from features.columns import Action
from serving.api import EXAMPLE
from tests.serving.conftest import Client, song_id

# The whole run: SEGUE_SCHEMA_CASES=2000 for each operation.
CASES = int(os.environ.get("SEGUE_SCHEMA_CASES") or 150)
FUZZ = int(os.environ.get("SEGUE_FUZZ_CASES") or 100)
RELAXED = {
    "deadline": None,
    "derandomize": True,
    "database": None,
    "suppress_health_check": list(HealthCheck),
}
OPERATIONS = [
    ("POST", "/recommend"),
    ("POST", "/events"),
    ("GET", "/songs/search"),
    ("GET", "/songs/similar"),
    ("GET", "/listeners"),
    ("GET", "/status"),
]


@pytest.fixture(scope="module")
def schema(client: Client) -> Any:
    return schemathesis.openapi.from_dict(client.get("/docs.json").json())


def faults(spec: Any, schema: Any, value: Any) -> list[Any]:
    """Return how a value differs from a schema of the OpenAPI."""
    check = Draft202012Validator(schema | {"components": spec["components"]})
    return list(check.iter_errors(value))


def test_answers_and_refusals_are_as_described(client: Client) -> None:
    song = {"song_id": song_id(3)}
    event = song | {"event_id": "a", "user_id": "u", "session_id": "x", "action": "play"}
    asked = [
        ("POST", "/recommend", EXAMPLE | {"session": [song]}, 200),
        ("POST", "/recommend", {"k": 0, "seed": {}}, 400),
        ("POST", "/events", {"events": [event]}, 200),
        ("POST", "/events", {"events": [event | {"propensity": 0.0}]}, 400),
        ("GET", "/songs/search?q=a", None, 200),
        ("GET", "/songs/search?q=a&k=0", None, 422),
        ("GET", f"/songs/similar?song_id={song_id(3)}", None, 200),
        ("GET", "/songs/similar?song_id=nothing", None, 404),
        ("GET", "/listeners", None, 200),
        ("GET", "/status", None, 200),
    ]
    spec = client.get("/docs.json").json()
    answer = spec["components"]["schemas"]["RecommendResponse"]
    assert faults(spec, answer, answer["example"]) == []
    for method, url, body, status in asked:
        answered = client.request(method, url, json=body)
        assert answered.status_code == status
        described = spec["paths"][url.partition("?")[0]][method.lower()]["responses"][str(status)]
        schema = described["content"]["application/json"]["schema"]
        assert faults(spec, schema, answered.json()) == []


def test_requests_are_described_as_they_are_taken(client: Client) -> None:
    spec = client.get("/docs.json").json()
    assert spec["openapi"] == "3.1.0"
    schema = spec["components"]["schemas"]["RecommendRequest"]
    empty = dict.fromkeys(("user_id", "profile", "session_id", "context", "temperature", "seed"))
    for body in (schema["example"], {}, empty):
        assert faults(spec, schema, body) == []
        assert client.post("/recommend", json=body).status_code == 200
    for body in ({"k": 0}, {"k": None}, {"session": None}, {"profile": {"birth_year": 12}}):
        assert faults(spec, schema, body) != []
        assert client.post("/recommend", json=body).status_code == 400


def sent(client: Client, case: Any) -> Any:
    """Send a case through the app in this process."""
    words = case.as_transport_kwargs(base_url="http://segue")
    kept = ("method", "url", "headers", "params", "json", "data", "content")
    words = {name: value for name, value in words.items() if name in kept and value is not None}
    data = words.pop("data", None)
    if data is not None:
        words["content"] = data if isinstance(data, str | bytes) else json.dumps(data)
    return client.request(words.pop("method"), words.pop("url"), **words)


@pytest.mark.slow
@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_no_case_of_the_schema_brings_a_server_error(
    client: Client, schema: Any, method: str, path: str
) -> None:
    operation = schema[path][method]
    modes = list(schemathesis.GenerationMode)
    if path == "/status":
        # It takes nothing that could be wrong.
        modes = [schemathesis.GenerationMode.POSITIVE]
    seen: set[int] = set()

    for mode in modes:

        @given(case=operation.as_strategy(generation_mode=mode))
        @settings(max_examples=CASES, **RELAXED)
        def check(case: Any) -> None:
            answered = sent(client, case)
            seen.add(answered.status_code)
            assert answered.status_code < 500, answered.text
            assert "Traceback" not in answered.text

        check()
    # No song that is made up is near another.
    assert (404 if path == "/songs/similar" else 200) in seen


ODD = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.lists(st.none())
)
KNOWN = st.integers(0, 250).map(song_id)
EVENTS = st.fixed_dictionaries(
    {"song_id": KNOWN | st.text(max_size=300) | ODD},
    optional={
        "action": st.sampled_from(Action.ALL) | ODD,
        "played_ms": st.integers(-10, 10**9) | ODD,
        "more": ODD,
    },
)
GOOD = st.fixed_dictionaries(
    {"song_id": KNOWN},
    optional={
        "action": st.sampled_from(Action.ALL),
        "played_ms": st.integers(0, 10**6),
    },
)


@pytest.mark.parametrize("events", [EVENTS, GOOD], ids=["odd", "good"])
def test_no_session_brings_a_server_error(client: Client, events: Any) -> None:
    seen: set[int] = set()

    @given(session=st.lists(events, max_size=30) | ODD, repeats=st.booleans())
    @settings(max_examples=FUZZ, **RELAXED)
    def check(session: Any, repeats: bool) -> None:
        body = json.dumps({"session": session, "allow_repeats": repeats, "k": 5})
        kind = {"content-type": "application/json"}
        answered = client.post("/recommend", content=body, headers=kind)
        seen.add(answered.status_code)
        assert answered.status_code in (200, 400), answered.text
        if answered.status_code == 200:
            assert answered.json()["degraded"] == []

    check()
    assert seen == {200, 400}


@pytest.fixture
def lenient(app: Any, client: Client) -> Iterator[Client]:
    """Yield a client that gets the answer of an app that failed, as real clients do."""
    import httpx

    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    http = httpx.AsyncClient(transport=transport, base_url="http://segue")
    with client.portal.wrap_async_context_manager(http):
        yield Client(client.portal, http)


def test_no_stack_trace_leaves_the_service(
    lenient: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    from serving import service

    def fail(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError(f"a secret in memory {args} {kwargs}")

    monkeypatch.setattr(service, "answer", fail)
    monkeypatch.setattr(service.running().live.current.lookup.name_index.__class__, "search", fail)
    monkeypatch.setattr(service.desk().__class__, "take", fail)
    event = {"event_id": "a", "user_id": "u", "song_id": "s", "session_id": "x", "action": "play"}
    answers = [
        lenient.post("/recommend", json={}),
        lenient.get("/songs/search?q=a"),
        lenient.post("/events", json={"events": [event]}),
    ]
    for answered in answers:
        assert answered.status_code == 500
        for word in ("Traceback", "secret", "RuntimeError", "service.py"):
            assert word not in answered.text
