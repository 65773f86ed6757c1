"""The session neighbours against an oracle that spells the papers' formulas out."""

import math

import numpy as np
import pytest

from benchmarks.peers.data import DAY
from benchmarks.peers.neighbours import Sknn, Stan, VSknn, Vstan, place_decay, step_decay
from tests.benchmarks.peers_world import listed, plays, query, random_sessions

SONGS = 25


def last_places(session):
    return {song: place for place, song in enumerate(session, start=1)}


def oracle(sessions, context, now, k, sample, parts):
    """Score songs session by session; `parts` holds the method's formulas."""
    here, length = last_places(context), len(context)
    sharing = [code for code, past in enumerate(sessions) if set(past) & set(here)]
    near = []
    for code in sharing[-sample:]:
        past = set(sessions[code])
        weights = {song: parts["place"](place, length) for song, place in here.items()}
        dot = sum(weight for song, weight in weights.items() if song in past)
        ended = code * DAY + 60 * (len(sessions[code]) - 1)
        value = parts["similarity"](dot, list(weights.values()), len(past))
        near.append((value * parts["age"](now - ended), code))
    near.sort(key=lambda pair: -pair[0])
    held = {s: sum(s in past for past in sessions) for s in range(SONGS)}
    scores = np.zeros(SONGS)
    for value, code in near[:k]:
        there = last_places(sessions[code])
        match = max((song for song in there if song in here), key=lambda song: here[song])
        for song, place in there.items():
            idf = math.log(len(sessions) / held[song])
            scores[song] += (
                value
                * parts["match"](here[match], length)
                * parts["distance"](abs(place - there[match]))
                * parts["song"](idf)
            )
    return scores


def one(*_):
    return 1.0


def cosine(dot, weights, size):
    return dot / math.sqrt(sum(w * w for w in weights) * size)


def stan_similarity(dot, weights, size):
    return dot / math.sqrt(len(weights) * size)


NOTHING = dict.fromkeys(("place", "age", "match", "distance", "song"), one) | {"similarity": cosine}
STAN = {
    "place": lambda place, length: math.exp((place - length) / 2.0),
    "similarity": stan_similarity,
    "age": lambda age: math.exp(-age / (30 * DAY)),
    "distance": lambda far: math.exp(-far / 1.5),
    "match": one,
    "song": one,
}
CASES = [
    (Sknn, {}, NOTHING),
    (
        VSknn,
        {"weighting": "div", "weighting_score": "quadratic", "idf": 2.0},
        NOTHING
        | {
            "place": lambda place, length: place / length,
            "similarity": lambda dot, weights, size: dot / len(weights),
            "match": lambda place, length: 1 / (length - place + 1) ** 2,
            "song": lambda idf: 1 + 2.0 * idf,
        },
    ),
    (Stan, {"lambda_place": 2.0, "lambda_days": 30.0, "lambda_distance": 1.5}, STAN),
    (
        Vstan,
        {"lambda_place": 2.0, "lambda_days": 30.0, "lambda_distance": 1.5}
        | {"lambda_match": 3.0, "idf": 5.0},
        STAN
        | {
            "match": lambda place, length: math.exp((place - length) / 3.0),
            "song": lambda idf: 1 + 5.0 * idf,
        },
    ),
]


@pytest.mark.parametrize(("kind", "settings", "parts"), CASES)
@pytest.mark.parametrize(("sample", "k"), [(1000, 1000), (15, 7)])
def test_scores_are_those_of_the_formulas(kind, settings, parts, sample, k):
    sessions = random_sessions(3)
    peer = kind(fill=0, sample=sample, k=k, **settings).fit(plays(sessions, SONGS))
    random = np.random.default_rng(5)
    for _ in range(20):
        context = random.integers(0, SONGS, random.integers(1, 8)).tolist()
        found, values = peer.scores(query(context))
        scores = np.zeros(SONGS)
        scores[found] = values
        expected = oracle(sessions, context, 100 * DAY, k, sample, parts)
        np.testing.assert_allclose(scores, expected, rtol=1e-9)


def test_only_the_latest_and_nearest_sessions_count():
    past = plays([[1, 2], [1, 3], [1, 4, 9], [1, 5]], 10)
    assert set(listed(Sknn(fill=0, sample=2).fit(past).tops([query([1])]))) == {1, 4, 5, 9}
    assert set(listed(Sknn(fill=0, sample=2, k=1).fit(past).tops([query([1])]))) == {1, 5}


def test_a_session_without_neighbours_gives_nothing():
    peer = Vstan(fill=0).fit(plays([[1, 2], [3, 4]], 10))
    assert listed(peer.tops([query([]), query([7])]), 0) == []
    assert listed(peer.tops([query([]), query([7])]), 1) == []


def test_a_start_continues_the_listeners_history():
    peer = Sknn(fill=2).fit(plays([[1, 2], [3, 4]], 10))
    assert set(listed(peer.tops([query([], history=[3, 9, 1])]))) == {3, 4}


def test_stan_prefers_what_stood_beside_the_shared_song():
    peer = Stan(fill=0).fit(plays([[5, 6, 7, 1, 2, 8, 9]], 10))
    assert set(listed(peer.tops([query([1])]))[:3]) == {1, 2, 7}


def test_a_recent_neighbour_counts_more_in_stan():
    peer = Stan(fill=0, lambda_days=1.0).fit(plays([[1, 2], [1, 3]], 10))
    assert listed(peer.tops([query([1], ts=3 * DAY)])) == [1, 3, 2]


def test_decays_are_those_of_the_papers():
    np.testing.assert_allclose(place_decay("div", np.array([1, 4]), 4), [0.25, 1])
    np.testing.assert_allclose(place_decay("linear", np.array([1, 4]), 4), [0.7, 1])
    np.testing.assert_allclose(place_decay("log", np.array([4]), 4), [1 / math.log10(1.7)])
    np.testing.assert_allclose(step_decay("linear", np.array([1, 20])), [0.9, 0])
    np.testing.assert_allclose(step_decay("quadratic", np.array([2])), [0.25])
