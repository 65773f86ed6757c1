from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from features.params import Evaluation
from training.calibration import (
    calibration,
    calibration_error,
    equal_mass_bins,
    error_by_chance,
    markdown,
    reliability,
    verdict,
)
from training.rows import Rows
from training.sessions import OUTCOMES

HOW = Evaluation(max_queries=100, bootstrap=200, seed=1)


def naive_error(said, happened, bins):
    """Return the ECE of predictions without ties, bin by bin."""
    order = np.argsort(said)
    total = 0.0
    for part in np.array_split(order, bins):
        total += len(part) / len(said) * abs(said[part].mean() - happened[part].mean())
    return total


def test_bins_are_equally_large_and_in_order():
    said = np.random.default_rng(0).permutation(np.linspace(0.01, 0.99, 150))
    place = equal_mass_bins(said, 15)
    assert np.bincount(place).tolist() == [10] * 15
    assert np.all(np.diff(place[np.argsort(said)]) >= 0)


def test_equal_predictions_stay_together():
    said = np.array([0.1] * 50 + [0.4] * 45 + [0.9] * 5)
    place = equal_mass_bins(said, 15)
    assert [len(set(place[said == value])) for value in (0.1, 0.4, 0.9)] == [1, 1, 1]
    assert place.max() <= 2
    assert equal_mass_bins(np.full(7, 0.3)).tolist() == [0] * 7


def test_the_error_is_the_naive_one():
    rng = np.random.default_rng(1)
    said = rng.random(300)
    happened = (rng.random(300) < said**2).astype(float)
    assert calibration_error(said, happened, 15) == pytest.approx(naive_error(said, happened, 15))


def test_the_error_by_hand():
    # Two bins of two: |0.15 - 0.5| and |0.85 - 1|, half of the songs each.
    said, happened = np.array([0.1, 0.2, 0.8, 0.9]), np.array([0.0, 1.0, 1.0, 1.0])
    assert calibration_error(said, happened, 2) == pytest.approx(0.25)
    table = reliability(said, happened)
    assert table["songs"].sum() == 4
    assert np.all((table["low"] <= table["happened"]) & (table["happened"] <= table["high"]))


def test_a_planted_shift_is_found_and_an_honest_model_has_only_chance():
    rng = np.random.default_rng(2)
    said = rng.uniform(0.2, 0.7, 20_000)
    honest = (rng.random(20_000) < said).astype(float)
    shifted = (rng.random(20_000) < said + 0.1).astype(float)
    chance, most = error_by_chance(said, 50, 3)
    assert calibration_error(said, honest) == pytest.approx(chance, abs=0.006)
    assert chance < most < 2 * chance
    assert calibration_error(said, shifted) == pytest.approx(0.1, abs=0.015)


def test_few_songs_neither_pass_nor_fail_a_perfect_model():
    rng = np.random.default_rng(4)
    said = rng.uniform(0.2, 0.7, 500)
    errors = [calibration_error(said, (rng.random(500) < said).astype(float)) for _ in range(40)]
    _, most = error_by_chance(said, 200, 3)
    verdicts = [verdict(error, most) for error in errors]
    assert verdicts.count("too few songs to say") > 30
    assert verdicts.count("no") <= 4
    assert (
        verdict(calibration_error(said, (rng.random(500) < said + 0.2).astype(float)), most) == "no"
    )


def rows(outcomes):
    """Return two rows a query, the answer first, whose only feature is what is to be said."""
    n = len(outcomes)
    said = np.linspace(0.1, 0.9, n, dtype=np.float32)
    return Rows(
        # Of the other songs it is said wrongly.
        features=np.column_stack([said, np.full(n, 0.99, np.float32)]).reshape(-1, 1),
        query=np.repeat(np.arange(n), 2),
        answer=np.tile([True, False], n),
        later=np.zeros(2 * n, dtype=np.bool_),
        in_pool=np.ones(2 * n, dtype=np.bool_),
        outcome=np.repeat([OUTCOMES.index(one) for one in outcomes], 2).astype(np.int8),
        ts=np.zeros(2 * n, dtype="datetime64[us]"),
        listener=np.repeat(np.arange(n) % 5, 2).astype(np.uint32),
    )


def test_only_songs_that_were_played_are_judged_and_absent_probabilities_left_out():
    def probability(name, features):
        return features[:, 0].astype(float) if name == "p_skip" else None

    outcomes = ["full"] * 15 + ["skip"] * 15
    table, figures = calibration(SimpleNamespace(probability=probability), rows(outcomes), HOW)
    assert list(figures) == ["p_skip"]
    assert figures["p_skip"]["songs"] == 30
    assert figures["p_skip"]["happened"] == 0.5
    assert figures["p_skip"]["said"] == pytest.approx(0.5)
    assert table["songs"].sum() == 30
    assert "| p_skip | 30 |" in "\n".join(markdown(figures))


def test_a_source_without_signals_says_so():
    silent = SimpleNamespace(probability=lambda name, features: None)
    table, figures = calibration(silent, rows(["full"] * 4), HOW)
    assert table.empty
    assert "probability" in table.columns
    assert figures == {}
    assert "no likes" in markdown(figures)[0]


def test_a_bins_interval_is_wilsons():
    table = reliability(np.full(10, 0.3), np.array([1.0] + [0.0] * 9))
    assert table.loc[0, ["low", "high"]].tolist() == pytest.approx([0.0179, 0.4042], abs=1e-4)


def test_songs_that_nobody_proposed_are_judged_too():
    made = rows(["full"] * 15 + ["skip"] * 15)
    made = replace(made, in_pool=~(made.answer & (made.query < 10)))
    says = SimpleNamespace(probability=lambda name, features: features[:, 0].astype(float))
    assert calibration(says, made, HOW)[1]["p_skip"]["songs"] == 30
