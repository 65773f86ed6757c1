"""### Train: the whole DVC graph, one task for each stage.

The tasks and the arrows between them are read from `dvc.yaml`. Each runs
`dvc repro --single-item <stage>`, which does nothing where nothing has changed, one at a time
(pool `dvc`). At the end `check` refuses to go on unless DVC finds every stage up to date: then
code, parameters, data and bundle belong together.

* **Form**: another source and path or *as of* (written into `params.yaml` first), and the stages
  to run again in any case.
* **Skipped** is a stage that, as `params.yaml` stands, nothing reads from: the simulator, when the
  events come from elsewhere.
* **Next**: the asset `bundle` starts `deploy`.
"""

from airflow.sdk import dag

from dvc_graph import read_stages
from wiring import (
    DEFAULT_ARGS,
    FEATURES,
    PROJECT,
    check,
    form,
    leaves,
    publish,
    roots,
    set_params,
    stage_tasks,
)

STAGES = read_stages(PROJECT)


@dag(
    schedule=[FEATURES],
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation=False,
    default_args=DEFAULT_ARGS,
    params=form(STAGES, source=True),
    doc_md=__doc__,
    tags=["segue"],
)
def train() -> None:
    """Set the parameters, run the stages, make sure that all is up to date."""
    tasks = stage_tasks(STAGES)
    leaves(tasks) >> check([stage.name for stage in STAGES]) >> publish()
    set_params() >> roots(tasks)


train()
