"""The compiled loops of generators and ranking against naive versions."""

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from serving.compiled import (
    best_of_artists,
    entries_of_column,
    half_products,
    places_in_lists,
    worth_by_artist,
)

SEEDS = range(20)


@pytest.mark.parametrize("seed", SEEDS)
def test_songs_of_artists_come_by_worth_and_weight(seed: int) -> None:
    random = np.random.default_rng(seed)
    artist_of = random.integers(0, 6, 40).astype(np.int32)
    worth = random.random(40).astype(np.float32)
    rows = [sorted(np.flatnonzero(artist_of == a), key=lambda s: -worth[s]) for a in range(6)]
    starts = np.cumsum([0, *map(len, rows)])
    songs = np.concatenate(rows).astype(np.int32)
    artists = random.permutation(6)[:3].astype(np.int32)
    weights = random.random(3).astype(np.float32)
    count = int(random.integers(1, 8))
    values = {
        int(s): float(worth[s] * w) for a, w in zip(artists, weights, strict=True) for s in rows[a]
    }
    found = best_of_artists(starts, songs, worth[songs], artists, weights, count)
    assert found.tolist() == sorted(values, key=lambda s: -values[s])[:count]
    every = np.arange(40, dtype=np.int32)
    scores = worth_by_artist(artist_of, worth, artists, weights, every)
    np.testing.assert_allclose(scores, [values.get(int(s), np.nan) for s in every], rtol=1e-6)


def test_entries_of_one_column() -> None:
    dense = np.array([[0, 1, 2], [0, 0, 0], [3, 0, 0]], np.float32)
    rows = np.array([2, 0, 1], np.int32)
    links = csr_matrix(dense)
    for column in range(3):
        found = entries_of_column(links.indptr, links.indices, links.data, rows, column)
        expected = np.where(dense[rows, column] > 0, dense[rows, column], np.nan)
        np.testing.assert_array_equal(found, expected)


def test_rows_of_half_precision_are_multiplied_as_numpy_does() -> None:
    random = np.random.default_rng(3)
    rows = random.normal(0, 1, (50, 16)).astype(np.float16)
    # Zeros, the smallest and the largest numbers there are.
    rows[0], rows[1], rows[2, :3] = 0, np.float16(6e-8), [65504, -65504, -6e-8]
    vector = random.normal(0, 1, 16).astype(np.float32)
    known = np.arange(50) != 7
    songs = np.array([2, 7, 0, 1, 49, 2], np.int32)
    found, _ = half_products(rows.view(np.uint16), known, songs, vector)
    products = rows[songs].astype(np.float32) @ vector
    expected = np.where(known[songs], products, np.nan)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-9)
    every, _ = half_products(rows.view(np.uint16), np.empty(0, np.bool_), songs, vector)
    np.testing.assert_allclose(every, products, rtol=1e-5, atol=1e-9)


def test_songs_take_their_places_in_each_list() -> None:
    songs = np.array([1, 4, 6], np.int32)
    found = places_in_lists(songs, np.array([6, 1, 4], np.int32), np.array([2, 2, 3]))
    expected = [[1, np.nan, np.nan], [np.nan, np.nan, 0], [0, np.nan, np.nan]]
    np.testing.assert_array_equal(found, np.array(expected, np.float32))
