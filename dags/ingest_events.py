"""### Ingest: events from the source into the lake.

Brings the source's events, users and songs into the lake (`data/lake`) by the DVC stages that
lead there. Runs daily once it is switched on, and whenever it is triggered.

* **Form**: another source and path, or another *as of*, are written into `params.yaml` first;
  what follows (features, train, deploy) goes by them too.
* **Waits** while `features` or `train` runs, since it changes what they read.
* **Safe to repeat**: the same files and parameters give the same lake; DVC then does nothing.
* **Next**: the asset `lake` starts `features`.
"""

from datetime import timedelta

from airflow.sdk import CronTriggerTimetable, dag

from dvc_graph import read_stages, with_ancestors
from wiring import (
    DEFAULT_ARGS,
    LAKE,
    PROJECT,
    check,
    form,
    leaves,
    roots,
    set_params,
    stage_tasks,
    wait,
)

STAGES = with_ancestors(read_stages(PROJECT), ["ingest"])


@dag(
    # Without a start date, switching it on starts nothing at once: the first run is at midnight,
    # for the day past.
    schedule=CronTriggerTimetable(
        "@daily", timezone="UTC", interval=timedelta(days=1), run_immediately=timedelta(0)
    ),
    catchup=False,
    max_active_runs=1,
    # The calendar starts when the operator switches it on, not when Airflow is first looked at.
    is_paused_upon_creation=True,
    default_args=DEFAULT_ARGS,
    params=form(STAGES, source=True),
    doc_md=__doc__,
    tags=["segue"],
)
def ingest() -> None:
    """Set the parameters, bring in the events, tell that the lake is there."""
    tasks = stage_tasks(STAGES)
    leaves(tasks) >> check.override(outlets=[LAKE])([stage.name for stage in STAGES])
    wait(["features", "train"]) >> set_params() >> roots(tasks)


ingest()
