"""Set keys of params.yaml from the command line, keeping its comments.

Example: `python -m training.set_params source.name=30music source.path=plays.csv.gz`
"""

import argparse
import io
from collections.abc import Collection, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import yaml
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from features.mistakes import Mistake, run_command
from features.params import Source, load_params
from features.paths import PROJECT

# Where the stage `simulate` writes.
SIMULATED = "data/raw/simulated"


def set_key(document: dict[str, Any], key: str, value: object) -> None:
    """Set a dotted key that exists.

    Raises
    ------
    KeyError
        If there is no such key.
    """
    *parents, leaf = key.split(".")
    section: Any = document
    for parent in parents:
        section = section.get(parent) if isinstance(section, dict) else None
    if not isinstance(section, dict) or leaf not in section:
        known = sorted(section if isinstance(section, dict) else document)
        raise KeyError(f"params.yaml has no key `{key}`; it knows {known} there.")
    section[leaf] = value


def parsed(text: str) -> object:
    """Return what YAML makes of a value; a moment stays text, which is all that DVC can hash.

    So does text that YAML would end at a comment.

    Examples
    --------
    >>> parsed("0.5"), parsed("2014-11-27T10:00:00Z"), parsed("Music #1"), parsed('"2014"')
    (0.5, '2014-11-27T10:00:00Z', 'Music #1', '2014')
    """
    value = yaml.safe_load(text)
    plain = isinstance(value, str) and not text.startswith(("'", '"'))
    return text if plain or isinstance(value, date) else value


def refuse_nowhere(source: Source, changed: Collection[str], project: Path) -> None:
    """Raise `Mistake` where a source was changed to one whose path leads nowhere from a project.

    The stage `simulate` makes its own.
    """
    path, simulated = project / source.path, source.name == "simulated"
    if not {"source.name", "source.path"} & set(changed) or path.exists():
        return
    if simulated and source.path == SIMULATED:
        return
    hint = f" The simulator writes {SIMULATED}." if simulated else ""
    raise Mistake(f"There is nothing at {path}.{hint}")


def changed(path: Path, assignments: Sequence[tuple[str, str]]) -> str:
    """Return the text of a parameter file with some keys set to values, its comments kept.

    Raises
    ------
    Mistake
        If the file or a value is no YAML, or there is no such key.
    """
    round_trip = YAML()
    round_trip.preserve_quotes = True
    round_trip.width = 200
    try:
        document = round_trip.load(path.read_text(encoding="utf-8"))
    except YAMLError as error:
        raise Mistake(f"{path} is no YAML, mend it: {error}") from error
    for key, value in assignments:
        try:
            set_key(document, key, parsed(value))
        except KeyError as error:
            raise Mistake(f"{path} is as it was. {error.args[0]}") from error
        except yaml.YAMLError as error:
            raise Mistake(
                f"{path} is as it was. The value of `{key}`, {value}, is no YAML; put a text in "
                "quotes of its own."
            ) from error
    buffer = io.StringIO()
    round_trip.dump(document, buffer)
    return buffer.getvalue()


def write_valid(path: Path, text: str, keys: Collection[str]) -> None:
    """Write a parameter file, some keys of which were set, only where it is another text.

    Raises
    ------
    Mistake
        If it is not valid: the file is then as it was.
    """
    trial = path.with_suffix(".new")
    trial.write_text(text, encoding="utf-8")
    try:
        refuse_nowhere(load_params(trial).source, keys, trial.absolute().parent)
    except ValueError as error:
        trial.unlink()
        # What was tried is named as the file that it was to be, on one line.
        told = str(error).replace(str(trial), str(path)).replace("\n", "")
        raise Mistake(f"{path} is as it was. {told}") from error
    if text == path.read_text(encoding="utf-8"):
        trial.unlink()
    else:
        trial.replace(path)


def main() -> None:
    """Change the keys, check the whole file, and write it only where something changed."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("assignments", nargs="+", metavar="KEY=VALUE")
    parser.add_argument("--params", type=Path, default=PROJECT / "params.yaml")
    arguments = parser.parse_args()
    assignments = list[tuple[str, str]]()
    for assignment in arguments.assignments:
        key, equals, value = assignment.partition("=")
        if not equals:
            parser.error(f"{assignment!r} is not KEY=VALUE")
        assignments.append((key, value))
    text = changed(arguments.params, assignments)
    write_valid(arguments.params, text, [key for key, _ in assignments])


if __name__ == "__main__":
    run_command(main)
