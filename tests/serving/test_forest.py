"""The forest laid out as bits gives the very scores of LightGBM."""

import lightgbm
import numpy as np
import pytest

from serving.forest import forest


def table(random, rows):
    """Return inputs with missing values, zeros, ties and one column that is never missing."""
    values = random.normal(size=(rows, 6)).astype(np.float32)
    values[random.random(values.shape) < 0.2] = np.nan
    values[random.random(values.shape) < 0.1] = 0
    values[:, 4] = random.integers(0, 4, rows)
    values[:, 5] = np.where(random.random(rows) < 0.5, np.nan, 1)
    return values


@pytest.mark.parametrize("leaves", [4, 31, 60])
def test_scores_equal_lightgbms_bit_by_bit(leaves):
    random = np.random.default_rng(leaves)
    inputs = table(random, 3000)
    target = np.nan_to_num(inputs[:, 0]) + np.isnan(inputs[:, 5]) - inputs[:, 4] ** 2
    settings = {"num_leaves": leaves, "min_data_in_leaf": 5, "verbose": -1, "num_threads": 1}
    booster = lightgbm.train(settings, lightgbm.Dataset(inputs, target), num_boost_round=20)
    laid_out = forest(booster)
    asked = table(random, 100)
    # A value may be missing where training never saw that.
    asked[::7, 4] = np.nan
    asked[3, 1], asked[4, 1] = np.inf, -np.inf
    for rows in (0, 1, 15, 16, 17, 100):
        expected = booster.predict(asked[:rows], num_threads=1) if rows else []
        np.testing.assert_array_equal(laid_out.predict(asked[:rows]), expected)


def test_trees_of_too_many_leaves_are_left_to_lightgbm():
    random = np.random.default_rng(1)
    inputs = random.normal(size=(3000, 3))
    settings = {"num_leaves": 100, "min_data_in_leaf": 2, "verbose": -1, "num_threads": 1}
    data = lightgbm.Dataset(inputs, inputs.prod(axis=1))
    assert forest(lightgbm.train(settings, data, num_boost_round=1)) is None


def test_trees_that_split_nothing_are_left_to_lightgbm():
    inputs, target = np.zeros((40, 1)), np.tile([0.0, 1.0], 20)
    settings = {"verbose": -1, "num_threads": 1, "objective": "binary"}
    assert forest(lightgbm.train(settings, lightgbm.Dataset(inputs, target), 3)) is None
