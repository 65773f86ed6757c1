"""Signals: what a listener's events say about a song, as recency-weighted scores.

Four signals, all pure Ibis expressions over the lake's tables (DuckDB here, the same on Spark):

========  ==============================================================================
like      1 at the latest `like`, 0 if an `unlike` or `dislike` followed it before `as_of`
playlist  1 at the latest `playlist_add`, 0 if a `playlist_remove` followed it before `as_of`
skip      a listening's share of the song not heard; if the duration is unknown, 1 for a
          `skip` and no value for a `play`
listen    a listening's share of the song heard; if the duration is unknown, the share of
          four minutes; if the time played is unknown, 1 for a `play` and 0 for a `skip`
========  ==============================================================================
"""

from datetime import datetime, timedelta

import ibis
import ibis.expr.types as ir

from features.columns import Action, Event, Song
from features.params import SignalName
from features.times import DAY_SECONDS, USUAL_DURATION_MS

VALUE = "value"


def utc(moment: datetime) -> ir.TimestampScalar:
    """Return an aware moment as an Ibis literal.

    Raises
    ------
    ValueError
        If the moment has no time zone.
    """
    if moment.tzinfo is None:
        raise ValueError(f"The moment {moment.isoformat()} has no time zone; pass it in UTC.")
    return ibis.literal(moment, type="timestamp('UTC')")


def before(events: ir.Table, as_of: datetime, days: float | None = None) -> ir.Table:
    """Return the events with `as_of` - `days` <= ts < `as_of` (without `days`: all before)."""
    kept = events.filter(events[Event.TS] < utc(as_of))
    if days is None:
        return kept
    try:
        since = as_of - timedelta(days=days)
    except OverflowError:
        # A window longer than there are years holds everything.
        return kept
    return kept.filter(kept[Event.TS] >= utc(since))


def arrived(events: ir.Table, as_of: datetime) -> ir.Table:
    """Return the events that had reached us before `as_of`, those without `received_ts` at once."""
    received = events[Event.RECEIVED]
    return events.filter(received.isnull() | (received < utc(as_of)))


def age_days(ts: ir.TimestampColumn, as_of: datetime) -> ir.FloatingColumn:
    """Return how many days each moment lies before `as_of`."""
    return (as_of.timestamp() - ts.epoch_seconds()) / float(DAY_SECONDS)


def recency(ts: ir.TimestampColumn, as_of: datetime, half_life_days: float) -> ir.FloatingColumn:
    """Return the weight of each moment: 1 at `as_of`, halved every `half_life_days`."""
    return ibis.literal(0.5) ** (age_days(ts, as_of) / half_life_days)


def signal_values(
    events: ir.Table, songs: ir.Table, signal: SignalName, as_of: datetime
) -> ir.Table:
    """Return what each event before `as_of` says.

    Parameters
    ----------
    events, songs
        Tables of the lake; of songs only `song_id` and `duration_ms` are read.
    signal
        `like`, `playlist`, `skip` or `listen`.
    as_of
        Only earlier events count, cancellations among them.

    Returns
    -------
    ir.Table
        user_id, song_id, ts, value (0 to 1, never null). A source that cannot have the signal
        gives no row at all, whereas a signal that nobody uses now may give rows of value 0.
    """
    known = before(events, as_of)
    if signal in Action.STATES:
        return _state_values(known, *Action.STATES[signal])
    listenings = _listenings(known, songs)
    value = _share_missed(listenings) if signal == "skip" else _share_heard(listenings)
    values = listenings.select(Event.USER, Event.SONG, Event.TS, value=value)
    return values.filter(values[VALUE].notnull())


