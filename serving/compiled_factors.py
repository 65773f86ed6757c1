"""The compiled loops over factors, packed and plain; see `serving.compiled`."""

from typing import Any

import numpy as np

from features.compiled import compiled, largest, sort_by_key


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
def best_byte_products(
    codes: Any, scales: Any, known: Any, songs: Any, vector: Any, count: int
) -> Any:
    """Return the songs with the largest `byte_products`, best first, ties by song."""
    ascending, _ = sort_by_key(songs.copy(), np.empty(len(songs), np.float32))
    kept = 0
    for song in ascending:
        if len(known) == 0 or known[song]:
            ascending[kept] = song
            kept += 1
    products, _ = byte_products(codes, scales, known, ascending[:kept], vector)
    return ascending[largest(products, count)]


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
