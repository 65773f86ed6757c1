"""The DAGs from end to end on tiny data, in Airflow's own `dag.test()`."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from dags.dvc_graph import read_stages
from tests.dags.conftest import airflow_env, run

pytestmark = pytest.mark.slow

RunDag = Callable[..., dict[str, str]]


@pytest.fixture(scope="module")
def run_dag(tiny_project: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDag:
    """Return a function that runs a DAG with a filled-in form and returns its tasks' states."""
    home = tmp_path_factory.mktemp("airflow_home")
    env = airflow_env(home, tiny_project)
    run("airflow", "db", "migrate", cwd=tiny_project, env=env)
    script = str(Path(__file__).with_name("run_dag.py"))

    def run_one(dag_id: str, **conf: object) -> dict[str, str]:
        out = home / "states.json"
        words = [str(tiny_project / "dags"), dag_id, json.dumps(conf), str(out)]
        log = run(sys.executable, script, *words, cwd=tiny_project, env=env)
        states: dict[str, str] = json.loads(out.read_text(encoding="utf-8"))
        assert set(states.values()) <= {"success", "skipped"}, log[-8000:]
        return states

    return run_one


@pytest.fixture(scope="module")
def whole(run_dag: RunDag) -> dict[str, dict[str, str]]:
    return {dag_id: run_dag(dag_id) for dag_id in ("ingest", "features", "train", "deploy")}


def test_the_four_dags_lead_from_nothing_to_a_served_bundle(
    whole: dict[str, dict[str, str]], tiny_project: Path
):
    for states in whole.values():
        assert set(states.values()) == {"success"}
    assert {stage.name.replace("@", ".") for stage in read_stages(tiny_project)} <= set(
        whole["train"]
    )
    bundle = json.loads((tiny_project / "data/bundles/serving/manifest.json").read_bytes())
    served = tiny_project / "data" / "served" / "current"
    assert served.is_symlink()
    assert json.loads((served / "manifest.json").read_bytes()) == bundle


@pytest.mark.usefixtures("whole")
def test_a_second_run_changes_nothing(run_dag: RunDag, tiny_project: Path):
    watched = [tiny_project / "dvc.lock", tiny_project / "params.yaml"]
    watched += sorted((tiny_project / "data" / "lake").rglob("*.parquet"))
    before = [(path.read_bytes(), path.stat().st_mtime_ns) for path in watched[2:]]
    lock, params = (path.read_bytes() for path in watched[:2])
    target = (tiny_project / "data" / "served" / "current").resolve()
    run_dag("ingest")
    run_dag("deploy")
    assert [(path.read_bytes(), path.stat().st_mtime_ns) for path in watched[2:]] == before
    assert (watched[0].read_bytes(), watched[1].read_bytes()) == (lock, params)
    assert (tiny_project / "data" / "served" / "current").resolve() == target


@pytest.mark.usefixtures("whole")
def test_the_simulator_is_skipped_where_events_come_from_elsewhere(
    run_dag: RunDag, tiny_project: Path
):
    params = (tiny_project / "params.yaml").read_text(encoding="utf-8")
    elsewhere = tiny_project / "data" / "raw" / "plays and more"
    (tiny_project / "data" / "raw" / "simulated").rename(elsewhere)
    try:
        states = run_dag("ingest", source="simulated", path="data/raw/plays and more")
        assert states["simulate"] == "skipped"
        assert {states[name] for name in ("set_params", "ingest", "check")} == {"success"}
        changed = (tiny_project / "params.yaml").read_text(encoding="utf-8")
        assert changed == params.replace("data/raw/simulated", "data/raw/plays and more", 1)
    finally:
        elsewhere.rename(tiny_project / "data" / "raw" / "simulated")
        (tiny_project / "params.yaml").write_text(params, encoding="utf-8")


@pytest.mark.usefixtures("whole")
def test_a_forced_stage_runs_again(run_dag: RunDag, tiny_project: Path):
    phases = tiny_project / "data" / "phases.json"
    before = phases.stat().st_mtime_ns
    run_dag("features")
    assert phases.stat().st_mtime_ns == before
    run_dag("features", force=["phases"])
    assert phases.stat().st_mtime_ns > before
