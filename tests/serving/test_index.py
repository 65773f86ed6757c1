"""The index finds what an exact product finds, and only what is allowed."""

from dataclasses import replace

import numpy as np
import pytest

from serving.fold_in import FactorModel, fold_in
from serving.generators import SignalFactors
from serving.index import bitmap, build_index, load_index, roots

SONGS, FACTORS, TOP = 20_000, 16, 50


@pytest.fixture(scope="module")
def model():
    random = np.random.default_rng(5)
    cluster = random.integers(40, size=SONGS)
    near = random.normal(size=(40, FACTORS))[cluster] + 0.3 * random.normal(size=(SONGS, FACTORS))
    length = random.pareto(2, SONGS)[:, None] + 0.3
    known = random.random(SONGS) < 0.9
    factors = (near * length * known[:, None]).astype(np.float32)
    return FactorModel(factors, known, 0.05, 10.0, 1.0)


@pytest.fixture(scope="module")
def index(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("index") / "listen.faiss"
    build_index(path, model)
    return load_index(path, model.gram)


def listeners(model, count=30):
    random = np.random.default_rng(6)
    for _ in range(count):
        songs = random.choice(np.flatnonzero(model.known), 10)
        yield fold_in(model, songs, np.ones(10, np.float32))


def recall(model, index, vector, allowed=None, count=TOP):
    exact = model.item_factors @ vector
    exact[~model.known] = -np.inf
    if allowed is not None:
        exact[~allowed] = -np.inf
    bits = None if allowed is None else bitmap(allowed)
    found = index.search(vector, 2 * count, bits)
    assert allowed is None or allowed[found].all()
    return np.isin(np.argsort(-exact)[:count], found).mean()


def test_nearly_all_of_the_largest_products_are_found(model, index):
    assert np.mean([recall(model, index, v) for v in listeners(model)]) > 0.98


def test_long_lists_are_found_whole(model, tmp_path):
    # So many cells that only a few songs lie in those that a short list needs.
    build_index(tmp_path / "listen.faiss", model)
    index = replace(load_index(tmp_path / "listen.faiss", model.gram), probes=8)
    for count in (200, 2_000):
        found = [recall(model, index, v, count=count) for v in listeners(model, 5)]
        assert np.mean(found) > 0.95


@pytest.mark.parametrize("share", [0.5, 0.1, 0.01])
def test_filters_keep_the_recall(model, index, share):
    allowed = np.random.default_rng(7).random(SONGS) < share
    found = [recall(model, index, v, allowed) for v in listeners(model, 10)]
    assert np.mean(found) > 0.98


def test_a_filter_that_allows_everything_searches_as_much_as_none(tmp_path):
    random = np.random.default_rng(8)
    known = np.arange(4_000) % 2 == 0
    factors = (random.normal(size=(4_000, 8)) * known[:, None]).astype(np.float32)
    model = FactorModel(factors, known, 0.05, 10.0, 1.0)
    build_index(tmp_path / "listen.faiss", model)
    index = replace(load_index(tmp_path / "listen.faiss", model.gram), probes=3)
    vector = random.normal(size=8).astype(np.float32)
    everything = bitmap(np.ones(4_000, dtype=np.bool_))
    plain, filtered = index.search(vector, 2), index.search(vector, 2, everything)
    assert set(plain.tolist()) == set(filtered.tolist())


def test_what_is_found_is_scored_exactly(model, index):
    part = SignalFactors("listen", model, index)
    vector = next(iter(listeners(model, 1)))
    scores = part.towards(vector)
    best = scores.top(20)
    exact = scores.of(best)
    np.testing.assert_allclose(exact, model.item_factors[best] @ vector, rtol=1e-5)
    assert (np.diff(exact) <= 0).all()
    assert model.known[best].all()


def test_both_roots_undo_each_other(model):
    root, inverse = roots(model.gram)
    np.testing.assert_allclose(root @ inverse, np.eye(FACTORS), atol=1e-3)
