"""Run one DAG from start to end in this process, by `dag.test()`, and write its tasks' states.

Usage: python run_dag.py FOLDER DAG_ID CONF_JSON OUT
"""

import json
import sys
from pathlib import Path

from airflow.dag_processing.dagbag import BundleDagBag


def main(folder: Path, dag_id: str, conf: str, out: Path) -> None:
    """Run the DAG as triggered by hand."""
    dag = BundleDagBag(dag_folder=folder, bundle_path=folder).dags[dag_id]
    for task in dag.tasks:
        # A failure in a test is to show at once.
        task.retries = 0
    run = dag.test(run_conf=json.loads(conf))
    states = {task.task_id: str(task.state) for task in run.get_task_instances()}
    out.write_text(json.dumps(states), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], Path(sys.argv[4]))
