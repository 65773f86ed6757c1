"""Soft rules space songs: hand-worked cases and a naive oracle."""

import numpy as np
import pytest

from serving.exploration import Explore, drawn_within
from serving.spacing import ALBUM, ARTIST, Following, Limit, spaced


def limit(codes, limit=1, window=2, before=(), rule=ARTIST):
    return Limit(rule, codes, before, limit, window)


def test_spacing_by_hand():
    codes = [7, 7, 7, 8, 8, 9]
    order = range(6)
    assert spaced(order, [limit(codes)], 4) == ([0, 3, 1, 4], [])
    assert spaced(order, [limit(codes, window=3)], 4) == ([0, 3, 5, 1], [])
    assert spaced(order, [limit(codes, limit=2, window=3)], 5) == ([0, 1, 3, 2, 4], [])


def test_the_songs_played_last_count():
    codes = [7, 8, 7]
    assert spaced(range(3), [limit(codes, before=[7])], 2)[0] == [1, 0]
    assert spaced(range(3), [limit(codes, before=[7, 9])], 2)[0] == [0, 1]
    assert spaced(range(3), [limit(codes, before=[7, 9], window=3)], 1)[0] == [1]


def test_songs_without_a_code_are_left_alone():
    codes = [-1] * 5
    assert spaced([4, 2, 0], [limit(codes, window=9, before=[-1, -1])], 3) == ([4, 2, 0], [])


def test_albums_give_way_before_artists():
    artists, albums = [1, 1, 2], [5, 5, 5]
    limits = [limit(albums, rule=ALBUM), limit(artists, rule=ARTIST)]
    assert spaced(range(3), limits, 2) == ([0, 2], [ALBUM])
    # Nothing but the same artist is left for the last place.
    assert spaced(range(2), limits, 2) == ([0, 1], [ALBUM, ARTIST])


@pytest.mark.parametrize("seed", range(20))
def test_drawn_slates_keep_limits_as_the_best_do(seed):
    random = np.random.default_rng(seed)
    # In half of the cases more are asked for than there are.
    n = 30 if seed % 2 else 20
    limits = [
        limit(random.integers(-1, 6, n).tolist(), 1, 3, [2, 4], ALBUM),
        limit(random.integers(-1, 4, n).tolist(), 2, 5, [1, 1], ARTIST),
    ]
    scores = random.permutation(n).astype(float)
    following = Following(limits, n)
    # So cold that the best song allowed is drawn.
    places, chances = drawn_within(scores, 25, Explore(1e-3, seed), following)
    order = np.argsort(-scores).tolist()
    assert (places.tolist(), list(following.relaxed)) == spaced(order, limits, 25)
    assert chances == pytest.approx(np.ones(min(n, 25)))


def test_nothing_gives_way_for_a_place_that_nobody_can_take():
    limits = [limit([1, 2], rule=ALBUM), limit([3, 4], rule=ARTIST)]
    following = Following(limits, 2)
    places, _ = drawn_within(np.zeros(2), 5, Explore(1.0, 1), following)
    assert (len(places), following.relaxed) == (2, {})


def test_a_rule_never_makes_an_answer_shorter():
    assert len(spaced(range(9), [limit([1] * 9, window=9)], 9)[0]) == 9
    assert spaced([], [limit([])], 5) == ([], [])


@pytest.mark.parametrize("seed", range(20))
def test_spacing_against_a_naive_oracle(seed):
    random = np.random.default_rng(seed)
    n, most, window = 40, int(random.integers(1, 4)), int(random.integers(2, 7))
    codes = random.integers(-1, 12, n).tolist()
    before = random.integers(-1, 12, 8).tolist()
    order = random.permutation(n).tolist()
    chosen, relaxed = spaced(order, [limit(codes, most, window, before)], 12)
    heard = [*before, *(codes[i] for i in chosen)]
    assert len(set(chosen)) == 12
    if not relaxed:
        for end in range(len(before), len(heard)):
            part = heard[max(0, end - window + 1) : end + 1]
            assert heard[end] < 0 or part.count(heard[end]) <= most
    # Nobody who could have come earlier was passed over.
    for place, song in enumerate(chosen):
        recent = heard[: len(before) + place][-(window - 1) :]
        free = [i for i in order if i not in chosen[:place]]
        fit = [i for i in free if codes[i] < 0 or recent.count(codes[i]) < most]
        assert song == (fit or free)[0]
