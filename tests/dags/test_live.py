"""Airflow for real: triggered by REST and in the browser, and the service follows."""

import json
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, sync_playwright

from dags.dvc_graph import read_stages
from dags.standalone import Api
from tests.dags.conftest import airflow_env, run
from tests.dags.live import airflow, finished_run, recommended, runs, service, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.browser]

CHROMIUM = "/usr/bin/chromium"
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
def page(api: Api) -> Iterator[Page]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
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


def test_a_second_start_says_where_the_first_is(api: Api, tiny_project: Path):
    env = airflow_env(tiny_project / "airflow_home", tiny_project)
    env["PORT"] = api.address.rpartition(":")[2]
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


def test_the_form_in_the_browser_brings_a_new_version_to_the_service(
    api: Api, tiny_project: Path, deployed: str, page: Page
):
    phases = json.loads((tiny_project / "data" / "phases.json").read_text(encoding="utf-8"))
    as_of = datetime.fromisoformat(phases["as_of"]) - timedelta(days=2)
    before = len(runs(api, "train"))
    with service(tiny_project) as address:
        assert recommended(address)["model_version"] == deployed
        page.goto(f"{api.address}/dags/train")
        trigger_train(page, as_of)
        states = finished_run(api, "train", before + 1)
        assert set(states.values()) == {"success"}
        assert set(finished_run(api, "deploy", 2).values()) == {"success"}
        version = served_version(tiny_project)
        assert version != deployed
        answer = wait_for(lambda: answer_of(address, version), "the new version's answer", 60)
        assert answer["songs"]
    assert f"{as_of:%Y-%m-%dT%H:%M}" in (tiny_project / "params.yaml").read_text(encoding="utf-8")


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
