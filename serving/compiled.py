"""The compiled loops of generators, fold-in and ranking; see `features.compiled`.

Each function has the plain meaning that its docstring says, and `tests/serving/test_compiled.py` or
the tests of its caller hold it to a naive version.
"""

from typing import Any

import numpy as np

from features.compiled import compiled, largest, lower_bound, sort_by_key, sum_by_key


@compiled
def best_of_artists(
    starts: Any, songs: Any, worth: Any, artists: Any, weights: Any, count: int
) -> Any:
    """Return the songs with the largest worth times weight, best first, ties by song.

    Row a of the lists, from `starts[a]` on, holds artist a's songs and their worth, largest first;
    `weights` belong to the artists.
    """
    total = 0
    for artist in artists:
        total += min(starts[artist + 1] - starts[artist], count)
    found = np.empty(total, np.int32)
    values = np.empty(total, np.float32)
    at = 0
    for i in range(len(artists)):
        start = starts[artists[i]]
        for place in range(start, start + min(starts[artists[i] + 1] - start, count)):
            found[at] = songs[place]
            values[at] = worth[place] * weights[i]
            at += 1
    found, values = sort_by_key(found, values)
    return found[largest(values, count)]


@compiled
def worth_by_artist(artist_of: Any, worth: Any, artists: Any, weights: Any, songs: Any) -> Any:
    """Return each song's worth times its artist's weight; NaN for songs of other artists."""
    found = np.full(len(songs), np.float32(np.nan), np.float32)
    for i in range(len(songs)):
        artist = artist_of[songs[i]]
        for j in range(len(artists)):
            if artists[j] == artist:
                found[i] = worth[songs[i]] * weights[j]
                break
    return found


@compiled
def entries_of_column(indptr: Any, indices: Any, data: Any, rows: Any, column: int) -> Any:
    """Return a sparse matrix's entries of one column in some rows, NaN where there is none.

    Each row's columns ascend.
    """
    found = np.empty(len(rows), np.float32)
    for i in range(len(rows)):
        end = indptr[rows[i] + 1]
        place = lower_bound(indices, column, indptr[rows[i]], end)
        found[i] = data[place] if place < end and indices[place] == column else np.nan
    return found


@compiled
def entries_of_pairs(indptr: Any, indices: Any, data: Any, rows: Any, columns: Any) -> Any:
    """Return a sparse matrix's entries at some pairs of row and column, NaN where there is none.

    Each row's columns ascend.
    """
    found = np.empty(len(rows), np.float32)
    for i in range(len(rows)):
        end = indptr[rows[i] + 1]
        place = lower_bound(indices, columns[i], indptr[rows[i]], end)
        found[i] = data[place] if place < end and indices[place] == columns[i] else np.nan
    return found


@compiled
def byte_rows(codes: Any, scales: Any, rows: Any) -> tuple[Any, Any]:
    """Return some rows of codes times their scales, in single precision.

    The second result means nothing; see `byte_products`.
    """
    width = codes.shape[1]
    found = np.empty((len(rows), width), np.float32)
    touched = np.int8(0)
    for row in rows:
        touched |= codes[row, 0]
    for i in range(len(rows)):
        row = rows[i]
        scale = scales[row]
        for j in range(width):
            found[i, j] = np.float32(codes[row, j]) * scale
    return found, touched


@compiled
def fold_in_target(factors: Any, cells: Any, extra: Any) -> tuple[Any, Any]:
    """Return the right side of a fold-in (`serving.fold_in.solve`), and how many cells there are.

    A cell that comes twice is one observation of the summed value: its "1" counts once.
    """
    count, width = factors.shape
    target = np.zeros(width, np.float32)
    distinct = 0
    for i in range(count):
        first = True
        for j in range(i):
            if cells[j] == cells[i]:
                first = False
        distinct += first
        weight = max(extra[i], np.float32(0))
        if first and extra[i] > 0:
            weight += np.float32(1)
        for a in range(width):
            target[a] += weight * factors[i, a]
    return target, distinct


@compiled
def byte_products(codes: Any, scales: Any, known: Any, songs: Any, vector: Any) -> tuple[Any, Any]:
    """Return the inner products of a vector with rows of codes, NaN where not known.

    The second result means nothing; see below.

    Parameters
    ----------
    codes, scales
        Shape (songs, factors) and (songs,); a row is its codes times its scale.
    known
        (songs,), or empty where all are known.
    """
    width = len(vector)
    products = np.empty(len(songs), np.float32)
    # The rows lie far apart. Touched one after the other with nothing between, they come from
    # memory at the same time; that the result is returned keeps the compiler from dropping it.
    touched = np.float32(0)
    for song in songs:
        touched += np.float32(codes[song, 0]) + scales[song]
    for i in range(len(songs)):
        song = songs[i]
        total = np.float32(0)
        for j in range(width):
            total += np.float32(codes[song, j]) * vector[j]
        products[i] = total * scales[song] if len(known) == 0 or known[song] else np.nan
    return products, touched


