"""A query resolved against a catalogue: everything as dense indices and plain arrays."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.catalogue import Catalogue, FloatArray, IntArray
from features.columns import Action, Song, UserRow
from features.compiled import positive, sum_by_key
from features.params import SIGNALS, SignalName
from features.query import Query, SessionEvent
from features.times import EPOCH, SECOND_US, USUAL_DURATION_MS


@dataclass(frozen=True)
class State:
    """What is known of a listener at the moment of a query.

    `session` and `history` hold dense song indices; the session in order of play, the history
    latest first, without songs that the catalogue lacks. `acted` holds the session's songs once
    each, ascending, those liked or added without a listening among them. `session_values` are
    aligned with `acted`, `history_values` with the history, `skipped` with the session: a song that
    was disliked after it was played counts as skipped. The first `radio` songs of the session are
    what a radio was started from: it continues from them, but they were not played.
    `worked_out` keeps what one part of an answer found for another to use again.
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
    worked_out: dict[Any, Any] = field(default_factory=dict, compare=False, repr=False)

    @property
    def played(self) -> IntArray:
        """The songs of the session that were played."""
        return self.session[self.radio :]

    @cached_property
    def enjoyed(self) -> IntArray:
        """The songs of the session, a radio's too, but for what was skipped or disliked."""
        return self.session[~self.skipped]

    @cached_property
    def course(self) -> IntArray:
        """The session's songs as far as they say what may come next, in order of play.

        All of them, since sequences of known listeners go on from skipped songs, too. None of a
        stranger's who skipped them all: of that listener nothing is known but what they refused.
        """
        refused = self.skipped.all() and not len(self.history)
        return self.session[:0] if refused else self.session

    def seeds(self, count: int, enjoyed_first: bool = False) -> IntArray:
        """Return the songs to continue from, latest first.

        Those of the session, also skipped ones among them, since sequences go on from those, too;
        those of the history where nothing of the session was enjoyed.

        Parameters
        ----------
        enjoyed_first
            Whether the session's skipped songs come last: for what goes by likeness.
        """
        if not len(self.enjoyed):
            return self.history[:count]
        return (self._enjoyed_first if enjoyed_first else self._latest_first)[:count]

    @cached_property
    def _latest_first(self) -> IntArray:
        return self.session[self._radio_turns()] if self.radio else self.session[::-1].copy()

    @cached_property
    def _enjoyed_first(self) -> IntArray:
        skipped = self.skipped[self._radio_turns()] if self.radio else self.skipped[::-1]
        return self._latest_first[np.argsort(skipped, kind="stable")]

    def _radio_turns(self) -> NDArray[np.intp]:
        """Take the latest plays and the radio's songs in turn, so that a radio keeps its course."""
        played = np.arange(self.radio, len(self.session))
        places = np.concatenate([played[::-1], np.arange(self.radio)])
        turns = np.concatenate([np.arange(len(played)), np.arange(self.radio) + 0.5])
        _, first = np.unique(self.session[places], return_index=True)
        first.sort()
        return places[first][np.argsort(turns[first], kind="stable")]

    def observed(self, signal: SignalName) -> tuple[IntArray, FloatArray]:
        """Return songs and values of one signal, history and session together, values > 0."""
        values, more = self.history_values[signal], self.session_values[signal]
        found: tuple[IntArray, FloatArray] = positive(self.history, values, self.acted, more)
        return found

    def observed_net(self, signal: SignalName, skip_weight: float) -> tuple[IntArray, FloatArray]:
        """Return songs once each, ascending, and a signal's values less the skips' share of them.

        Below 0 is an observed zero; songs at exactly 0 are left out.
        """
        songs, values = self.observed(signal)
        skipped, missed = self.observed("skip")
        songs = np.concatenate([songs, skipped])
        unique, net = sum_by_key(songs, np.concatenate([values, -skip_weight * missed]))
        keep = net != 0
        return unique[keep], net[keep]


def resolve(query: Query, songs: Catalogue) -> State:
    """Look the query's songs up and value its session by the signals' definitions."""
    heard = query.user.get(UserRow.HISTORY_SONGS)
    asked = [event.song_id for event in query.session]
    found = songs.indices(asked if heard is None else [*asked, *heard])
    session, history = found[: len(asked)], found[len(asked) :]
    kept = history >= 0
    history = history[kept]
    return State(
        query=query,
        ts_us=query.ts_us,
        history=history,
        history_last_us=_array(query.user, UserRow.HISTORY_LAST_TS, kept, np.int64) * SECOND_US,
        history_values={
            name: _unless(
                history,
                _decided(query.session, session, name),
                _array(query.user, UserRow.HISTORY_VALUES[name], kept, np.float32),
            )
            for name in SIGNALS
        },
        **_session(query.session, session, songs),
    )


def nobody(songs: Catalogue) -> State:
    """Return the state of an unknown listener who played nothing, at the earliest moment."""
    return resolve(Query(ts=EPOCH), songs)


