import numpy as np
import pytest

from training.metrics import (
    LABELS,
    METRICS,
    answer_ranks,
    cluster_bootstrap,
    hit_rate,
    interval,
    ndcg,
    reciprocal_rank,
)

RANKS = np.array([1.0, 3.0, 10.0, 11.0, 20.0, 21.0, np.nan])


def test_ranks_count_from_one_and_misses_are_unknown():
    answers = np.array([[5, 7, 9, -1], [5, 7, 9, -1], [5, 7, 9, -1], [7, 7, 5, -1]])
    ranks = answer_ranks(answers, np.array([5, 9, 4, 7]))
    np.testing.assert_array_equal(ranks, [1, 3, np.nan, 1])


def test_an_uncatalogued_truth_matches_no_filling():
    ranks = answer_ranks(np.array([[3, -1, -1]]), np.array([-1]))
    np.testing.assert_array_equal(ranks, [np.nan])


def test_hits_count_up_to_the_bound():
    assert hit_rate(RANKS, 10).tolist() == [1, 1, 1, 0, 0, 0, 0]
    assert hit_rate(RANKS, 20).tolist() == [1, 1, 1, 1, 1, 0, 0]


def test_reciprocal_ranks_and_gains_by_hand():
    thirds = [1, 1 / 3, 1 / 10, 1 / 11, 1 / 20, 0, 0]
    np.testing.assert_allclose(reciprocal_rank(RANKS, 20), thirds)
    np.testing.assert_allclose(ndcg(RANKS, 10), [1, 0.5, 1 / np.log2(11), 0, 0, 0, 0])


def test_each_name_says_its_bound():
    values = {name: metric(RANKS).sum() for name, metric in METRICS.items()}
    assert values["hr_10"] == 3
    assert values["hr_20"] == 5
    assert values["mrr_20"] == pytest.approx(1 + 1 / 3 + 1 / 10 + 1 / 11 + 1 / 20)
    assert values["ndcg_10"] == pytest.approx(1.5 + 1 / np.log2(11))


def test_each_metric_has_a_label():
    assert list(LABELS) == list(METRICS)


def drawn(values, clusters, draws=400, seed=3):
    return cluster_bootstrap(np.asarray(values, float), np.asarray(clusters), draws, seed)


def test_a_constant_column_has_no_width():
    draws = drawn(np.full((30, 1), 0.25), np.arange(30) % 7)
    assert interval(draws[:, 0]) == pytest.approx((0.25, 0.25))


def test_equal_columns_differ_by_nothing_in_every_draw():
    column = np.random.default_rng(0).random(60)
    draws = drawn(np.column_stack([column, column, column + 1]), np.arange(60) % 9)
    assert draws.shape == (400, 3)
    np.testing.assert_array_equal(draws[:, 0], draws[:, 1])
    np.testing.assert_allclose(draws[:, 2] - draws[:, 0], 1)


def test_unknown_values_are_left_out_not_counted_as_zero():
    values = np.array([[1.0], [np.nan], [1.0], [np.nan], [1.0]])
    np.testing.assert_array_equal(drawn(values, [0, 0, 1, 1, 2]), 1)


def test_whole_listeners_are_drawn_weighted_by_their_queries():
    # One listener has three hits, the other one miss: the draws are both, one, or the other.
    draws = drawn([[1], [1], [1], [0]], [0, 0, 0, 1])[:, 0]
    assert set(draws) == {1.0, 0.75, 0.0}
    assert np.mean(draws == 0.75) == pytest.approx(0.5, abs=0.1)


def test_one_listener_has_no_interval():
    assert np.isnan(drawn([[1.0], [0.0]], [0, 0])).all()


def test_a_seed_gives_the_same_draws():
    values, clusters = np.random.default_rng(1).random((40, 2)), np.arange(40) % 11
    np.testing.assert_array_equal(drawn(values, clusters), drawn(values, clusters))
    assert (drawn(values, clusters) != drawn(values, clusters, seed=4)).any()


def test_the_width_is_that_of_the_clusters_not_of_the_queries():
    # 400 queries of 4 listeners that always agree tell no more than 4 queries.
    clusters = np.arange(400) % 4
    one, many = drawn([[0], [1], [0], [1]], np.arange(4)), drawn(clusters[:, None] % 2, clusters)
    np.testing.assert_allclose(one, many)


def test_the_interval_holds_the_middle_95_percent():
    assert interval(np.arange(1001.0)) == (25.0, 975.0)


def test_a_draw_without_anything_known_is_no_zero():
    # The first listener alone has a value, and is in about two of three draws of three.
    draws = drawn([[0.5], [np.nan], [np.nan]], [0, 1, 2])[:, 0]
    assert np.isnan(draws).any()
    assert interval(draws) == (0.5, 0.5)
    assert np.isnan(interval(np.full(9, np.nan))).all()
