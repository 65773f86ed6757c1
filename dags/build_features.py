"""### Features: snapshots of the lake, in the offline and the online store.

Runs the DVC stages that come after the lake and lead to the feature snapshots, registers the
feature views with Feast, and loads the online store up to the end of the phases.

* **Form**: another *as of* is written into `params.yaml` first.
* **Waits** while `train` runs, since it changes what that reads.
* **Safe to repeat**: snapshots are functions of (events, as of); loading is told its end
  explicitly and overwrites.
* **Next**: the asset `features` starts `train`.
"""

from airflow.sdk import dag

from dvc_graph import read_stages, with_ancestors
from wiring import (
    DEFAULT_ARGS,
    FEATURES,
    LAKE,
    PROJECT,
    command,
    form,
    leaves,
    materialize,
    roots,
    set_params,
    stage_tasks,
    wait,
)

_ALL = read_stages(PROJECT)
_INGEST = with_ancestors(_ALL, ["ingest"])
STAGES = [stage for stage in with_ancestors(_ALL, ["snapshots"]) if stage not in _INGEST]


@dag(
    schedule=[LAKE],
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation=False,
    default_args=DEFAULT_ARGS,
    params=form(STAGES, source=False),
    doc_md=__doc__,
    tags=["segue"],
)
def features() -> None:
    """Set the parameters, make the snapshots, load the stores."""
    tasks = stage_tasks(STAGES)
    apply = command.override(task_id="apply")("python", "-m", "features.store", "apply")
    leaves(tasks) >> apply >> materialize.override(outlets=[FEATURES])()
    wait(["train"]) >> set_params() >> roots(tasks)


features()
