"""Listenings in the order of their sessions, with what became of each."""

from pathlib import Path

import numpy as np
import pandas as pd

from features.columns import Action, Event, Song
from features.lake import read_events, read_songs
from training.phases import Phase

PLACE = "place"
OUTCOME = "outcome"
LIKED = "liked"
SKIP = "skip"
OUTCOMES = (SKIP, "neutral", "full", LIKED)
# What each calibrated probability is of.
OUTCOME_OF = {"p_like": LIKED, "p_skip": SKIP}
FULL_SHARE = 0.9
COLUMNS = (
    Event.ID,
    Event.TS,
    Event.USER,
    Event.SONG,
    Event.SESSION,
    Event.ACTION,
    Event.PLAYED_MS,
    Event.REQUEST,
    *Event.CONTEXT,
)


def read_sessions(lake: Path, phase: Phase) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return events and listenings of the sessions that begin in a phase, up to its end."""
    # What arrives after the phase is no label of it yet; but no session begins because of that.
    events = read_events(lake, phase.start, phase.end, COLUMNS, known_by=phase.end)
    before = read_events(lake, None, phase.start, [Event.SESSION])[Event.SESSION].unique()
    inside = events[~events[Event.SESSION].isin(before)]
    inside = inside.sort_values([Event.SESSION, Event.TS], kind="stable", ignore_index=True)
    durations = read_songs(lake).set_index(Song.ID)[Song.DURATION_MS]
    return inside, listenings(inside, durations)


def listenings(events: pd.DataFrame, duration_ms: pd.Series) -> pd.DataFrame:
    """Return one row a listening, sorted by session and time, those of one moment as they come.

    Parameters
    ----------
    events
        Events of whole sessions.
    duration_ms
        Song lengths by song id, NaN where unknown.

    Returns
    -------
    pd.DataFrame
        The events' columns, with `place`: how many of the session's listenings came before that
        moment, `liked` (the song was liked or added in that session, at or after the listening,
        and this was not taken back in it) and `outcome` (see `OUTCOMES`).
    """
    heard = events[events[Event.ACTION].isin(Action.LISTENINGS)]
    heard = heard.sort_values([Event.SESSION, Event.TS], kind="stable", ignore_index=True)
    heard = heard.join(praised(events), on=[Event.SESSION, Event.SONG])
    liked = heard["praised"] >= heard[Event.TS]
    share = heard[Event.PLAYED_MS] / heard[Event.SONG].map(duration_ms)
    outcome = np.select(
        [liked, heard[Event.ACTION] == Action.SKIP, share >= FULL_SHARE],
        [LIKED, SKIP, "full"],
        default="neutral",
    )
    by_session, by_moment = heard.groupby(Event.SESSION), heard.groupby([Event.SESSION, Event.TS])
    # Sources that know times by the minute or the day put several listenings at one moment.
    place = by_session.cumcount() - by_moment.cumcount()
    known = pd.DataFrame({PLACE: place, LIKED: liked, OUTCOME: outcome})
    return pd.concat([heard.drop(columns="praised"), known], axis=1)


def praised(events: pd.DataFrame) -> pd.Series:
    """Return when each song was last liked or added in a session, where it was not taken back."""
    standing = []
    for setter, cancellers in Action.STATES.values():
        last, undone = (
            events[events[Event.ACTION].isin(actions)]
            .groupby([Event.SESSION, Event.SONG])[Event.TS]
            .max()
            for actions in ((setter,), cancellers)
        )
        # Of two at the same moment the later word is not known: as in `features.signals`.
        standing.append(last[~(undone.reindex(last.index) >= last)])
    return pd.concat(standing).groupby(level=[0, 1]).max().rename("praised")
