"""Matches of the last songs with past sessions, against plain loops over those sessions."""

from datetime import UTC, datetime

import numpy as np
import pytest

from features.catalogue import catalogue
from features.columns import Song, UserRow
from features.params import Matches
from features.query import Query, SessionEvent
from features.state import resolve
from serving.bundle import pattern
from serving.continuations import Continuations
from serving.scores import NO_SCORES
from tests.features import small

SONGS = 6
NOW = datetime(2024, 5, 1, 12, tzinfo=UTC)
CATALOGUE = catalogue(small.frame(*({Song.ID: f"s{i}"} for i in range(SONGS))))
EVERY = np.arange(SONGS, dtype=np.int32)


def state(*session):
    return resolve(Query(ts=NOW, session=tuple(SessionEvent(f"s{i}") for i in session)), CATALOGUE)


def rows(lists, width):
    flat = np.array([value for row in lists for value in row], dtype=np.int32)
    bounds = np.cumsum([0, *map(len, lists)]).astype(np.int32)
    return pattern(flat, bounds, (len(lists), width))


def matcher(sessions, recency, longest=3, gain=4.0):
    of_song = [[n for n, songs in enumerate(sessions) if song in songs] for song in range(SONGS)]
    return Continuations(
        rows(of_song, len(sessions)),
        rows(sessions, SONGS),
        np.array(recency, dtype=np.float32),
        Matches(longest=longest, gain=gain, candidates=5),
    )


def naive(sessions, recency, session, longest, gain):
    """Return (song, match length, weight) of each time that the current song was followed."""
    found = []
    for songs, worth in zip(sessions, recency, strict=True):
        for place in range(len(songs) - 1):
            length = 0
            while (
                length < min(longest, len(session), place + 1)
                and songs[place - length] == session[-1 - length]
            ):
                length += 1
            if length:
                found.append((songs[place + 1], length, worth * gain ** (length - 1)))
    return found


def test_a_longer_match_counts_more_by_hand():
    # After 1 came 2 once, with 0 before it as here (4 times the weight); 3 came after 5, 1.
    generator = matcher([[0, 1, 2], [5, 1, 3]], [1.0, 1.0])
    scores = generator.scores(state(0, 1)).of(EVERY)
    np.testing.assert_allclose(scores, [np.nan, np.nan, 0.8, 0.2, np.nan, np.nan], rtol=1e-6)
    features = generator.features(state(0, 1), EVERY)
    np.testing.assert_array_equal(features["match_length"], [np.nan, np.nan, 2, 1, np.nan, np.nan])
    np.testing.assert_array_equal(
        features["match_share"], [np.nan, np.nan, 1, np.nan, np.nan, np.nan]
    )
    assert (features["match_depth"], features["match_times"]) == (2, 1)


@pytest.mark.parametrize("seed", range(8))
def test_matches_agree_with_loops_over_sessions(seed):
    random = np.random.default_rng(seed)
    sessions = [random.integers(0, SONGS, random.integers(1, 9)).tolist() for _ in range(20)]
    recency, session = random.uniform(0.1, 1, 20), random.integers(0, SONGS, 5).tolist()
    generator = matcher(sessions, recency)
    found = naive(sessions, recency, session, 3, 4.0)
    total = sum(weight for _, _, weight in found)
    depth = max(length for _, length, _ in found)
    deepest = [song for song, length, _ in found if length == depth]
    scores = generator.scores(state(*session)).of(EVERY)
    features = generator.features(state(*session), EVERY)
    for song in range(SONGS):
        mine = [(length, weight) for other, length, weight in found if other == song]
        share = deepest.count(song) / len(deepest)
        np.testing.assert_allclose(
            [scores[song], features["match_length"][song], features["match_share"][song]],
            [
                sum(weight for _, weight in mine) / total if mine else np.nan,
                max((length for length, _ in mine), default=np.nan),
                share or np.nan,
            ],
            rtol=1e-5,
        )
    assert (features["match_depth"], features["match_times"]) == (depth, len(deepest))


@pytest.mark.parametrize("session", [(), (4,), (2,)])
def test_a_song_that_nothing_followed_has_no_match(session):
    generator = matcher([[0, 1, 2], [0, 2]], [1.0, 1.0])
    assert generator.scores(state(*session)) is NO_SCORES
    assert set(generator.features(state(*session), EVERY)) == {
        "match_length",
        "match_share",
        "match_depth",
        "match_times",
    }


def test_a_session_start_has_no_match_whatever_the_history():
    user = {
        UserRow.HISTORY_SONGS: ["s0"],
        UserRow.HISTORY_LAST_TS: [int(NOW.timestamp()) - 60],
    }
    generator = matcher([[0, 1, 2]], [1.0])
    assert generator.scores(resolve(Query(ts=NOW, user=user), CATALOGUE)) is NO_SCORES


def test_sessions_too_long_ago_to_tell_apart_count_alike():
    sessions = [[0, 1, 2], [0, 1, 3], [5, 1, 3]]
    found = matcher(sessions, [0.0, 0.0, 0.0]).scores(state(0, 1))
    # Two matches of two songs, each worth four times the one of a single song.
    np.testing.assert_allclose(found.of(np.array([2, 3], np.int32)), [4 / 9, 5 / 9])
