from typing import Any

import numpy as np
import pandas as pd
import pytest

from benchmarks.serving import CONNECTIONS, request_bodies, slices, summary


def heard(sessions: int, length: int) -> pd.DataFrame:
    rows = [
        (f"s{s}", f"u{s}", f"song-{s}-{i}", "skip" if i % 2 else "play", np.nan if i else 1000.0)
        for s in range(sessions)
        for i in range(length)
    ]
    return pd.DataFrame(rows, columns=["session_id", "user_id", "song_id", "action", "played_ms"])


def test_bodies_are_distinct_sessions_of_ten_known_and_new_in_turn() -> None:
    bodies = request_bodies(heard(8, 14), 6, seed=1)
    assert [body["user_id"].startswith("new-") for body in bodies] == [False, True] * 3
    assert len({body["user_id"].removeprefix("new-")[1:] for body in bodies}) == 6
    for body in bodies:
        number = body["user_id"].removeprefix("new-")[1:]
        songs = [event["song_id"] for event in body["session"]]
        assert songs == [f"song-{number}-{i}" for i in range(10)]
        assert body["session"][0] == {"song_id": songs[0], "action": "play", "played_ms": 1000}
        assert body["session"][1] == {"song_id": songs[1], "action": "skip"}


def test_short_sessions_make_no_bodies() -> None:
    mixed = pd.concat([heard(3, 9), heard(2, 10).replace({"s0": "s8", "s1": "s9"})])
    assert len(request_bodies(mixed, 2, seed=1)) == 2
    with pytest.raises(ValueError, match="2 sessions of 10 songs, not 3"):
        request_bodies(mixed, 3, seed=1)


def test_slices_alternate_the_services_with_the_same_bodies() -> None:
    plan = slices({"segue": 1, "empty": 2}, rounds=2, count=50, first=10)
    assert [one["service"] for one in plan] == ["segue", "empty"] * 4
    assert [one["connections"] for one in plan] == [1, 1, 4, 4] * 2
    assert [one["start"] for one in plan] == [10] * 4 + [60] * 4
    assert [one["port"] for one in plan] == [1, 2] * 4


def slice_of(service: str, connections: int, ms: list[float]) -> dict[str, Any]:
    measured = [(place, one / 1000) for place, one in enumerate(ms)]
    return {
        "service": service,
        "connections": connections,
        "measured": measured,
        "per_second": 100.0,
    }


def test_the_summary_pairs_slices_by_round_and_parts_the_kinds() -> None:
    results = []
    for slow in (1.0, 5.0):
        for connections in CONNECTIONS:
            results.append(slice_of("segue", connections, [6 * slow, 9 * slow] * 10))
            results.append(slice_of("empty", connections, [3 * slow, 3 * slow] * 10))
    found = summary(results)["4"]
    assert found["ratio_p50"]["median"] == pytest.approx(2.0)
    assert found["ratio_p99"]["min"] == pytest.approx(3.0)
    assert found["ratio_p99"]["max"] == pytest.approx(3.0)
    assert found["segue"]["count"] == 40
    assert found["segue"]["known"]["p50_ms"] == pytest.approx(6.0)
    assert found["segue"]["new"]["p50_ms"] == pytest.approx(9.0)
    assert found["segue"]["new"]["p99_ms"] == pytest.approx(45.0)
