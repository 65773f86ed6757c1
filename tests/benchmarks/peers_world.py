"""Small worlds of plays and questions for the peers' tests."""

import numpy as np

from benchmarks.peers.data import DAY, Plays, Query


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