def _session(
    events: tuple[SessionEvent, ...], places: IntArray, songs: Catalogue
) -> dict[str, Any]:
    """Return the parts of a state that come from the session; `places` are its songs' indices.

    A session is short: loops over lists take less time here than arrays do.
    """
    # An unknown song takes another's length here, and is left out below.
    values = session_values(events, songs.numbers[Song.DURATION_MS][places])
    songs_of = places.tolist()
    pairs = list(zip(songs_of, events, strict=True))
    acted = sorted({song for song in songs_of if song >= 0})
    place_of = {song: place for place, song in enumerate(acted)}
    played, skipped = _listenings(pairs)
    return {
        "session": np.array(played, dtype=np.int32),
        "skipped": np.array(skipped, dtype=np.bool_),
        "acted": np.array(acted, dtype=np.int32),
        "session_values": {
            name: _added_up(songs_of, values[name].tolist(), place_of) for name in SIGNALS
        },
        "unknown_songs": tuple(event.song_id for song, event in pairs if song < 0),
    }


def _listenings(events: list[tuple[int, SessionEvent]]) -> tuple[list[int], list[bool]]:
    """Return the songs that were listened to, and which of these listenings were of no joy.

    That is a skip, or a play of a song that was disliked afterwards.
    """
    songs, skipped, last = list[int](), list[bool](), dict[int, int]()
    for song, event in events:
        if song >= 0 and event.action in Action.LISTENINGS:
            last[song] = len(songs)
            songs.append(song)
            skipped.append(event.action == Action.SKIP)
        elif event.action == Action.DISLIKE and song in last:
            skipped[last[song]] = True
    return songs, skipped


def _added_up(songs: list[int], values: list[float], place_of: Mapping[int, int]) -> FloatArray:
    """Return the sum of each song's values at its place."""
    total = [0.0] * len(place_of)
    for song, value in zip(songs, values, strict=True):
        if song >= 0:
            total[place_of[song]] += value
    return np.array(total, dtype=np.float32)


def session_values(
    events: tuple[SessionEvent, ...], duration_ms: FloatArray
) -> dict[SignalName, FloatArray]:
    """Value each event of a running session as `features.signals` values it offline.

    `duration_ms` is aligned with the events, NaN where unknown.
    """
    heard, missed = [], []
    for event, duration in zip(events, duration_ms.tolist(), strict=True):
        share, lost = _listened(event, duration)
        heard.append(share)
        missed.append(lost)
    return {
        "like": _standing(events, "like"),
        "playlist": _standing(events, "playlist"),
        "skip": np.array(missed, dtype=np.float32),
        "listen": np.array(heard, dtype=np.float32),
    }


def _listened(event: SessionEvent, duration: float) -> tuple[float, float]:
    """Return the share of the song that was heard, and the share that was missed."""
    if event.action not in Action.LISTENINGS:
        return 0.0, 0.0
    known = duration > 0
    if event.played_ms is None:
        heard = float(event.action == Action.PLAY)
    else:
        heard = min(event.played_ms / (duration if known else USUAL_DURATION_MS), 1.0)
    if known and event.played_ms is not None:
        return heard, 1.0 - heard
    return heard, float(event.action == Action.SKIP)


def _standing(events: tuple[SessionEvent, ...], signal: str) -> FloatArray:
    """Return 1 at each song's latest setting that nothing cancelled, else 0."""
    setter, cancellers = Action.STATES[signal]
    values = np.zeros(len(events), dtype=np.float32)
    place_of: dict[str, int] = {}
    for place, event in enumerate(events):
        if event.action == setter:
            place_of[event.song_id] = place
        elif event.action in cancellers:
            place_of.pop(event.song_id, None)
    if place_of:
        values[list(place_of.values())] = 1
    return values


def _decided(events: tuple[SessionEvent, ...], songs: IntArray, signal: str) -> IntArray:
    """Return the songs whose 0/1 signal the session set or cancelled: its word is the newer."""
    if signal not in Action.STATES:
        return songs[:0]
    setter, cancellers = Action.STATES[signal]
    words = (setter, *cancellers)
    places = [place for place, event in enumerate(events) if event.action in words]
    return songs[places] if places else songs[:0]


def _unless(songs: IntArray, decided: IntArray, values: FloatArray) -> FloatArray:
    """Return the values, zero for songs that were decided anew."""
    return np.where(np.isin(songs, decided), np.float32(0), values) if len(decided) else values


def _array(row: Mapping[str, Any], name: str, kept: NDArray[np.bool_], dtype: type) -> NDArray[Any]:
    """Return an aligned list as an array; an absent signal becomes zeros."""
    values = row.get(name)
    if values is None or not len(values):
        return np.zeros(np.count_nonzero(kept), dtype=dtype)
    array: NDArray[Any] = np.asarray(values, dtype=dtype)[kept]
    # Bad numbers become zero here, infinite ones the largest there are.
    return array if dtype is np.int64 or np.isfinite(array).all() else np.nan_to_num(array)
