"""What the DAG files share: where to run, the assets between them, the form, the commands."""

import json
import logging
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from datetime import timedelta
from itertools import groupby
from pathlib import Path
from typing import Any

from airflow.sdk import Asset, Param, RetryDecision, RetryPolicy, TaskGroup, task
from airflow.sdk.exceptions import AirflowSkipException

from answers import assignments, refuse_unknown
from dvc_graph import Stage, isolated, read_stages, upstream

log = logging.getLogger(__name__)

PROJECT = Path(__file__).resolve().parent.parent

LAKE = Asset("lake", group="segue")
FEATURES = Asset("features", group="segue")
BUNDLE = Asset("bundle", group="segue")
SERVED = Asset("served", group="segue")

# One slot: DVC's lock file and params.yaml stand one writer at a time.
POOL = "dvc"

# How our commands end where they are asked for what cannot be done (features/mistakes.py).
MISTAKE = 2
# DVC ends with 255 however a stage does; what it says of the stage becomes the exit code again.
_HEED = f"awk '{{print; fflush()}} /exited with {MISTAKE}$/ {{code = {MISTAKE}}} END {{exit code}}'"


class MistakesFailAtOnce(RetryPolicy):
    """Retries what may go better the next time, and no mistake of the form, nor the gate."""

    def evaluate(self, exception: BaseException, *_: Any, **__: Any) -> RetryDecision:
        """Look at how a task failed."""
        ended = f"{exception}".endswith(f"exit code {MISTAKE}.")
        if ended or isinstance(exception, ValueError):
            return RetryDecision.fail("The task would fail in the same way each time.")
        return RetryDecision.default()


DEFAULT_ARGS = {
    "owner": "segue",
    "pool": POOL,
    "retries": 2,
    "retry_policy": MistakesFailAtOnce(),
    "retry_delay": timedelta(minutes=1),
    "retry_exponential_backoff": True,
    "max_retry_delay": timedelta(minutes=15),
    "execution_timeout": timedelta(hours=12),
}

_BASH: dict[str, Any] = {
    "cwd": str(PROJECT),
    "append_env": True,
    "env": {
        # The commands in dvc.yaml say `python`, which is to be this environment's.
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        # A task's standard input is a socket, which bash takes for a remote login: it would read
        # ~/.bashrc, and that may put another Python first. It does not above shell level 1.
        "SHLVL": "1",
        "DVC_NO_ANALYTICS": "1",
        # Where DVC writes, whatever else is set.
        "SEGUE_DATA": "data",
        # Progress bars would fill the task log; plain lines come as they are written.
        "TQDM_DISABLE": "1",
        "PYTHONUNBUFFERED": "1",
    },
}

_TIME_PARAMS = {
    "as_of": Param(
        None,
        type=["null", "string"],
        format="date-time",
        # Airflow shows a calendar for the format, but takes any text for it.
        pattern=r"^\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d([.,]\d+)?)?(Z|[+-]\d\d:?\d\d)$",
        title="As of",
        description="Learn from events before this moment. Empty: as params.yaml has it.",
    ),
    "to_the_end": Param(
        False,
        type="boolean",
        title="As of the end of the data",
        description='Forget an earlier run\'s "as of".',
    ),
}
_SOURCE_PARAMS = {
    "source": Param(
        None,
        enum=[None, "simulated", "30music", "files"],
        values_display={"null": "as params.yaml has it"},
        type=["null", "string"],
        title="Source",
        description="Where events come from. Empty: as params.yaml has it.",
    ),
    "path": Param(
        None,
        # No braces: task commands are Jinja templates.
        pattern="^[^{}]+$",
        type=["null", "string"],
        title="Path",
        description="The source's folder or file. Empty: as params.yaml has it.",
    ),
}


def form(stages: Sequence[Stage], *, source: bool) -> dict[str, Param]:
    """Return the trigger form of a DAG that runs these stages.

    Parameters
    ----------
    stages
        What may be forced, by name or by the group's name.
    source
        Whether the form asks for the source too.
    """
    names = sorted({stage.group for stage in stages} | {stage.name for stage in stages})
    force = Param(
        None,
        type=["null", "array"],
        items={"type": "string", "enum": names},
        examples=names,
        title="Force",
        description="Stages to run again even though nothing that they read has changed.",
    )
    return {**_TIME_PARAMS, **(_SOURCE_PARAMS if source else {}), "force": force}


