"""From scores to answers: ties, depth, repeats, fill."""

import numpy as np
from scipy.sparse import csr_matrix

from benchmarks.peers.ranking import (
    DEPTH,
    POLICIES,
    TOP,
    Policy,
    answer,
    best,
    best_of_sparse,
    own_songs,
    padded,
    percentiles,
)
from tests.benchmarks.peers_world import listed, query


def test_equal_scores_go_by_popularity_and_unproposed_songs_are_left_out():
    scores = np.array([[1.0, 2.0, 1.0, -np.inf]])
    assert listed(best(scores, np.array([0.0, 0.0, 1.0, 1.0]))) == [1, 2, 0]


def test_sparse_and_dense_scores_give_the_same():
    random = np.random.default_rng(1)
    dense = np.where(random.random((5, 300)) < 0.6, random.random((5, 300)), 0)
    tie_break = random.random(300)
    sparse = best_of_sparse(csr_matrix(dense), tie_break)
    expected = best(np.where(dense > 0, dense, -np.inf), tie_break)
    np.testing.assert_array_equal(sparse.songs, expected.songs)
    np.testing.assert_allclose(sparse.scores, expected.scores)
    assert sparse.songs.shape == (5, DEPTH)


def test_percentiles_go_from_0_to_1():
    np.testing.assert_allclose(percentiles(np.array([5.0, 1.0, 3.0])), [1, 0, 0.5])


def test_own_songs_are_the_latest_first():
    assert own_songs(query([], history=[4, 2, 3])) == [4, 2, 3]


def tops(*songs):
    return padded(np.array([songs]), np.arange(len(songs), 0, -1.0)[None, :])


def test_a_policy_bars_the_session_or_lets_it_come_again():
    popular = np.arange(100, 200)
    asked = [query([1, 2])]
    allowed = answer(tops(1, 3, 2), asked, popular, Policy(session=True))[0].tolist()
    barred = answer(tops(1, 3, 2), asked, popular, Policy(session=False))[0].tolist()
    assert allowed == [1, 3, 2, *range(100, 117)]
    assert barred == [3, *range(100, 119)]


def test_own_songs_are_merged_in_by_reciprocal_ranks():
    asked = [query([9], history=[7, 3])]
    mixed = answer(tops(1, 3), asked, np.arange(100, 200), Policy(own=1.0))[0].tolist()
    assert mixed[:4] == [3, 1, 7, 100]
    barred = Policy(session=False, own=1.0)
    assert 9 not in answer(tops(9, 3), asked, np.arange(0, 100), barred)[0]


def test_every_policy_fills_all_places_with_different_songs():
    asked = [query([1, 2], history=[3, 1])]
    for policy in POLICIES:
        found = answer(tops(1, 5), asked, np.arange(0, 100), policy)[0].tolist()
        assert len(set(found)) == TOP
