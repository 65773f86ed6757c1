"""The counting methods on worlds whose answers can be told by hand."""

import numpy as np
import pytest

from benchmarks.peers.counting import (
    Ease,
    ItemNeighbours,
    OwnRepeats,
    Popularity,
    SequentialRules,
    Transitions,
    binary,
    context_weights,
    distance_weights,
    follow_counts,
    heaviest,
    inverted,
    rows_to_one,
)
from benchmarks.peers.data import DAY
from tests.benchmarks.peers_world import listed, plays, query, random_sessions


def test_followers_are_counted_within_sessions_and_by_distance():
    counts = follow_counts(plays([[0, 1, 2], [1, 2], [2, 0]], 3), [1.0, 0.5], np.inf).toarray()
    np.testing.assert_allclose(counts, [[0, 1, 0.5], [0, 0, 2], [1, 0, 0]])


def test_old_followers_count_less():
    counts = follow_counts(plays([[0, 1], [0, 2]], 3), [1.0], 1.0).toarray()
    assert counts[0, 1] == pytest.approx(0.5)
    assert counts[0, 2] == pytest.approx(1.0)


def test_transitions_follow_the_last_song():
    peer = Transitions(fill=0).fit(plays([[0, 1], [0, 1], [0, 2], [2, 3]], 5))
    assert listed(peer.tops([query([2, 0])])) == [1, 2]
    assert listed(peer.tops([query([0, 2])])) == [3]
    assert listed(peer.tops([query([4])])) == []


def test_rules_reach_farther_than_transitions_but_weigh_less():
    past = plays([[0, 1, 2], [0, 1, 3]], 5)
    peer = SequentialRules(fill=0, steps=2, shape="div").fit(past)
    assert listed(peer.tops([query([0])]))[0] == 1
    assert set(listed(peer.tops([query([0])]))) == {1, 2, 3}


@pytest.mark.parametrize("unit", ["sessions", "listeners"])
def test_item_neighbours_are_cosines(unit):
    sessions = random_sessions(1, songs=8)
    users = [code % 7 for code in range(len(sessions))]
    past = plays(sessions, 8, users)
    peer = ItemNeighbours(fill=0, last=1, damping=0.0, unit=unit, neighbours=0).fit(past)
    rows = np.zeros((len(sessions) if unit == "sessions" else 7, 8))
    for code, session in enumerate(sessions):
        rows[code if unit == "sessions" else users[code], session] = 1
    norms = np.linalg.norm(rows, axis=0)
    expected = rows.T @ rows / np.outer(norms, norms)
    np.fill_diagonal(expected, 0)
    np.testing.assert_allclose(peer.weights_.toarray(), expected, atol=1e-9)


def test_ease_is_the_constrained_least_squares_solution():
    sessions = random_sessions(2, count=80, songs=6)
    past = plays(sessions, 6)
    peer = Ease(fill=0, regularization=3.0, least=1).fit(past)
    rows = binary(past, "sessions").toarray()
    expected = np.zeros((6, 6))
    for song in range(6):
        others = [other for other in range(6) if other != song]
        gram = rows[:, others].T @ rows[:, others] + 3.0 * np.eye(5)
        expected[others, song] = np.linalg.solve(gram, rows[:, others].T @ rows[:, song])
    np.testing.assert_allclose(peer.dense_, expected, atol=1e-4)


def test_ease_leaves_rare_songs_out():
    peer = Ease(fill=0, least=2).fit(plays([[0, 1], [0, 1], [0, 2]], 4))
    assert peer.kept_.tolist() == [0, 1]
    assert set(listed(peer.tops([query([0])]))) <= {0, 1}


def test_a_matrix_that_is_not_positive_definite_is_refused():
    with pytest.raises(ValueError, match="regularization"):
        inverted(np.array([[0.0, 1.0], [1.0, 0.0]], dtype=np.float32))


def test_own_repeats_decay_and_read_the_session():
    asked = query([9], history=[3, 5])
    assert listed(OwnRepeats().fit(plays([[0, 1]], 10)).tops([asked])) == [3, 5]
    peer = OwnRepeats(session_weight=5.0).fit(plays([[0, 1]], 10))
    assert listed(peer.tops([asked])) == [9, 3, 5]


def test_recent_popularity_forgets():
    past = plays([[0], [0], [1]] + [[2]] * 0, 3)
    assert listed(Popularity(half_life_days=0.1).fit(past).tops([query([])]))[0] == 1
    assert listed(Popularity(half_life_days=np.inf).fit(past).tops([query([])]))[0] == 0


def test_the_context_decays_backwards_and_counts_a_song_at_its_latest_place():
    weights = context_weights([query([1, 2, 1])], 4, fill=0, last=5, decay=0.5).toarray()
    np.testing.assert_allclose(weights, [[0, 1, 0.5, 0]])
    filled = context_weights([query([1], history=[2, 3])], 4, fill=2, last=5, decay=0.5).toarray()
    np.testing.assert_allclose(filled, [[0, 1, 0.5, 0]])


def test_binary_rows_hold_the_latest_plays_recency():
    past = plays([[0], [0], [1]], 2, users=[0, 0, 0])
    np.testing.assert_allclose(binary(past, "listeners", 1.0).toarray(), [[0.5**0.5, 1]])
    assert past.until == 2 * DAY


def test_the_heaviest_entries_of_a_row_stay():
    matrix = follow_counts(plays([[0, 1], [0, 1], [0, 2], [0, 3]], 4), [1.0], np.inf)
    kept = heaviest(matrix, 1).toarray()
    np.testing.assert_allclose(kept[0], [0, 2, 0, 0])
    np.testing.assert_allclose(rows_to_one(matrix, 1.0).sum(axis=1)[0], 1)


def test_rule_weights_fall_with_distance():
    np.testing.assert_allclose(distance_weights("div", 3), [1, 1 / 2, 1 / 3])
    np.testing.assert_allclose(distance_weights("same", 2), [1, 1])
