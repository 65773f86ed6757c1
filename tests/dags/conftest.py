"""Airflow runs in processes of its own: it is told by environment where to live."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROJECT = Path(__file__).resolve().parents[2]
FOLDERS = ("dags", "features", "serving", "simulation", "training")
FILES = ("bentofile.yaml", "dvc.yaml", "params.yaml")
# Every stage has something to do, and takes seconds.
TINY = (
    "source.name=simulated",
    "source.path=data/raw/simulated",
    # Spelt as the form in the browser does not spell it.
    'phases.as_of="2023-12-27T00:00+01:00"',
    "simulation.size=tiny",
    "ranker.rounds=20",
    "ranker.max_queries=400",
    "ranker.negatives=20",
    "evaluation.max_queries=200",
    "evaluation.bootstrap=50",
)


def airflow_env(home: Path, project: Path) -> dict[str, str]:
    return {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(project / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.2",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
    }


def run(*command: str, cwd: Path, env: dict[str, str] | None = None) -> str:
    """Run a command and return its output; a failure shows all it wrote."""
    done = subprocess.run(
        command,
        cwd=cwd,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command} failed:\n{done.stdout[-5000:]}"
    return done.stdout


@pytest.fixture(scope="session")
def described(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return what Airflow reads in the project's DAG files."""
    home = tmp_path_factory.mktemp("airflow_home")
    out = home / "described.json"
    script = Path(__file__).with_name("describe.py")
    env = airflow_env(home, PROJECT)
    run(sys.executable, str(script), str(PROJECT / "dags"), str(out), cwd=PROJECT, env=env)
    described: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    return described


@pytest.fixture(scope="session")
def tiny_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the project, a repository of its own, set to tiny data."""
    project = tmp_path_factory.mktemp("project")
    for folder in FOLDERS:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(PROJECT / folder, project / folder, ignore=ignored)
    for file in FILES:
        shutil.copy(PROJECT / file, project / file)
    env = airflow_env(project / "airflow_home", project)
    run("git", "init", "--quiet", cwd=project)
    run("dvc", "init", "--quiet", cwd=project, env=env)
    run("python", "-m", "training.set_params", *TINY, cwd=project, env=env)
    return project
