"""Building blocks that listener and song features share: weighted listenings, shares, top lists."""

from datetime import datetime

import ibis
import ibis.expr.types as ir

from features.columns import Action, Event, Song
from features.params import Features, SignalName
from features.signals import VALUE, before, recency, signal_scores, signal_values

KEY = "key"
WEIGHT = "weight"


def recent_listenings(events: ir.Table, as_of: datetime, window: Features) -> ir.Table:
    """Return the window's plays and skips with their `weight` by recency."""
    recent = before(events, as_of, window.window_days)
    plays = recent.filter(recent[Event.ACTION].isin(Action.LISTENINGS))
    return plays.mutate(weight=recency(plays[Event.TS], as_of, window.half_life_days))


def listened(events: ir.Table, songs: ir.Table, as_of: datetime, window: Features) -> ir.Table:
    """Return user_id, song_id, value: the `listen` signal over the features' own window."""
    return signal_scores(events, songs, "listen", as_of, window.window_days, window.half_life_days)


def recent_likes(
    events: ir.Table, songs: ir.Table, key: str, as_of: datetime, window: Features
) -> ir.Table:
    """Return key, liked: likes of the window that still stand, weighted by recency."""
    likes = before(signal_values(events, songs, "like", as_of), as_of, window.window_days)
    weights = likes[VALUE] * recency(likes[Event.TS], as_of, window.half_life_days)
    return likes.group_by(key).aggregate(liked=weights.sum())


def share_where(
    seen: ir.BooleanScalar, part: ir.NumericColumn, whole: ir.NumericColumn
) -> ir.Column:
    """Return part / whole, a missing part being 0; null where the source never had the part."""
    # Rounded, so that the order of a sum's terms does not change the file.
    return ibis.ifelse(seen, (part.fill_null(0.0) / whole).round(6), None)


def has_action(events: ir.Table, action: str) -> ir.BooleanScalar:
    """Return whether any of the events is of this action."""
    return (events.filter(events[Event.ACTION] == action).count() > 0).as_scalar()


def has_signal(
    events: ir.Table, songs: ir.Table, signal: SignalName, as_of: datetime
) -> ir.BooleanScalar:
    """Return whether any event before `as_of` says anything of this signal."""
    return (signal_values(events, songs, signal, as_of).count() > 0).as_scalar()


def song_keys(songs: ir.Table, keys: ir.Column) -> ir.Table:
    """Return song_id, key, part: each of a song's keys with an equal part of 1.

    `keys` is a column of `songs`, a string or a list of strings; a song without any has no row.
    """
    lists = keys if keys.type().is_array() else ibis.array([keys])
    listed = songs.select(Song.ID, keys=ibis.ifelse(keys.isnull(), None, lists))
    parts = listed.select(Song.ID, part=1.0 / listed["keys"].length(), key=listed["keys"].unnest())
    return parts.filter(parts[KEY].notnull())


def top_lists(
    weights: ir.Table, owner: str, keys: str, values: str, limit: int, *, shares: bool
) -> ir.Table:
    """Gather each owner's heaviest keys into two aligned lists, heaviest first.

    Parameters
    ----------
    weights
        The owner's column, key, weight; repeated pairs are added up.
    owner
        Name of the column to gather by.
    keys, values
        Names of the two lists.
    limit
        Longest list.
    shares
        Whether the values are shares of the owner's whole weight, or the weights themselves.
    """
    sums = weights.group_by(owner, KEY).aggregate(weight=weights[WEIGHT].sum())
    sums = sums.filter(sums[WEIGHT] > 0)
    whole = sums[WEIGHT].sum().over(group_by=owner) if shares else 1.0
    # Rounded, so that the order of a sum's terms cannot swap keys of equal weight.
    sums = sums.mutate(value=(sums[WEIGHT] / whole).round(6).cast("float32"))
    order = [sums[VALUE].desc(), sums[KEY]]
    ranked = sums.mutate(place=ibis.row_number().over(group_by=owner, order_by=order))
    top = ranked.filter(ranked["place"] < limit)
    by_place = {
        keys: top[KEY].collect(order_by=top["place"]),
        values: top[VALUE].collect(order_by=top["place"]),
    }
    return top.group_by(owner).aggregate(**by_place)


def whole_seconds(ts: ir.TimestampValue) -> ir.TimestampValue:
    """Cut moments to the seconds that Feast's online store keeps: offline must say the same."""
    return ts.truncate("s").cast("timestamp('UTC')")


def join_parts(rows: ir.Table, parts: tuple[ir.Table, ...], owner: str) -> ir.Table:
    """Put the parts' columns beside the rows; an owner missing in a part gets nulls."""
    for part in parts:
        rows = rows.left_join(part, owner).drop(f"{owner}_right")
    return rows


def empty_lists(rows: ir.Table) -> ir.Table:
    """Replace null lists by empty ones."""
    lists = {name: kind for name, kind in rows.schema().items() if kind.is_array()}
    return rows.mutate(
        **{name: rows[name].fill_null(ibis.literal([], type=kind)) for name, kind in lists.items()}
    )
