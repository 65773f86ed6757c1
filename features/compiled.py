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
# Where sums keep their order.
in_order = njit(cache=True, nogil=True, error_model="numpy")


@compiled
def byte_at(word: Any, at: int) -> int:
    """Return a byte of a word, 0 behind its end."""
    return word[at] if at < len(word) else 0


@compiled
def first_difference(ours: Any, theirs: Any, at: int) -> int:
    """Return the first place from `at` on where two words differ, their width if none."""
    width = max(len(ours), len(theirs))
    while at < width and byte_at(ours, at) == byte_at(theirs, at):
        at += 1
    return at


@compiled
def words_up_to(ascending: Any, wanted: Any, low: Any, high: Any, below: Any, above: Any) -> None:
    """Move each `low` to the first word that comes after the wanted one, `high` where none does.

    `below` and `above` say how many bytes the wanted word shares with the words before `low` and
    at `high`. All that lie between share the fewer of these, which are not compared again.
    """
    # All searches take a step before any takes the next: what they read lies far apart, and comes
    # from memory at the same time.
    searching = True
    while searching:
        searching = False
        for i in range(len(wanted)):
            if low[i] < high[i]:
                searching = True
                middle = (low[i] + high[i]) // 2
                word = ascending[middle]
                at = first_difference(word, wanted[i], min(below[i], above[i]))
                if byte_at(word, at) > byte_at(wanted[i], at):
                    high[i] = middle
                    above[i] = at
                else:
                    low[i] = middle + 1
                    below[i] = at


@compiled
def places_of_words(ascending: Any, sample: Any, step: int, wanted: Any) -> Any:
    """Return each wanted word's place among ascending ones, -1 if it is not there.

    Words are rows of bytes, filled up with zeros; the rows of the two may differ in width.
    `sample` holds every word whose place is a multiple of `step`: it is small enough to stay in
    the caches, where most steps of a search then take place.
    """
    count, width = len(wanted), max(ascending.shape[1], wanted.shape[1])
    low, high = np.zeros(count, np.int64), np.full(count, len(sample), np.int64)
    below, above = np.zeros(count, np.int64), np.zeros(count, np.int64)
    words_up_to(sample, wanted, low, high, below, above)
    for i in range(count):
        high[i] = min(low[i] * step, len(ascending))
        low[i] = max((low[i] - 1) * step + 1, 0)
    words_up_to(ascending, wanted, low, high, below, above)
    found = np.full(count, -1, np.int32)
    for i in range(count):
        if below[i] == width:
            found[i] = low[i] - 1
    return found


@compiled
def places_in_text(ascending: Any, sample: Any, step: int, text: Any, count: int) -> Any:
    """Return the places of `count` words of a text, which single zeros part; see above."""
    ends = np.full(count, len(text), np.int64)
    width, start, number = 0, 0, 0
    for at in range(len(text) + 1):
        if at == len(text) or text[at] == 0:
            ends[number] = at
            width = max(width, at - start)
            start = at + 1
            number += 1
    wanted = np.zeros((count, width), np.uint8)
    start = 0
    for i in range(count):
        wanted[i, : ends[i] - start] = text[start : ends[i]]
        start = ends[i] + 1
    return places_of_words(ascending, sample, step, wanted)


@compiled
def lower_bound(ascending: Any, value: Any, low: int, high: int) -> Any:
    """Return the first place from `low` on whose value is not smaller, `high` if there is none."""
    while low < high:
        middle = (low + high) // 2
        if ascending[middle] < value:
            low = middle + 1
        else:
            high = middle
    return low


@compiled
def values_at(ascending: Any, values: Any, wanted: Any) -> Any:
    """Return the values that stand beside the wanted keys, NaN for keys that are not there.

    Wanted keys that ascend themselves are found in one walk.
    """
    found = np.empty(len(wanted), np.float32)
    place = 0
    for i in range(len(wanted)):
        if i > 0 and wanted[i] < wanted[i - 1]:
            place = 0
        while place < len(ascending) and ascending[place] < wanted[i]:
            place += 1
        hit = place < len(ascending) and ascending[place] == wanted[i]
        found[i] = values[place] if hit else np.nan
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
def taken(values: Any, places: Any, times: Any) -> Any:
    """Return the values at some places in double precision, NaN where `times` is 0.

    Looks up what `first_and_count` found.
    """
    found = np.empty(len(places), np.float64)
    for i in range(len(places)):
        found[i] = values[places[i]] if times[i] > 0 else np.nan
    return found


