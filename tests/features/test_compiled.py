"""The compiled loops against naive versions."""

from collections import defaultdict

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from features.compiled import (
    best_of_artists,
    columns_of,
    distances,
    entries_of_column,
    first_and_count,
    half_products,
    is_among,
    largest,
    places_in_lists,
    places_of_words,
    shares_among,
    shares_at,
    sum_by_key,
    values_at,
    worth_by_artist,
)

SEEDS = range(20)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_largest_come_first_and_equal_ones_by_place(seed: int) -> None:
    random = np.random.default_rng(seed)
    values = random.integers(0, 12, random.integers(0, 60)).astype(np.float32)
    count = int(random.integers(0, 70))
    order = sorted(range(len(values)), key=lambda place: (-values[place], place))
    assert largest(values, count).tolist() == order[:count]


@pytest.mark.parametrize("seed", SEEDS)
def test_values_are_added_up_by_key(seed: int) -> None:
    random = np.random.default_rng(seed)
    most = [3, 300, 70_000, 2**31 - 1][seed % 4]
    keys = random.integers(0, most, random.integers(0, 400)).astype(np.int32)
    values = random.random(len(keys))
    expected: dict[int, float] = defaultdict(float)
    for key, value in zip(keys.tolist(), values.tolist(), strict=True):
        expected[key] += value
    found, sums = sum_by_key(keys, values)
    assert found.tolist() == sorted(expected)
    assert sums.tolist() == [np.float32(expected[key]) for key in sorted(expected)]


@pytest.mark.parametrize("seed", SEEDS)
def test_words_are_found_whatever_their_width(seed: int) -> None:
    random = np.random.default_rng(seed)
    letters = np.array(list("ab"))

    def word() -> str:
        return "".join(random.choice(letters, random.integers(1, 7)))

    words = sorted({word() for _ in range(random.integers(1, 40))})
    wanted = [word() + "b" * (seed % 3) for _ in range(30)]
    ascending, asked = (
        np.array([one.encode() for one in some], dtype=np.bytes_) for some in (words, wanted)
    )
    rows = (some.view(np.uint8).reshape(len(some), -1) for some in (ascending, asked))
    expected = [words.index(one) if one in words else -1 for one in wanted]
    assert places_of_words(*rows).tolist() == expected


def test_values_stand_beside_their_keys() -> None:
    keys, values = np.array([2, 5, 9], np.int32), np.array([0.5, 1.5, 2.5], np.float32)
    found = values_at(keys, values, np.array([9, 1, 5, 10, 2], np.int32))
    np.testing.assert_array_equal(found, np.array([2.5, np.nan, 1.5, np.nan, 0.5], np.float32))
    assert np.isnan(values_at(keys[:0], values[:0], keys)).all()


def test_places_counts_and_shares_among_a_few() -> None:
    few, wanted = np.array([7, 3, 7], np.int32), np.array([3, 7, 4, -1], np.int32)
    first, count = first_and_count(few, wanted)
    assert first.tolist() == [1, 0, 0, 0]
    assert count.tolist() == [1, 2, 0, 0]
    assert is_among(wanted, few).tolist() == [True, True, False, False]
    np.testing.assert_allclose(shares_among(wanted, few), [1 / 3, 2 / 3, 0, np.nan])


def test_the_last_share_of_a_word_holds() -> None:
    words, shares = np.array([4, -1, 4], np.int32), np.array([0.1, 0.2, 0.3], np.float32)
    found = shares_at(np.array([4, 5, -1], np.int32), words, shares)
    np.testing.assert_array_equal(found, np.array([0.3, 0, np.nan], np.float32))


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


def test_columns_and_distances() -> None:
    table = np.arange(12, dtype=np.float32).reshape(4, 3)
    columns, _ = columns_of(table, np.array([3, 0], np.int32))
    assert columns.tolist() == [[9, 0], [10, 1], [11, 2]]
    assert columns_of(table, np.array([], np.int32))[0].shape == (3, 0)
    found = distances(columns, np.array([0, 1, np.nan], np.float32))
    assert np.isnan(found).all()
    np.testing.assert_allclose(distances(columns, np.array([9, 10, 8], np.float32))[0], 3)