@compiled
def pooled(proposed: Any, ends: Any, quotas: Any, barred: Any, also: Any) -> tuple[Any, Any]:
    """Return the songs of several lists, ascending, and each one's place in each list.

    Parameters
    ----------
    proposed, ends
        The lists one after the other, best first, and where each ends.
    quotas
        How many songs are taken of each list, not counting the barred ones.
    barred
        Songs that no list may propose.
    also
        Songs that are in the pool whoever proposes them.

    Returns
    -------
    tuple
        Songs (n,), and places (n, lists), NaN where a list did not propose a song.
    """
    kept = np.empty(len(proposed) + len(also), np.int32)
    lasts = np.empty(len(ends), np.int64)
    count, start = 0, 0
    for number in range(len(ends)):
        first = count
        for at in range(start, ends[number]):
            if count - first == quotas[number]:
                break
            song = proposed[at]
            allowed = True
            for one in barred:
                if one == song:
                    allowed = False
                    break
            if allowed:
                kept[count] = song
                count += 1
        lasts[number] = count
        start = ends[number]
    taken = count
    for song in also:
        kept[count] = song
        count += 1
    ascending, _ = sort_by_key(kept[:count].copy(), np.empty(count, np.float32))
    distinct = 0
    for at in range(count):
        if at == 0 or ascending[at] != ascending[at - 1]:
            ascending[distinct] = ascending[at]
            distinct += 1
    songs = ascending[:distinct].copy()
    places = np.full((len(ends), distinct), np.nan, np.float32)
    number, first = 0, 0
    for at in range(taken):
        while at == lasts[number]:
            first = lasts[number]
            number += 1
        places[number, lower_bound(songs, kept[at], 0, distinct)] = at - first
    return songs, places.T


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
            song = songs_of[place]
            barred = False
            for one in played:
                if one == song:
                    barred = True
                    break
            if not barred:
                distance = place - shared
                near = decay[distance] if distance > 0 else back[-distance]
                songs[at] = song
                values[at] = worth[i] * near
                at += 1
    return songs[:at], values[:at]


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
) -> tuple[Any, Any]:
    """Return songs, ascending, and their values by the sessions that are nearest to the seeds.

    `sessions_with` finds sessions, the `neighbours` of the largest sums are kept, and
    `songs_near_shared` values their songs.
    """
    met, values = sessions_with(song_starts, sessions_of, recency, seeds, weights)
    sessions, sums = sum_by_key(met, values)
    nearest = largest(sums, neighbours)
    songs, near = songs_near_shared(
        starts, songs_of, sessions[nearest], sums[nearest], seeds, played, decay, back
    )
    return sum_by_key(songs, near)


@compiled
def weighted_likeness(
    artists: Any, moods: Any, tempi: Any, songs: Any, session: Any, weights: Any, width: float
) -> Any:
    """Return what `serving.skips.likeness` says."""
    count = len(session)
    theirs = np.empty(count, artists.dtype)
    tempo = np.empty(count, np.float32)
    worth = np.empty(count, np.float64)
    for j in range(count):
        theirs[j] = artists[session[j]]
        tempo[j] = tempi[session[j]]
        tagged = 0
        for mood in range(moods.shape[1]):
            tagged += moods[session[j], mood]
        worth[j] = weights[j] / max(tagged, 1)
    found = np.zeros((3, len(songs)))
    # Song by song: what is known of one lies together, what is known of another far away.
    for i in range(len(songs)):
        song = songs[i]
        artist, pace = artists[song], tempi[song]
        if artist >= 0:
            for j in range(count):
                if artist == theirs[j]:
                    found[0, i] += weights[j]
        for mood in range(moods.shape[1]):
            if moods[song, mood]:
                for j in range(count):
                    found[1, i] += worth[j] * moods[session[j], mood]
        if not np.isnan(pace):
            for j in range(count):
                distance = (pace - tempo[j]) / width
                if not np.isnan(distance):
                    found[2, i] += weights[j] * np.exp(-distance * distance)
    return found


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


@compiled
def rows_decayed(starts: Any, columns: Any, data: Any, rows: Any, decay: float) -> tuple[Any, Any]:
    """Return the entries of some rows of a sparse matrix end to end; the n-th times decay^n."""
    total = 0
    for row in rows:
        total += starts[row + 1] - starts[row]
    keys = np.empty(total, np.int32)
    values = np.empty(total, np.float64)
    at, weight = 0, 1.0
    for row in rows:
        for place in range(starts[row], starts[row + 1]):
            keys[at] = columns[place]
            values[at] = weight * data[place]
            at += 1
        weight *= decay
    return keys, values


@compiled
def mean_shares(
    overall: Any, left: Any, right: Any, columns: Any, totals: Any, rows: Any
) -> tuple[Any, Any]:
    """Return the mean of `overall` and of some columns over their totals, for some rows.

    The columns are those of `left`, then of `right`; NaN where the mean is not above 0. The second
    result means nothing; see `byte_products`.
    """
    width = left.shape[1]
    found = np.empty(len(rows), np.float32)
    touched = np.float32(0)
    for row in rows:
        touched += overall[row]
        for column in columns:
            touched += left[row, column] if column < width else right[row, column - width]
    for i in range(len(rows)):
        row = rows[i]
        total = overall[row]
        for column in columns:
            share = left[row, column] if column < width else right[row, column - width]
            total += share / totals[column]
        total /= np.float32(1 + len(columns))
        found[i] = total if total > 0 else np.nan
    return found, touched
