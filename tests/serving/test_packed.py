"""Packed factors are the factors to within half a step, and all ways to read them agree."""

import numpy as np
import pytest

from serving.fold_in import FactorModel, fold_in, gram
from serving.layout import factor_arrays, save_factors, stored_factors
from serving.packed import LARGEST, packed
from serving.scores import FactorScores

SONGS, FACTORS = 300, 24


@pytest.fixture
def rows():
    random = np.random.default_rng(3)
    length = random.pareto(1.5, SONGS)[:, None] + 0.1
    found = (random.normal(size=(SONGS, FACTORS)) * length).astype(np.float32)
    found[7] = 0
    return found


def test_each_number_is_met_to_within_half_a_step(rows):
    step = np.abs(rows).max(axis=1, keepdims=True) / LARGEST
    assert (np.abs(packed(rows)[:] - rows) <= step / 2 * (1 + 1e-5)).all()


def test_the_largest_number_of_a_song_is_met_and_zeros_stay(rows):
    found = packed(rows)
    at = np.abs(rows).argmax(axis=1)
    every = np.arange(SONGS)
    np.testing.assert_allclose(found[:][every, at], rows[every, at], rtol=1e-6)
    assert not found[7].any()


def test_a_song_a_slice_and_an_array_read_the_same(rows):
    found = packed(rows)
    songs = np.array([5, 0, 299, 5], dtype=np.int32)
    np.testing.assert_array_equal(found[songs], [found[5], found[0], found[299], found[5]])
    np.testing.assert_array_equal(found[2:9], found[np.arange(2, 9)])
    assert found[songs].dtype == np.float32
    assert found.shape == rows.shape
    assert len(found) == SONGS


def test_products_are_those_of_the_rows(rows):
    found, vector = packed(rows), np.linspace(-1, 2, FACTORS).astype(np.float32)
    songs = np.array([3, 200, 8], dtype=np.int32)
    np.testing.assert_allclose(found.products(songs, vector), found[songs] @ vector, rtol=1e-4)
    np.testing.assert_allclose(found @ vector, found[:] @ vector, rtol=1e-3, atol=1e-3)


def test_the_best_of_some_songs_are_those_of_the_largest_products(rows):
    songs, vector = np.array([7, 3, 1, 9, 4], np.int32), rows[0]
    known = np.ones(len(rows), np.bool_)
    known[3] = False
    theirs = packed(rows)
    products = theirs.products(songs, vector)
    expected = songs[np.argsort(-products)].tolist()
    assert theirs.best(songs, vector, 3).tolist() == expected[:3]
    left = [song for song in expected if song != 3]
    assert theirs.best(songs, vector, 9, known).tolist() == left


def test_unknown_songs_have_no_score(rows):
    known = np.arange(SONGS) != 8
    vector = np.ones(FACTORS, np.float32)
    scores = FactorScores(vector, packed(rows), known).of(np.array([3, 8], dtype=np.int32))
    assert np.isnan(scores).tolist() == [False, True]


def test_the_gram_matrix_of_blocks_is_that_of_all(rows, monkeypatch):
    monkeypatch.setattr("serving.fold_in.BLOCK", 70)
    whole = rows.T @ rows + 0.5 * np.eye(FACTORS)
    np.testing.assert_allclose(gram(rows, 0.5), whole, rtol=1e-4, atol=1e-3)


def test_a_large_catalogue_is_stored_packed_and_a_small_one_as_it_is(rows, tmp_path, monkeypatch):
    model = FactorModel(rows, np.ones(SONGS, np.bool_), 0.1, 10.0, 1.0)
    save_factors(tmp_path / "small.npz", model)
    monkeypatch.setattr("serving.layout.EXACT_BELOW", SONGS)
    save_factors(tmp_path / "large.npz", model)
    small, large = (dict(np.load(tmp_path / f"{name}.npz")) for name in ("small", "large"))
    np.testing.assert_array_equal(stored_factors(small), rows)
    np.testing.assert_array_equal(stored_factors(large)[:], packed(rows)[:])
    # Fold-ins start from the Gram matrix of the rows that are served.
    np.testing.assert_allclose(large["gram"], gram(packed(rows), 0.1))
    assert set(factor_arrays(packed(rows))) == {"codes", "scales"}


def test_a_listener_is_folded_into_packed_factors(rows):
    songs, known = np.array([1, 4, 9], dtype=np.int32), np.ones(SONGS, np.bool_)
    values = np.ones(3, np.float32)
    rounded = packed(rows)
    ours = fold_in(FactorModel(rounded, known, 0.1, 10.0, 1.0), songs, values)
    plain = fold_in(FactorModel(rounded[:], known, 0.1, 10.0, 1.0), songs, values)
    np.testing.assert_allclose(ours, plain, rtol=1e-4, atol=1e-5)
