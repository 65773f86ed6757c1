"""A listener's features as of a moment: pure Ibis expressions over the lake's tables.

Every function reads only events with ts < `as_of`: activity, tastes and dayparts those of the last
`features.window_days`, the history those of the longest of all windows. An absent signal or
attribute gives null, or an empty list, never zero.
"""

from datetime import datetime

import ibis
import ibis.expr.types as ir

from features.aggregates import (
    KEY,
    WEIGHT,
    empty_lists,
    has_action,
    has_signal,
    join_parts,
    listened,
    recent_likes,
    recent_listenings,
    share_where,
    song_keys,
    top_lists,
    whole_seconds,
)
from features.columns import Action, Event, Song, User, UserRow
from features.dayparts import DAYPARTS, local_daypart
from features.params import SIGNALS, Features, Params
from features.signals import VALUE, before, signal_scores, utc
from features.times import DAY_SECONDS

# Longest list of keys of each taste; the shares of the rest are dropped.
_TASTES = {
    (UserRow.ARTIST_KEYS, UserRow.ARTIST_SHARES): 32,
    (UserRow.ERA_KEYS, UserRow.ERA_SHARES): 12,
    (UserRow.LANGUAGE_KEYS, UserRow.LANGUAGE_SHARES): 12,
    (UserRow.REGION_KEYS, UserRow.REGION_SHARES): 12,
    (UserRow.GENRE_KEYS, UserRow.GENRE_SHARES): 16,
    (UserRow.MOOD_KEYS, UserRow.MOOD_SHARES): 12,
}


def user_rows(
    events: ir.Table, users: ir.Table, songs: ir.Table, as_of: datetime, params: Params
) -> ir.Table:
    """Return one row a listener: profile, activity, tastes and history.

    Parameters
    ----------
    events, users, songs
        Tables of the lake.
    as_of
        Only earlier events count.
    params
        `features` sets window, half-life and the length of the history; `signals` those of
        the history's values.

    Returns
    -------
    ir.Table
        The columns of `User` and `UserRow` but the time, one row for each listener who signed up
        by `as_of` or has an earlier event.
    """
    window = params.features
    parts = (
        activity(events, users, songs, as_of, window),
        tastes(events, songs, as_of, window),
        dayparts(events, users, as_of, window),
        history(events, songs, as_of, params),
    )
    return empty_lists(join_parts(profiles(events, users, as_of), parts, User.ID))


def profiles(events: ir.Table, users: ir.Table, as_of: datetime) -> ir.Table:
    """Return the sign-up columns of every listener known by `as_of`, null where never given."""
    signed_up = users.filter(users[User.SIGNUP_TS] <= utc(as_of)).select(User.ID)
    known = before(events, as_of).select(User.ID).union(signed_up).distinct()
    rows = join_parts(known, (users.select(*User.ORDER),), User.ID)
    return rows.mutate(**{User.SIGNUP_TS: whole_seconds(rows[User.SIGNUP_TS])})


