"""What a filled-in trigger form changes in `params.yaml`."""

import json
from collections.abc import Collection, Mapping
from typing import Any


def assignments(answers: Mapping[str, Any]) -> list[str]:
    """Return the changes as arguments of `training.set_params`; what is empty changes nothing.

    Raises
    ------
    ValueError
        If the answers contradict each other.

    Examples
    --------
    >>> assignments({"source": "30music", "path": "plays.csv.gz"})
    ['source.name=30music', 'source.path="plays.csv.gz"']
    """
    as_of, source, path = (answers.get(key) for key in ("as_of", "source", "path"))
    if as_of and answers.get("to_the_end"):
        raise ValueError("The form gives both `as_of` and `to_the_end`; choose one.")
    if source and not path:
        raise ValueError(f"The form names the source {source} without its `path`; give both.")
    changes = {
        "source.name": source,
        # Quoted, so that YAML keeps the text: no date, no number, no comment.
        "source.path": json.dumps(path, ensure_ascii=False) if path else None,
        "phases.as_of": json.dumps(as_of) if as_of else None,
    }
    given = [f"{key}={value}" for key, value in changes.items() if value]
    return [*given, "phases.as_of=null"] if answers.get("to_the_end") else given


def refuse_unknown(answers: Collection[str], known: Collection[str]) -> None:
    """Refuse answers to what a form does not ask, as a REST call may give them.

    Airflow takes them, and would run as if nothing had been asked for.

    Raises
    ------
    ValueError
        If there are some; the message names the form's own.
    """
    if unknown := sorted(set(answers) - set(known)):
        raise ValueError(f"This DAG's form has no {unknown}; it has {sorted(known)}.")
