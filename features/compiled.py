"""Small loops over arrays, compiled by Numba: what each request does many times over.

Numpy takes some microseconds a call whatever the size; of the few hundred candidates of a request
most of the time went into that. Each function here has the plain meaning that its docstring says,
and `tests/features/test_compiled.py` holds it to a naive version.
"""

from typing import Any, Final

import numpy as np
from numba import njit

# A key of `sum_by_key` that no song or session has.
EMPTY: Final = -1
# The machine code is kept beside the module. Sums may be added up in another order: several at a
# time.
compiled = njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "contract"})


@compiled
def places_of_words(ascending: Any, wanted: Any) -> Any:
    """Return each wanted word's place among ascending ones, -1 if it is not there.

    Words are rows of bytes, filled up with zeros; the rows of the two may differ in width.
    """
    width, longer = ascending.shape[1], wanted.shape[1]
    found = np.full(len(wanted), -1, np.int32)
    low = np.zeros(len(wanted), np.int64)
    high = np.full(len(wanted), len(ascending), np.int64)
    # All searches take a step before any takes the next: what they read lies far apart, and comes
    # from memory at the same time.
    searching = True
    while searching:
        searching = False
        for i in range(len(wanted)):
            if low[i] >= high[i]:
                continue
            searching = True
            middle = (low[i] + high[i]) // 2
            order = 0
            for at in range(max(width, longer)):
                ours = ascending[middle, at] if at < width else 0
                theirs = wanted[i, at] if at < longer else 0
                if ours != theirs:
                    order = -1 if ours < theirs else 1
                    break
            if order == 0:
                found[i] = middle
                high[i] = low[i]
            elif order < 0:
                low[i] = middle + 1
            else:
                high[i] = middle
    return found


@compiled
def values_at(ascending: Any, values: Any, wanted: Any) -> Any:
    """Return the values that stand beside the wanted keys, NaN for keys that are not there."""
    found = np.empty(len(wanted), np.float32)
    for i in range(len(wanted)):
        low, high, value = 0, len(ascending), wanted[i]
        while low < high:
            middle = (low + high) // 2
            if ascending[middle] < value:
                low = middle + 1
            else:
                high = middle
        hit = low < len(ascending) and ascending[low] == value
        found[i] = values[low] if hit else np.nan
    return found


@compiled
def first_and_count(few: Any, wanted: Any) -> Any:
    """Return each wanted value's first place among a few, and how often it comes there.

    The place is 0 where it never comes.
    """
    first = np.zeros(len(wanted), np.int64)
    count = np.zeros(len(wanted), np.int64)
    for i in range(len(wanted)):
        for place in range(len(few)):
            if few[place] == wanted[i]:
                if count[i] == 0:
                    first[i] = place
                count[i] += 1
    return first, count


@compiled
def is_among(values: Any, few: Any) -> Any:
    """Tell which values are among a few others."""
    found = np.zeros(len(values), np.bool_)
    for i in range(len(values)):
        for one in few:
            if one == values[i]:
                found[i] = True
                break
    return found


@compiled
def shares_among(codes: Any, few: Any) -> Any:
    """Return how large a share of a few codes each code makes up, NaN for codes below 0."""
    shares = np.empty(len(codes), np.float32)
    for i in range(len(codes)):
        count = 0
        for one in few:
            count += one == codes[i]
        shares[i] = np.float32(count) / np.float32(len(few)) if codes[i] >= 0 else np.nan
    return shares


@compiled
def sum_by_key(keys: Any, values: Any) -> Any:
    """Return the distinct keys, ascending, and the sum of each one's values in their order.

    Keys are not negative.
    """
    size = 16
    while size < 2 * len(keys):
        size *= 2
    slots = np.full(size, EMPTY, np.int64)
    sums = np.empty(size, np.float64)
    distinct = np.empty(len(keys), np.int32)
    where = np.empty(len(keys), np.int64)
    count = 0
    for i in range(len(keys)):
        key = np.int64(keys[i])
        slot = (key * 0x9E3779B1 >> 7) & (size - 1)
        while slots[slot] != EMPTY and slots[slot] != key:
            slot = (slot + 1) & (size - 1)
        if slots[slot] == EMPTY:
            slots[slot] = key
            sums[slot] = values[i]
            distinct[count] = key
            where[count] = slot
            count += 1
        else:
            sums[slot] += values[i]
    totals = np.empty(count, np.float32)
    for i in range(count):
        totals[i] = sums[where[i]]
    # Sorted by one byte of the keys after the other, the lowest first.
    found, other = distinct[:count], np.empty(count, np.int32)
    moved = np.empty(count, np.float32)
    most = 0
    for key in found:
        most = max(most, key)
    shift = 0
    while most >> shift:
        starts = np.zeros(257, np.int64)
        for key in found:
            starts[((key >> shift) & 255) + 1] += 1
        for digit in range(256):
            starts[digit + 1] += starts[digit]
        for i in range(count):
            digit = (found[i] >> shift) & 255
            other[starts[digit]] = found[i]
            moved[starts[digit]] = totals[i]
            starts[digit] += 1
        found, other, totals, moved = other, found, moved, totals
        shift += 8
    return found, totals