def activity(
    events: ir.Table, users: ir.Table, songs: ir.Table, as_of: datetime, window: Features
) -> ir.Table:
    """Return counts, and shares weighted by recency, over each listener's listenings."""
    plays = _local_listenings(events, users, as_of, window)
    counts = plays.group_by(User.ID).aggregate(
        plays=plays.count(),
        sessions=plays[Event.SESSION].nunique(),
        active_days=(plays["local_seconds"] // DAY_SECONDS).nunique(),
        distinct_songs=plays[Event.SONG].nunique(),
        last_play_ts=whole_seconds(plays[Event.TS].max()),
        weight=plays[WEIGHT].sum(),
        skipped=plays[WEIGHT].sum(where=plays[Event.ACTION] == Action.SKIP),
    )
    counts = join_parts(counts, (recent_likes(events, songs, User.ID, as_of, window),), User.ID)
    known = before(events, as_of)
    shares = counts.mutate(
        repeat_share=1.0 - counts["distinct_songs"] / counts["plays"],
        skip_share=share_where(has_action(known, Action.SKIP), counts["skipped"], counts[WEIGHT]),
        like_share=share_where(has_action(known, Action.LIKE), counts["liked"], counts[WEIGHT]),
        mean_session_plays=counts["plays"] / counts["sessions"].nullif(0),
    )
    return shares.select(User.ID, *UserRow.ACTIVITY)


def tastes(events: ir.Table, songs: ir.Table, as_of: datetime, window: Features) -> ir.Table:
    """Return shares by artist, era, language, region, genre and mood, and mean audio features.

    A song weighs its `listen` score; one with several artists, genres or moods gives each an
    equal part. Shares are of the songs whose attribute is known.
    """
    heard = listened(events, songs, as_of, window)
    keys = (
        songs[Song.ARTISTS],
        (songs[Song.RELEASE_YEAR] // 10 * 10).cast("string"),
        songs[Song.LANGUAGE],
        songs[Song.REGION],
        songs[Song.GENRES],
        songs[Song.MOODS],
    )
    lists = tuple(
        _taste(heard, song_keys(songs, column), names, limit)
        for column, (names, limit) in zip(keys, _TASTES.items(), strict=True)
    )
    listeners = heard.select(User.ID).distinct()
    return join_parts(listeners, (*lists, _audio_means(heard, songs)), User.ID)


def dayparts(events: ir.Table, users: ir.Table, as_of: datetime, window: Features) -> ir.Table:
    """Return the share of each of the 28 dayparts in a listener's listenings, by recency."""
    plays = _local_listenings(events, users, as_of, window)
    plays = plays.mutate(daypart=local_daypart(plays["local_seconds"], 0))
    bins = plays.group_by(User.ID, "daypart").aggregate(weight=plays[WEIGHT].sum())
    parts = [
        bins[WEIGHT].sum(where=bins["daypart"] == part).fill_null(0.0) / bins[WEIGHT].sum()
        for part in range(DAYPARTS)
    ]
    return bins.group_by(User.ID).aggregate(daypart_shares=ibis.array(parts).cast("array<float32>"))


def history(events: ir.Table, songs: ir.Table, as_of: datetime, params: Params) -> ir.Table:
    """Return each listener's latest distinct songs as aligned lists, latest first.

    Of the `features.history_songs` places the last quarter goes first to songs that are liked
    or in a playlist now, however long ago they were played, then to the next latest.
    The lists of a signal that the source does not have are empty.
    """
    length = params.features.history_songs
    pairs = _with_scores(_touched(events, as_of, params), events, songs, as_of, params)
    ranked = _rank_history(pairs, length)
    kept = ranked.filter(ranked["place"] < length)
    seconds = whole_seconds(kept["last_ts"]).epoch_seconds().cast("int64")
    order = [kept["last_ts"].desc(), kept[Event.SONG]]
    lists = kept.group_by(User.ID).aggregate(
        history_songs=kept[Event.SONG].collect(order_by=order),
        history_last_ts=seconds.collect(order_by=order),
        history_plays=kept["plays"].collect(order_by=order),
        **{
            name: kept[name].cast("float32").collect(order_by=order)
            for name in UserRow.HISTORY_VALUES.values()
        },
    )
    return lists.mutate(
        **{
            (name := UserRow.HISTORY_VALUES[signal]): ibis.ifelse(
                has_signal(events, songs, signal, as_of), lists[name], None
            )
            for signal in SIGNALS
        }
    )


def _local_listenings(
    events: ir.Table, users: ir.Table, as_of: datetime, window: Features
) -> ir.Table:
    plays = recent_listenings(events, as_of, window)
    plays = join_parts(plays, (users.select(User.ID, User.UTC_OFFSET),), User.ID)
    # Without a known offset the listener's clock is taken to be UTC.
    offset = plays[User.UTC_OFFSET].fill_null(0)
    return plays.mutate(local_seconds=plays[Event.TS].epoch_seconds() + offset * 60)


def _taste(heard: ir.Table, keys: ir.Table, names: tuple[str, str], limit: int) -> ir.Table:
    pairs = heard.join(keys, Song.ID)
    weights = pairs.select(User.ID, KEY, weight=pairs[VALUE] * pairs["part"])
    return top_lists(weights, User.ID, *names, limit, shares=True)


def _audio_means(heard: ir.Table, songs: ir.Table) -> ir.Table:
    """Return the five weighted means in the order of `Song.AUDIO`, NaN where none is known."""
    pairs = heard.join(songs.select(Song.ID, *Song.AUDIO), Song.ID)
    known = ibis.or_(*(pairs[name].notnull() for name in Song.AUDIO))
    pairs = pairs.filter(known)
    means = [
        (pairs[name] * pairs[VALUE]).sum() / pairs[VALUE].sum(where=pairs[name].notnull())
        for name in Song.AUDIO
    ]
    nan = float("nan")
    return pairs.group_by(User.ID).aggregate(
        audio_means=ibis.array([mean.fill_null(nan) for mean in means]).cast("array<float32>")
    )


def _touched(events: ir.Table, as_of: datetime, params: Params) -> ir.Table:
    """Return user_id, song_id, last_ts, plays over the longest of all windows."""
    windows = [params.signals[signal].window_days for signal in SIGNALS]
    recent = before(events, as_of, max(params.features.window_days, *windows))
    touches = recent.filter(recent[Event.ACTION].isin(Action.TOUCHES))
    return touches.group_by(User.ID, Song.ID).aggregate(
        last_ts=touches[Event.TS].max(),
        plays=touches.count(where=touches[Event.ACTION].isin(Action.LISTENINGS)),
    )


def _with_scores(
    pairs: ir.Table, events: ir.Table, songs: ir.Table, as_of: datetime, params: Params
) -> ir.Table:
    for signal, setting in params.signals.items():
        name = UserRow.HISTORY_VALUES[signal]
        scores = signal_scores(
            events, songs, signal, as_of, setting.window_days, setting.half_life_days
        )
        pairs = pairs.left_join(scores.rename({name: VALUE}), [User.ID, Song.ID])
        pairs = pairs.drop(f"{User.ID}_right", f"{Song.ID}_right")
        pairs = pairs.mutate(**{name: pairs[name].fill_null(0.0)})
    return pairs


def _rank_history(pairs: ir.Table, length: int) -> ir.Table:
    """Add `place`: where each song stands in its listener's queue for a place, from 0."""
    order = [pairs["last_ts"].desc(), pairs[Song.ID]]
    pairs = pairs.mutate(latest=ibis.row_number().over(group_by=User.ID, order_by=order))
    standing = (pairs[UserRow.HISTORY_LIKE] > 0) | (pairs[UserRow.HISTORY_PLAYLIST] > 0)
    recent = pairs["latest"] < length - length // 4
    tier = ibis.cases((recent, 0), (standing, 1), else_=2)
    return pairs.mutate(
        place=ibis.row_number().over(group_by=User.ID, order_by=[tier, pairs["latest"]])
    )
