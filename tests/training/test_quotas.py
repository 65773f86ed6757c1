import itertools
from types import SimpleNamespace

import numpy as np
import pytest

from training import quotas as command
from training.quotas import (
    DEPTH,
    Proposals,
    choose,
    greedy,
    markdown,
    present,
    scaled,
    suggestion,
    table,
)


def made(lists, truth):
    """Return proposals from {generator: [songs of query 0, songs of query 1, ...]}."""
    songs = np.full((len(truth), len(lists), DEPTH), -1, dtype=np.int32)
    for place, by_query in enumerate(lists.values()):
        for row, listed in enumerate(by_query):
            songs[row, place, : len(listed)] = listed
    return Proposals.of(tuple(lists), songs, np.array(truth))


def naive(lists, truth, quotas):
    """Return recall and mean size, query by query with sets."""
    pools = [
        set().union(*(by_query[row][: quotas[name]] for name, by_query in lists.items()))
        for row in range(len(truth))
    ]
    hits = [song in pool for song, pool in zip(truth, pools, strict=True)]
    return np.mean(hits), np.mean([len(pool) for pool in pools])


def random_lists(seed, queries=30):
    rng = np.random.default_rng(seed)
    lists = {
        name: [rng.permutation(25)[: rng.integers(0, 12)].tolist() for _ in range(queries)]
        for name in "abc"
    }
    # One answer that the catalogue lacks, and some that nobody proposes.
    return lists, [-1, *rng.integers(0, 30, queries - 1).tolist()]


class Asked(Exception):  # noqa: N818 - ends the command where it has said what it asks
    """What the command asks for."""


def test_candidates_are_chosen_on_the_label_phase_alone(monkeypatch):
    def asks(lake, phases, cut, *_):
        raise Asked(cut)

    checked = []
    monkeypatch.setattr(command, "read_phases", lambda path: None)
    monkeypatch.setattr(command, "refuse_leaky", lambda folder, phases, cut: checked.append(cut))
    monkeypatch.setattr(command, "phase_queries", asks)
    monkeypatch.setattr("sys.argv", ["quotas"])
    with pytest.raises(Asked, match="^labels$"):
        command.main()
    assert checked == ["labels"]


@pytest.mark.parametrize("seed", range(3))
def test_recall_and_size_are_the_naive_ones(seed):
    lists, truth = random_lists(seed)
    proposals = made(lists, truth)
    for counts in itertools.product((0, 1, 4, 12), repeat=3):
        given = dict(zip("abc", counts, strict=True))
        assert proposals.measure(given) == pytest.approx(naive(lists, truth, given))


@pytest.mark.parametrize("seed", range(3))
def test_the_greedy_path_tells_its_own_recall_and_size(seed):
    lists, truth = random_lists(seed)
    proposals = made(lists, truth)
    path = list(greedy(proposals, 2, 100))
    assert path
    for quotas, recall, size in path:
        assert (recall, size) == pytest.approx(naive(lists, truth, quotas))
    # Nothing that would find another answer is left.
    everything = dict.fromkeys("abc", DEPTH)
    assert path[-1][1] == pytest.approx(naive(lists, truth, everything)[0])


@pytest.mark.parametrize("seed", range(3))
def test_the_first_step_is_the_best_one(seed):
    lists, truth = random_lists(seed)
    quotas, recall, size = next(greedy(made(lists, truth), 1, 100))
    options = [
        naive(lists, truth, dict.fromkeys("abc", 0) | {name: count})
        for name in "abc"
        for count in (1, 2, 4, 8)
    ]
    assert recall / size == pytest.approx(max(r / s for r, s in options if s))
    assert sum(count > 0 for count in quotas.values()) == 1


def test_by_hand():
    # `sure` finds both answers with its first song; `twin` says the same again; `deep` finds
    # nothing in its first songs, but the third query's answer in its fourth.
    lists = {
        "twin": [[1], [2], []],
        "sure": [[1, 7], [2, 8], []],
        "deep": [[7, 8, 9, 4], [7, 8, 9, 4], [7, 8, 9, 3]],
    }
    proposals = made(lists, [1, 2, 3])
    path = list(greedy(proposals, 1, 100))
    # A tie goes to the first.
    assert path[0] == (
        {"twin": 1, "sure": 0, "deep": 0},
        pytest.approx(2 / 3),
        pytest.approx(2 / 3),
    )
    assert path[1][0] == {"twin": 1, "sure": 0, "deep": 4}
    assert path[1][1:] == (pytest.approx(1), pytest.approx(2 / 3 + 4))
    assert len(path) == 2


def test_the_pool_stays_within_the_size():
    lists, truth = random_lists(4)
    proposals = made(lists, truth)
    now = {"a": 6, "b": 3, "c": 0}
    for size in (1.0, 3.0, 8.0):
        assert proposals.measure(choose(proposals, 1, size))[1] <= size
        same = scaled(proposals, now, size)
        assert proposals.measure(same)[1] <= size
        assert same["c"] == 0


def test_without_a_second_half_nothing_is_held_out():
    lists = {"left": [[1]] * 4}
    found = table(made(lists, [1] * 4), np.ones(4, dtype=np.bool_), {"left": 1}, 1, sizes=(2,))
    greedy = found.set_index("pool").loc["2, greedy"]
    assert greedy["recall_seen"] == 1
    assert np.isnan(greedy["recall"])


def test_what_is_chosen_on_one_half_is_measured_on_the_other():
    # Each half's answers come from a generator of its own: what one half teaches is no use to
    # the other.
    lists = {"left": [[1]] * 4 + [[2]] * 4, "right": [[3]] * 4 + [[1]] * 4}
    halves = np.arange(8) < 4
    found = table(made(lists, [1] * 8), halves, {"left": 1, "right": 0}, 1, sizes=(2,))
    rows = found.set_index("pool")
    assert rows.loc["now", ["size", "recall"]].tolist() == [1, 0.5]
    assert rows.loc["2, greedy", ["recall", "recall_seen"]].tolist() == [0, 1]
    text = markdown(found, ["left", "right"])
    assert "| 2, greedy | 2 | 0.0000 | 1.0000 | 1 | 1 |" in text
    assert suggestion(found, ["left"]) == {"left": {"candidates": 1}}


def test_of_a_large_quota_what_is_measured_counts():
    given = SimpleNamespace(names=("a", "b"), quota={"a": 5, "b": DEPTH + 1})
    assert present(given) == {"a": 5, "b": DEPTH}
