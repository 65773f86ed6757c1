import re
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from dags.dvc_graph import read_stages, upstream
from tests.dags.conftest import PROJECT

HEAVY = {
    "bentoml",
    "duckdb",
    "dvc",
    "feast",
    "features",
    "ibis",
    "implicit",
    "lightgbm",
    "numpy",
    "pandas",
    "pyarrow",
    "scipy",
    "serving",
    "simulation",
    "sklearn",
    "training",
}
CHAIN = {
    "ingest": ([], "lake"),
    "features": (["lake"], "features"),
    "train": (["features"], "bundle"),
    "deploy": (["bundle"], "served"),
}


def task_id(stage: str) -> str:
    return stage.replace("@", ".")


def accepts(schema: dict[str, Any], value: object) -> bool:
    return Draft202012Validator(schema).is_valid(value)


def test_all_dags_are_read_without_error(described: dict[str, Any]):
    assert described["import_errors"] == {}
    assert set(described["dags"]) == set(CHAIN)


def test_parsing_loads_nothing_heavy(described: dict[str, Any]):
    assert "airflow" in described["modules"]
    assert HEAVY.isdisjoint(described["modules"])


@pytest.mark.parametrize("dag_id", CHAIN)
def test_assets_tie_the_dags_together(described: dict[str, Any], dag_id: str):
    dag = described["dags"][dag_id]
    starts_it, outlet = CHAIN[dag_id]
    assert dag["assets"] == starts_it
    last = {name for name, task in dag["tasks"].items() if task["outlets"] == [outlet]}
    waited_for = {other for task in dag["tasks"].values() for other in task["upstream"]}
    # The asset is announced by the one task that comes after all others.
    assert last == set(dag["tasks"]) - waited_for
    assert len(last) == 1


@pytest.mark.parametrize("dag_id", CHAIN)
def test_rules_that_hold_for_every_dag(described: dict[str, Any], dag_id: str):
    dag = described["dags"][dag_id]
    assert dag["catchup"] is False
    assert dag["max_active_runs"] == 1
    assert dag["doc_md"].startswith("### ")
    for name, task in dag["tasks"].items():
        # Waiting, it would keep the slot from those that it waits for.
        assert task["pool"] == ("default_pool" if name == "wait" else "dvc")
        assert task["retries"] >= 1
        assert task["retry_delay"] >= 30
        assert task["retry_policy"] == "MistakesFailAtOnce"
        assert task["cwd"] in (str(PROJECT), None)
        # Where DVC writes, whatever Airflow was started with.
        assert task["data"] == ("data" if task["cwd"] else None)


def test_only_the_calendar_waits_to_be_switched_on(described: dict[str, Any]):
    paused = {name for name, dag in described["dags"].items() if dag["is_paused_upon_creation"]}
    assert paused == {"ingest"}
    assert described["dags"]["ingest"]["timetable"] == "CronTriggerTimetable"


@pytest.mark.parametrize(
    ("dag_id", "busy", "waits"),
    [
        ("ingest", [], False),
        ("ingest", ["features"], True),
        ("ingest", ["train"], True),
        ("ingest", ["deploy"], False),
        ("features", ["train"], True),
        # They wait for it: each for the other would be for ever.
        ("features", ["ingest"], False),
    ],
)
def test_a_run_waits_for_those_that_read_what_it_changes(
    described: dict[str, Any], dag_id: str, busy: list[str], waits: bool
):
    tasks = described["dags"][dag_id]["tasks"]
    assert tasks["set_params"]["upstream"] == ["wait"]
    assert tasks["wait"]["upstream"] == []
    assert any(described["waits"][dag_id][other] for other in busy) is waits


def test_train_has_one_task_for_each_dvc_stage(described: dict[str, Any]):
    stages = [task_id(stage.name) for stage in read_stages(PROJECT)]
    tasks = described["dags"]["train"]["tasks"]
    assert len(stages) == len(set(stages))
    assert set(tasks) == {"set_params", *stages, "check", "publish"}


