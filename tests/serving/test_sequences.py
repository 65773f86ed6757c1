"""Loops, song vectors and link features against plain loops over the same small arrays."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from features.catalogue import catalogue
from features.columns import Song, UserRow
from features.params import Loops, Seeds
from features.query import Query, SessionEvent
from features.state import resolve
from serving.links import Links
from serving.scores import NO_SCORES
from serving.sequences import SessionLoops, SongVectors
from tests.features import small

SONGS = 8
NOW = datetime(2024, 5, 1, 12, tzinfo=UTC)
CATALOGUE = catalogue(small.frame(*({Song.ID: f"s{i}"} for i in range(SONGS))))
EVERY = np.arange(SONGS, dtype=np.int32)
LOOPS = Loops(max_gap=2, gap_decay=0.5, age_decay=0.8, candidates=5)


def state(*session, user=None):
    events = tuple(SessionEvent(f"s{i}") for i in session)
    return resolve(Query(ts=NOW, user=user or {}, session=events), CATALOGUE)


def test_a_loop_by_hand():
    # 0 came twice before; 1 followed first and 2 one later, then 2 followed and 0 (now) one later.
    scores = SessionLoops(LOOPS).scores(state(0, 1, 2, 0, 2, 0))
    expected = [0.5, 0.8, 0.8 * 0.5 + 1.0] + [np.nan] * 5
    np.testing.assert_allclose(scores.of(EVERY), expected, rtol=1e-6)


@pytest.mark.parametrize("session", [(), (1,), (1, 2, 3)])
def test_a_song_heard_for_the_first_time_has_no_loop(session):
    assert len(SessionLoops(LOOPS).scores(state(*session)).top(5)) == 0


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def test_song_vectors_score_by_the_decayed_mean_of_the_seeds():
    random = np.random.default_rng(0)
    vectors, known = unit(random.normal(size=(SONGS, 3))), np.ones(SONGS, dtype=np.bool_)
    vectors[5], known[5] = 0, False
    generator = SongVectors(
        vectors, known, Seeds(seeds=3, seed_decay=0.5, half_life_days=1, candidates=1)
    )
    # The latest three, latest first: 4, the unknown 5, 2.
    expected = vectors @ ((vectors[4] + 0.25 * vectors[2]) / 1.25)
    expected[5] = np.nan
    np.testing.assert_allclose(
        generator.scores(state(1, 2, 5, 4)).of(EVERY), expected, rtol=1e-5, atol=1e-6
    )
    assert generator.scores(state(5)) is NO_SCORES


def links(seed):
    random = np.random.default_rng(seed)
    dense = random.random((SONGS, SONGS)) * (random.random((SONGS, SONGS)) < 0.5)
    matrix = csr_matrix(dense.astype(np.float32))
    vectors = unit(random.normal(size=(SONGS, 3)))
    return Links(matrix, vectors), matrix.toarray()


@pytest.mark.parametrize("seed", range(6))
def test_link_features_equal_a_loop(seed):
    fitted, dense = links(seed)
    session = np.random.default_rng(seed).integers(0, SONGS, 5).tolist()
    found = fitted.features(state(*session), EVERY)
    back = session[::-1]
    for song in EVERY:
        near = [float(fitted.vectors[song] @ fitted.vectors[heard]) for heard in back]
        assert_value(found["near_last"][song], near[0])
        assert_value(found["near_most"][song], max(near))
        assert_value(found["near_mean"][song], np.mean(near))
        after = [i for i in range(4) if session[i] == session[-1] and session[i + 1] == song]
        assert found["loop_count"][song] == len(after)


@pytest.mark.parametrize("seed", range(6))
def test_steps_are_what_links_said_of_the_last_five(seed):
    fitted, dense = links(seed)
    session = np.random.default_rng(seed).integers(0, SONGS, 8).tolist()
    found = fitted.features(state(*session), EVERY)
    steps = [dense[a, b] for a, b in zip(session[2:], session[3:], strict=False)]
    assert_value(found["step_last"], steps[-1] or np.nan)
    assert_value(found["step_mean"], np.mean([step for step in steps if step]))
    assert_value(found["step_known"], np.mean([step > 0 for step in steps]))
    assert np.isnan(fitted.features(state(1), EVERY)["step_known"])


def assert_value(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_the_latest_loop_counts_from_the_end():
    fitted, _ = links(0)
    found = fitted.features(state(0, 1, 0, 2, 0), EVERY)
    assert found["loop_latest"][2] == 0
    assert found["loop_latest"][1] == 1
    assert np.isnan(found["loop_latest"][3])
    assert found["current_plays"] == 2


def test_own_order_counts_minutes_around_the_current_song():
    minutes = {3: 10, 1: 60, 4: 63, 6: 600}
    user = {
        UserRow.HISTORY_SONGS: [f"s{song}" for song in minutes],
        UserRow.HISTORY_LAST_TS: [
            int((NOW - timedelta(minutes=m)).timestamp()) for m in minutes.values()
        ],
    }
    fitted, _ = links(0)
    found = fitted.features(state(1, user=user), EVERY)["own_minutes_after"]
    # 3 was heard 50 minutes after the last play of 1, 4 three minutes before it, 6 long before.
    np.testing.assert_allclose(found, [np.nan, 0, np.nan, 50, -3, np.nan, np.nan, np.nan])
    assert np.isnan(fitted.features(state(7, user=user), EVERY)["own_minutes_after"])


def test_a_session_start_and_absent_parts_have_unknown_or_no_features():
    fitted, _ = links(0)
    found = fitted.features(state(), EVERY)
    assert np.isnan(found["near_last"])
    assert found["loop_count"].tolist() == [0] * SONGS
    bare = Links(None, None).features(state(1, 2), EVERY)
    assert set(bare) == {"loop_count", "loop_latest", "current_plays", "own_minutes_after"}
