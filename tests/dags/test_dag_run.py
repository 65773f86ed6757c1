"""The DAGs from end to end on tiny data, in Airflow's own `dag.test()`."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from dags.dvc_graph import read_stages
from tests.dags.conftest import airflow_env, run

pytestmark = pytest.mark.slow

States = dict[str, str]
RunDags = Callable[..., list[States]]


@pytest.fixture(scope="module")
def run_dags(tiny_project: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDags:
    """Return a function that runs (DAG, form) pairs and returns the states of their tasks."""
    home = tmp_path_factory.mktemp("airflow_home")
    env = airflow_env(home, tiny_project)
    run("airflow", "db", "migrate", cwd=tiny_project, env=env)
    script = str(Path(__file__).with_name("run_dag.py"))

    def run_all(*forms: tuple[str, dict[str, object]]) -> list[States]:
        out = home / "states.json"
        words = [str(tiny_project / "dags"), json.dumps(forms), str(out)]
        log = run(sys.executable, script, *words, cwd=tiny_project, env=env)
        states: list[States] = json.loads(out.read_text(encoding="utf-8"))
        assert {s for dag in states for s in dag.values()} <= {"success", "skipped"}, log[-9000:]
        return states

    return run_all


@pytest.fixture(scope="module")
def whole(run_dags: RunDags) -> list[States]:
    return run_dags(("ingest", {}), ("features", {}), ("train", {}), ("deploy", {}))


def test_the_four_dags_lead_from_nothing_to_a_served_bundle(
    whole: list[States], tiny_project: Path
):
    assert {state for states in whole for state in states.values()} == {"success"}
    stages = {stage.name.replace("@", ".") for stage in read_stages(tiny_project)}
    assert stages <= set(whole[2])
    bundle = (tiny_project / "data" / "bundles" / "serving" / "manifest.json").read_bytes()
    served = tiny_project / "data" / "served" / "current"
    assert served.is_symlink()
    assert (served / "manifest.json").read_bytes() == bundle


@pytest.mark.usefixtures("whole")
def test_only_what_is_forced_runs_a_second_time(run_dags: RunDags, tiny_project: Path):
    data = tiny_project / "data"
    lock = (tiny_project / "dvc.lock").read_bytes()
    served = (data / "served" / "current").resolve()

    def times(*folders: str) -> list[int]:
        files = sorted(path for folder in folders for path in (data / folder).rglob("*.parquet"))
        return [path.stat().st_mtime_ns for path in files]

    idle = times("lake", "features")
    phases = (data / "phases.json").stat().st_mtime_ns
    run_dags(("ingest", {}), ("features", {"force": ["phases"]}), ("deploy", {}))
    assert (data / "phases.json").stat().st_mtime_ns > phases
    assert times("lake", "features") == idle
    assert (tiny_project / "dvc.lock").read_bytes() == lock
    assert (data / "served" / "current").resolve() == served


@pytest.mark.usefixtures("whole")
def test_the_simulator_is_skipped_where_events_come_from_elsewhere(
    run_dags: RunDags, tiny_project: Path
):
    params, lock = tiny_project / "params.yaml", tiny_project / "dvc.lock"
    before, locked = params.read_text(encoding="utf-8"), lock.read_bytes()
    simulated = tiny_project / "data" / "raw" / "simulated"
    elsewhere = simulated.rename(simulated.with_name("plays and more"))
    form = {"source": "simulated", "path": "data/raw/plays and more"}
    try:
        [states] = run_dags(("ingest", form))
        after = params.read_text(encoding="utf-8")
    finally:
        elsewhere.rename(simulated)
        params.write_text(before, encoding="utf-8")
        lock.write_bytes(locked)
    assert states == {
        "set_params": "success",
        "simulate": "skipped",
        "ingest": "success",
        "check": "success",
    }
    assert "path: data/raw/simulated" in before
    assert after == before.replace("path: data/raw/simulated", "path: data/raw/plays and more")
