"""What `make` would run."""

import os
import subprocess

import pytest

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
    expected = ['python -m training.set_params source.name="files" source.path="/tmp/my data"']
    assert planned("run", "SOURCE=files", "DATA=/tmp/my data") == expected
    assert planned("run", SOURCE="files", DATA="/tmp/my data") == expected


def test_a_path_alone_leaves_the_source_as_it_is():
    assert planned("run", "DATA=/tmp/x") == ['python -m training.set_params  source.path="/tmp/x"']


def test_the_simulator_needs_no_path():
    expected = (
        'python -m training.set_params source.name="simulated" source.path="data/raw/simulated"'
    )
    assert planned("run", "SOURCE=simulated") == [expected]
