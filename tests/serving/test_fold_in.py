import numpy as np
import pandas as pd
import pytest
from implicit.cpu.als import AlternatingLeastSquares
from scipy.sparse import csr_matrix
from threadpoolctl import threadpool_limits

from features.columns import Song, User
from features.params import load_params
from features.signals import VALUE
from serving.fold_in import FactorModel, fold_in
from training.factors import confidence_matrix, fit_factors

SONGS, WIDTH, REGULARIZATION, ALPHA = 12, 4, 0.3, 7.0


def random_model(seed, known=1.0):
    random = np.random.default_rng(seed)
    mask = random.random(SONGS) < known
    factors = random.normal(size=(SONGS, WIDTH)) * mask[:, None]
    return FactorModel(factors.astype(np.float32), mask, REGULARIZATION, ALPHA, 1.0)


def observations(seed, count=5):
    random = np.random.default_rng(seed)
    songs = random.choice(SONGS, count, replace=False).astype(np.int32)
    return songs, random.uniform(0.1, 3, count).astype(np.float32)


def random_scores(seed, users=30, songs=20, share=0.3):
    """Return user_id, song_id, value > 0 of one signal, sorted."""
    random = np.random.default_rng(seed)
    pairs = np.argwhere(random.random((users, songs)) < share)
    return pd.DataFrame(
        {
            User.ID: [f"u{user:02d}" for user, _ in pairs],
            Song.ID: [f"s{song:02d}" for _, song in pairs],
            VALUE: random.uniform(0.1, 3, len(pairs)),
        }
    )


def naive(model, songs, values):
    """Solve (Yt C Y + reg I) x = Yt C p with full matrices."""
    confidence, preference = np.ones(SONGS), np.zeros(SONGS)
    for song, value in zip(songs, values, strict=True):
        if model.known[song]:
            confidence[song] += model.alpha * value
            preference[song] = 1
    factors = model.item_factors.astype(np.float64)
    system = factors.T @ np.diag(confidence) @ factors + model.regularization * np.eye(WIDTH)
    return np.linalg.solve(system, factors.T @ (confidence * preference))


@pytest.mark.parametrize("seed", range(10))
def test_agrees_with_the_naive_solution(seed):
    model = random_model(seed, known=0.8)
    songs, values = observations(seed)
    np.testing.assert_allclose(fold_in(model, songs, values), naive(model, songs, values), 1e-3)


@pytest.mark.filterwarnings("ignore:Method expects CSR input")
def test_agrees_with_implicits_own_recalculation_of_a_listener():
    params = (
        load_params()
        .signals["listen"]
        .model_copy(update={"factors": 6, "iterations": 3, "regularization": 0.2, "alpha": 5.0})
    )
    scores = random_scores(seed=3)
    fitted = fit_factors(scores, params, threads=1)
    user_items, song_ids = confidence_matrix(scores, params.alpha)
    with threadpool_limits(limits=1, user_api="blas"):
        implicit = AlternatingLeastSquares(
            factors=6, regularization=0.2, alpha=1.0, num_threads=1, random_state=7
        )
        implicit.item_factors = fitted.item_factors
        expected = [implicit.recalculate_user(0, row) for row in map(csr_matrix, user_items[:8])]
    known = np.ones(len(song_ids), dtype=np.bool_)
    model = FactorModel(fitted.item_factors, known, 0.2, 5.0, fitted.spread)
    for row, vector in zip(user_items[:8], expected, strict=True):
        found = fold_in(model, row.indices, (row.data - 1) / 5.0)
        np.testing.assert_allclose(found, vector, rtol=2e-3, atol=1e-4)


def test_a_song_that_comes_twice_is_one_observation_of_the_sum():
    model = random_model(1)
    twice = fold_in(model, np.array([3, 5, 3]), np.array([0.5, 1, 0.25], np.float32))
    once = fold_in(model, np.array([3, 5]), np.array([0.75, 1], np.float32))
    np.testing.assert_allclose(twice, once, rtol=1e-4)


def test_the_order_of_observations_does_not_matter():
    model, (songs, values) = random_model(2), observations(2)
    forwards, backwards = fold_in(model, songs, values), fold_in(model, songs[::-1], values[::-1])
    np.testing.assert_allclose(forwards, backwards, rtol=1e-4)


def test_a_listened_song_scores_higher_for_it():
    model = random_model(4)
    before = fold_in(model, np.array([1]), np.array([1], np.float32))
    after = fold_in(model, np.array([1, 6]), np.array([1, 5], np.float32))
    assert model.item_factors[6] @ after > model.item_factors[6] @ before


def test_nobody_is_folded_in_without_a_known_song():
    model = random_model(5, known=0.0)
    assert fold_in(model, *observations(5)) is None
    nothing = np.empty(0, np.int32), np.empty(0, np.float32)
    assert fold_in(random_model(5), *nothing) is None


@pytest.mark.parametrize("seed", range(5))
def test_a_skip_is_an_observed_zero(seed):
    model = random_model(seed)
    songs, values = observations(seed)
    values[::2] *= -1
    confidence, preference = np.ones(SONGS), np.zeros(SONGS)
    confidence[songs] += ALPHA * np.abs(values)
    preference[songs] = values > 0
    factors = model.item_factors.astype(np.float64)
    system = factors.T @ np.diag(confidence) @ factors + REGULARIZATION * np.eye(WIDTH)
    expected = np.linalg.solve(system, factors.T @ (confidence * preference))
    np.testing.assert_allclose(fold_in(model, songs, values), expected, rtol=2e-3, atol=1e-4)
