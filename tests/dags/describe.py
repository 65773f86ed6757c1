"""Read the DAG files as Airflow does and write what they are as JSON to the file named.

Run in a process of its own: Airflow configures logging and writes files as it is imported, and
the modules that parsing loads are to be counted from nothing.
"""

import json
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from airflow.dag_processing.dagbag import BundleDagBag
from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk.exceptions import AirflowException


def describe_task(task: Any) -> dict[str, Any]:
    """Return what the tests look at in a task."""
    return {
        "upstream": sorted(task.upstream_task_ids),
        "pool": task.pool,
        "retries": task.retries,
        "retry_delay": task.retry_delay.total_seconds(),
        "retry_policy": type(task.retry_policy).__name__,
        "outlets": [asset.name for asset in task.outlets],
        "cwd": getattr(task, "cwd", None),
        "data": (getattr(task, "env", None) or {}).get("SEGUE_DATA"),
    }


def describe_dag(dag: Any) -> dict[str, Any]:
    """Return what the tests look at in a DAG."""
    params = {key: dag.params.get_param(key) for key in dag.params}
    condition = getattr(dag.timetable, "asset_condition", None)
    return {
        "tasks": {task.task_id: describe_task(task) for task in dag.tasks},
        "params": {k: {**p.schema, "default": p.value} for k, p in params.items()},
        "assets": [asset.name for asset in condition.objects] if condition else [],
        "timetable": type(dag.timetable).__name__,
        "catchup": dag.catchup,
        "max_active_runs": dag.max_active_runs,
        "is_paused_upon_creation": dag.is_paused_upon_creation,
        "doc_md": dag.doc_md,
    }


def commands(bag: BundleDagBag) -> dict[str, str]:
    """Return what the deployment would run, by the field of the form that was filled in."""
    dag = bag.dags["deploy"]
    (task,) = dag.tasks
    empty = {key: dag.params.get_param(key).value for key in dag.params}
    filled = {"bundle": "some where", "version": "v1", "past_gate": True}
    forms = {"": empty} | {name: empty | {name: value} for name, value in filled.items()}
    return {name: task.python_callable(params=form, dag=dag) for name, form in forms.items()}


def decisions(bag: BundleDagBag) -> dict[str, str]:
    """Return what becomes of a command or a stage by its exit code, and of a form at odds."""
    (policy,) = {task.retry_policy for task in bag.dags["train"].tasks}
    to_do = {
        code: lambda code=code: BashOperator(task_id=code, bash_command=f"exit {code}").execute({})
        for code in ("1", "2", "255")
    }
    repro = bag.dags["train"].get_task("ranker_test").python_callable
    for code in ("1", "2"):
        told = f"ERROR: failed to reproduce 'x': failed to run: y, exited with {code}"
        dvc = f'dvc() {{ echo "{told}" >&2; return 255; }}; '
        words = dvc + repro("ranker_test", params={"force": None})
        to_do[f"stage {code}"] = lambda words=words: BashOperator(
            task_id="stage", bash_command=words
        ).execute({})
    # An empty lock of DVC's is gone before it runs: nothing fails.
    locked = "mkdir -p .dvc/tmp; touch .dvc/tmp/rwlock; dvc() { test ! -e .dvc/tmp/rwlock; }; "
    to_do["lock"] = lambda: BashOperator(
        task_id="stage", bash_command=locked + repro("ranker_test", params={"force": None})
    ).execute({})
    dag = bag.dags["train"]
    set_params = partial(dag.get_task("set_params").python_callable, dag=dag)
    to_do["form"] = lambda: set_params(params={"as_of": "2024-01-01T00:00Z", "to_the_end": True})
    to_do["field"] = lambda: set_params(params={"as_off": "2024-01-01T00:00Z"})
    decided = {}
    for name, fail in to_do.items():
        try:
            fail()
        except (AirflowException, ValueError) as error:
            decided[name] = policy.evaluate(error, 1, 2).action.value
    return decided


def waits(bag: BundleDagBag) -> dict[str, dict[str, bool]]:
    """Return which DAGs wait while which one runs."""

    def does_wait(task: Any, running: str) -> bool:
        ti = SimpleNamespace(get_dr_count=lambda dag_id, states: int(dag_id == running))
        return not task.python_callable(*task.op_args, ti=ti)

    tasks = {
        dag_id: dag.get_task("wait") for dag_id, dag in bag.dags.items() if "wait" in dag.task_dict
    }
    return {
        dag_id: {running: does_wait(task, running) for running in bag.dags}
        for dag_id, task in tasks.items()
    }


def main(folder: Path, out: Path) -> None:
    """Describe the DAGs of a folder."""
    bag = BundleDagBag(dag_folder=folder, bundle_path=folder)
    description = {
        "commands": commands(bag),
        "decisions": decisions(bag),
        "waits": waits(bag),
        "dags": {dag_id: describe_dag(dag) for dag_id, dag in bag.dags.items()},
        "import_errors": bag.import_errors,
        "modules": sorted({name.partition(".")[0] for name in sys.modules}),
    }
    out.write_text(json.dumps(description), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
