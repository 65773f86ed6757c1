"""The DAGs run: by REST and in the browser of a real Airflow, and in Airflow's own `dag.test()`.

One file, so that the graph is trained once for all of it.
"""

import json
import sys
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, sync_playwright

from dags.dvc_graph import read_stages
from dags.standalone import Api
from tests.dags.conftest import airflow_env, run
from tests.dags.live import (
    airflow,
    finished_run,
    free_port,
    recommended,
    runs,
    service,
    task_log,
    task_states,
    wait_for,
)

pytestmark = pytest.mark.slow

States = dict[str, str]
RunDags = Callable[..., list[States]]

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def api(tiny_project: Path) -> Iterator[Api]:
    with airflow(tiny_project) as started:
        yield started


@pytest.fixture
def page(api: Api, chromium: str) -> Iterator[Page]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        page = browser.new_page(viewport={"width": 1400, "height": 1000})
        page.set_default_timeout(60_000)
        page.goto(api.address)
        page.fill("input[name=username]", "admin")
        page.fill("input[name=password]", api.password)
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url(lambda url: "login" not in url)
        yield page
        browser.close()


def served_version(project: Path) -> str:
    manifest = project / "data" / "served" / "current" / "manifest.json"
    return str(json.loads(manifest.read_text(encoding="utf-8"))["version"])


def bundle_events(api: Api) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = api("GET", "/api/v2/assets/events?order_by=timestamp")[
        "asset_events"
    ]
    return [event for event in events if event["name"] == "bundle"]


@pytest.fixture(scope="module")
def deployed(api: Api, tiny_project: Path) -> str:
    """Trigger `ingest` by REST; the assets bring on the rest. Return the version served."""
    api("PATCH", "/api/v2/dags/ingest", {"is_paused": False})
    api("POST", "/api/v2/dags/ingest/dagRuns", {"logical_date": None, "conf": {}})
    for dag_id in ("ingest", "features", "train", "deploy"):
        states = finished_run(api, dag_id)
        assert set(states.values()) == {"success"}, (dag_id, states)
    return served_version(tiny_project)


def test_one_rest_call_brings_a_served_bundle(api: Api, tiny_project: Path, deployed: str):
    assert api("GET", "/api/v2/importErrors")["total_entries"] == 0
    # Nothing ran twice on the way.
    assert [len(runs(api, dag)) for dag in ("ingest", "features", "train", "deploy")] == [1] * 4
    assert [event["extra"]["version"] for event in bundle_events(api)] == [deployed]
    train_tasks = finished_run(api, "train")
    stages = {stage.name.replace("@", ".") for stage in read_stages(tiny_project)}
    assert stages <= set(train_tasks)
    bundle = (tiny_project / "data" / "bundles" / "serving" / "manifest.json").read_bytes()
    served = tiny_project / "data" / "served" / "current"
    assert served.is_symlink()
    assert (served / "manifest.json").read_bytes() == bundle


@pytest.mark.parametrize("is_same_port", [True, False])
def test_a_second_start_says_where_the_first_is(api: Api, tiny_project: Path, is_same_port: bool):
    env = airflow_env(tiny_project / "airflow_home", tiny_project)
    env["PORT"] = api.address.rpartition(":")[2] if is_same_port else str(free_port())
    shown = run(sys.executable, "dags/standalone.py", cwd=tiny_project, env=env)
    assert "runs already" in shown
    assert api.address in shown
    assert api.password in shown


def test_a_form_that_is_not_valid_starts_nothing(api: Api):
    with pytest.raises(OSError, match="400"):
        api(
            "POST",
            "/api/v2/dags/train/dagRuns",
            {"logical_date": None, "conf": {"force": ["no such stage"]}},
        )


@pytest.mark.browser
def test_the_form_in_the_browser_brings_a_new_version_to_the_service(
    api: Api, tiny_project: Path, deployed: str, page: Page
):
    params = tiny_project / "params.yaml"
    phases = json.loads((tiny_project / "data" / "phases.json").read_text(encoding="utf-8"))
    # The same moment in the form's own words, and other rounds: little has to run again.
    as_of = datetime.fromisoformat(phases["as_of"])
    env = airflow_env(tiny_project / "airflow_home", tiny_project)
    change = ("-m", "training.set_params", "ranker.rounds=21")
    run(sys.executable, *change, cwd=tiny_project, env=env)
    in_form = f"{as_of:%Y-%m-%dT%H:%M}"
    assert in_form not in params.read_text(encoding="utf-8")
    before = len(runs(api, "train"))
    with service(tiny_project) as address:
        assert recommended(address)["model_version"] == deployed
        page.goto(f"{api.address}/dags/train")
        trigger_train(page, as_of)
        # A page that follows the run would cost as much as the run.
        page.goto("about:blank")
        states = finished_run(api, "train", before + 1)
        assert set(states.values()) == {"success"}
        assert set(finished_run(api, "deploy", 2).values()) == {"success"}
        version = served_version(tiny_project)
        assert version != deployed
        answer = wait_for(lambda: answer_of(address, version), "the new version's answer", 60)
        assert answer["songs"]
    assert in_form in params.read_text(encoding="utf-8")


def answer_of(address: str, version: str) -> dict[str, Any] | None:
    answer = recommended(address)
    return answer if answer["model_version"] == version else None


def trigger_train(page: Page, as_of: datetime) -> None:
    """Read the documentation, fill in the form, and send it."""
    page.get_by_role("button", name="Dag Docs").click()
    page.get_by_text("one task for each stage").wait_for()
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Trigger").first.click()
    form = page.get_by_role("dialog")
    form.get_by_text("Select date and time").click()
    page.get_by_placeholder("YYYY/MM/DD").locator("visible=true").fill(f"{as_of:%Y/%m/%d}")
    page.get_by_placeholder("HH:mm").locator("visible=true").fill(f"{as_of:%H:%M}")
    # Clicking elsewhere closes the calendar.
    form.get_by_role("heading", name="Trigger Dag").click()
    form.get_by_label("Select one or multiple values").fill("phases")
    page.get_by_role("option", name="phases", exact=True).click()
    form.get_by_test_id("trigger-dag-submit").click()
    form.wait_for(state="hidden")


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


@pytest.mark.usefixtures("deployed")
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


@pytest.mark.usefixtures("deployed")
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
        "wait": "success",
        "set_params": "success",
        "simulate": "skipped",
        "ingest": "success",
        "check": "success",
    }
    assert "path: data/raw/simulated" in before
    assert after == before.replace("path: data/raw/simulated", "path: data/raw/plays and more")


def test_a_field_that_the_form_has_not_fails_at_once(api: Api, deployed: str, tiny_project: Path):
    del deployed
    served = served_version(tiny_project)
    body = {"logical_date": None, "conf": {"rollback": "nope"}}
    asked = api("POST", "/api/v2/dags/deploy/dagRuns", body)["dag_run_id"]

    def tasks() -> States | None:
        [run] = [run for run in runs(api, "deploy") if run["dag_run_id"] == asked]
        is_over = run["state"] in ("success", "failed")
        return task_states(api, "deploy", asked) if is_over else None

    # It was not tried again, and the newest bundle not deployed instead.
    assert wait_for(tasks, "the run of deploy") == {"deploy_bundle": "failed"}
    assert "no ['rollback']" in task_log(api, "deploy", asked, "deploy_bundle")
    assert served_version(tiny_project) == served
