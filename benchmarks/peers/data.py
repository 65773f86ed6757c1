"""Plays and questions as the methods read them: dense indices and plain arrays."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from benchmarks.peers.files import Folder
from training.metrics import NEXT, START, Floats

IntArray = NDArray[np.int64]
DAY = 86_400.0


@dataclass(frozen=True)
class Plays:
    """Listenings by session and time; sessions are numbered in the order of their last play.

    `song`, `user`, `session`, `ts` (seconds since 1970), all of shape (plays,). `songs`, `users`
    and `sessions` say how many there are of each.
    """

    song: IntArray
    user: IntArray
    session: IntArray
    ts: Floats
    songs: int
    users: int
    sessions: int

    @property
    def until(self) -> float:
        """The time of the last play."""
        return float(self.ts.max())

    def recency(self, half_life_days: float) -> Floats:
        """Return 0.5 ** (age / half-life) of each play; an infinite half-life gives ones."""
        weights: Floats = 0.5 ** ((self.until - self.ts) / (half_life_days * DAY))
        return weights

    def matrix(self, rows: str, half_life_days: float = np.inf) -> csr_matrix:
        """Return sessions × songs or listeners × songs with (recency-weighted) counts of plays."""
        row, size = (self.session, self.sessions) if rows == "sessions" else (self.user, self.users)
        values = self.recency(half_life_days)
        return csr_matrix((values, (row, self.song)), shape=(size, self.songs))


@dataclass(frozen=True)
class Query:
    """A question: the songs of the session so far in order, the listener's history latest first.

    Songs that the fit has not seen are left out. `user` is -1 for an unknown listener.
    """

    ts: float
    user: int
    session: IntArray
    history: IntArray
    history_ts: Floats
    history_plays: Floats

    def context(self, fill: int) -> IntArray:
        """Return the session's songs in order, an emptier session preceded by the latest history.

        Examples
        --------
        >>> nothing = np.empty(0)
        >>> Query(0.0, 0, np.array([7]), np.array([3, 2, 1]), nothing, nothing).context(3)
        array([2, 3, 7])
        """
        lacking = max(fill - len(self.session), 0)
        return np.concatenate([self.history[:lacking][::-1], self.session])


@dataclass(frozen=True)
class Cut:
    """Everything that the methods may see of one cut, and the ids behind the indices."""

    song_ids: NDArray[Any]
    history: Plays
    all: Plays
    labels: list[Query]
    test: list[Query]
    label_answers: IntArray
    query_ids: dict[str, list[str]]
    tasks: dict[str, NDArray[Any]]

    def plays(self, phase: str) -> Plays:
        """Return what a fit for the queries of a phase may see."""
        return self.history if phase == "labels" else self.all

    def queries(self, phase: str) -> list[Query]:
        """Return a phase's queries."""
        return self.labels if phase == "labels" else self.test


def encode(frame: pd.DataFrame, songs: pd.Index, users: pd.Index) -> Plays:
    """Return plays of a frame (user_id, song_id, session_id, ts) as dense indices."""
    ended = frame.groupby("session_id", sort=False)["ts"].max()
    order = pd.Index(ended.sort_values(kind="stable").index)
    session = order.get_indexer(pd.Index(frame["session_id"]))
    rows = np.argsort(session, kind="stable")
    return Plays(
        song=songs.get_indexer(pd.Index(frame["song_id"]))[rows],
        user=users.get_indexer(pd.Index(frame["user_id"]))[rows],
        session=session[rows],
        ts=seconds(frame["ts"])[rows],
        songs=len(songs),
        users=len(users),
        sessions=len(order),
    )


def seconds(times: pd.Series) -> Floats:
    """Return moments as seconds since 1970."""
    naive = times.dt.tz_convert("UTC").dt.tz_localize(None).astype("datetime64[us]")
    return naive.to_numpy().astype(np.int64) / 1e6


def encode_queries(frame: pd.DataFrame, songs: pd.Index, users: pd.Index) -> list[Query]:
    """Return questions of a frame as dense indices, without songs that `songs` lacks."""
    found = []
    user = users.get_indexer(pd.Index(frame["user_id"]))
    for row, known, ts in zip(frame.to_dict("records"), user, seconds(frame["ts"]), strict=True):
        session = indices(row["session"], songs)
        history = indices(row["history_songs"], songs)
        kept = history >= 0
        found.append(
            Query(
                ts=float(ts),
                user=int(known),
                session=session[session >= 0],
                history=history[kept],
                history_ts=np.asarray(row["history_last_ts"], dtype=np.float64)[kept],
                history_plays=np.asarray(row["history_plays"], dtype=np.float64)[kept],
            )
        )
    return found


def indices(ids: Iterable[str], songs: pd.Index) -> IntArray:
    """Return the songs' indices, -1 where unknown."""
    found: IntArray = songs.get_indexer(pd.Index(ids, dtype=object)).astype(np.int64)
    return found


def read_cut(folder: Folder) -> Cut:
    """Read what `export` wrote for the methods."""
    frames = {fit: pd.read_parquet(folder.plays(fit)) for fit in ("history", "all")}
    songs = pd.Index(np.sort(frames["all"]["song_id"].unique()), dtype=object)
    users = pd.Index(np.sort(frames["all"]["user_id"].unique()), dtype=object)
    asked = {phase: pd.read_parquet(folder.queries(phase)) for phase in ("labels", "test")}
    return Cut(
        song_ids=songs.to_numpy(),
        history=encode(frames["history"], songs, users),
        all=encode(frames["all"], songs, users),
        labels=encode_queries(asked["labels"], songs, users),
        test=encode_queries(asked["test"], songs, users),
        label_answers=indices(pd.read_parquet(folder.truth("labels"))["answer"], songs),
        query_ids={phase: list(frame["query_id"]) for phase, frame in asked.items()},
        tasks={phase: task_of(frame) for phase, frame in asked.items()},
    )


def task_of(frame: pd.DataFrame) -> NDArray[Any]:
    """Return each query's task: a session without a song yet is a start."""
    return np.where(frame["session"].map(len) > 0, NEXT, START).astype(object)