def test_train_has_the_edges_of_dvc_yaml(described: dict[str, Any]):
    tasks = described["dags"]["train"]["tasks"]
    before = upstream(read_stages(PROJECT))
    for name, others in before.items():
        expected = {task_id(other) for other in others} or {"set_params"}
        assert set(tasks[task_id(name)]["upstream"]) == expected
    ends = set(before) - set().union(*before.values())
    assert set(tasks["check"]["upstream"]) == {task_id(name) for name in ends}


def test_ingest_and_features_share_out_the_way_to_the_snapshots(described: dict[str, Any]):
    ingest, features = described["dags"]["ingest"]["tasks"], described["dags"]["features"]["tasks"]
    assert set(ingest) == {"wait", "set_params", "simulate", "ingest", "check"}
    assert set(features) == {"wait", "set_params", "phases", "snapshots", "apply", "materialize"}
    assert features["apply"]["upstream"] == ["snapshots"]
    assert features["materialize"]["upstream"] == ["apply"]


@pytest.mark.parametrize("dag_id", ["ingest", "features", "train"])
def test_the_form_is_typed(described: dict[str, Any], dag_id: str):
    params = described["dags"][dag_id]["params"]
    assert params["as_of"]["format"] == "date-time"
    assert accepts(params["as_of"], None)
    assert not accepts(params["as_of"], 20240101)
    for moment in ("2023-12-20T00:00:00.000Z", "2023-12-20T00:00+01:00", "2023-12-20 06:30:00Z"):
        assert accepts(params["as_of"], moment)
    for text in ("yesterday", "2023-12-20", "2023-12-20T00:00:00", "at 2023-12-20T00:00:00Z", ""):
        assert not accepts(params["as_of"], text)
    assert accepts(params["to_the_end"], True)
    assert not accepts(params["to_the_end"], "yes")
    one = params["force"]["examples"][0]
    assert accepts(params["force"], [one])
    assert accepts(params["force"], None)
    assert not accepts(params["force"], ["no such stage"])
    assert not accepts(params["force"], one)


@pytest.mark.parametrize("dag_id", ["ingest", "train"])
def test_the_form_asks_for_the_source(described: dict[str, Any], dag_id: str):
    params = described["dags"][dag_id]["params"]
    for name in ("simulated", "30music", "files", None):
        assert accepts(params["source"], name)
    assert not accepts(params["source"], "spotify")
    assert accepts(params["path"], "/mnt/plays and more/2024.csv.gz")
    # Commands are Jinja templates; a path must not be one.
    assert not accepts(params["path"], "{{ conf }}")


def test_a_version_to_roll_back_to_is_a_plain_name(described: dict[str, Any]):
    version = described["dags"]["deploy"]["params"]["version"]
    assert accepts(version, None)
    assert accepts(version, "20231220T000000-1a2b3c")
    assert not accepts(version, "../../etc")


@pytest.mark.parametrize(
    ("filled_in", "words"),
    [
        ("", "--bundle data/bundles/serving"),
        ("bundle", "--bundle 'some where'"),
        ("version", "--version v1"),
        ("past_gate", "--bundle data/bundles/serving --past-gate"),
    ],
)
def test_the_form_of_a_deployment_reaches_its_command(
    described: dict[str, Any], filled_in: str, words: str
):
    assert described["commands"][filled_in] == f"python -m serving.deploy {words}"


def test_mistakes_fail_at_once_and_all_else_is_retried(described: dict[str, Any]):
    commands = {"1": "default", "2": "fail", "255": "default"}
    stages = {"stage 1": "default", "stage 2": "fail"}
    assert described["decisions"] == {**commands, **stages, "form": "fail", "field": "fail"}


def test_stages_can_be_forced_alone_or_by_group(described: dict[str, Any]):
    examples = described["dags"]["train"]["params"]["force"]["examples"]
    assert {"factors", "factors@like-labels", "evaluate"} <= set(examples)


@pytest.mark.parametrize("dag_id", CHAIN)
def test_defaults_fit_their_own_schema(described: dict[str, Any], dag_id: str):
    for param in described["dags"][dag_id]["params"].values():
        assert accepts(param, param["default"])


def test_no_clock_and_no_latest_in_dag_files():
    for path in (PROJECT / "dags").glob("*.py"):
        if path.name != "standalone.py":
            code = path.read_text(encoding="utf-8")
            assert not re.search(r"\.now\(|utcnow|today\(|latest", code), path.name
