"""One event as the answers see it, wherever it was kept."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from features.columns import Event

# Clocks differ by so much; what lies further ahead was written by a wrong one.
CLOCK_SLACK: Final = timedelta(minutes=5)
# An answer heeds so many of a listener's latest events; what came before them, only features know.
MOST_RECENT: Final = 256
# What the answers need of an event; the rest is for training.
RECENT: Final = (Event.SONG, Event.ACTION, Event.PLAYED_MS, Event.SESSION, Event.TS)


@dataclass(frozen=True)
class Logged:
    """One event, its columns as in `RECENT`; `ts_us` is in microseconds."""

    song_id: str
    action: str
    played_ms: int | None
    session_id: str
    ts_us: int
