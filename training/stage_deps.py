"""Keep the code that each stage of dvc.yaml declares in step with what the stage imports.

    python -m training.stage_deps            say which files a stage should and should not name
    python -m training.stage_deps --write    mend dvc.yaml

DVC re-runs a stage when a file it names has changed, and knows nothing of the modules behind it.
"""

import argparse
import ast
import re
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import yaml
from grimp import ImportGraph, build_graph

from features.mistakes import Mistake, run_command
from features.paths import PROJECT

PACKAGES = ("features", "serving", "training", "simulation")
# Named as a whole: their modules are chosen at run time, or belong to one stage only.
FOLDERS = ("features/sources", "simulation")
# What a module reads besides what it imports.
READS = {"features.registered": "features/repo"}

_STAGE = re.compile(r"^  (\w+):\n((?:    .*\n|\n)+)", re.MULTILINE)
_DEPS = re.compile(r"^    deps: \[(.*?)\]\n", re.MULTILINE | re.DOTALL)
_MODULE = re.compile(r"\bpython -m ([\w.]+)")


def import_graph() -> ImportGraph:
    """Return who imports whom among the project's packages, imports within functions too."""
    return build_graph(*PACKAGES, cache_dir=None)


def code_of(command: str, graph: ImportGraph) -> tuple[str, ...]:
    """Return the files and folders of code that a stage's `python -m ...` reads, sorted.

    Raises
    ------
    Mistake
        If the command runs no module of the project.
    """
    found = _MODULE.search(command)
    module = found[1] if found else ""
    if f"{module}.__main__" in graph.modules:
        module = f"{module}.__main__"
    if module not in graph.modules:
        raise Mistake(f"dvc.yaml: `{command}` runs no module of {PACKAGES}; call one.")
    modules = {module, *graph.find_upstream_modules(module)}
    paths = {path for name in modules for path in _files_of(name)}
    return tuple(sorted(paths | {READS[name] for name in modules & set(READS)}))


def is_code(dep: str) -> bool:
    """Return whether a dependency is code of the project, not data."""
    return dep.partition("/")[0] in PACKAGES


def mended(text: str, code: Callable[[str], tuple[str, ...]]) -> str:
    """Return dvc.yaml with every stage's code replaced by `code` of its command."""

    def mend(stage: re.Match[str]) -> str:
        body = yaml.safe_load(textwrap.dedent(stage[2]))
        data = [dep for dep in body["deps"] if not is_code(dep)]
        block = _listed(data, code(body["cmd"]))
        return f"  {stage[1]}:\n" + _DEPS.sub(lambda _: block, stage[2], count=1)

    head, stages, rest = text.partition("\nstages:\n")
    graph, plots, tail = rest.partition("\nplots:\n")
    return head + stages + _STAGE.sub(mend, graph) + plots + tail


def _files_of(module: str) -> list[str]:
    """Return a module's file, and those above it that Python runs first and that do something."""
    parts = module.split(".")
    path = "/".join(parts)
    folder = next((f for f in FOLDERS if f"{path}/".startswith(f"{f}/")), None)
    own = f"{path}/__init__.py" if (PROJECT / path).is_dir() else f"{path}.py"
    above = ["/".join([*parts[:end], "__init__.py"]) for end in range(1, len(parts))]
    return [folder or own, *(init for init in above if not folder and _acts(PROJECT / init))]


def _acts(init: Path) -> bool:
    statements = ast.parse(init.read_text(encoding="utf-8")).body
    return any(not isinstance(statement, ast.Expr) for statement in statements)


def _listed(data: list[str], code: tuple[str, ...]) -> str:
    """Return a `deps` list: the data on the first lines, then a paragraph for each package."""
    groups = [[f'"{dep}"' if "$" in dep else dep for dep in data]]
    groups += [[path for path in code if path.partition("/")[0] == name] for name in PACKAGES]
    lines = [
        textwrap.fill(", ".join(group), 98, break_long_words=False, break_on_hyphens=False)
        for group in groups
        if group
    ]
    return "    deps: [\n" + textwrap.indent(",\n".join(lines), " " * 6) + "]\n"


def differences(text: str, code: Callable[[str], tuple[str, ...]]) -> list[str]:
    """Return a line for each file that a stage lacks or names in vain."""
    lines = []
    for name, stage in yaml.safe_load(text)["stages"].items():
        declared, used = {dep for dep in stage["deps"] if is_code(dep)}, set(code(stage["cmd"]))
        lines += [f"{name}: reads {path}, which it does not name" for path in used - declared]
        lines += [f"{name}: names {path}, which it does not read" for path in declared - used]
    return sorted(lines)


def main() -> None:
    """Report or mend what the stages of dvc.yaml declare."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--write", action="store_true", help="mend dvc.yaml")
    arguments = parser.parse_args()
    path = PROJECT / "dvc.yaml"
    text = path.read_text(encoding="utf-8")
    graph = import_graph()

    def code(command: str) -> tuple[str, ...]:
        return code_of(command, graph)

    found = differences(text, code)
    if arguments.write:
        path.write_text(mended(text, code), encoding="utf-8")
    sys.stdout.write("".join(f"{line}\n" for line in found) or "dvc.yaml names what it reads\n")
    sys.exit(1 if found and not arguments.write else 0)


if __name__ == "__main__":
    run_command(main)
