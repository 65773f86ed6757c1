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
    (line,) = planned("run", "SOURCE=files", f"DATA={path}")
    command = line.replace("python", sys.executable, 1) + f' --params "{params}"'
    subprocess.run(["bash", "-c", command], cwd=PROJECT, check=True)
    source = load_params(params).source
    assert (source.name, source.path) == ("files", path)
