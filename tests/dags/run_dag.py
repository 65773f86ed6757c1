"""Run DAGs from start to end in this process, by `dag.test()`, and write their tasks' states.

Usage: python run_dag.py FOLDER '[["ingest", {"force": ["phases"]}], ["features", {}]]' OUT
"""

import json
import sys
from pathlib import Path

from airflow.dag_processing.dagbag import BundleDagBag


def main(folder: Path, runs: list[tuple[str, dict[str, object]]], out: Path) -> None:
    """Run the DAGs one after the other, each as triggered with the form given."""
    bag = BundleDagBag(dag_folder=folder, bundle_path=folder)
    states = []
    for dag_id, conf in runs:
        dag = bag.dags[dag_id]
        for task in dag.tasks:
            # A failure in a test is to show at once.
            task.retries = 0
        instances = dag.test(run_conf=conf).get_task_instances()
        states.append({task.task_id: str(task.state) for task in instances})
    out.write_text(json.dumps(states), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]), Path(sys.argv[3]))
