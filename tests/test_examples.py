"""The examples in docstrings are true."""

import doctest
from importlib import import_module

import pytest

from features.paths import PROJECT

FOLDERS = ("dags", "features", "training", "serving", "simulation", "benchmarks")
FILES = [path for name in FOLDERS for path in sorted((PROJECT / name).rglob("*.py"))]
WITH_EXAMPLES = [
    ".".join(path.relative_to(PROJECT).with_suffix("").parts)
    for path in FILES
    if ">>> " in path.read_text(encoding="utf-8")
]


def test_there_are_examples() -> None:
    assert len(WITH_EXAMPLES) > 10


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples_are_true(name: str) -> None:
    found = doctest.testmod(import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert found.attempted > 0
    assert found.failed == 0