@compiled
def equals(codes: Any, code: int) -> Any:
    """Tell by 1 or 0 which codes are a certain one, NaN for codes below 0."""
    found = np.empty(len(codes), np.float32)
    for i in range(len(codes)):
        found[i] = codes[i] == code if codes[i] >= 0 else np.nan
    return found


@compiled
def contains(few: Any, value: Any) -> bool:
    """Tell whether a value is among a few."""
    for one in few:  # noqa: SIM110 - Numba knows no generators
        if one == value:
            return True
    return False


@compiled
def is_among(values: Any, few: Any) -> Any:
    """Tell which values are among a few others."""
    found = np.empty(len(values), np.bool_)
    for i in range(len(values)):
        found[i] = contains(few, values[i])
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
def sort_by_key(keys: Any, values: Any) -> Any:
    """Return keys, ascending, and the values beside them, those of equal keys in their order.

    A radix sort, the least significant byte first. Keys are not negative; both arrays are written
    over.
    """
    count = len(keys)
    found, other = keys, np.empty_like(keys)
    totals, moved = values, np.empty_like(values)
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
def standard_deviation(values: Any) -> Any:
    """Return the standard deviation; NumPy's takes ten times as long for few hundred values."""
    mean = 0.0
    for value in values:
        mean += value
    mean /= len(values)
    total = 0.0
    for value in values:
        total += (value - mean) * (value - mean)
    return np.sqrt(total / len(values))


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
    return sort_by_key(distinct[:count], totals)


@compiled
def positive(keys: Any, values: Any, more_keys: Any, more_values: Any) -> tuple[Any, Any]:
    """Return the keys and values of two lists end to end, without values that are not above 0."""
    count = 0
    for value in values:
        count += value > 0
    for value in more_values:
        count += value > 0
    found = np.empty(count, keys.dtype)
    kept = np.empty(count, values.dtype)
    at = 0
    for i in range(len(keys)):
        if values[i] > 0:
            found[at], kept[at] = keys[i], values[i]
            at += 1
    for i in range(len(more_keys)):
        if more_values[i] > 0:
            found[at], kept[at] = more_keys[i], more_values[i]
            at += 1
    return found, kept


@compiled
def nth_largest(values: Any, count: int) -> Any:
    """Return the `count`-th largest value, from 1 on; the values are put in another order.

    Quickselect (Hoare, "Algorithm 65: Find", CACM 1961).
    """
    low, high = 0, len(values) - 1
    while low < high:
        pivot = values[(low + high) // 2]
        i, j = low, high
        while i <= j:
            while values[i] > pivot:
                i += 1
            while values[j] < pivot:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                i += 1
                j -= 1
        if count - 1 <= j:
            high = j
        elif count - 1 >= i:
            low = i
        else:
            break
    return values[count - 1]


@compiled
def largest(values: Any, count: int) -> Any:
    """Return the places of the largest values, largest first, ties by place; none is NaN."""
    count = max(min(count, len(values)), 0)
    places = np.empty(count, np.int64)
    negated = np.empty(count, values.dtype)
    least = nth_largest(values.copy(), count) if count else np.inf
    equals = count
    for value in values:
        equals -= value > least
    at = 0
    for place in range(len(values)):
        value = values[place]
        if at < count and (value > least or (value == least and equals > 0)):
            equals -= value == least
            places[at] = place
            negated[at] = -value
            at += 1
    return places[:at][np.argsort(negated[:at], kind="mergesort")]


@compiled
def columns_of(table: Any, rows: Any) -> tuple[Any, Any]:
    """Return some rows of a table, column by column: shape (columns, rows).

    The second result means nothing; see `serving.compiled_factors.byte_products`.
    """
    width = table.shape[1]
    found = np.empty((width, len(rows)), table.dtype)
    touched = 0.0
    for i in range(len(rows)):
        touched += table[rows[i], 0] + table[rows[i], width - 1]
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
    """Return the Euclidean distance from a point to points given as columns of coordinates.

    Coordinates that the point lacks (NaN) are left out, and the others count for them.
    """
    known = 0
    found = np.zeros(columns.shape[1], np.float32)
    for axis in range(len(point)):
        if np.isnan(point[axis]):
            continue
        known += 1
        for i in range(len(found)):
            step = columns[axis, i] - point[axis]
            found[i] += step * step
    weight = np.float32(len(point) / known if known else np.nan)
    return np.sqrt(found * weight)
