"""The compiled loops against naive versions."""

from collections import defaultdict

import numpy as np
import pytest

from features.compiled import (
    columns_of,
    distances,
    equals,
    first_and_count,
    is_among,
    largest,
    places_of_words,
    positive,
    shares_among,
    shares_at,
    sort_by_key,
    standard_deviation,
    sum_by_key,
    taken,
    values_at,
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
    keys, asked_rows = rows
    for step in (1, 3, 64):
        sample = keys[::step].copy()
        assert places_of_words(keys, sample, step, asked_rows).tolist() == expected


@pytest.mark.parametrize("count", [1, 7, 300, 999, 1000])
def test_the_largest_of_many_come_first(count: int) -> None:
    values = np.random.default_rng(count).normal(size=1000)
    values[[3, 500]] = -np.inf
    assert largest(values, count).tolist() == np.argsort(-values, kind="stable")[:count].tolist()


def test_values_stand_beside_their_keys() -> None:
    keys, values = np.array([2, 5, 9], np.int32), np.array([0.5, 1.5, 2.5], np.float32)
    found = values_at(keys, values, np.array([9, 1, 5, 10, 2], np.int32))
    np.testing.assert_array_equal(found, np.array([2.5, np.nan, 1.5, np.nan, 0.5], np.float32))
    ascending = values_at(keys, values, np.array([2, 2, 3, 9, 11], np.int32))
    np.testing.assert_array_equal(ascending, np.array([0.5, 0.5, np.nan, 2.5, np.nan], np.float32))
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


def test_columns_and_distances() -> None:
    table = np.arange(12, dtype=np.float32).reshape(4, 3)
    columns, _ = columns_of(table, np.array([3, 0], np.int32))
    assert columns.tolist() == [[9, 0], [10, 1], [11, 2]]
    assert columns_of(table, np.array([], np.int32))[0].shape == (3, 0)
    # What the point lacks, the others count for.
    found = distances(columns, np.array([0, 1, np.nan], np.float32))
    np.testing.assert_allclose(found, [(2 * 81 * 3 / 2) ** 0.5, 0])
    assert np.isnan(distances(columns, np.full(3, np.nan, np.float32))).all()
    columns[1, 0] = np.nan
    assert np.isnan(distances(columns, np.zeros(3, np.float32))).tolist() == [True, False]
    columns[1, 0] = 10
    np.testing.assert_allclose(distances(columns, np.array([9, 10, 8], np.float32))[0], 3)


@pytest.mark.parametrize("seed", SEEDS)
def test_values_are_sorted_with_their_keys_and_equal_ones_stay_in_order(seed: int) -> None:
    random = np.random.default_rng(seed)
    most = [3, 300, 70_000, 2**31 - 1][seed % 4]
    keys = random.integers(0, most, random.integers(0, 300)).astype(np.int32)
    values = np.arange(len(keys), dtype=np.float32)
    expected = sorted(zip(keys.tolist(), values.tolist(), strict=True))
    found, moved = sort_by_key(keys.copy(), values)
    assert list(zip(found.tolist(), moved.tolist(), strict=True)) == expected


def test_the_standard_deviation_is_numpys() -> None:
    values = np.random.default_rng(1).normal(3, 2, 300)
    assert standard_deviation(values) == pytest.approx(np.std(values))
    assert standard_deviation(np.full(3, 7.0)) == 0


def test_codes_are_compared_where_they_are_known() -> None:
    found = equals(np.array([4, -1, 0, 4], np.int32), 4)
    np.testing.assert_array_equal(found, np.array([1, np.nan, 0, 1], np.float32))


def test_what_was_found_is_taken() -> None:
    places, times = first_and_count(np.array([7, 5, 7], np.int32), np.array([5, 6, 7], np.int32))
    found = taken(np.array([10.0, 20.0, 30.0]), places, times)
    np.testing.assert_array_equal(found, [20, np.nan, 10])


def test_what_is_positive_of_two_lists_comes_in_their_order() -> None:
    ours = np.array([7, 5, 6], np.int32), np.array([1, 0, 2], np.float32)
    more = np.array([5, 7], np.int32), np.array([-1, 3], np.float32)
    keys, values = positive(*ours, *more)
    assert keys.tolist() == [7, 6, 7]
    assert values.tolist() == [1, 2, 3]
