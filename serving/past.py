"""Listeners' rows at moments of the past, as the service would have had them.

The store knows a listener as of its latest snapshot. What came between that and the question, the
service knows from its event log; who asks about the past reads it from the lake.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from features.catalogue import FloatArray
from features.columns import Event, Song, User, UserRow
from features.lake import SESSION_MARK, read_events, read_late, read_songs
from features.query import Row
from features.store import historical_user_rows, snapshot_before
from features.timelines import Timelines, whole_microseconds
from features.times import microseconds
from serving.logged import MOST_RECENT, RECENT, Logged
from serving.overlay import caught_up, running_session

_KINDS: Final = dict.fromkeys(UserRow.HISTORY, np.float32) | {
    UserRow.HISTORY_SONGS: np.object_,
    UserRow.HISTORY_LAST_TS: np.int64,
    UserRow.HISTORY_PLAYS: np.int64,
}


def rows_at(asked: pd.DataFrame, lake: Path, history_songs: int) -> Iterator[Row]:
    """Yield each question's listener row: the store's, and what the lake knew by then laid over.

    Parameters
    ----------
    asked
        user_id, event_timestamp (with a time zone) and session_id: the running session, None where
        it is the listener's latest one, if that goes on still.
    history_songs
        How many songs a history holds.
    """
    if asked.empty:
        return
    rows: list[Any] = historical_user_rows(asked[[User.ID, UserRow.TS]]).to_dict("records")
    log = Past.read(lake, asked)
    durations = read_songs(lake).set_index(Song.ID)[Song.DURATION_MS].astype("float32")

    def lengths(songs: Sequence[str]) -> FloatArray:
        return durations.reindex(list(songs)).to_numpy()

    for row, user, moment, named in zip(
        rows, asked[User.ID], asked[UserRow.TS], asked[Event.SESSION], strict=True
    ):
        asked_us = microseconds(moment.to_pydatetime())
        events = log.recent(user, asked_us)
        running = running_session(events, named_in_lake(named, user, events), asked_us)
        yield with_arrays(caught_up(row, events, running, lengths, asked_us, history_songs))


def named_in_lake(named: str | None, user: str, events: Sequence[Logged]) -> str | None:
    """Return what a session is called in the lake: `<user>/<id>` where others had its id, too."""
    own = f"{user}{SESSION_MARK}{named}"
    return own if any(event.session_id == own for event in events) else named


def with_arrays(row: Row) -> Row:
    """Return a row with its history as arrays, as the store has them.

    Lists of numbers take five times the memory, and long to be sent to other processes.
    """
    return row | {name: np.asarray(row[name], kind) for name, kind in _KINDS.items()}


@dataclass(frozen=True)
class Past:
    """Events of listeners, those of each in order of time: what their event log held.

    `known` (events,) is from when on each could be known, in whole microseconds since 1970.
    """

    events: list[Logged]
    known: NDArray[np.int64]
    timelines: Timelines

    @classmethod
    def read(cls, lake: Path, asked: pd.DataFrame) -> "Past":
        """Read what the store may not know of the listeners of some questions."""
        first, last = asked[UserRow.TS].min(), asked[UserRow.TS].max()
        since = snapshot_before(first.to_pydatetime())
        columns = [Event.USER, *RECENT, Event.RECEIVED]
        found = read_events(lake, since, last.to_pydatetime(), columns)
        if since is not None:
            # The first snapshot does not know what had happened and arrived later, either.
            late = read_late(lake, since, columns)
            found = pd.concat([late, found], ignore_index=True) if len(late) else found
        return cls.of(found[found[Event.USER].isin(asked[User.ID].unique())])

    @classmethod
    def of(cls, events: pd.DataFrame) -> "Past":
        """Take events that are sorted by time."""
        events = events.sort_values(Event.USER, kind="stable", ignore_index=True)
        timelines = Timelines.of(events[Event.USER], events[Event.TS])
        known = whole_microseconds(events[Event.RECEIVED].fillna(events[Event.TS]))
        columns = (events[name] for name in (Event.SONG, Event.ACTION, Event.PLAYED_MS))
        logged = [
            Logged(song, action, None if pd.isna(ms) else int(ms), session, ts)
            for song, action, ms, session, ts in zip(
                *columns, events[Event.SESSION], timelines.times.tolist(), strict=True
            )
        ]
        return cls(logged, known, timelines)

    def recent(self, user: str, before_us: int) -> list[Logged]:
        """Return as many of a listener's latest events before a moment as an answer heeds.

        One that arrived later is not among them.
        """
        happened = self.timelines.before(user, before_us)
        known = happened.start + np.flatnonzero(self.known[happened] < before_us)
        return [self.events[at] for at in known[-MOST_RECENT:]]
