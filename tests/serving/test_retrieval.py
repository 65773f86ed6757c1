"""The pool over a whole bundle: who proposes, who scores, and what is barred."""

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from features.columns import Action, User, UserRow
from features.query import Query, SessionEvent
from features.state import resolve
from serving.bundle import load_retrieval
from serving.retrieval import BLEND
from tests.serving.conftest import AS_OF, SONGS, song_id

PLAYED = (3, 13, 23)
USER = {
    User.REGION: "Europe",
    User.LANGUAGES: ["de"],
    UserRow.HISTORY_SONGS: [song_id(43), song_id(5)],
    UserRow.HISTORY_LAST_TS: [int((AS_OF - timedelta(days=d)).timestamp()) for d in (1, 9)],
    UserRow.HISTORY_LISTEN: [2.0, 1.0],
    UserRow.HISTORY_LIKE: [1.0, 0.0],
}
QUERY = Query(ts=AS_OF, user=USER, session=tuple(SessionEvent(song_id(i)) for i in PLAYED))


@pytest.fixture(scope="module")
def retrieval(bundle):
    return load_retrieval(bundle)


def test_a_blend_that_is_off_neither_scores_nor_proposes(retrieval):
    off = replace(retrieval, quota={n: q for n, q in retrieval.quota.items() if n != BLEND})
    state = resolve(QUERY, retrieval.songs)
    with_it, without = retrieval.pool(state), off.pool(state)
    column = retrieval.names.index(BLEND)
    assert set(off.names) == set(retrieval.names) - {BLEND}
    assert BLEND not in off.scores(state)
    others = np.isfinite(np.delete(with_it.ranks, column, axis=1)).any(axis=1)
    assert without.songs.tolist() == with_it.songs[others].tolist()
    np.testing.assert_array_equal(without.scores, np.delete(with_it.scores, column, axis=1)[others])
    assert off.features(state, without).shape == (len(without.songs), len(off.feature_names))
    assert not [name for name in off.feature_names if name.startswith(BLEND)]


def pool_of(retrieval, also=None, **changes):
    state = resolve(replace(QUERY, **changes), retrieval.songs)
    return state, retrieval.pool(state, also)


@pytest.mark.parametrize("user", [USER, {}])
def test_every_generator_scores_every_candidate(retrieval, user):
    state, pool = pool_of(retrieval, user=user)
    scores = retrieval.scores(state)
    assert set(scores) == set(retrieval.names)
    for column, name in enumerate(retrieval.names):
        alone = [scores[name].of(np.array([song]))[0] for song in pool.songs]
        np.testing.assert_allclose(pool.scores[:, column], alone, rtol=1e-5, atol=1e-7)
        # Who proposes a song has a score for it; others may have one too.
        assert not np.isnan(pool.scores[np.isfinite(pool.ranks[:, column]), column]).any()
    scored, proposed = np.isfinite(pool.scores), np.isfinite(pool.ranks)
    assert (scored & ~proposed).any()
    assert not scored.all()


def test_who_knows_nothing_has_nan_and_not_zero(retrieval):
    _, pool = pool_of(retrieval, user={}, session=())
    for name in ("like", "listen", "transitions", "together", "sessions", "repeats", "blend"):
        assert np.isnan(pool.scores[:, retrieval.names.index(name)]).all()
        assert np.isnan(pool.ranks[:, retrieval.names.index(name)]).all()
    assert np.isfinite(pool.scores[:, retrieval.names.index("trending")]).all()


@pytest.mark.parametrize("repeats", [True, False])
def test_each_proposes_its_best_allowed_songs_up_to_its_quota(retrieval, repeats):
    state, pool = pool_of(retrieval, exclude=frozenset({song_id(33)}), allow_repeats=repeats)
    barred = {33} if repeats else {33, *PLAYED}
    scores = retrieval.scores(state)
    for column, name in enumerate(retrieval.names):
        best = [song for song in scores[name].top(SONGS).tolist() if song not in barred]
        place = pool.ranks[:, column]
        order = pool.songs[np.argsort(place, kind="stable")][: np.isfinite(place).sum()]
        assert order.tolist() == best[: retrieval.quota[name]]
        assert sorted(place[np.isfinite(place)].tolist()) == list(range(len(order)))


def test_a_quota_is_met_although_the_best_songs_are_barred(retrieval):
    few = replace(retrieval, quota=dict.fromkeys(retrieval.names, 2))
    scores = few.scores(resolve(QUERY, few.songs))
    best = {song_id(song) for name in few.names for song in scores[name].top(2).tolist()}
    _, pool = pool_of(few, exclude=frozenset(best))
    for name in ("listen", "trending", "together"):
        assert np.isfinite(pool.ranks[:, few.names.index(name)]).sum() == 2


def test_excluded_songs_and_the_session_are_barred(retrieval):
    liked = SessionEvent(song_id(53), Action.LIKE)
    session = (*QUERY.session, liked)
    _, pool = pool_of(retrieval, exclude=frozenset({song_id(33), "no such song"}), session=session)
    assert not {33, *PLAYED} & set(pool.songs.tolist())
    _, again = pool_of(retrieval, exclude=frozenset({song_id(13)}), allow_repeats=True)
    assert 13 not in again.songs
    assert {3, 23} <= set(again.songs.tolist())


def test_songs_come_once_and_ascending(retrieval):
    _, pool = pool_of(retrieval, also=np.array([199, 0, 43, 0], dtype=np.int32))
    assert (np.diff(pool.songs) > 0).all()
    assert {0, 43, 199} <= set(pool.songs.tolist())


def test_a_song_added_for_labels_has_scores_but_no_rank(retrieval):
    few = replace(retrieval, quota=dict.fromkeys(retrieval.names, 3))
    state, pool = pool_of(few)
    added = np.setdiff1d(np.arange(SONGS - 1), pool.songs)[-2:].astype(np.int32)
    _, more = pool_of(few, also=added)
    rows = np.searchsorted(more.songs, added)
    assert np.isnan(more.ranks[rows]).all()
    np.testing.assert_array_equal(more.scores[rows, 0], few.scores(state)[few.names[0]].of(added))
    assert np.isfinite(more.scores[rows, 0]).all()
    others = ~np.isin(more.songs, added)
    np.testing.assert_array_equal(more.ranks[others], pool.ranks)
    # The ranker sees what serving would see: nobody proposed it.
    column = few.feature_names.index("proposed_by")
    assert few.features(state, more)[rows, column].tolist() == [0, 0]


def test_the_rankers_input_has_a_row_a_candidate_and_a_named_column_each(retrieval):
    state, pool = pool_of(retrieval)
    features = retrieval.features(state, pool)
    assert features.shape == (len(pool.songs), len(retrieval.feature_names))
    assert len(set(retrieval.feature_names)) == len(retrieval.feature_names)
    for column, name in enumerate(retrieval.names):
        score = retrieval.feature_names.index(f"{name}_score")
        rank = retrieval.feature_names.index(f"{name}_rank")
        np.testing.assert_array_equal(features[:, score], pool.scores[:, column])
        np.testing.assert_array_equal(features[:, rank], pool.ranks[:, column])
    place = retrieval.feature_names.index("proposed_by")
    np.testing.assert_array_equal(features[:, place], np.isfinite(pool.ranks).sum(axis=1))