def signal_scores(
    events: ir.Table,
    songs: ir.Table,
    signal: SignalName,
    as_of: datetime,
    window_days: float,
    half_life_days: float,
) -> ir.Table:
    """Sum a signal's values by listener and song, each weighted 0.5^(age / half-life).

    Parameters
    ----------
    events, songs, signal, as_of
        As in `signal_values`.
    window_days, half_life_days
        Only events with as_of - window <= ts < as_of count, less the older they are.

    Returns
    -------
    ir.Table
        user_id, song_id, value, one row a pair with value > 0, in no given order; empty for a
        signal that the source does not have. `.to_pandas()` or `.to_pyarrow()` reads it.

    Examples
    --------
    >>> from datetime import UTC, datetime
    >>> now = datetime(2024, 1, 11, tzinfo=UTC)
    >>> liked = {"ts": [datetime(2024, 1, 1, tzinfo=UTC)], "user_id": ["u"], "song_id": ["s"],
    ...          "action": ["like"], "played_ms": [None]}
    >>> songs = ibis.memtable({"song_id": ["s"], "duration_ms": [180_000]})
    >>> signal_scores(ibis.memtable(liked), songs, "like", now, 30, 10).to_pandas()
      user_id song_id  value
    0       u       s    0.5
    """
    values = signal_values(events, songs, signal, as_of)
    recent = before(values, as_of, window_days)
    weighted = recent.mutate(
        weighted=recent[VALUE] * recency(recent[Event.TS], as_of, half_life_days)
    )
    scores = weighted.group_by(Event.USER, Event.SONG).aggregate(value=weighted["weighted"].sum())
    return scores.filter(scores[VALUE] > 0)


def _state_values(events: ir.Table, setter: str, cancellers: tuple[str, ...]) -> ir.Table:
    """Return one row for each pair ever set, at the time it was last set."""
    action, ts = events[Event.ACTION], events[Event.TS]
    pairs = events.filter(action.isin((setter, *cancellers))).group_by(Event.USER, Event.SONG)
    states = pairs.aggregate(
        set_ts=ts.max(where=action == setter), cancel_ts=ts.max(where=action.isin(cancellers))
    )
    states = states.filter(states["set_ts"].notnull())
    # Of two actions at the same microsecond the cancellation wins: a missed like costs less.
    cancelled = (states["cancel_ts"] >= states["set_ts"]).fill_null(False)
    value = ibis.ifelse(cancelled, 0.0, 1.0)
    return states.select(Event.USER, Event.SONG, ts=states["set_ts"], value=value)


def _listenings(events: ir.Table, songs: ir.Table) -> ir.Table:
    durations = songs.select(
        Song.ID, Song.DURATION_MS, known=songs[Song.DURATION_MS].fill_null(0) > 0
    )
    durations = durations.filter(durations["known"]).drop("known")
    listenings = events.filter(events[Event.ACTION].isin(Action.LISTENINGS))
    listenings = listenings.select(Event.USER, Event.SONG, Event.TS, Event.ACTION, Event.PLAYED_MS)
    return listenings.left_join(durations, Event.SONG).drop(f"{Song.ID}_right")


def _share_missed(listenings: ir.Table) -> ir.FloatingColumn:
    skipped = listenings[Event.ACTION] == Action.SKIP
    played, duration = listenings[Event.PLAYED_MS], listenings[Song.DURATION_MS]
    share = 1.0 - ibis.least(played / duration.cast("float64"), 1.0)
    # A null `played_ms` or duration leaves the share null; then only a skip says something.
    return ibis.coalesce(_known(share, played, duration), ibis.ifelse(skipped, 1.0, None))


def _share_heard(listenings: ir.Table) -> ir.FloatingColumn:
    played = listenings[Event.PLAYED_MS]
    duration = listenings[Song.DURATION_MS].fill_null(USUAL_DURATION_MS)
    share = ibis.least(played / duration.cast("float64"), 1.0)
    by_action = ibis.ifelse(listenings[Event.ACTION] == Action.PLAY, 1.0, 0.0)
    return ibis.ifelse(played.isnull(), by_action, share)


def _known(
    share: ir.FloatingColumn, played: ir.IntegerColumn, duration: ir.IntegerColumn
) -> ir.FloatingColumn:
    """Return the share, null where an input is: LEAST ignores nulls instead of passing them on."""
    return ibis.ifelse(played.isnull() | duration.isnull(), None, share)
