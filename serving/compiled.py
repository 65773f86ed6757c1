"""The compiled loops of generators, pool and features; see `features.compiled`.

Those over sessions and over factors have modules of their own. Each function has the plain meaning
that its docstring says, and `tests/serving/test_compiled.py` or the tests of its caller hold it to
a naive version.
"""

from typing import Any

import numpy as np

from features.compiled import compiled, in_order, largest, lower_bound, sort_by_key


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
    """Return each song's worth times its artist's weight; NaN for songs of other artists.

    The second result means nothing; see `serving.compiled_factors.byte_products`.
    """
    found = np.full(len(songs), np.float32(np.nan), np.float32)
    touched = np.float32(0)
    for song in songs:
        touched += np.float32(artist_of[song]) + worth[song]
    for i in range(len(songs)):
        artist = artist_of[songs[i]]
        for j in range(len(artists)):
            if artists[j] == artist:
                found[i] = worth[songs[i]] * weights[j]
                break
    return found, touched


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


@in_order
def steps_of_links(indptr: Any, indices: Any, data: Any, songs: Any) -> tuple[Any, Any, Any]:
    """Return a sparse matrix's entries from each song to the next: the last, and what is known.

    The last one, NaN where there is none; the mean of those that there are; and their share. There
    are at least two songs.
    """
    last, total, known = np.float32(np.nan), np.float32(0), 0
    entries = entries_of_pairs(indptr, indices, data, songs[:-1], songs[1:])
    for last in entries:
        if not np.isnan(last):
            total += last
            known += 1
    mean = total / np.float32(known) if known > 0 else np.float32(np.nan)
    return last, mean, known / len(entries)


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
    # Thousands may be barred: looked up, not looked through.
    ascending, _ = sort_by_key(barred.copy(), np.empty(len(barred), np.float32))
    kept = np.empty(len(proposed) + len(also), np.int32)
    lasts = np.empty(len(ends), np.int64)
    count, start = 0, 0
    for number in range(len(ends)):
        first = count
        for at in range(start, ends[number]):
            if count - first == quotas[number]:
                break
            place = lower_bound(ascending, proposed[at], 0, len(ascending))
            if place == len(ascending) or ascending[place] != proposed[at]:
                kept[count] = proposed[at]
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
def weighted_likeness(
    artists: Any,
    genres: Any,
    moods: Any,
    tempi: Any,
    songs: Any,
    session: Any,
    weights: Any,
    width: float,
) -> Any:
    """Return what `serving.skips.likeness` says."""
    found = np.zeros((4, len(songs)))
    for row, codes in enumerate((artists, genres)):
        for i in range(len(songs)):
            code = codes[songs[i]]
            for j in range(len(session)):
                if code >= 0 and code == codes[session[j]]:
                    found[row, i] += weights[j]
    worth = np.zeros(moods.shape[1])
    for j in range(len(session)):
        tags = np.flatnonzero(moods[session[j]])
        worth[tags] += weights[j] / max(len(tags), 1)
    for i in range(len(songs)):
        song = songs[i]
        for mood in range(len(worth)):
            found[2, i] += worth[mood] * moods[song, mood]
        for j in range(len(session)):
            distance = (tempi[song] - tempi[session[j]]) / width
            if not np.isnan(distance):
                found[3, i] += weights[j] * np.exp(-distance * distance)
    return found


@compiled
def rows_filled(starts: Any, rows: Any, values: Any) -> tuple[Any, Any]:
    """Return those rows of a sparse matrix that hold something, and the values beside them."""
    found, kept = np.empty_like(rows), np.empty_like(values)
    count = 0
    for i in range(len(rows)):
        if starts[rows[i]] < starts[rows[i] + 1]:
            found[count], kept[count] = rows[i], values[i]
            count += 1
    return found[:count], kept[:count]


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
def rows_weighted(starts: Any, columns: Any, data: Any, rows: Any, weights: Any) -> tuple[Any, Any]:
    """Return the entries of some rows of a sparse matrix end to end, times the rows' weights."""
    total = 0
    for row in rows:
        total += starts[row + 1] - starts[row]
    keys = np.empty(total, np.int32)
    values = np.empty(total, np.float64)
    at = 0
    for i in range(len(rows)):
        for place in range(starts[rows[i]], starts[rows[i] + 1]):
            keys[at] = columns[place]
            values[at] = weights[i] * data[place]
            at += 1
    return keys, values


@compiled
def mean_shares(
    overall: Any, left: Any, right: Any, columns: Any, totals: Any, rows: Any
) -> tuple[Any, Any]:
    """Return the mean of `overall` and of some columns over their totals, for some rows.

    The columns are those of `left`, then of `right`; NaN where the mean is not above 0. The second
    result means nothing; see `serving.compiled_factors.byte_products`.
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


@compiled
def best_of_shares(
    overall: Any, left: Any, right: Any, columns: Any, totals: Any, listed: Any, count: int
) -> Any:
    """Return the songs of some lists with the largest `mean_shares`, best first, ties by song.

    `listed` holds a list for `overall`, then one for each column, best first, with -1 for none; of
    each that is asked for, twice the count is looked at.
    """
    length = min(2 * count, listed.shape[1])
    ascending = np.empty((1 + len(columns)) * length, listed.dtype)
    ascending[:length] = listed[0, :length]
    for i in range(len(columns)):
        ascending[(1 + i) * length : (2 + i) * length] = listed[1 + columns[i], :length]
    ascending.sort()
    distinct = 0
    for song in ascending:
        if song >= 0 and (distinct == 0 or song != ascending[distinct - 1]):
            ascending[distinct] = song
            distinct += 1
    songs = ascending[:distinct]
    shares, _ = mean_shares(overall, left, right, columns, totals, songs)
    heard = 0
    for i in range(distinct):
        if not np.isnan(shares[i]):
            songs[heard], shares[heard] = songs[i], shares[i]
            heard += 1
    return songs[largest(shares[:heard], count)]


@compiled
def proposals(ranks: Any, chosen: Any) -> tuple[Any, Any]:
    """Return how many songs each generator ranked, and which generator ranked each chosen one best.

    Parameters
    ----------
    ranks
        Shape (songs, generators), NaN where a generator did not propose a song.
    chosen
        Some of the songs; of those that nobody ranked, the generator is -1.
    """
    counts = np.zeros(ranks.shape[1], np.int64)
    for generator in range(ranks.shape[1]):
        for i in range(ranks.shape[0]):
            counts[generator] += not np.isnan(ranks[i, generator])
    first = np.full(len(chosen), -1, np.int64)
    for place in range(len(chosen)):
        lowest = np.float32(np.inf)
        for generator in range(ranks.shape[1]):
            if ranks[chosen[place], generator] < lowest:
                lowest = ranks[chosen[place], generator]
                first[place] = generator
    return counts, first
