"""One small world for all tests of the simulator: two weeks before Christmas."""

from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pandas as pd
import pytest

from features.columns import Action, Event
from simulation.__main__ import simulate
from simulation.memory import RECENT
from simulation.sizes import Size
from simulation.truth import Truth
from simulation.world import World, build_world

SMALL = Size(160, 500, date(2023, 12, 12), 14, 0.9, part_rows=8_000)
SEED = 5


@dataclass(frozen=True)
class Written:
    out: Path
    events: pd.DataFrame
    users: pd.DataFrame
    songs: pd.DataFrame
    truth: Truth


def read_events(out: Path) -> pd.DataFrame:
    parts = sorted((out / "events").glob("part-*.parquet"))
    return pd.concat([pd.read_parquet(part) for part in parts], ignore_index=True)


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    folder = tmp_path_factory.mktemp("simulated")
    simulate(SMALL, SEED, folder / "out", folder / "truth")
    return Written(
        folder / "out",
        read_events(folder / "out"),
        pd.read_parquet(folder / "out" / "users.parquet"),
        pd.read_parquet(folder / "out" / "songs.parquet"),
        Truth.load(folder / "truth"),
    )


@pytest.fixture(scope="session")
def world() -> World:
    return build_world(SMALL, SEED)


@pytest.fixture(scope="session")
def listenings(written: Written) -> pd.DataFrame:
    """Return listenings in order, with what the log implies: fatigue, likes, adds."""
    events = written.events
    heard = events[events[Event.ACTION].isin(Action.LISTENINGS)].copy()
    heard["fatigue"] = _plays_among_latest(heard)
    for action in (Action.LIKE, Action.PLAYLIST_ADD):
        acted = events[events[Event.ACTION] == action]
        heard[action] = _brought(heard, acted)
        first = acted.groupby([Event.USER, Event.SONG])[Event.TS].min().rename("first")
        already = heard.join(first, on=[Event.USER, Event.SONG])["first"] < heard[Event.TS]
        heard[f"{action}_before"] = already
    return heard


def _plays_among_latest(heard: pd.DataFrame) -> list[int]:
    latest: dict[str, list[str]] = {}
    counts = []
    for user, song in zip(heard[Event.USER], heard[Event.SONG], strict=True):
        past = latest.setdefault(user, [])
        counts.append(past[-RECENT:].count(song))
        past.append(song)
    return counts


def _brought(heard: pd.DataFrame, acted: pd.DataFrame) -> pd.Series:
    """Tell which listenings an action belongs to: the latest of the song in the session."""
    at = pd.merge_asof(
        acted[[Event.TS, Event.SESSION, Event.SONG]],
        heard[[Event.TS, Event.SESSION, Event.SONG, Event.ID]],
        on=Event.TS,
        by=[Event.SESSION, Event.SONG],
    )
    return heard[Event.ID].isin(at[Event.ID])
