import numpy as np
import pytest

from serving.scores import NO_SCORES, FactorScores, SparseScores, add_up, best

SEEDS = range(20)


def sparse(random):
    songs = np.flatnonzero(random.random(30) < 0.4).astype(np.int32)
    # Few different values, so that there are ties.
    return SparseScores(songs, random.integers(0, 4, len(songs)).astype(np.float32))


def dense(random):
    known = random.random(30) < 0.7
    factors = random.integers(-2, 3, size=(30, 2)).astype(np.float32)
    return FactorScores(np.array([1, 2], dtype=np.float32), factors, known)


def ordered(values):
    """Sort {song: value} by value, largest first, then by song."""
    return sorted(values, key=lambda song: (-values[song], song))


@pytest.mark.parametrize("seed", SEEDS)
def test_sparse_scores_agree_with_a_dictionary(seed):
    scores = sparse(np.random.default_rng(seed))
    table = dict(zip(scores.songs.tolist(), scores.values.tolist(), strict=True))
    for count in (0, 1, 5, len(table), 50):
        assert scores.top(count).tolist() == ordered(table)[:count]
    everything = np.arange(30, dtype=np.int32)[::-1]
    expected = [table.get(int(song), np.nan) for song in everything]
    np.testing.assert_array_equal(scores.of(everything), expected)


@pytest.mark.parametrize("seed", SEEDS)
def test_factor_scores_agree_with_sorted_inner_products(seed):
    scores = dense(np.random.default_rng(seed))
    table = {
        song: float(scores.item_factors[song] @ scores.vector)
        for song in np.flatnonzero(scores.known).tolist()
    }
    for count in (0, 1, 5, len(table), 50):
        assert scores.top(count).tolist() == ordered(table)[:count]
    everything = np.arange(30, dtype=np.int32)
    expected = [table.get(song, np.nan) for song in range(30)]
    np.testing.assert_array_equal(scores.of(everything), expected)


def test_no_scores_propose_nothing_and_know_nothing():
    assert NO_SCORES.top(5).tolist() == []
    assert np.isnan(NO_SCORES.of(np.array([0, 3], dtype=np.int32))).all()


def test_a_score_of_zero_or_below_is_a_score():
    scores = SparseScores(np.array([2, 5], np.int32), np.array([0, -1], np.float32))
    np.testing.assert_array_equal(scores.of(np.array([5, 2, 1])), [-1, 0, np.nan])


@pytest.mark.parametrize("seed", SEEDS)
def test_best_agrees_with_a_full_sort(seed):
    random = np.random.default_rng(seed)
    values = random.integers(0, 5, random.integers(0, 12)).astype(np.float64)
    for count in range(14):
        expected = sorted(range(len(values)), key=lambda place: (-values[place], place))[:count]
        assert best(values, count).tolist() == expected


def test_add_up_sums_what_comes_for_the_same_song():
    scores = add_up(np.array([7, 2, 7], np.int32), np.array([1, 5, 0.5], np.float32))
    assert scores.songs.tolist() == [2, 7]
    assert scores.values.tolist() == [5, 1.5]
    assert add_up(np.empty(0, np.int32), np.empty(0, np.float32)) is NO_SCORES
