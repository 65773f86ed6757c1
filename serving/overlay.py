"""What a listener did since their features were computed, laid over them. Pure functions.

Events of the running session go to the query's session, as in training; all later than what the
feature row knows go to the row's history.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from features.catalogue import FloatArray
from features.columns import Action, UserRow
from features.params import SIGNALS
from features.query import MAX_SESSION, SessionEvent
from features.state import session_values
from features.times import SECOND_US, SESSION_PAUSE, microseconds
from serving.logged import CLOCK_SLACK, Logged

Lengths = Callable[[Sequence[str]], FloatArray]
MICROSECOND: Final = timedelta(microseconds=1)
# A session without a word for longer is over.
RUNNING_US: Final = SESSION_PAUSE // MICROSECOND
_STANDING: Final = (UserRow.HISTORY_LIKE, UserRow.HISTORY_PLAYLIST)
_REFUSALS: Final = (Action.SKIP, Action.DISLIKE)
_CANCELLERS: Final = {action for _, cancel in Action.STATES.values() for action in cancel}


def known_at(events: Sequence[Logged], asked: datetime, now: datetime) -> list[Logged]:
    """Return the events that an answer may know.

    A moment clearly past knows what came before it, as in training. One about now or to come
    knows all up to now and as much more as clocks differ.

    Parameters
    ----------
    asked
        The moment that the answer is for.
    now
        The server's time.
    """
    if is_past(asked, now):
        return [event for event in events if event.ts_us < microseconds(asked)]
    latest = microseconds(now + CLOCK_SLACK)
    return [event for event in events if event.ts_us <= latest]


def is_past(asked: datetime, now: datetime) -> bool:
    """Tell whether a moment is clearly past, by more than clocks differ."""
    return asked < now - CLOCK_SLACK


def row_at(row: Mapping[str, Any], asked_us: int) -> dict[str, Any]:
    """Return a listener's row without the songs of its history that were played since a moment.

    Shares, tastes and counts stay as they were computed.
    """
    found, last = dict(row), row.get(UserRow.LAST_PLAY_TS)
    if last is not None and last == last and last.timestamp() * SECOND_US >= asked_us:
        found[UserRow.LAST_PLAY_TS] = None
    times = _list(row, UserRow.HISTORY_LAST_TS)
    kept = [place for place, seconds in enumerate(times) if seconds * SECOND_US < asked_us]
    if len(kept) < len(times):
        for name in UserRow.HISTORY:
            values = _list(row, name)
            found[name] = [values[place] for place in kept] if values else []
    return found


def running_session(events: Sequence[Logged], named: str | None, now_us: int) -> str | None:
    """Return the session that goes on: the named one, else that of the latest event, if of late.

    Events further ahead than clocks differ say nothing of that.

    Parameters
    ----------
    events
        The listener's latest, in order of time.
    """
    if named is not None:
        return named
    ahead = now_us + CLOCK_SLACK // MICROSECOND
    last = next((event for event in reversed(events) if event.ts_us <= ahead), None)
    return last.session_id if last and now_us - last.ts_us <= RUNNING_US else None


def merged(logged: Sequence[Logged], said: Sequence[SessionEvent]) -> tuple[SessionEvent, ...]:
    """Return the running session from what the log has and what the request says.

    A request that says all that is logged, or more, is taken at its word. Otherwise the log's
    events come first and those that only the request has follow. Two events are the same if song
    and action are; the latest 500 are kept.
    """
    if not logged:
        return tuple(said)
    waiting: dict[tuple[str, str], int] = {}
    for event in logged:
        key = (event.song_id, event.action)
        waiting[key] = waiting.get(key, 0) + 1
    unlogged = []
    for one in said:
        key = (one.song_id, one.action)
        if waiting.get(key, 0):
            waiting[key] -= 1
        else:
            unlogged.append(one)
    if not any(waiting.values()):
        return tuple(said)
    return (*(session_event(event) for event in logged), *unlogged)[-MAX_SESSION:]


def session_event(event: Logged) -> SessionEvent:
    """Return a logged event as a query holds it."""
    return SessionEvent(event.song_id, event.action, event.played_ms)


def refused_songs(session: Sequence[SessionEvent]) -> frozenset[str]:
    """Return the songs that a session skipped or disliked: they do not come back in it."""
    return frozenset(event.song_id for event in session if event.action in _REFUSALS)


def newer(row: Mapping[str, Any], events: Sequence[Logged]) -> list[Logged]:
    """Return the events later than the newest one that the row's history knows.

    A row's times are whole seconds: what came within the row's last second counts as known.
    """
    known = row.get(UserRow.HISTORY_LAST_TS)
    horizon = max(known) if known is not None and len(known) else -1
    return [event for event in events if event.ts_us // SECOND_US > horizon]


def caught_up(
    row: Mapping[str, Any],
    events: Sequence[Logged],
    running: str | None,
    lengths: Lengths,
    now_us: int,
    length: int,
) -> dict[str, Any]:
    """Return the row with what it does not know yet of the listener's events, see `overlay`.

    Parameters
    ----------
    events
        The listener's latest, in order of time.
    running
        The session that goes on: its events are no history.
    """
    others = [event for event in events if event.session_id != running]
    return overlay(row, newer(row, others), lengths, now_us, length)


def overlay(
    row: Mapping[str, Any], events: Sequence[Logged], lengths: Lengths, now_us: int, length: int
) -> dict[str, Any]:
    """Return the row with its history as if it had been computed after these events.

    Values are those of `features.signals`, at the weight of this moment. What changes slowly
    (tastes, shares, counts) stays as it was computed.

    Parameters
    ----------
    row
        A listener's features; empty for an unknown listener.
    events
        Later than the row, in order of time, of other sessions than the running one.
    lengths
        Returns how long songs last, in ms, NaN where that is unknown.
    length
        How many songs a history holds, `features.history_songs` of the bundle's parameters.
    """
    if not events:
        return dict(row)
    # Of two at the same moment the cancellation wins: as in `features.signals`.
    events = sorted(events, key=lambda event: (event.ts_us, event.action in _CANCELLERS))
    history = _History(row, length)
    actions = tuple(session_event(event) for event in events)
    values = session_values(actions, lengths([event.song_id for event in events]))
    for place, event in enumerate(events):
        seconds = min(event.ts_us, now_us) // SECOND_US
        history.add(event, seconds, {name: float(values[name][place]) for name in SIGNALS})
    played = [min(e.ts_us, now_us) for e in events if e.action in Action.LISTENINGS]
    last = {UserRow.LAST_PLAY_TS: datetime.fromtimestamp(max(played) / 1e6, UTC)} if played else {}
    return {**row, **history.columns(), **last}


class _History:
    """A row's history by song, to be added to."""

    def __init__(self, row: Mapping[str, Any], length: int) -> None:
        songs = _list(row, UserRow.HISTORY_SONGS)
        names = (UserRow.HISTORY_LAST_TS, UserRow.HISTORY_PLAYS, *UserRow.HISTORY_VALUES.values())
        columns = {name: _list(row, name) or [0] * len(songs) for name in names}
        self.length = length
        self.rows: dict[str, dict[str, float]] = {
            song: {name: columns[name][i] for name in names} for i, song in enumerate(songs)
        }
        self.names = names
        # When songs were touched by what was added: a row has whole seconds only.
        self.touched: dict[str, int] = {}

    def add(self, event: Logged, seconds: int, values: Mapping[str, float]) -> None:
        """Add one event; later ones must come later."""
        if event.action in Action.TOUCHES:
            self.rows.setdefault(event.song_id, dict.fromkeys(self.names, 0.0))
            self.rows[event.song_id][UserRow.HISTORY_LAST_TS] = seconds
            self.touched[event.song_id] = event.ts_us
        cells = self.rows.get(event.song_id)
        if cells is None:
            return
        cells[UserRow.HISTORY_PLAYS] += event.action in Action.LISTENINGS
        for signal, column in UserRow.HISTORY_VALUES.items():
            setter, cancellers = Action.STATES.get(signal, ("", ()))
            if not setter:
                cells[column] += values[signal]
            elif event.action in (setter, *cancellers):
                cells[column] = float(event.action == setter)

    def columns(self) -> dict[str, list[Any]]:
        """Return the history as aligned lists, latest first."""
        order = sorted(self.rows, key=self._recency)
        kept = _with_place([(song, self.rows[song]) for song in order], self.length)
        return {
            UserRow.HISTORY_SONGS: [song for song, _ in kept],
            **{name: [cells[name] for _, cells in kept] for name in self.names},
        }

    def _recency(self, song: str) -> tuple[float, int, str]:
        """Return what to sort by, as `features.users.history` does; the row's own keep their order.

        A batch of events may lie within one second.
        """
        seconds, touched = self.rows[song][UserRow.HISTORY_LAST_TS], self.touched.get(song)
        return (-seconds, 0, "") if touched is None else (-seconds, -touched, song)


def _with_place(
    order: Sequence[tuple[str, dict[str, float]]], length: int
) -> list[tuple[str, dict[str, float]]]:
    """Return which songs stay, by the rule of `features.users.history`, which is SQL.

    The last quarter of the places goes first to songs that stand liked or in a playlist.
    """
    recent = length - length // 4
    rest = range(recent, len(order))
    queue = sorted(rest, key=lambda place: not any(order[place][1][name] > 0 for name in _STANDING))
    return [*order[:recent], *(order[place] for place in sorted(queue[: length - recent]))]


def _list(row: Mapping[str, Any], name: str) -> list[Any]:
    value = row.get(name)
    return [] if value is None else list(value)
