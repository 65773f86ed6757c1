"""What `make` would run."""

import os
import shutil
import subprocess
import sys

import pytest

from features.params import load_params
from features.paths import PROJECT


def planned(*words, **settings):
    """Return the lines that change params.yaml, of what make would run."""
    own = {"MAKEFLAGS", "MFLAGS", "MAKEOVERRIDES", "SOURCE", "DATA"}
    environment = {name: value for name, value in os.environ.items() if name not in own}
    command = ["make", "--dry-run", "--old-file=setup", *words]
    done = subprocess.run(
        command,
        cwd=PROJECT,
        env=environment | settings,
        capture_output=True,
        text=True,
        check=True,
    )
    return [line for line in done.stdout.splitlines() if "training.set_params" in line]


def made(tmp_path, target, dvc="exit 0"):
    """Run make in a copy where commands only write down that they were called, and how."""
    tools = tmp_path / ".venv" / "bin"
    tools.mkdir(parents=True)
    for name in ("Makefile", "requirements.txt", "pyproject.toml"):
        shutil.copy(PROJECT / name, tmp_path)
    for name, then in (("python", "exit 0"), ("dvc", dvc)):
        (tools / name).write_text(f'#!/bin/bash\necho "{name} $*" >> called\n{then}\n')
        (tools / name).chmod(0o755)
    (tmp_path / ".venv" / ".ready").touch()
    (tmp_path / "called").touch()
    own = {"MAKEFLAGS", "MFLAGS", "MAKEOVERRIDES", "SOURCE", "DATA", "PORT"}
    environment = {name: value for name, value in os.environ.items() if name not in own}
    done = subprocess.run(
        ["make", *target.split()], cwd=tmp_path, env=environment, capture_output=True
    )
    return done.returncode, (tmp_path / "called").read_text().splitlines()


def test_the_port_is_looked_at_before_the_work_and_served_on_after_it(tmp_path):
    code, called = made(tmp_path, "run")
    assert code == 0
    first, *between, last = called
    assert first == "python -m serving.welcome --port 3000 --look"
    assert "dvc repro bundle_serving" in between
    assert last == "python -m serving.welcome --port 3000"


@pytest.mark.parametrize(("lock", "stays"), [("", False), ("{}", True)])
def test_a_lock_that_a_full_disk_left_empty_is_taken_away(tmp_path, lock, stays):
    (tmp_path / ".dvc" / "tmp").mkdir(parents=True)
    (tmp_path / ".dvc" / "tmp" / "rwlock").write_text(lock)
    code, _ = made(tmp_path, "pipeline", "test ! -e .dvc/tmp/rwlock")
    assert (code == 0) is not stays


@pytest.mark.parametrize(
    "words", ["", "CUT=end", "DATA=nowhere CUT=end", "DATA=. CUT=nonsense", "DATA=."]
)
def test_a_cut_that_cannot_be_is_missed_before_anything_is_installed(tmp_path, words):
    assert made(tmp_path, f"bench-peers {words}") == (2, [])


@pytest.mark.parametrize("target", ["run", "pipeline"])
def test_without_a_source_params_stay(target):
    assert planned(target) == []


def test_a_source_asked_for_is_written_with_its_path_in_quotes():
    expected = [
        """python -m training.set_params source.name="files" source.path="'/tmp/my data'\""""
    ]
    assert planned("run", "SOURCE=files", "DATA=/tmp/my data") == expected
    assert planned("run", SOURCE="files", DATA="/tmp/my data") == expected


def test_a_path_alone_leaves_the_source_as_it_is():
    expected = ["""python -m training.set_params  source.path="'/tmp/x'\""""]
    assert planned("run", "DATA=/tmp/x") == expected


def test_the_simulator_needs_no_path():
    (line,) = planned("run", "SOURCE=simulated")
    assert line.endswith("""source.name="simulated" source.path="'data/raw/simulated'\"""")


@pytest.mark.parametrize(
    "path", ["2024", "2014-11-27", "true", "~", "[old] music", "my: music", "it's", "a #1"]
)
def test_any_path_stays_the_text_that_it_is(path, tmp_path):
    params = shutil.copy(PROJECT / "params.yaml", tmp_path / "params.yaml")
    (tmp_path / path).mkdir()
    (line,) = planned("run", "SOURCE=files", f"DATA={path}")
    command = line.replace("python", sys.executable, 1) + f' --params "{params}"'
    subprocess.run(["bash", "-c", command], cwd=PROJECT, check=True)
    source = load_params(params).source
    assert (source.name, source.path) == ("files", path)
