"""The compiled loops over sessions, past and running; see `serving.compiled`."""

from typing import Any

import numpy as np

from features.compiled import compiled, contains, largest, lower_bound, sum_by_key


@compiled
def sessions_with(
    starts: Any, sessions_of: Any, recency: Any, seeds: Any, weights: Any
) -> tuple[Any, Any]:
    """Return the sessions that the seeds were played in, and a value for each time.

    `starts` and `sessions_of` are a sparse matrix's rows from song to session; the value is the
    seed's weight times the session's recency.
    """
    total = 0
    for seed in seeds:
        total += starts[seed + 1] - starts[seed]
    sessions = np.empty(total, np.int32)
    values = np.empty(total, np.float64)
    at = 0
    for i in range(len(seeds)):
        for place in range(starts[seeds[i]], starts[seeds[i] + 1]):
            sessions[at] = sessions_of[place]
            values[at] = weights[i] * recency[sessions_of[place]]
            at += 1
    return sessions, values


@compiled
def songs_near_shared(
    starts: Any,
    songs_of: Any,
    sessions: Any,
    worth: Any,
    seeds: Any,
    played: Any,
    decay: Any,
    back: Any,
) -> tuple[Any, Any]:
    """Return the songs of some sessions but those played here, and a value for each time.

    A session's shared song is the earliest seed in it, at its earliest place. The value is the
    session's worth times `decay` at the distance to it; before it, `back` at the distance.
    """
    total = 0
    for session in sessions:
        total += starts[session + 1] - starts[session]
    songs = np.empty(total, np.int32)
    values = np.empty(total, np.float32)
    at = 0
    for i in range(len(sessions)):
        first, end = starts[sessions[i]], starts[sessions[i] + 1]
        shared = first
        for seed in seeds:
            place = first
            while place < end and songs_of[place] != seed:
                place += 1
            if place < end:
                shared = place
                break
        for place in range(first, end):
            if contains(played, songs_of[place]):
                continue
            distance = place - shared
            near = decay[distance] if distance > 0 else back[-distance]
            songs[at] = songs_of[place]
            values[at] = worth[i] * near
            at += 1
    return songs[:at], values[:at]


@compiled
def songs_of_nearest_sessions(
    song_starts: Any,
    sessions_of: Any,
    recency: Any,
    seeds: Any,
    weights: Any,
    neighbours: int,
    starts: Any,
    songs_of: Any,
    played: Any,
    decay: Any,
    back: Any,
) -> tuple[Any, Any, Any]:
    """Return songs, ascending, and their values by the sessions that are nearest to the seeds.

    `sessions_with` finds sessions, the `neighbours` of the largest sums are kept, and
    `songs_near_shared` values their songs. The third result means nothing; see
    `serving.compiled_factors.byte_products`.
    """
    met, values = sessions_with(song_starts, sessions_of, recency, seeds, weights)
    sessions, sums = sum_by_key(met, values)
    nearest = largest(sums, neighbours)
    touched = np.int64(0)
    for place in nearest:
        touched += starts[sessions[place] + 1]
    for place in nearest:
        touched += songs_of[starts[sessions[place]]]
    songs, near = songs_near_shared(
        starts, songs_of, sessions[nearest], sums[nearest], seeds, played, decay, back
    )
    songs, sums = sum_by_key(songs, near)
    return songs, sums, touched


@compiled
def followers_of(
    song_starts: Any, sessions_of: Any, starts: Any, songs_of: Any, context: Any
) -> tuple[Any, Any, Any]:
    """Return what directly followed the song `context[0]` in its sessions, one entry a time.

    Each with its session, and how many songs in a row, the followed one first and then backwards,
    are those of the context.

    Parameters
    ----------
    song_starts, sessions_of
        A sparse matrix's rows from song to session.
    starts, songs_of
        The sessions' songs in order of play.
    """
    last = context[0]
    total = 0
    for at in range(song_starts[last], song_starts[last + 1]):
        session = sessions_of[at]
        for place in range(starts[session], starts[session + 1] - 1):
            total += songs_of[place] == last
    songs = np.empty(total, np.int32)
    lengths = np.empty(total, np.int32)
    sessions = np.empty(total, np.int32)
    count = 0
    for at in range(song_starts[last], song_starts[last + 1]):
        session = sessions_of[at]
        first = starts[session]
        for place in range(first, starts[session + 1] - 1):
            if songs_of[place] != last:
                continue
            length = 1
            while (
                length < len(context)
                and place - length >= first
                and songs_of[place - length] == context[length]
            ):
                length += 1
            songs[count] = songs_of[place + 1]
            lengths[count] = length
            sessions[count] = session
            count += 1
    return songs, lengths, sessions


@compiled
def longest_matches(followers: Any, lengths: Any, songs: Any) -> tuple[Any, Any, int, int]:
    """Return each song's largest length, and its share of those followers that have the largest.

    NaN for songs that are not among the followers, or not among those; then that largest length and
    the number of those.
    """
    depth = 0
    for length in lengths:
        depth = max(depth, length)
    times = 0
    keys = np.empty(len(followers), np.int64)
    for i in range(len(followers)):
        times += lengths[i] == depth
        keys[i] = np.int64(followers[i]) * (depth + 1) + lengths[i]
    keys.sort()
    longest = np.full(len(songs), np.float32(np.nan), np.float32)
    share = np.full(len(songs), np.float32(np.nan), np.float32)
    for i in range(len(songs)):
        last = np.int64(songs[i]) * (depth + 1) + depth
        end = lower_bound(keys, last + 1, 0, len(keys))
        if end > 0 and keys[end - 1] >= last - depth:
            longest[i] = keys[end - 1] - (last - depth)
            if keys[end - 1] == last:
                share[i] = np.float32(end - lower_bound(keys, last, 0, end)) / np.float32(times)
    return longest, share, depth, times


@compiled
def loops_here(session: Any, songs: Any) -> tuple[Any, int]:
    """Return how often each song followed the last one earlier in its session, and how lately.

    Shape (2, songs), the second row counting the last song's followers from the latest on, NaN for
    songs that never followed it; then how many followers there are.
    """
    found = np.zeros((2, len(songs)), np.float32)
    found[1] = np.nan
    followers = 0
    for place in range(len(session) - 2, -1, -1):
        if session[place] != session[len(session) - 1]:
            continue
        for i in range(len(songs)):
            if songs[i] == session[place + 1]:
                if found[0, i] == 0:
                    found[1, i] = followers
                found[0, i] += 1
        followers += 1
    return found, followers


@compiled
def followers_here(session: Any, gaps: int, gap_decay: float, age_decay: float) -> tuple[Any, Any]:
    """Return the songs that followed the last one earlier in its session, and a value each time.

    The value is `gap_decay` to the places between them, times `age_decay` to the times that the
    last song was played since.
    """
    count = len(session)
    songs = np.empty(count * gaps, np.int32)
    values = np.empty(count * gaps, np.float32)
    at, age = 0, 1.0
    for place in range(count - 2, -1, -1):
        if session[place] != session[count - 1]:
            continue
        worth = age
        for follower in range(place + 1, min(place + 1 + gaps, count)):
            songs[at] = session[follower]
            values[at] = worth
            worth *= gap_decay
            at += 1
        age *= age_decay
    return songs[:at], values[:at]
