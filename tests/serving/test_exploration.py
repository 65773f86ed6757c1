import itertools
from collections.abc import Sequence

import numpy as np
import pytest

from serving.exploration import Explore, drawn, drawn_within, propensities
from serving.scores import best

SCORES = np.array([1.0, 0.0, 2.0, 0.5])


def by_hand(scores: np.ndarray, slate: tuple[int, ...], temperature: float) -> list[float]:
    weights = np.exp(scores / temperature)
    left, found = set(range(len(scores))), []
    for place in slate:
        found.append(weights[place] / sum(weights[i] for i in left))
        left.remove(place)
    return found


def test_propensities_by_hand() -> None:
    # exp(ln 3) : exp(0) : exp(0) = 3 : 1 : 1, then 1 : 1.
    scores = np.array([np.log(3), 0.0, 0.0])
    assert propensities(scores, np.array([0, 2]), 1.0) == pytest.approx([3 / 5, 1 / 2])
    assert propensities(scores, np.array([1, 0, 2]), 1.0) == pytest.approx([1 / 5, 3 / 4, 1])


@pytest.mark.parametrize("temperature", [0.3, 1.0, 5.0])
def test_the_probabilities_of_all_slates_sum_to_one(temperature: float) -> None:
    total = 0.0
    for slate in itertools.permutations(range(4), 3):
        found = propensities(SCORES, np.array(slate), temperature)
        assert found == pytest.approx(by_hand(SCORES, slate, temperature))
        total += found.prod()
    assert total == pytest.approx(1)


def test_at_temperature_zero_the_best_come_in_order_for_certain() -> None:
    chosen = drawn(SCORES, 3, Explore(0.0, seed=1))
    assert chosen.tolist() == best(SCORES, 3).tolist() == [2, 0, 3]
    assert propensities(SCORES, chosen, 0.0).tolist() == [1, 1, 1]


@pytest.mark.parametrize("within", [False, True])
def test_drawn_slates_come_as_often_as_their_propensity_says(within: bool) -> None:
    draws, counts = 20_000, dict[tuple[int, ...], int]()
    for seed in range(draws):
        explore = Explore(0.8, seed)
        chosen = (
            drawn_within(SCORES, 2, explore, lambda _, left: left)[0]
            if within
            else drawn(SCORES, 2, explore)
        )
        slate = tuple(chosen.tolist())
        counts[slate] = counts.get(slate, 0) + 1
    for slate in itertools.permutations(range(4), 2):
        p = propensities(SCORES, np.array(slate), 0.8).prod()
        error = np.sqrt(p * (1 - p) / draws)
        assert counts.get(slate, 0) / draws == pytest.approx(p, abs=4 * error)


def test_a_rule_that_holds_songs_back_for_a_while_keeps_propensities_exact() -> None:
    # With two groups of two, old noise at the third place would tell nothing.
    groups = np.array([0, 0, 1, 2])

    def spaced(chosen: Sequence[int], left: np.ndarray) -> np.ndarray:
        # Never two of a group on end: at the third place the first group is free again.
        return left & (groups != groups[chosen[-1]]) if chosen else left

    draws, counts, told = 20_000, dict[tuple[int, ...], int](), dict[tuple[int, ...], float]()
    for seed in range(draws):
        chosen, chance = drawn_within(SCORES, 3, Explore(1.0, seed), spaced)
        slate = tuple(chosen.tolist())
        counts[slate], told[slate] = counts.get(slate, 0) + 1, float(chance.prod())
    assert sum(told.values()) == pytest.approx(1)
    for slate, p in told.items():
        assert len(set(slate)) == 3
        assert counts[slate] / draws == pytest.approx(p, abs=4 * np.sqrt(p * (1 - p) / draws))


def test_where_rules_leave_nothing_the_slate_ends() -> None:
    chosen, chance = drawn_within(
        SCORES, 3, Explore(1.0, 1), lambda _, left: left & (np.arange(4) == 1)
    )
    assert (chosen.tolist(), chance.tolist()) == ([1], [1.0])


def test_a_request_id_draws_the_same_slate_again() -> None:
    scores = np.random.default_rng(1).normal(size=300)
    first = drawn(scores, 10, Explore.of("request-1", 1.0))
    assert first.tolist() == drawn(scores, 10, Explore.of("request-1", 1.0)).tolist()
    assert first.tolist() != drawn(scores, 10, Explore.of("request-2", 1.0)).tolist()


def test_extreme_scores_and_temperatures_stay_finite() -> None:
    scores = np.array([1e4, 0.0, -1e4, 5.0])
    for temperature in (1e-3, 1.0, 100.0):
        chance = propensities(scores, np.array([0, 3, 1, 2]), temperature)
        assert np.isfinite(chance).all()
        assert (chance <= 1).all()
    assert propensities(scores, np.array([0, 3]), 1e-3) == pytest.approx([1, 1])
    # One by one, all songs are shown: the last is certain.
    assert propensities(scores, np.array([2, 1, 3, 0]), 1e3)[-1] == pytest.approx(1)


def test_no_candidates_no_slate() -> None:
    assert len(drawn(np.empty(0), 5, Explore(1.0, 1))) == 0
    assert len(propensities(np.empty(0), np.empty(0, np.intp), 1.0)) == 0
