"""After a bundle is loaded, no kind of request compiles anything: a listener would wait for it."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from numba.core.dispatcher import Dispatcher

from features import compiled as loops
from features.store import online_user_row
from serving import compiled as more
from serving import compiled_factors, compiled_sessions, forest
from serving.answers import Sources, answer
from serving.api import RecommendRequest
from serving.deadline import Deadline
from serving.live import load
from serving.logged import Logged
from serving.stages import Stages
from tests.serving.conftest import AS_OF, song_id

LOOPS = [
    loop
    for module in (loops, more, compiled_factors, compiled_sessions, forest)
    for loop in vars(module).values()
    if isinstance(loop, Dispatcher)
]
SESSION = [
    {"song_id": song_id(3), "action": "play", "played_ms": 1000},
    {"song_id": song_id(13), "action": "skip"},
    {"song_id": song_id(23), "action": "like"},
    {"song_id": "unknown"},
]
AGAIN = [{"song_id": song_id(i)} for i in (3, 14, 3)]
# So many that others have to make up for them.
POPULAR = [song_id(i) for i in range(120)]
PROFILE = {"region": "Europe", "languages": ["de"], "favourite_artists": ["Artist 4"]}
STEERED = {
    "mode": "deep_cuts",
    "seed": {"artist": "Artist 2"},
    "less_like": [song_id(9)],
    "context": {"occasion": "party", "era": "1990", "language": "en"},
    "spacing": True,
    "allow_explicit": False,
}


@pytest.fixture
def nothing_compiled() -> Callable[[], dict[str, Any]]:
    """Forget all machine code, and tell which kinds of arguments have been compiled since."""
    for loop in LOOPS:
        loop._reset_overloads()

    def signatures() -> dict[str, Any]:
        return {loop.__name__: list(loop.signatures) for loop in LOOPS}

    return signatures


def bodies() -> Iterator[dict[str, Any]]:
    for user in (None, "user-1", "user-2", "nobody"):
        for session in ([], SESSION[:1], SESSION, AGAIN):
            for wishes in ({}, STEERED, {"profile": PROFILE}, {"exclude": POPULAR}):
                for temperature in (None, 0.5):
                    yield {
                        "user_id": user,
                        "session": session,
                        "temperature": temperature,
                        "explain": True,
                        **wishes,
                    }


def test_no_request_compiles(
    bundle: Path,
    store_data: Path,
    nothing_compiled: Callable[[], dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SEGUE_DATA", str(store_data))
    loaded = load(bundle)
    warm = nothing_compiled()
    moment = int(AS_OF.timestamp() * 1e6)
    logged = [
        Logged(song_id(33), "play", 200_000, "earlier", moment + 2_000_000),
        Logged(song_id(43), "skip", 2_000, "earlier", moment + 3_000_000),
    ]
    sources = Sources(online_user_row, lambda user, session: logged if user else [])
    for body in bodies():
        request = RecommendRequest.model_validate(body)
        # As in the service, where an answer leaves with its request what it was made of.
        with Stages():
            answered = asyncio.run(answer(loaded, request, sources, Deadline.after(60)))
        assert answered["degraded"] == []
    assert any(warm.values())
    assert nothing_compiled() == warm
