"""The stages of `dvc.yaml` and the order between them, read without importing DVC.

DAG files are parsed again and again, and importing DVC takes seconds. What is read here is the
part of the format that this project uses: plain stages and `matrix` stages, with `${...}` filled
from the matrix item or from `params.yaml`. Anything else is refused rather than misread.
"""

import posixpath
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import yaml

_TEMPLATE = re.compile(r"\$\{\s*([^}]+?)\s*\}")
_UNKNOWN = ("foreach", "vars", "wdir")


@dataclass(frozen=True)
class Stage:
    """One stage as DVC runs it; a matrix stage gives one for each combination.

    Attributes
    ----------
    name
        What DVC calls it: `snapshots`, `factors@like-labels`.
    group
        Its key in `dvc.yaml`: `factors`.
    deps, outs
        Paths relative to the project.
    open_deps
        Dependencies whose path is a value of `params.yaml`, so that a run may change it.
    """

    name: str
    group: str
    deps: tuple[str, ...]
    open_deps: tuple[str, ...]
    outs: tuple[str, ...]

    @property
    def instance(self) -> str:
        """The part of the name after `@`, empty for a plain stage."""
        return self.name.partition("@")[2]


def read_stages(project: Path) -> list[Stage]:
    """Read the stages of a project's `dvc.yaml`, filled in from its `params.yaml`.

    Raises
    ------
    ValueError
        If `dvc.yaml` uses something that this module does not know.
    """
    document = yaml.safe_load((project / "dvc.yaml").read_text(encoding="utf-8"))
    params = yaml.safe_load((project / "params.yaml").read_text(encoding="utf-8"))
    return expand(document, params)


def expand(document: Mapping[str, Any], params: Mapping[str, Any]) -> list[Stage]:
    """Return one stage for each plain stage and each combination of a matrix, in file order."""
    if "vars" in document:
        raise ValueError("dvc.yaml has `vars`, which dags/dvc_graph.py does not read; use params.")
    return [
        _stage(group, name, definition, item, params)
        for group, definition in document["stages"].items()
        for name, item in _instances(group, definition)
    ]


def upstream(stages: Sequence[Stage]) -> dict[str, set[str]]:
    """Return, for each stage's name, the names of the stages that must run before it.

    An open dependency may be pointed at another stage's output by the very run that is to follow
    this order. It therefore also waits for every stage that stands alone without it, and the
    order does not depend on the values in `params.yaml`.
    """
    before = {stage.name: _feeders(stage.deps, stages) for stage in stages}
    alone = _untied(before) - {stage.name for stage in stages if stage.open_deps}
    for stage in stages:
        if stage.open_deps:
            before[stage.name] |= _feeders(stage.open_deps, stages) | alone
    return before


def with_ancestors(stages: Sequence[Stage], names: Collection[str]) -> list[Stage]:
    """Return the stages named, by name or group, and all that must run before them."""
    before = upstream(stages)
    wanted = {stage.name for stage in stages if {stage.name, stage.group} & set(names)}
    pending = list(wanted)
    while pending:
        found = before[pending.pop()] - wanted
        wanted |= found
        pending.extend(found)
    return [stage for stage in stages if stage.name in wanted]


def isolated(stages: Sequence[Stage]) -> set[str]:
    """Return the names of stages that, as `params.yaml` stands, give to none and take from none."""
    before = {stage.name: _feeders(stage.deps + stage.open_deps, stages) for stage in stages}
    return _untied(before)


def _untied(before: Mapping[str, set[str]]) -> set[str]:
    """Return the names that wait for none and that none waits for."""
    waiting = {name for name, names in before.items() if names}
    return before.keys() - waiting - set().union(*before.values())


def _instances(
    group: str, definition: Mapping[str, Any]
) -> Iterator[tuple[str, Mapping[str, object]]]:
    unknown = [key for key in _UNKNOWN if key in definition]
    if unknown:
        raise ValueError(f"dvc.yaml: stage `{group}` has {unknown}, which dags/dvc_graph.py lacks.")
    if "matrix" not in definition:
        yield group, {}
        return
    matrix: Mapping[str, Sequence[object]] = definition["matrix"]
    for values in product(*matrix.values()):
        if not all(type(value) in (str, int) for value in values):
            raise ValueError(f"dvc.yaml: the matrix of `{group}` may hold text and integers only.")
        yield f"{group}@{'-'.join(map(str, values))}", dict(zip(matrix, values, strict=True))


def _stage(
    group: str,
    name: str,
    definition: Mapping[str, Any],
    item: Mapping[str, object],
    params: Mapping[str, Any],
) -> Stage:
    def fill(paths: list[str], values: Mapping[str, Any]) -> list[str]:
        return [_TEMPLATE.sub(lambda found: _value(found[1], values, name), p) for p in paths]

    values = {**params, "item": item}
    deps = [_path(entry) for entry in definition.get("deps", [])]
    is_open = {d: any(not key.startswith("item.") for key in _TEMPLATE.findall(d)) for d in deps}
    outs = [_path(e) for key in ("outs", "metrics", "plots") for e in definition.get(key, [])]
    return Stage(
        name,
        group,
        deps=_normal(fill([d for d in deps if not is_open[d]], values)),
        open_deps=_normal(fill([d for d in deps if is_open[d]], values)),
        outs=_normal(fill(outs, values)),
    )


def _path(entry: str | Mapping[str, object]) -> str:
    """Return the path of an entry that may carry options, as `{path: {cache: false}}`."""
    return entry if isinstance(entry, str) else next(iter(entry))


def _normal(paths: Sequence[str]) -> tuple[str, ...]:
    return tuple(posixpath.normpath(path) for path in paths)


def _value(key: str, values: Mapping[str, Any], stage: str) -> str:
    value: Any = values
    for part in key.split("."):
        if not isinstance(value, Mapping) or part not in value:
            raise ValueError(
                f"dvc.yaml: stage `{stage}` uses ${{{key}}}, which neither its matrix nor "
                "params.yaml has; add it there."
            )
        value = value[part]
    return str(value)


def _feeders(deps: Sequence[str], stages: Sequence[Stage]) -> set[str]:
    return {s.name for s in stages if any(_overlap(out, dep) for out in s.outs for dep in deps)}


def _overlap(out: str, dep: str) -> bool:
    """Return whether one path is, or lies within, the other."""
    return f"{out}/".startswith(f"{dep}/") or f"{dep}/".startswith(f"{out}/")
