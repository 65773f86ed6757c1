"""Methods' own best songs, before any repeat policy, kept for those methods that build on them."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from benchmarks.peers.files import Folder
from benchmarks.peers.ranking import DEPTH, Tops


@dataclass(frozen=True)
class Run:
    """A method's songs for each phase's queries, and how long it took."""

    tops: Mapping[str, Tops]
    fit_seconds: float
    predict_seconds: float


def blank(queries: int) -> Tops:
    """Return empty lists."""
    return Tops(np.full((queries, DEPTH), -1), np.full((queries, DEPTH), np.nan))


def write_tops(folder: Folder, name: str, run: Run) -> None:
    """Keep a method's own lists, for those methods that build on others."""
    for phase, tops in run.tops.items():
        path = folder.tops(name, phase)
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(path, songs=tops.songs.astype(np.int32), scores=tops.scores)


def read_tops(folder: Folder, name: str, phase: str) -> Tops:
    """Read what `write_tops` wrote."""
    with np.load(folder.tops(name, phase)) as kept:
        return Tops(kept["songs"].astype(np.int64), kept["scores"])
