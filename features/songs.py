"""A song's features as of a moment: pure Ibis expressions over the lake's tables.

Every function reads only events with ts < `as_of`. A song nobody played has counts and
popularity of 0, which is a fact; shares and trends that cannot be known are null.
"""

from datetime import datetime
from functools import partial

import ibis
import ibis.expr.types as ir

from features.aggregates import (
    KEY,
    empty_lists,
    has_action,
    join_parts,
    listened,
    recent_likes,
    recent_listenings,
    share_where,
    top_lists,
    whole_seconds,
)
from features.columns import Action, Event, Song, SongRow, User
from features.params import Features, Params
from features.signals import VALUE, age_days, before, utc

AUDIENCE_KEYS = 12
# Listenings added to both sides of the trend's ratio: a song's first few plays are no trend.
TREND_SMOOTHING = 1.0


def song_rows(
    events: ir.Table, users: ir.Table, songs: ir.Table, as_of: datetime, params: Params
) -> ir.Table:
    """Return one row a song: catalogue columns, popularity, trend, shares and audience.

    Parameters
    ----------
    events, users, songs
        Tables of the lake.
    as_of
        Only earlier events count.
    params
        Of `features`: window, half-life and days of the trend.

    Returns
    -------
    ir.Table
        The columns of `Song` and `SongRow` but the time, one row for each song released by
        `as_of`, of unknown release, or seen in an earlier event.
    """
    window = params.features
    parts = (
        counts(events, songs, as_of, window),
        trends(events, as_of, window),
        *audiences(events, users, songs, as_of, window),
    )
    rows = join_parts(catalogue(events, songs, as_of), parts, Song.ID)
    return empty_lists(_ranked(rows))


def catalogue(events: ir.Table, songs: ir.Table, as_of: datetime) -> ir.Table:
    """Return the catalogue columns, age and first event of every song known by `as_of`."""
    known = before(events, as_of)
    seen = known.group_by(Song.ID).aggregate(first_seen_ts=whole_seconds(known[Event.TS].min()))
    released = (songs[Song.RELEASED_TS] <= utc(as_of)) | songs[Song.RELEASED_TS].isnull()
    ids = songs.filter(released).select(Song.ID).union(seen.select(Song.ID)).distinct()
    rows = join_parts(ids, (songs.select(*Song.ORDER), seen), Song.ID)
    rows = rows.mutate(**{Song.RELEASED_TS: whole_seconds(rows[Song.RELEASED_TS])})
    # What was heard before is no younger, whatever a re-release says; the least is of those known.
    born = ibis.least(rows[Song.RELEASED_TS], rows[SongRow.FIRST_SEEN_TS])
    return rows.mutate(**{SongRow.AGE_DAYS: age_days(born, as_of)})


def counts(events: ir.Table, songs: ir.Table, as_of: datetime, window: Features) -> ir.Table:
    """Return listenings, listeners, and shares and popularity weighted by recency."""
    plays = recent_listenings(events, as_of, window)
    sums = plays.group_by(Song.ID).aggregate(
        plays=plays.count(),
        listeners=plays[User.ID].nunique(),
        weight=plays["weight"].sum(),
        skipped=plays["weight"].sum(where=plays[Event.ACTION] == Action.SKIP),
    )
    heard = listened(events, songs, as_of, window)
    popularity = heard.group_by(Song.ID).aggregate(popularity=heard[VALUE].sum())
    liked = recent_likes(events, songs, Song.ID, as_of, window)
    sums = join_parts(sums, (popularity, liked), Song.ID)
    known = before(events, as_of)
    return sums.select(
        Song.ID,
        SongRow.PLAYS,
        SongRow.LISTENERS,
        SongRow.POPULARITY,
        skip_share=share_where(has_action(known, Action.SKIP), sums["skipped"], sums["weight"]),
        like_share=share_where(has_action(known, Action.LIKE), sums["liked"], sums["weight"]),
    )


def trends(events: ir.Table, as_of: datetime, window: Features) -> ir.Table:
    """Return log2 of the last `trend_days`' listenings over those the earlier rate foresees.

    The earlier rate is taken over the rest of the window, or from the source's first event
    where that is later; without any earlier time the trend is null.
    """
    plays = recent_listenings(events, as_of, window)
    age = age_days(plays[Event.TS], as_of)
    recent = age <= window.trend_days
    sums = plays.group_by(Song.ID).aggregate(
        recent=plays.count(where=recent), earlier=plays.count(where=~recent)
    )
    begun = age_days(before(events, as_of)[Event.TS].min(), as_of).as_scalar()
    earlier_days = ibis.least(begun, float(window.window_days)) - window.trend_days
    foreseen = sums["earlier"] * window.trend_days / earlier_days
    ratio = (sums["recent"] + TREND_SMOOTHING) / (foreseen + TREND_SMOOTHING)
    return sums.select(Song.ID, trend=ibis.ifelse(earlier_days > 0, ratio.log2(), None))


def audiences(
    events: ir.Table, users: ir.Table, songs: ir.Table, as_of: datetime, window: Features
) -> tuple[ir.Table, ir.Table]:
    """Return popularity by the listeners' region, and by their languages in equal parts."""
    heard = listened(events, songs, as_of, window)
    pairs = heard.join(users.select(User.ID, User.REGION, User.LANGUAGES), User.ID)
    regions = pairs.select(Song.ID, key=pairs[User.REGION], weight=pairs[VALUE])
    regions = regions.filter(regions[KEY].notnull())
    languages = pairs.select(
        Song.ID,
        weight=pairs[VALUE] / pairs[User.LANGUAGES].length(),
        key=pairs[User.LANGUAGES].unnest(),
    )
    heaviest = partial(top_lists, owner=Song.ID, limit=AUDIENCE_KEYS, shares=False)
    return (
        heaviest(regions, keys=SongRow.REGION_KEYS, values=SongRow.REGION_POPULARITY),
        heaviest(languages, keys=SongRow.LANGUAGE_KEYS, values=SongRow.LANGUAGE_POPULARITY),
    )


def _ranked(rows: ir.Table) -> ir.Table:
    """Fill the counts of unplayed songs; add the percentile, 0 the least popular, 1 the most."""
    zeros = {name: rows[name].fill_null(0) for name in (SongRow.PLAYS, SongRow.LISTENERS)}
    # Rounded, so that the order of a sum's terms cannot part songs of equal popularity.
    popularity = rows[SongRow.POPULARITY].fill_null(0.0).round(6)
    rows = rows.mutate(**zeros, **{SongRow.POPULARITY: popularity})
    # Among songs that are known to be there by now: how many more will come tells of the future.
    known = rows[SongRow.FIRST_SEEN_TS].notnull() | rows[Song.RELEASED_TS].notnull()
    ranks = ibis.percent_rank().over(group_by=known, order_by=rows[SongRow.POPULARITY])
    percentile = ibis.ifelse(known, ranks, 0.0)
    return rows.mutate(**{SongRow.POPULARITY_PERCENTILE: percentile})
