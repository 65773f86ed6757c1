"""What holds of every command: its files lie where `SEGUE_DATA` says."""

import argparse
import importlib
from pathlib import Path

import pytest

from features.paths import PROJECT

PACKAGES = ("features", "serving", "training", "simulation", "benchmarks")
# Theirs is an environment of its own; nothing they read lies in the data folder.
ELSEWHERE = {"benchmarks.peers.run", "benchmarks.peers.tune"}


def commands() -> list[str]:
    """Return the modules that can be run and take arguments."""
    found = []
    for path in sorted(file for name in PACKAGES for file in (PROJECT / name).rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        module = ".".join(path.relative_to(PROJECT).with_suffix("").parts)
        if "argparse.ArgumentParser(" in text and "def main(" in text and module not in ELSEWHERE:
            found.append(module)
    return found


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
