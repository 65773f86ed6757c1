"""Say what DVC would still run of some stages, and fail if that is anything.

    python dags/up_to_date.py ingest phases

New data of the source do not count: they may come at any time and are for the next run. What was
read of them before is what `dvc.lock` says, and belongs together with all that was made of it.
"""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from dvc_graph import Stage, read_stages

DEPS: Final = "changed deps"


def behind(status: Mapping[str, Sequence[Any]], stages: Sequence[Stage]) -> dict[str, list[Any]]:
    """Return what has changed of each stage, besides data at the paths that `params.yaml` names.

    Parameters
    ----------
    status
        What `dvc status --json` prints: by stage a list of texts, and of what has changed by kind.
    """
    source = {stage.name: stage.open_deps for stage in stages}
    left = {
        name: [kept for change in changes if (kept := _left(change, source.get(name, ())))]
        for name, changes in status.items()
    }
    return {name: changes for name, changes in left.items() if changes}


def _left(change: Any, source: Sequence[str]) -> Any:
    if not isinstance(change, dict) or DEPS not in change:
        return change
    new = [path for path in source if change[DEPS].get(path) == "modified"]
    deps = {path: how for path, how in change[DEPS].items() if path not in new}
    return {DEPS: deps} if deps else None


def main(names: Sequence[str]) -> None:
    """Ask DVC for the state of the stages named."""
    asked = [sys.executable, "-m", "dvc", "status", "--json", *names]
    status = json.loads(subprocess.run(asked, stdout=subprocess.PIPE, check=True).stdout)
    found = behind(status, read_stages(Path()))
    if found:
        sys.exit(f"Out of date: {json.dumps(found, indent=2)}")
    sys.stdout.write("All is up to date.\n")
    if status:
        sys.stdout.write("The source holds new data, which are for the next run.\n")


if __name__ == "__main__":
    main(sys.argv[1:])
