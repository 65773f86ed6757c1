from types import SimpleNamespace

import numpy as np
import pytest
from implicit.cpu.als import AlternatingLeastSquares
from threadpoolctl import threadpool_limits

from features.dayparts import DAYPARTS
from features.params import load_params
from features.times import DAY_US
from serving.dayparts import TensorFactors
from tests.training import tiny
from tests.training.tiny import START
from training.plays import DAYPART
from training.tensor import Cells, cells, fit_tensor, mode_step

PARAMS = load_params().generators.tensor.model_copy(
    update={"factors": 3, "half_life_days": 10.0, "alpha": 5.0, "iterations": 3}
)
HOUR_US = DAY_US // 24
SHAPE, WIDTH, REGULARIZATION = (5, 6, 4), 3, 0.4


def random_cells(seed):
    random = np.random.default_rng(seed)
    places = np.argwhere(random.random(SHAPE) < 0.3)
    return Cells(places, random.uniform(1, 6, len(places)).astype(np.float32), SHAPE)


def naive(found, factors, mode):
    """Solve one mode's rows with every cell of the tensor written out."""
    confidence, preference = np.ones(SHAPE), np.zeros(SHAPE)
    for place, value in zip(found.places, found.confidence, strict=True):
        confidence[tuple(place)], preference[tuple(place)] = value, 1
    one, other = (m for m in range(3) if m != mode)
    product = np.einsum("if,jf->ijf", factors[one], factors[other]).reshape(-1, WIDTH)
    solved = []
    for row in range(SHAPE[mode]):
        weight = np.moveaxis(confidence, mode, 0)[row].ravel()
        wanted = np.moveaxis(preference, mode, 0)[row].ravel()
        system = product.T @ np.diag(weight) @ product + REGULARIZATION * np.eye(WIDTH)
        solved.append(np.linalg.solve(system, product.T @ (weight * wanted)))
    return np.array(solved)


@pytest.mark.parametrize("mode", range(3))
@pytest.mark.parametrize("seed", range(3))
def test_each_step_solves_its_unfolding(seed, mode):
    random = np.random.default_rng(seed)
    factors = [random.normal(size=(n, WIDTH)).astype(np.float32) for n in SHAPE]
    found = random_cells(seed)
    expected = naive(found, factors, mode)
    with threadpool_limits(limits=1, user_api="blas"):
        solve = AlternatingLeastSquares(factors=WIDTH, use_cg=False, num_threads=1).solver
    mode_step(solve, found, factors, mode, REGULARIZATION)
    np.testing.assert_allclose(factors[mode], expected, rtol=5e-3, atol=1e-3)


def weekly(songs=6, weeks=4):
    """Return plays: the first half of the songs at daypart 1 only, the second at daypart 23."""
    # Two listeners take turns at the sessions, so that each hears all.
    sessions = [[(float(week), song) for song in range(songs)] for week in range(weeks)]
    plays = tiny.plays(sessions)
    return plays.assign(**{DAYPART: np.where(plays["song_id"] < songs // 2, 1, 23)})


def test_cells_by_hand():
    plays = tiny.plays([[(0, 2)], [(10, 1)], [(10, 2)]]).assign(**{DAYPART: [5, 7, 5]})
    found = cells(plays, START, PARAMS, 4)
    # u0 heard song 2 at daypart 5 today and ten days ago, u1 song 1 at daypart 7.
    assert found.places.tolist() == [[0, 2, 5], [1, 1, 7]]
    assert found.confidence.tolist() == [8.5, 3.5]
    assert found.shape == (2, 4, DAYPARTS)


def test_songs_are_wanted_when_they_are_heard():
    found = fit_tensor(weekly(), START, PARAMS.model_copy(update={"iterations": 10}), 7)
    assert found["known"].tolist() == [True] * 6 + [False]
    songs, dayparts = found["item_factors"], found["daypart_factors"]
    assert not songs[6].any()
    state = SimpleNamespace(
        query=SimpleNamespace(user={}),
        history=np.arange(6, dtype=np.int32),
        # The epoch was a Thursday: 1 is Monday morning, 23 Saturday evening.
        history_last_us=np.array([4 * DAY_US + 8 * HOUR_US] * 3 + [2 * DAY_US + 20 * HOUR_US] * 3),
        history_values={"listen": np.ones(6, np.float32)},
        acted=np.empty(0, np.int32),
        session_values={"listen": np.empty(0, np.float32)},
    )
    model = TensorFactors(songs, dayparts, found["known"], PARAMS.regularization, PARAMS.alpha)
    for ts_us, wanted in (
        (11 * DAY_US + 9 * HOUR_US, {0, 1, 2}),
        (9 * DAY_US + 19 * HOUR_US, {3, 4, 5}),
    ):
        state.ts_us = ts_us
        assert set(model.scores(state).top(3)) == wanted


def test_a_source_without_plays_has_no_known_song():
    found = fit_tensor(weekly().iloc[:0], START, PARAMS, 3)
    assert not found["known"].any()
    assert not found["item_factors"].any()