@task.sensor(
    mode="reschedule",
    poke_interval=30,
    timeout=timedelta(hours=12).total_seconds(),
    # It writes nothing, and the slot is what the others need to come to their end.
    pool="default_pool",
)
def wait(dag_ids: Sequence[str], ti: Any = None) -> bool:
    """Wait for runs further down the chain: what this one changes, they have begun to read.

    None waits for those further up, which bring on a new run of it anyway.
    """
    busy = [dag_id for dag_id in dag_ids if ti.get_dr_count(dag_id, states=["running"])]
    log.info("Runs under way that read what this one changes: %s", ", ".join(busy) or "none")
    return not busy


@task.bash(**_BASH)
def set_params(params: Any = None, dag: Any = None) -> str:
    """Write the form's answers into params.yaml, so that DVC sees what they change."""
    refuse_unknown(params, dag.params)
    changes = assignments(params)
    if not changes:
        return "echo 'The form changes nothing; params.yaml stays as it is.'"
    return shlex.join(["python", "-m", "training.set_params", *changes])


@task.bash(trigger_rule="none_failed", **_BASH)
def repro(stage: str, params: Any = None) -> str:
    """Let DVC run one stage, if anything that it reads has changed or the form forces it."""
    if stage in isolated(read_stages(PROJECT)):
        raise AirflowSkipException(f"As params.yaml stands, no other stage reads from {stage}.")
    forced = {stage, stage.partition("@")[0]} & set(params["force"] or ())
    flags = ["--force"] if forced else []
    words = ["dvc", "repro", "--single-item", *flags, stage]
    # A full disk leaves DVC's own lock empty, and then it refuses to run.
    unlock = "find .dvc/tmp -name rwlock -empty -delete 2> /dev/null"
    return f"{unlock}; set -o pipefail; {shlex.join(words)} 2>&1 | {_HEED}"


@task.bash(**_BASH)
def command(*words: str) -> str:
    """Run a command at the top of the project."""
    return shlex.join(words)


@task.bash(**_BASH)
def materialize() -> str:
    """Load the online store up to the end of the phases."""
    phases = json.loads((PROJECT / "data" / "phases.json").read_text(encoding="utf-8"))
    return shlex.join(["python", "-m", "features.store", "materialize", "--until", phases["as_of"]])


@task.bash(**_BASH)
def check(stages: Sequence[str]) -> str:
    """Fail if DVC would still run any of these stages, other than for new data of the source."""
    alone = isolated(read_stages(PROJECT))
    names = [name for name in stages if name not in alone]
    return shlex.join(["python", "dags/up_to_date.py", *names])


@task(outlets=[BUNDLE])
def publish(outlet_events: Any = None) -> None:
    """Announce the new bundle, with its version for the asset's page."""
    manifest = PROJECT / "data" / "bundles" / "serving" / "manifest.json"
    version = json.loads(manifest.read_text(encoding="utf-8"))["version"]
    outlet_events[BUNDLE].extra = {"version": version}


@task.bash(**_BASH)
def deploy_bundle(params: Any = None, dag: Any = None) -> str:
    """Copy the form's bundle to the served ones and swap to it, or back to an earlier one."""
    refuse_unknown(params, dag.params)
    version, bundle = params["version"], params["bundle"]
    chosen = ["--version", version] if version else ["--bundle", bundle]
    chosen += ["--past-gate"] if params["past_gate"] else []
    return shlex.join(["python", "-m", "serving.deploy", *chosen])


def stage_tasks(stages: Sequence[Stage]) -> dict[str, Any]:
    """Make one task for each stage, in DVC's order; a matrix stage becomes a task group.

    Returns
    -------
    dict
        The tasks by the stage's name.
    """
    tasks = {}
    for group, members in groupby(stages, key=lambda stage: stage.group):
        stages_of_group = list(members)
        is_matrix = bool(stages_of_group[0].instance)
        with TaskGroup(group) if is_matrix else nullcontext():
            for stage in stages_of_group:
                tasks[stage.name] = repro.override(task_id=stage.instance or stage.name)(stage.name)
    for name, before in upstream(stages).items():
        for other in sorted(before):
            tasks[other] >> tasks[name]
    return tasks


def roots(tasks: Mapping[str, Any]) -> list[Any]:
    """Return the tasks that wait for none of the others."""
    return [t for t in tasks.values() if not t.operator.upstream_task_ids]


def leaves(tasks: Mapping[str, Any]) -> list[Any]:
    """Return the tasks that none of the others waits for."""
    return [t for t in tasks.values() if not t.operator.downstream_task_ids]
