from pathlib import Path
from typing import Any

import pytest

from benchmarks import serving
from benchmarks.serving import CONNECTIONS, slices, summary, throughput


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


def test_an_empty_service_whose_connections_bunched_is_not_what_the_rate_is_set_against(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    rates = {"segue": iter([500.0]), "empty": iter([2700.0, 1500.0, 2600.0, 2500.0, 2800.0])}
    asked = []

    def busy(name: str, _: Path, seconds: float) -> dict[str, Any]:
        asked.append((name, seconds))
        return {"per_second": next(rates[name])}

    monkeypatch.setattr(serving, "busy", busy)
    found = throughput(tmp_path, 600.0)
    assert asked == [("segue", 600.0), *[("empty", 24.0)] * 5]
    assert found["services"]["empty"]["per_second"] == 2600
    assert found["share_of_empty"] == pytest.approx(500 / 2600)
    assert found["empty_starts_per_second"] == [2700, 1500, 2600, 2500, 2800]
