"""The fault runs at a smaller scale: real servers, two workers, over the small bundle."""

import os
from pathlib import Path
from typing import Any

import pytest

from benchmarks.faults import RUNS, Tally, audit, run
from serving.event_log import EventLog
from tests.serving.conftest import bundle, store_data  # noqa: F401 - fixtures
from tests.serving.test_event_log import rows


def checked(found: dict[str, Any]) -> None:
    assert found["acknowledged"] > 0
    assert (found["lost"], found["twice"], found["strange"]) == (0, 0, 0)


@pytest.fixture
def env(bundle: Path, store_data: Path) -> dict[str, str]:  # noqa: F811 - the fixtures above
    return {"SEGUE_BUNDLE": str(bundle), "SEGUE_DATA": str(store_data)}


@pytest.mark.slow
@pytest.mark.parametrize("scenario", ["worker", "service"])
def test_acknowledged_events_survive_a_kill_exactly_once(
    env: dict[str, str], scenario: str
) -> None:
    found = run(scenario, env, seconds=4)
    assert found["kills"] >= 1
    checked(found)


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="Only root may mount a small disk.")
def test_a_full_disk_is_told_and_loses_nothing(env: dict[str, str]) -> None:
    found = run("disk", env, seconds=1)
    assert found["answers"]["503"] > 0
    assert (found["recommend_status"], found["recommend_songs"]) == (200, 10)
    checked(found)


@pytest.mark.slow
def test_a_skip_told_to_one_worker_counts_with_both_at_once(env: dict[str, str]) -> None:
    found = run("feedback", env | {"SEGUE_DEADLINE_MS": "10000"}, seconds=2)
    # Not one answer that was asked for after the acknowledgement had the song.
    assert found["slowest_ms"] == 0.0


def test_the_audit_counts_what_is_wrong(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'events.db'}"
    log = EventLog.open(url)
    log.append([rows(0, 5)])
    log.close()
    tally = Tally(sent={f"e{i}" for i in range(1, 7)}, acknowledged=["e1", "e2", "e6"])
    found = audit(url, tally)
    assert (found["lost"], found["strange"], found["in_the_log"]) == (1, 1, 5)
    assert found["not_acknowledged_but_kept"] == 3
    assert set(RUNS) == {"feedback", "worker", "service", "disk"}
