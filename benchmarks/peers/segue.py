"""Evaluate Segue on a cut in a checkout of its own, so that the caller's data stay untouched.

The checkout is a clone of this repository's last commit; run again, it takes the newer commit and
DVC repeats only the stages that changed.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from features.mistakes import run_command
from features.paths import PROJECT
from features.times import asked_moment

END = "end"


def run(command: Sequence[str], where: Path) -> None:
    """Run a command in a checkout, with that checkout's code and data.

    Raises
    ------
    subprocess.CalledProcessError
        If it fails.
    """
    env = {name: value for name, value in os.environ.items() if not name.startswith("SEGUE_")}
    env |= {"PYTHONPATH": str(where)}
    env["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(command, cwd=where, env=env, check=True)


def update(checkout: Path, project: Path = PROJECT) -> None:
    """Bring a checkout to the last commit of the project; make it where there is none."""
    if not checkout.exists():
        checkout.parent.mkdir(parents=True, exist_ok=True)
        run(["git", "clone", "--quiet", str(project), str(checkout)], project)
    run(["git", "fetch", "--quiet", str(project), "HEAD"], checkout)
    run(["git", "reset", "--quiet", "--hard", "FETCH_HEAD"], checkout)


def settings(source: str, data: Path, cut: str) -> list[str]:
    """Return the parameters of a cut as `training.set_params` takes them."""
    as_of = "null" if cut == END else f"'{cut}'"
    # Quoted, so that YAML keeps the text.
    path = json.dumps(str(data.resolve()), ensure_ascii=False)
    return [f"source.name={source}", f"source.path={path}", f"phases.as_of={as_of}"]


def cut_of(text: str) -> str:
    """Return a cut for argparse: `END`, or a moment with its zone, as the parameters want it."""
    return text if text == END else asked_moment(text).isoformat()


def main() -> None:
    """Train and evaluate Segue on a cut."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--source", default="30music")
    parser.add_argument("--data", type=Path, required=True, help="the listening data")
    parser.add_argument(
        "--cut", type=cut_of, required=True, help=f"moment (ISO 8601, UTC), or `{END}`"
    )
    parser.add_argument("--out", type=Path, required=True, help="where the checkout goes")
    arguments = parser.parse_args()
    if not arguments.data.exists():
        parser.error(f"there is nothing at {arguments.data}; say where the listening data are")
    try:
        update(arguments.out.resolve())
        chosen = settings(arguments.source, arguments.data, arguments.cut)
        run([sys.executable, "-m", "training.set_params", *chosen], arguments.out.resolve())
        run(["dvc", "repro", "evaluate"], arguments.out.resolve())
    except subprocess.CalledProcessError as error:
        # It has said why.
        sys.exit(error.returncode)


if __name__ == "__main__":
    run_command(main)
