"""A lake of a few hand-written events for the training tests."""

from datetime import timedelta

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from features.columns import Event, Song
from tests.features import worlds

START = worlds.START
DAY, MINUTE, TICK = timedelta(days=1), timedelta(minutes=1), timedelta(microseconds=1)
TEXTS = (Event.REQUEST, *Event.CONTEXT)
SCHEMA = pa.schema([*worlds.EVENTS, *(pa.field(name, pa.string()) for name in TEXTS)])


def event(number, ts, session, song, action="play", *, user="u0", played_ms=None, **context):
    """Return one event; `context` may set the `TEXTS` and received_ts."""
    return {
        **dict.fromkeys(TEXTS),
        "event_id": f"e{number:03d}",
        "ts": ts,
        "user_id": user,
        "song_id": song,
        "session_id": session,
        "action": action,
        "played_ms": played_ms,
        "received_ts": None,
        **context,
    }


def song(song_id, duration_ms=200_000):
    return {**dict.fromkeys(worlds.SONGS.names), "song_id": song_id, "duration_ms": duration_ms}


def user(user_id):
    return {**dict.fromkeys(worlds.USERS.names), "user_id": user_id}


def write_lake(folder, events, users, songs):
    """Write the tables as the lake lays them out, with the columns that `worlds` lacks."""
    by_day = {}
    for item in events:
        by_day.setdefault(item["ts"].date(), []).append(item)
    for day, listed in by_day.items():
        path = folder / "events" / f"date={day}"
        path.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(listed, SCHEMA), path / "part-0.parquet")
    pq.write_table(pa.Table.from_pylist(users, worlds.USERS), folder / "users.parquet")
    pq.write_table(pa.Table.from_pylist(songs, worlds.SONGS), folder / "songs.parquet")


def frame(events):
    """Return events as `read_events` would."""
    table = pd.DataFrame(events)
    return table.astype({Event.TS: "datetime64[us, UTC]", Event.PLAYED_MS: float})


def plays(sessions):
    """Return the frame of `read_plays` from [[(age in days, song index), ...], ...].

    Two listeners take turns at the sessions.
    """
    rows = [
        (START - age * DAY, code, f"u{code % 2}", song_index)
        for code, session in enumerate(sessions)
        for age, song_index in session
    ]
    table = pd.DataFrame(rows, columns=[Event.TS, Event.SESSION, Event.USER, Song.ID])
    return table.astype({Event.TS: "datetime64[us, UTC]", Event.SESSION: int, Song.ID: int})
