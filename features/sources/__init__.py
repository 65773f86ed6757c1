"""Where events come from, by the name that `source.name` gives."""

from collections.abc import Callable, Mapping
from pathlib import Path

from features.mistakes import Mistake
from features.sources.batch import Source
from features.sources.files import Files
from features.sources.simulated import open_simulated
from features.sources.thirty_music import ThirtyMusic

Columns = Mapping[str, Mapping[str, str | None]]

SOURCES: dict[str, Callable[[Path, Columns], Source]] = {
    "simulated": lambda path, _: open_simulated(path),
    "30music": lambda path, _: ThirtyMusic(path),
    "files": Files,
}


def open_source(name: str, path: Path, columns: Columns) -> Source:
    """Return the source called `name`; `Mistake` if there is none."""
    if name not in SOURCES:
        raise Mistake(f"There is no source {name!r}; choose one of {sorted(SOURCES)}.")
    return SOURCES[name](path, columns)
