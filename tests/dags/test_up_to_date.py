import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "dags" / "up_to_date.py"
DVC_YAML = """
stages:
  ingest:
    cmd: cp ${source.path} lake
    deps: ["${source.path}", ingest.py]
    params: [source]
    outs: [lake]
  phases:
    cmd: cp lake phases
    deps: [lake]
    outs: [phases]
"""


def run(*command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)


def ask(project: Path) -> tuple[int, str]:
    done = run(sys.executable, str(SCRIPT), "ingest", "phases", cwd=project)
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "dvc.yaml").write_text(DVC_YAML, encoding="utf-8")
    (tmp_path / "params.yaml").write_text("source: {path: plays.csv}", encoding="utf-8")
    for name in ("plays.csv", "ingest.py"):
        (tmp_path / name).write_text("one", encoding="utf-8")
    assert run("dvc", "init", "--no-scm", "--quiet", cwd=tmp_path).returncode == 0
    assert run("dvc", "repro", "--quiet", cwd=tmp_path).returncode == 0
    return tmp_path


def test_what_was_run_is_up_to_date_and_new_data_are_for_the_next_run(project: Path):
    assert ask(project) == (0, "All is up to date.\n")
    (project / "plays.csv").write_text("one, two", encoding="utf-8")
    status, told = ask(project)
    assert (status, "new data" in told) == (0, True)


def changed_code(project: Path) -> None:
    (project / "ingest.py").write_text("other", encoding="utf-8")


def changed_output(project: Path) -> None:
    (project / "lake").unlink()
    (project / "lake").write_text("other", encoding="utf-8")


def other_source(project: Path) -> None:
    (project / "others.csv").write_text("one", encoding="utf-8")
    (project / "params.yaml").write_text("source: {path: others.csv}", encoding="utf-8")


def no_source(project: Path) -> None:
    (project / "plays.csv").unlink()


@pytest.mark.parametrize("change", [changed_code, changed_output, other_source, no_source])
def test_any_other_change_fails_beside_new_data(project: Path, change: Callable[[Path], None]):
    (project / "plays.csv").write_text("one, two", encoding="utf-8")
    change(project)
    status, told = ask(project)
    assert status == 1
    assert "Out of date" in told
