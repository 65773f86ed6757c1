"""Fusion and the second stage on lists made by hand."""

import numpy as np
import pytest

from benchmarks.peers.combined import (
    DEFAULTS,
    Lists,
    best_three,
    by_query,
    completed,
    fused,
    pool,
    second_stage,
    training_rows,
)
from benchmarks.peers.data import Cut
from benchmarks.peers.methods import METHODS, draws
from benchmarks.peers.ranking import padded
from tests.benchmarks.peers_world import listed, plays, query
from training.metrics import NEXT


def lists(*rows):
    return padded(np.array(rows), np.tile(np.arange(len(rows[0]), 0, -1.0), (len(rows), 1)))


def test_fusion_adds_weighted_reciprocal_ranks():
    first, second = lists([1, 2, 3]).songs, lists([3, 4, -1]).songs
    found = fused([first, second], [1.0, 0.5], 1.0, 10)
    expected = {1: 1 / 2, 2: 1 / 3, 3: 1 / 4 + 0.5 / 2, 4: 0.5 / 3}
    assert listed(found) == sorted(expected, key=lambda song: -expected[song])
    np.testing.assert_allclose(found.scores[0, :4], sorted(expected.values(), reverse=True), 1e-6)


def test_the_pool_keeps_ranks_and_scores_and_marks_what_is_missing():
    one, two = lists([1, 2], [5, -1]), lists([2, 7], [6, 5])
    pairs, features = pool([one.songs, two.songs], [one.scores, two.scores], 2, 10)
    assert pairs.tolist() == [1, 2, 7, 15, 16]
    expected = [
        [1, np.nan, 2, np.nan],
        [2, 1, 1, 2],
        [np.nan, 2, np.nan, 1],
        [1, 2, 2, 1],
        [np.nan, 1, np.nan, 2],
    ]
    np.testing.assert_array_equal(features, np.array(expected, dtype=np.float32))


def test_scored_pairs_become_lists_again():
    found = by_query(np.array([3, 4, 25]), np.array([0.1, 0.9, 0.5]), 3, 10)
    assert [listed(found, row) for row in range(3)] == [[4, 3], [], [5]]


def test_only_queries_whose_answer_is_in_the_pool_are_learned_from():
    pairs = np.array([1, 2, 3, 11, 12])
    kept, answer = training_rows(pairs, np.array([2, 9]), 10, negatives=1)
    assert answer.sum() == 1
    assert (pairs[kept][answer] == 2).all()
    assert len(kept) == 2
    assert (pairs[kept] < 10).all()


def test_members_are_the_best_on_validation_and_may_be_held_to_one_of_a_kind():
    values = {"STAN": 0.3, "VSTAN": 0.29, "SKNN": 0.28, "EASE": 0.2, "transitions": 0.25}
    tuned = {name: {"tasks": {NEXT: {"value": value}}} for name, value in values.items()}
    assert best_three(tuned, NEXT, "best") == ["STAN", "VSTAN", "SKNN"]
    assert best_three(tuned, NEXT, "best of a kind") == ["STAN", "transitions", "EASE"]
    whole = completed("RRF of three", {"members": "best of a kind"}, tuned, NEXT)
    assert whole["names"] == ["STAN", "transitions", "EASE"]
    assert "members" not in whole


def test_the_second_stage_learns_whom_to_trust():
    """The second list is always right in the label phase, the first never."""
    random = np.random.default_rng(0)
    count, songs = 300, 40
    answers = random.integers(0, songs, count)
    wrong = (answers[:, None] + 1 + np.arange(3)) % songs
    right = np.column_stack([answers, (answers + 7) % songs, (answers + 9) % songs])
    labels = [lists(*wrong.tolist()), lists(*right.tolist())]
    past = plays([[0, 1]], songs)
    asked = [query([0])] * count
    ids = np.array([f"s{i:02d}" for i in range(songs)], dtype=object)
    tasks = {phase: np.full(count, NEXT, dtype=object) for phase in ("labels", "test")}
    cut = Cut(ids, past, past, asked, asked, answers, {}, tasks)
    settings = DEFAULTS["two-stage"] | {"rounds": 20, "min_data_in_leaf": 5}
    found = second_stage(Lists(labels, labels), cut, settings, NEXT)
    assert (found.songs[:, 0] == answers).mean() > 0.95


@pytest.mark.parametrize("name", METHODS)
def test_trials_are_seeded_differ_and_begin_with_the_defaults(name):
    space = METHODS[name].space
    trials = draws(space, 12, seed=7)
    assert trials == draws(space, 12, seed=7)
    assert trials[0] == {}
    assert all(one not in trials[:i] for i, one in enumerate(trials))
    assert len(trials) == 12
