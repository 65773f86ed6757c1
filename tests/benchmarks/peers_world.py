"""Small worlds of plays and questions for the peers' tests."""

import json
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd

from benchmarks.peers.data import DAY, Plays, Query
from benchmarks.peers.export import questions, truth
from features import query as asked
from training.queries import Labelled

T0 = datetime(2014, 5, 1, tzinfo=UTC)


def plays(sessions, songs, users=None):
    """Return plays of sessions [[song, ...], ...], one a day, numbered by time.

    `users` says who heard each session; without it each has its own listener.
    """
    users = list(range(len(sessions))) if users is None else users
    rows = [
        (song, users[code], code, code * DAY + 60 * place)
        for code, session in enumerate(sessions)
        for place, song in enumerate(session)
    ]
    song, user, session, ts = (np.array(column) for column in zip(*rows, strict=True))
    return Plays(song, user, session, ts.astype(float), songs, max(users) + 1, len(sessions))


def query(session, history=(), ts=100 * DAY, user=-1):
    """Return a question; the history was heard one day apart, each song once, latest first."""
    last = ts - DAY * np.arange(1, len(history) + 1)
    return Query(
        ts, user, np.array(session, int), np.array(history, int), last, np.ones(len(history))
    )


def random_sessions(seed, count=60, songs=25):
    """Return sessions of 1 to 9 songs, which may repeat."""
    random = np.random.default_rng(seed)
    return [random.integers(0, songs, random.integers(1, 10)).tolist() for _ in range(count)]


def listed(tops, row=0):
    """Return the songs of one query."""
    songs = tops.songs[row]
    return songs[songs >= 0].tolist()


def labelled(number, session, answer, rest, user=None):
    return Labelled(
        query_id=f"q{number}",
        user_id="u0",
        query=asked.Query(T0, user or {}, tuple(asked.SessionEvent(song) for song in session)),
        place=len(session),
        answer=answer,
        outcome="neutral",
        rest=rest,
        rest_outcomes=("neutral",) * len(rest),
    )


def heard(*sessions):
    rows = [
        (f"u{code}", song, f"x{code}", T0 + timedelta(days=code, minutes=place), 100.0)
        for code, session in enumerate(sessions)
        for place, song in enumerate(session)
    ]
    columns = ["user_id", "song_id", "session_id", "ts", "seconds"]
    return pd.DataFrame(rows, columns=columns).astype({"ts": "datetime64[us, UTC]"})


def write_cut(folder):
    """Write an exported cut of a few sessions and return its folder."""
    for phase in ("labels", "test"):
        folder.truth(phase).parent.mkdir(parents=True, exist_ok=True)
    frame = heard(["a", "b"], ["a", "b"], ["c", "d"])
    queries = [labelled(0, ["a"], "b", ("b",)), labelled(1, [], "c", ("c", "d"))]
    for phase, fit in (("labels", "history"), ("test", "all")):
        frame.to_parquet(folder.plays(fit))
        known = questions(queries)
        known["ts"] = pd.to_datetime(known["ts"]).astype("datetime64[us, UTC]")
        known.to_parquet(folder.queries(phase))
        truth(queries, frame).to_parquet(folder.truth(phase))
    folder.manifest.write_text(json.dumps({"as_of": "2014-12-31T00:00:00+00:00"}))
    return folder