@compiled
def largest(values: Any, count: int) -> Any:
    """Return the places of the largest values, largest first, ties by place.

    A heap of the best so far, the worst of them on top.
    """
    count = max(min(count, len(values)), 0)
    heap = np.empty(count, np.int64)
    size = 0
    for place in range(len(values)):
        value = values[place]
        if size == count:
            # The later of equals is the worse: it never replaces an earlier one.
            if count == 0 or not value > values[heap[0]]:
                continue
            at = 0
            while True:
                child = 2 * at + 1
                if child >= size:
                    break
                right = child + 1
                if right < size:
                    a, b = values[heap[right]], values[heap[child]]
                    if a < b or (a == b and heap[right] > heap[child]):
                        child = right
                below = values[heap[child]]
                if not below < value:
                    break
                heap[at] = heap[child]
                at = child
            heap[at] = place
        else:
            at = size
            size += 1
            while at > 0:
                above = (at - 1) // 2
                if not value <= values[heap[above]]:
                    break
                heap[at] = heap[above]
                at = above
            heap[at] = place
    found = np.sort(heap)
    chosen = np.empty(count, values.dtype)
    for i in range(count):
        chosen[i] = -values[found[i]]
    return found[np.argsort(chosen, kind="mergesort")]


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
    order = np.argsort(found)
    return found[order][largest(values[order], count)]


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
        low, high = indptr[rows[i]], indptr[rows[i] + 1]
        end = high
        while low < high:
            middle = (low + high) // 2
            if indices[middle] < column:
                low = middle + 1
            else:
                high = middle
        found[i] = data[low] if low < end and indices[low] == column else np.nan
    return found


@compiled
def half_rows(halves: Any, rows: Any) -> tuple[Any, Any]:
    """Return some rows in half precision, given as 16-bit integers, in single precision.

    The second result means nothing; see `half_products`.
    """
    width = halves.shape[1]
    bits = np.empty((len(rows), width), np.uint32)
    touched = np.uint16(0)
    for row in rows:
        touched |= halves[row, 0] | halves[row, width // 2]
    for i in range(len(rows)):
        row = rows[i]
        for j in range(width):
            half = np.uint32(halves[row, j])
            bits[i, j] = ((half & np.uint32(0x7FFF)) << np.uint32(13)) | (
                (half & np.uint32(0x8000)) << np.uint32(16)
            )
    # As in `half_products`.
    return bits.view(np.float32) * np.float32(2.0**112), touched


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
def half_products(halves: Any, known: Any, songs: Any, vector: Any) -> tuple[Any, Any]:
    """Return the inner products of a vector with rows in half precision, NaN where not known.

    The second result means nothing; see below.

    Parameters
    ----------
    halves
        The rows' bits as 16-bit integers, shape (songs, factors).
    known
        (songs,), or empty where all are known.
    """
    width = len(vector)
    products = np.empty(len(songs), np.float32)
    bits = np.empty(width, np.uint32)
    whole = bits.view(np.float32)
    # Exponent and fraction moved to their places, times 2^112: that mends the exponent's bias, and
    # is right for numbers below the smallest normal one, too.
    scale = np.float32(2.0**112)
    # The rows lie far apart. Touched one after the other with nothing between, they come from
    # memory at the same time; that the result is returned keeps the compiler from dropping it.
    touched = np.uint16(0)
    for i in range(len(songs)):
        touched |= halves[songs[i], 0] | halves[songs[i], width // 2]
    for i in range(len(songs)):
        song = songs[i]
        for j in range(width):
            half = np.uint32(halves[song, j])
            bits[j] = ((half & np.uint32(0x7FFF)) << np.uint32(13)) | (
                (half & np.uint32(0x8000)) << np.uint32(16)
            )
        total = np.float32(0)
        for j in range(width):
            total += (whole[j] * scale) * vector[j]
        products[i] = total if len(known) == 0 or known[song] else np.nan
    return products, touched


@compiled
def places_in_lists(songs: Any, proposed: Any, ends: Any) -> Any:
    """Return each song's place in each list, NaN where it is not in it; shape (songs, lists).

    Parameters
    ----------
    songs
        Ascending; holds all that is in the lists.
    proposed, ends
        The lists one after the other, and where each ends.
    """
    places = np.full((len(ends), len(songs)), np.nan, np.float32)
    start = 0
    for number in range(len(ends)):
        for at in range(start, ends[number]):
            low, high, value = 0, len(songs), proposed[at]
            while low < high:
                middle = (low + high) // 2
                if songs[middle] < value:
                    low = middle + 1
                else:
                    high = middle
            places[number, low] = at - start
        start = ends[number]
    return places.T


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
def columns_of(table: Any, rows: Any) -> tuple[Any, Any]:
    """Return some rows of a table, column by column: shape (columns, rows).

    The second result means nothing; see `half_products`.
    """
    width = table.shape[1]
    found = np.empty((width, len(rows)), table.dtype)
    touched = 0.0
    for i in range(len(rows)):
        touched += table[rows[i], 0]
    for i in range(len(rows)):
        for column in range(width):
            found[column, i] = table[rows[i], column]
    return found, touched


@compiled
def shares_at(codes: Any, words: Any, shares: Any) -> Any:
    """Return each code's share by a few words: 0 for other codes, NaN for codes below 0.

    Of a word that comes twice, the last share holds.
    """
    found = np.zeros(len(codes), np.float32)
    for i in range(len(codes)):
        if codes[i] < 0:
            found[i] = np.nan
            continue
        for place in range(len(words) - 1, -1, -1):
            if words[place] == codes[i]:
                found[i] = shares[place]
                break
    return found


@compiled
def distances(columns: Any, point: Any) -> Any:
    """Return the Euclidean distance from a point to points given as columns of coordinates."""
    found = np.zeros(columns.shape[1], np.float32)
    for axis in range(len(point)):
        for i in range(len(found)):
            step = columns[axis, i] - point[axis]
            found[i] += step * step
    return np.sqrt(found)


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
    result means nothing; see `half_products`.
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
