"""What the generators learn from: plays that were not skipped, and how much each still counts."""

from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from features.catalogue import FloatArray
from features.columns import Action, Event, Song, User
from features.dayparts import local_daypart
from features.lake import read_events, read_users
from features.mistakes import Mistake
from features.times import DAY_SECONDS, SECOND_US

DAYPART = "daypart"


def read_plays(lake: Path, until: datetime, song_ids: NDArray[np.str_]) -> pd.DataFrame:
    """Return plays that were not skipped: ts, user, session code, song index, local daypart.

    Sorted by session and time; session codes ascend with the sessions' last plays.

    Raises
    ------
    Mistake
        If there is none.
    """
    columns = [Event.TS, Event.SESSION, Event.USER, Event.SONG, Event.ACTION]
    events = read_events(lake, until=until, columns=columns, known_by=until)
    plays = events[events[Event.ACTION] == Action.PLAY].drop(columns=Event.ACTION)
    index = pd.Index(song_ids).get_indexer(pd.Index(plays[Event.SONG]))
    plays = plays.assign(**{Song.ID: index})[index >= 0]
    if plays.empty:
        raise Mistake(
            f"{lake} has no play before {until.isoformat()} that was not skipped, of its "
            f"{len(events):,} events by then; there is nothing to learn from. Give more data, or "
            "change `phases` in params.yaml."
        )
    ends = plays.groupby(Event.SESSION)[Event.TS].max().sort_values(kind="stable")
    codes = pd.Series(np.arange(len(ends)), index=ends.index)
    plays = plays.assign(**{Event.SESSION: plays[Event.SESSION].map(codes).to_numpy()})
    seconds = plays[Event.TS].astype("int64") // SECOND_US
    offsets = read_users(lake).set_index(User.ID)[User.UTC_OFFSET]
    offset = plays[Event.USER].map(offsets).fillna(0).astype("int64")
    plays = plays.assign(**{DAYPART: local_daypart(seconds, offset).to_numpy(dtype=np.int64)})
    return plays.sort_values([Event.SESSION, Event.TS], kind="stable", ignore_index=True)


def recency(ts: pd.Series, until: datetime, half_life_days: float) -> FloatArray:
    """Return 0.5^(age / half-life) of each moment, 1 at `until`."""
    age = (pd.Timestamp(until) - ts).dt.total_seconds().to_numpy() / DAY_SECONDS
    return np.asarray(0.5 ** (age / half_life_days), dtype=np.float32)


def session_recency(plays: pd.DataFrame, until: datetime, half_life_days: float) -> FloatArray:
    """Return each session's weight by its last play, in order of the sessions' codes."""
    return recency(plays.groupby(Event.SESSION)[Event.TS].max(), until, half_life_days)


def session_songs(plays: pd.DataFrame, n: int) -> csr_matrix:
    """Return 1 where a session holds a song; sessions in order of their code."""
    sessions = plays[Event.SESSION].to_numpy()
    shape = (int(sessions.max(initial=-1)) + 1, n)
    ones = np.ones(len(plays), dtype=np.float32)
    matrix = csr_matrix((ones, (sessions, plays[Song.ID].to_numpy())), shape=shape)
    matrix.sum_duplicates()
    matrix.data[:] = 1
    return matrix


def listener_songs(plays: pd.DataFrame, weight: FloatArray, n: int) -> csr_matrix:
    """Return listeners by songs, in ascending order of user id: the plays' weights, at most 1."""
    codes, names = pd.factorize(plays[Event.USER], sort=True)
    matrix = csr_matrix((weight, (codes, plays[Song.ID].to_numpy())), shape=(len(names), n))
    matrix.sum_duplicates()
    matrix.data = np.minimum(matrix.data, 1)
    return matrix
