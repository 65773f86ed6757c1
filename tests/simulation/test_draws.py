import numpy as np

from simulation.draws import key, pick, uniform, uniforms


def test_numbers_are_uniform_and_independent_of_neighbours() -> None:
    keys = key(3, np.arange(200_000), 7)
    one, other = uniform(keys, 0), uniform(keys, 1)
    for numbers in (one, other):
        counts = np.histogram(numbers, bins=20, range=(0, 1))[0]
        assert np.abs(counts - 10_000).max() < 500
    assert abs(np.corrcoef(one, other)[0, 1]) < 0.01
    assert abs(np.corrcoef(one[1:], one[:-1])[0, 1]) < 0.01


def test_a_number_depends_on_its_own_key_only() -> None:
    everyone = uniforms(key(1, np.arange(10), 4), 2, 6)
    alone = uniforms(key(1, np.array([7]), 4), 2, 6)
    np.testing.assert_array_equal(everyone[7], alone[0])
    assert len(np.unique(everyone)) == 60


def test_order_and_sign_of_key_parts_matter() -> None:
    assert key(1, 2)[0] != key(2, 1)[0]
    assert key(-1)[0] != key(1)[0]
    assert key(0)[0] != key(0, 0)[0]


def test_pick_finds_the_share_a_chance_falls_into() -> None:
    cumulative = np.array([[0.2, 0.5, 1.0], [0.0, 0.0, 1.0]])
    np.testing.assert_array_equal(pick(cumulative, np.array([0.2, 0.0])), [1, 2])
    np.testing.assert_array_equal(pick(cumulative, np.array([0.19, 0.999])), [0, 2])
