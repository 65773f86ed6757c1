"""The recommender over a whole bundle."""

from dataclasses import replace

import numpy as np
import pytest

from features.columns import Action, User, UserRow
from features.query import Query, SessionEvent
from serving import recommender as module
from serving.recommender import Recommender
from tests.serving.conftest import AS_OF, CLUSTERS, SONGS, song_id
from training.evaluate import ask
from training.metrics import answer_ranks
from training.queries import Labelled


@pytest.fixture(scope="module")
def recommender(bundle):
    return Recommender.load(bundle)


def query(*songs, **changes):
    events = tuple(SessionEvent(song_id(i)) for i in songs)
    return replace(Query(ts=AS_OF, session=events), **changes)


def random_queries(count):
    random = np.random.default_rng(5)
    return [
        query(*random.integers(0, SONGS, random.integers(0, 6)), allow_repeats=bool(i % 2))
        for i in range(count)
    ]


def ids(slate):
    return [song.song_id for song in slate.songs]


@pytest.mark.parametrize("block", [1, 500, module.PREDICT_ROWS])
def test_many_answers_at_once_are_the_single_answers(recommender, monkeypatch, block):
    monkeypatch.setattr(module, "PREDICT_ROWS", block)
    queries = random_queries(12)
    assert recommender.recommend_many(queries, 10) == [
        recommender.recommend(q, 10) for q in queries
    ]
    assert recommender.recommend_many([], 10) == []


def test_at_most_k_songs_once_each_and_best_first(recommender):
    for k in (1, 7, 1000):
        slate = recommender.recommend(query(3, 13), k)
        scores = [song.score for song in slate.songs]
        # All that there are, but for the session's.
        assert len(slate.songs) == min(k, SONGS - 2)
        assert len(set(ids(slate))) == len(slate.songs)
        assert scores == sorted(scores, reverse=True)
    longer, shorter = recommender.recommend(query(3), 20), recommender.recommend(query(3), 5)
    assert ids(longer)[:5] == ids(shorter)


def test_the_same_query_has_the_same_answer_also_after_a_restart(recommender, bundle):
    asked = query(4, 14, user={User.REGION: "Europe"})
    first = recommender.recommend(asked, 10, explain=True)
    assert recommender.recommend(asked, 10, explain=True) == first
    assert Recommender.load(bundle).recommend(asked, 10, explain=True) == first


def test_songs_go_on_as_the_session_went(recommender):
    for first in range(CLUSTERS):
        found = ids(recommender.recommend(query(first, first + 10, first + 20), 5))
        assert [int(song[-3:]) % CLUSTERS for song in found] == [first] * 5


def test_a_like_changes_the_answer(recommender):
    """A liked song of another cluster draws its neighbours into the pool, by the likes."""
    heard = (SessionEvent(song_id(3)),)
    before = recommender.recommend(query(session=heard), 1000, explain=True)
    liked = (*heard, SessionEvent(song_id(5), Action.LIKE))
    after = recommender.recommend(query(session=liked), 1000, explain=True)
    assert [s.p_like for s in before.songs] != [s.p_like for s in after.songs]
    assert not any("like" in song.sources for song in before.songs)
    by_like = [int(s.song_id[-3:]) % CLUSTERS for s in after.songs if s.sources[0] == "like"]
    assert by_like.count(5) >= 10


def test_an_explained_answer_orders_the_same_and_says_why(recommender):
    plain = recommender.recommend(query(3, 13), 10)
    told = recommender.recommend(query(3, 13), 10, explain=True)
    assert [(s.song_id, s.score) for s in told.songs] == [(s.song_id, s.score) for s in plain.songs]
    assert all(s.p_like is None and not s.sources and not s.reasons for s in plain.songs)
    for song in told.songs:
        # The fixture's calibration ends at 0.4.
        assert 0 <= song.p_like <= 0.4
        assert song.sources
        assert set(song.sources) <= set(recommender.retrieval.names)
        assert song.reasons


def test_sources_come_best_rank_first(recommender):
    asked = query(3, 13)
    pool = recommender.prepare(asked).pool
    for song in recommender.recommend(asked, 10, explain=True).songs:
        row = np.flatnonzero(pool.songs == int(song.song_id[-3:]))[0]
        places = dict(zip(recommender.retrieval.names, pool.ranks[row], strict=True))
        found = [places[name] for name in song.sources]
        assert found == sorted(found)
        assert len(found) == sum(np.isfinite(list(places.values())))


def test_strangers_and_unknown_songs_are_answered(recommender):
    unknown = {User.ID: "nobody", UserRow.HISTORY_SONGS: None}
    slate = recommender.recommend(
        Query(ts=AS_OF, user=unknown, session=(SessionEvent("?"), SessionEvent(song_id(3)))), 10
    )
    assert len(slate.songs) == 10
    assert slate.unknown_songs == ("?",)
    assert ids(slate) == ids(recommender.recommend(query(3), 10))


def test_a_stranger_who_only_skipped_is_answered_as_at_the_start_of_a_session(recommender):
    skips = tuple(SessionEvent(song_id(i), "skip") for i in (6, 16, 6))
    start, refused = (recommender.prepare(query(session=session)) for session in ((), skips))
    columns = []
    for prepared in (start, refused):
        # The skipped songs are not proposed again, which moves the ranks behind them.
        rows = dict(zip(prepared.pool.songs.tolist(), prepared.features, strict=True))
        columns.append(np.stack([rows[song] for song in (7, 8, 46)]))
    same = np.array(
        [np.array_equal(a, b, equal_nan=True) for a, b in zip(*(c.T for c in columns), strict=True)]
    )
    names = np.array(recommender.retrieval.feature_names)
    ranks = {name for name in names if name.endswith("_rank")}
    # Skips count against what factors say; nothing else knows of them.
    assert set(names[~same]) <= ranks | {"skip_score", "blend_score", "proposed_by"}
    assert "prefix_length" in names[same]
    heard = recommender.prepare(query(session=(*skips, SessionEvent(song_id(36)))))
    assert heard.features[0, list(names).index("prefix_length")] == 4


def test_the_curve_of_candidates_ends_at_the_answers_that_are_given(recommender):
    session = tuple(SessionEvent(song_id(i), Action.SKIP, 2000) for i in (3, 13, 23))
    query = Query(ts=AS_OF, session=session, allow_repeats=True)
    queries = [
        Labelled("q", "u", query, 3, song_id(i), "full", (song_id(i),), ("full",))
        for i in range(SONGS)
    ]
    answers = ask(recommender, queries)
    truth = recommender.retrieval.songs.indices([one.answer for one in queries])
    ranks = answer_ranks(answers.songs["segue"], truth)
    shown = np.isfinite(ranks)
    assert shown.sum() == answers.songs["segue"].shape[1]
    # Two songs of one score share a rank in the curve.
    np.testing.assert_allclose(answers.pool_ranks[shown, -1], ranks[shown], atol=1)
