"""A query resolved against a catalogue: everything as dense indices and plain arrays."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.catalogue import Catalogue, FloatArray, IntArray
from features.columns import Action, Song, UserRow
from features.params import SIGNALS, SignalName
from features.query import Query, SessionEvent

HISTORY_COLUMN: dict[SignalName, str] = {
    "like": UserRow.HISTORY_LIKE,
    "playlist": UserRow.HISTORY_PLAYLIST,
    "skip": UserRow.HISTORY_SKIP,
    "listen": UserRow.HISTORY_LISTEN,
}
USUAL_SONG_MS = 240_000
SECOND_US = 1_000_000


@dataclass(frozen=True)
class State:
    """What is known of a listener at the moment of a query.

    `session` and `history` hold dense song indices; the session in order of play, the history
    latest first, without songs that the catalogue lacks. `acted` holds the session's songs once
    each, ascending, those liked or added without a listening among them. `session_values` are
    aligned with `acted`, `history_values` with the history. The first `radio` songs of the session
    are what a radio was started from: it continues from them, but they were not played.
    """

    query: Query
    ts_us: int
    session: IntArray
    acted: IntArray
    session_values: dict[SignalName, FloatArray]
    skipped: NDArray[np.bool_]
    history: IntArray
    history_last_us: NDArray[np.int64]
    history_values: dict[SignalName, FloatArray]
    unknown_songs: tuple[str, ...]
    radio: int = 0

    @property
    def played(self) -> IntArray:
        """The songs of the session that were played."""
        return self.session[self.radio :]

    def seeds(self, count: int) -> IntArray:
        """Return the songs to continue from, latest first: the session's, else the history's."""
        if self.radio:
            return self._radio_seeds()[:count]
        if len(self.session):
            return self.session[::-1][:count]
        return self.history[:count]

    def _radio_seeds(self) -> IntArray:
        """Take the latest plays and the radio's songs in turn, so that a radio keeps its course."""
        turns = np.concatenate([np.arange(len(self.played)), np.arange(self.radio) + 0.5])
        songs = np.concatenate([self.played[::-1], self.session[: self.radio]])
        _, first = np.unique(songs, return_index=True)
        first.sort()
        return songs[first][np.argsort(turns[first], kind="stable")]

    def observed(self, signal: SignalName) -> tuple[IntArray, FloatArray]:
        """Return songs and values of one signal, history and session together, values > 0."""
        songs = np.concatenate([self.history, self.acted])
        values = np.concatenate([self.history_values[signal], self.session_values[signal]])
        return songs[values > 0], values[values > 0]

    def observed_net(self, signal: SignalName, skip_weight: float) -> tuple[IntArray, FloatArray]:
        """Return songs once each, ascending, and a signal's values less the skips' share of them.

        Below 0 is an observed zero; songs at exactly 0 are left out.
        """
        songs, values = self.observed(signal)
        skipped, missed = self.observed("skip")
        unique, place = np.unique(np.concatenate([songs, skipped]), return_inverse=True)
        net = np.bincount(place, np.concatenate([values, -skip_weight * missed]), len(unique))
        keep = net != 0
        return unique[keep], net[keep].astype(np.float32)


def resolve(query: Query, songs: Catalogue) -> State:
    """Look the query's songs up and value its session by the signals' definitions."""
    session = songs.indices([event.song_id for event in query.session])
    known = session >= 0
    duration = np.where(known, songs.numbers[Song.DURATION_MS][session], np.nan)
    values = session_values(query.session, duration)
    history = songs.indices(_list(query.user, UserRow.HISTORY_SONGS))
    kept = history >= 0
    listening = np.array([e.action in Action.LISTENINGS for e in query.session], dtype=np.bool_)
    played = known & listening
    acted, place = np.unique(session[known], return_inverse=True)
    return State(
        query=query,
        ts_us=int(query.ts.timestamp() * SECOND_US),
        session=session[played],
        acted=acted,
        session_values={
            name: np.bincount(place, values[name][known], len(acted)).astype(np.float32)
            for name in SIGNALS
        },
        skipped=np.array([e.action == Action.SKIP for e in query.session], dtype=np.bool_)[played],
        history=history[kept],
        history_last_us=_array(query.user, UserRow.HISTORY_LAST_TS, kept, np.int64) * SECOND_US,
        history_values={
            name: _unless(
                history[kept],
                _decided(query.session, session, name),
                _array(query.user, column, kept, np.float32),
            )
            for name, column in HISTORY_COLUMN.items()
        },
        unknown_songs=tuple(
            event.song_id for event, ok in zip(query.session, known, strict=True) if not ok
        ),
    )


def session_values(
    events: tuple[SessionEvent, ...], duration_ms: FloatArray
) -> dict[SignalName, FloatArray]:
    """Value each event of a running session as `features.signals` values it offline.

    `duration_ms` is aligned with the events, NaN where unknown.
    """
    skipped = np.array([event.action == Action.SKIP for event in events], dtype=np.bool_)
    started = np.array([event.action == Action.PLAY for event in events], dtype=np.bool_)
    played = np.array(
        [np.nan if e.played_ms is None else e.played_ms for e in events], dtype=np.float32
    )
    listening = skipped | started
    heard = played / np.where(np.isnan(duration_ms), USUAL_SONG_MS, duration_ms)
    heard = np.minimum(np.where(np.isnan(heard), started, heard), 1.0)
    exact = ~np.isnan(duration_ms) & ~np.isnan(played)
    missed = np.where(exact, 1.0 - heard, skipped)
    return {
        "like": _standing(events, "like"),
        "playlist": _standing(events, "playlist"),
        "skip": np.where(listening, missed, 0.0).astype(np.float32),
        "listen": np.where(listening, heard, 0.0).astype(np.float32),
    }


def _standing(events: tuple[SessionEvent, ...], signal: str) -> FloatArray:
    """Return 1 at each song's latest setting that nothing cancelled, else 0."""
    setter, cancellers = Action.STATES[signal]
    place_of: dict[str, int] = {}
    for place, event in enumerate(events):
        if event.action == setter:
            place_of[event.song_id] = place
        elif event.action in cancellers:
            place_of.pop(event.song_id, None)
    values = np.zeros(len(events), dtype=np.float32)
    values[list(place_of.values())] = 1
    return values


def _decided(events: tuple[SessionEvent, ...], songs: IntArray, signal: str) -> IntArray:
    """Return the songs whose 0/1 signal the session set or cancelled: its word is the newer."""
    setter, cancellers = Action.STATES.get(signal, ("", ()))
    return songs[[event.action in (setter, *cancellers) for event in events]]


def _unless(songs: IntArray, decided: IntArray, values: FloatArray) -> FloatArray:
    """Return the values, zero for songs that were decided anew."""
    return np.where(np.isin(songs, decided), np.float32(0), values) if len(decided) else values


def _list(row: Mapping[str, Any], name: str) -> list[Any]:
    value = row.get(name)
    return [] if value is None else list(value)


def _array(row: Mapping[str, Any], name: str, kept: NDArray[np.bool_], dtype: type) -> NDArray[Any]:
    """Return an aligned list as an array; an absent signal becomes zeros."""
    values = _list(row, name)
    array: NDArray[Any] = (
        np.asarray(values, dtype=dtype) if values else np.zeros(len(kept), dtype=dtype)
    )
    # Bad numbers become zero here, infinite ones the largest there are.
    return (np.nan_to_num(array) if array.dtype.kind == "f" else array)[kept]
