"""What is said to come from a heard song is lost when that song is taken away."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from features.query import Query, SessionEvent
from features.state import resolve
from serving.bundle import load_retrieval
from serving.explain import factor_parts, link_effects
from serving.fold_in import FactorModel, fold_in
from tests.serving.conftest import AS_OF, song_id


@pytest.fixture(scope="module")
def model():
    random = np.random.default_rng(3)
    known = np.ones(40, dtype=np.bool_)
    known[7] = False
    factors = random.normal(size=(40, 6)).astype(np.float32) * known[:, None]
    return FactorModel(factors, known, regularization=0.3, alpha=5.0, spread=1.0)


HEARD = np.array([3, 9, 7, 21, 9, 30], dtype=np.int32)
VALUES = np.array([1.0, 0.2, 3.0, 2.5, 0.7, 0.05], dtype=np.float32)
CANDIDATES = np.array([0, 5, 9, 33], dtype=np.int32)


def test_the_parts_sum_to_the_score(model):
    parts = factor_parts(model, HEARD, VALUES, CANDIDATES)
    scores = model.item_factors[CANDIDATES] @ fold_in(model, HEARD, VALUES)
    assert parts.songs.tolist() == [3, 9, 21, 30]
    np.testing.assert_allclose(parts.parts.sum(axis=0), scores, rtol=1e-4)


def test_a_score_falls_by_just_what_is_said_when_a_song_is_taken_away(model):
    parts = factor_parts(model, HEARD, VALUES, CANDIDATES)
    scores = model.item_factors[CANDIDATES] @ fold_in(model, HEARD, VALUES)
    for song, lost in zip(parts.songs, parts.lost, strict=True):
        rest = song != HEARD
        without = model.item_factors[CANDIDATES] @ fold_in(model, HEARD[rest], VALUES[rest])
        np.testing.assert_allclose(scores - without, lost, rtol=2e-3, atol=1e-5)


@pytest.mark.parametrize("exponent", [0.0, 0.7])
def test_so_it_is_with_observed_zeros_and_a_regularisation_by_frequency(model, exponent):
    other = replace(model, exponent=exponent, offset=2.0)
    heard, values = np.array([3, 9, 21, 30]), np.array([1.0, -0.9, 2.5, 0.05], np.float32)
    parts = factor_parts(other, heard, values, CANDIDATES)
    scores = other.item_factors[CANDIDATES] @ fold_in(other, heard, values)
    np.testing.assert_allclose(parts.parts.sum(axis=0), scores, rtol=1e-4, atol=1e-5)
    for song, lost in zip(parts.songs, parts.lost, strict=True):
        rest = song != heard
        without = other.item_factors[CANDIDATES] @ fold_in(other, heard[rest], values[rest])
        np.testing.assert_allclose(scores - without, lost, rtol=2e-3, atol=1e-5)


def test_parts_and_losses_point_the_same_way_but_may_name_different_songs(model):
    """Why the loss is what is said: the largest part is not always what is missed most."""
    parts = factor_parts(model, HEARD, VALUES, CANDIDATES)
    assert (np.sign(parts.parts) == np.sign(parts.lost)).all()
    assert parts.parts.argmax(axis=0).tolist() != parts.lost.argmax(axis=0).tolist()


def links(random, n=12):
    dense = random.uniform(size=(n, n)) * (random.uniform(size=(n, n)) < 0.5)
    return dense.astype(np.float32), csr_matrix(dense.astype(np.float32))


@pytest.mark.parametrize("seed", range(10))
def test_a_neighbours_score_falls_by_what_is_said(seed):
    random = np.random.default_rng(seed)
    dense, matrix = links(random)
    seeds = random.integers(0, 12, 9).astype(np.int32)
    candidates = random.permutation(12)[:5].astype(np.int32)
    rests = {int(song): seeds[seeds != song][:3] for song in seeds[:3]}
    found = link_effects(matrix, seeds[:3], rests, 0.5, candidates)

    def score(heard):
        first = heard[:3]
        return sum(0.5**i * dense[s, candidates] for i, s in enumerate(first))

    assert set(found.songs) == set(seeds[:3])
    for song, effect in zip(found.songs, found.effects, strict=True):
        np.testing.assert_allclose(
            score(seeds) - score(seeds[seeds != song]), effect, rtol=1e-4, atol=1e-6
        )


def test_by_hand():
    matrix = csr_matrix(np.array([[0, 4.0], [2.0, 0]], np.float32))
    both = np.array([0, 1], np.int32)
    found = link_effects(matrix, both, {0: both[1:], 1: both[:1]}, 0.5, both)
    # Without song 0 song 1 moves up: 0.5 * 2 becomes 2.
    assert found.effects.tolist() == [[1 - 2, 4], [1, 0]]


def test_nobody_heard_anything(model):
    nothing = np.empty(0, np.int32)
    assert link_effects(csr_matrix((5, 5)), nothing, {}, 0.5, CANDIDATES).effects.shape == (0, 4)
    assert factor_parts(model, nothing, np.empty(0, "f4"), CANDIDATES).lost.shape == (0, 4)


def test_the_generators_themselves_answer_so(bundle):
    """Take each seed away from a real session and ask the bundle's generators again."""
    retrieval = load_retrieval(bundle)
    session = [3, 13, 4, 3, 24]
    candidates = np.array([33, 14, 44, 23], np.int32)

    def ask(songs, name):
        events = tuple(SessionEvent(song_id(i)) for i in songs)
        state = resolve(Query(ts=AS_OF, session=events), retrieval.songs)
        return np.nan_to_num(retrieval.generators[name].scores(state).of(candidates)), state

    for name in ("transitions", "together"):
        generator = retrieval.generators[name]
        full, state = ask(session, name)
        params = generator.params
        seeds, heard = state.seeds(params.seeds), state.seeds(99)
        rests = {int(song): heard[heard != song][: params.seeds] for song in seeds}
        found = link_effects(generator.links, seeds, rests, params.seed_decay, candidates)
        for song, effect in zip(found.songs, found.effects, strict=True):
            rest, _ = ask([i for i in session if i != song], name)
            np.testing.assert_allclose(full - rest, effect, rtol=1e-3, atol=1e-5)
    model = retrieval.generators["listen"]
    full, state = ask(session, "listen")
    parts = factor_parts(model.model, *state.observed("listen"), candidates)
    for song, lost in zip(parts.songs, parts.lost, strict=True):
        rest, _ = ask([i for i in session if i != song], "listen")
        np.testing.assert_allclose(full - rest, lost, rtol=5e-3, atol=1e-4)
