"""What the simulated listeners had heard, liked and added at a moment."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from features.catalogue import IntArray
from features.columns import Action, Event
from features.timelines import Timelines
from features.words import Words
from simulation.memory import RECENT
from training.dataset import utc
from training.queries import Labelled


@dataclass(frozen=True)
class Latest:
    """Listenings by listener and time, to look up what somebody heard last."""

    songs: NDArray[Any]
    timelines: Timelines

    @classmethod
    def of(cls, events: pd.DataFrame) -> "Latest":
        """Read events (user_id, ts, event_id, song_id, action)."""
        heard = events[events[Event.ACTION].isin(Action.LISTENINGS)]
        heard = heard.sort_values([Event.USER, Event.TS, Event.ID], ignore_index=True)
        timelines = Timelines.of(heard[Event.USER], heard[Event.TS])
        return cls(heard[Event.SONG].to_numpy(), timelines)

    def heard_by(self, labelled: Labelled) -> NDArray[Any]:
        """Return the songs of all listenings of a query's listener before its moment."""
        return self.songs[self.timelines.before(labelled.user_id, labelled.query.ts_us)]

    def before(self, labelled: Labelled) -> NDArray[Any]:
        """Return the songs of the latest RECENT of them."""
        return self.heard_by(labelled)[-RECENT:]


@dataclass(frozen=True)
class Held:
    """Which songs a listener has liked (or added) and not taken back, by moment.

    `changes` holds times and whether the song is held from then on, by (listener, song).
    """

    changes: Mapping[tuple[str, str], list[tuple[np.datetime64, bool]]]

    @classmethod
    def of(cls, events: pd.DataFrame, given: str, taken: str) -> "Held":
        """Read events (user_id, ts, event_id, song_id, action)."""
        rows = events[events[Event.ACTION].isin([given, taken])]
        rows = rows.sort_values([Event.TS, Event.ID])
        changes: dict[tuple[str, str], list[tuple[np.datetime64, bool]]] = {}
        held = rows[Event.ACTION] == given
        columns = zip(rows[Event.USER], rows[Event.SONG], naive(rows[Event.TS]), held, strict=True)
        for user, song, moment, on in columns:
            changes.setdefault((user, song), []).append((moment, bool(on)))
        return cls(changes)

    def at(self, user: str, song: str, moment: np.datetime64) -> bool:
        """Tell whether the listener holds the song just before a moment."""
        earlier = [on for when, on in self.changes.get((user, song), ()) if when < moment]
        return bool(earlier) and earlier[-1]


def not_held(
    held: Held, queries: Sequence[Labelled], ids: Words, songs: IntArray
) -> NDArray[np.bool_]:
    """Mark the songs, (queries, k), that the query's listener does not hold yet."""
    return np.array(
        [
            [not held.at(labelled.user_id, str(ids[song]), utc(labelled.query.ts)) for song in row]
            for labelled, row in zip(queries, songs, strict=True)
        ]
    )


def naive(times: pd.Series) -> NDArray[np.datetime64]:
    """Return moments in UTC as numpy keeps them."""
    return times.dt.tz_convert("UTC").dt.tz_localize(None).to_numpy(dtype="datetime64[us]")


def fatigue(latest: Sequence[NDArray[Any]], songs: NDArray[Any]) -> NDArray[np.int64]:
    """Return how often each song, (queries, k), is among that query's latest listenings."""
    pairs = zip(latest, songs, strict=True)
    return np.stack([(heard[:, None] == row[None, :]).sum(axis=0) for heard, row in pairs])
