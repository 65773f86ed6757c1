"""What holds of every command: where its files lie, and how it ends."""

import argparse
import ast
import importlib
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import TypeGuard

import pytest

from features.mistakes import Mistake, run_command
from features.paths import PROJECT
from serving.manifest import BundleError

PACKAGES = ("features", "serving", "training", "simulation", "benchmarks")
# Theirs is an environment of its own; nothing they read lies in the data folder.
ELSEWHERE = {"benchmarks.peers.run", "benchmarks.peers.tune"}
# They tell what they did before the error, each in its own way.
OF_THE_SERVICE = {"serving.access", "serving.deploy", "serving.welcome"}


def commands() -> list[str]:
    """Return the modules that can be run and take arguments."""
    found = []
    for path in sorted(file for name in PACKAGES for file in (PROJECT / name).rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        module = ".".join(path.relative_to(PROJECT).with_suffix("").parts)
        if "argparse.ArgumentParser(" in text and "def main(" in text and module not in ELSEWHERE:
            found.append(module)
    return found


def _is_bar(node: ast.AST) -> TypeGuard[ast.Call]:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "tqdm"


class Parsed(Exception):  # noqa: N818 - no error: it ends the command where it begins
    """A command has come to its arguments."""


@pytest.mark.parametrize("module", commands())
def test_commands_look_for_their_files_where_segue_data_says(
    module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def parsed(parser: argparse.ArgumentParser, *_: object) -> None:
        raise Parsed(parser)

    monkeypatch.setenv("SEGUE_DATA", str(tmp_path))
    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parsed)
    with pytest.raises(Parsed) as reached:
        importlib.import_module(module).main()
    (parser,) = reached.value.args
    paths = [one.default for one in parser._actions if isinstance(one.default, Path)]
    for path in paths:
        absolute = PROJECT / path
        assert not absolute.is_relative_to(PROJECT / "data"), f"{path} ignores SEGUE_DATA"


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (Mistake("phases are too short; make them longer."), 2, "phases are too short"),
        (BundleError("There is no bundle at x."), 2, "There is no bundle"),
        (FileNotFoundError("There is no lake at x."), 2, "There is no lake"),
        (OSError(28, "No space left on device"), 1, "left on device; make room on the disks"),
        (
            shutil.Error([(n, n, f"[Errno 28] No space left on device: {n!r}") for n in "ab"]),
            1,
            "[Errno 28] No space left on device: 'a'; make room",
        ),
        (sqlite3.OperationalError("database or disk is full"), 1, "disk is full; make room"),
        (PermissionError(13, "Permission denied"), 1, "Permission denied\n"),
        (None, 0, ""),
    ],
)
def test_a_mistake_ends_with_a_sentence_and_code_2_and_a_full_disk_with_code_1(
    error: Exception | None, code: int, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def main() -> None:
        if error:
            raise error

    with pytest.raises(SystemExit) as end:
        run_command(main)
    assert end.value.code == code
    shown = capsys.readouterr().err
    assert told in shown
    assert shown.count("\n") == (code > 0)


def test_an_error_of_the_code_itself_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        run_command(lambda: [][1 // 0])


@pytest.mark.parametrize("module", sorted({*commands()} - OF_THE_SERVICE))
def test_commands_tell_mistakes_in_a_sentence(module: str) -> None:
    text = (PROJECT / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8")
    assert text.endswith('if __name__ == "__main__":\n    run_command(main)\n')


def test_every_progress_bar_can_be_switched_off_by_the_environment() -> None:
    # An argument `disable` would win over TQDM_DISABLE, by which task logs are kept readable.
    files = [file for name in PACKAGES for file in (PROJECT / name).rglob("*.py")]
    trees = [(file.name, ast.parse(file.read_text(encoding="utf-8"))) for file in files]
    calls = [(name, node) for name, tree in trees for node in ast.walk(tree) if _is_bar(node)]
    assert calls
    deaf = {name for name, call in calls for word in call.keywords if word.arg == "disable"}
    assert not deaf


def test_a_stage_whose_lake_is_not_there_says_so_without_a_traceback(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "training.phases", "--lake", str(tmp_path / "none")],
        cwd=PROJECT,
        env={**os.environ, "SEGUE_DATA": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("There is no lake at")
    assert done.stderr.count("\n") == 1
