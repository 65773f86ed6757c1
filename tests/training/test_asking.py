"""What a whole retrieval and a whole recommender give: ranker rows, answers, and their summary."""

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pandas as pd
import pytest

from features.columns import Song
from features.params import load_params
from features.query import Query, SessionEvent
from features.state import resolve
from serving.candidates import most_popular_first
from serving.recommender import Recommender
from tests.serving.conftest import AS_OF, song_id, write_bundle
from training.dataset import build_rows, query_rows
from training.evaluate import TOP, ask
from training.methods import POPULARITY, SEGUE
from training.metrics import NEXT, START, answer_ranks
from training.queries import Labelled
from training.report import evaluate

PARAMS = load_params()
SESSION = tuple(SessionEvent(song_id(i), "play") for i in (0, 10, 20))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_bundle(tmp_path_factory.mktemp("asked") / "bundle")


@pytest.fixture(scope="module")
def recommender(folder):
    loaded = Recommender.load(folder)
    return replace(loaded, manifest={**loaded.manifest, "seen_until": AS_OF.isoformat()})


@pytest.fixture(scope="module")
def proposed(recommender):
    """Return the ids of the songs that the session's query is proposed, and of the others."""
    songs = recommender.retrieval.songs
    pool = recommender.retrieval.pool(resolve(asked("").query, songs))
    ids = songs.ids[:]
    return ids[pool.songs].tolist(), np.delete(ids, pool.songs).tolist()


def asked(answer, *later, session=SESSION, user="u0"):
    """Return a query with its answer, and with what was heard later as (song, outcome)."""
    query = Query(ts=AS_OF + timedelta(hours=1), session=session, allow_repeats=True)
    rest = ((answer, "full"), *later)
    songs, outcomes = zip(*rest, strict=True)
    return Labelled(f"q-{answer}", user, query, len(session), answer, "full", songs, outcomes)


def test_rows_hold_the_answer_what_was_heard_later_and_so_many_others(recommender, proposed):
    (heard, liked, skipped, *_), (answer, *_) = proposed
    labelled = asked(answer, (heard, "neutral"), (skipped, "skip"), (liked, "liked"))
    part = query_rows(recommender.retrieval, labelled, 5, np.random.default_rng(1))
    assert (part.answer.sum(), part.later.sum(), len(part.answer)) == (1, 2, 1 + 2 + 5)
    # Nobody proposed the answer: its row is there all the same, with no rank.
    assert part.in_pool.tolist() == (~part.answer).tolist()
    names = recommender.retrieval.feature_names
    ranks = [place for place, name in enumerate(names) if name.endswith("_rank")]
    assert np.isnan(part.features[part.answer][:, ranks]).all()


def test_each_query_draws_others_of_its_own_whoever_works(folder, proposed):
    queries = [asked(proposed[0][0])] * 2
    few = PARAMS.ranker.model_copy(update={"negatives": 5})
    one, two = (build_rows(folder, queries, few, workers) for workers in (1, 2))
    np.testing.assert_array_equal(one.features, two.features)
    first, second = (one.features[one.query == number] for number in (0, 1))
    assert first.shape == second.shape == (6, one.features.shape[1])
    assert not np.array_equal(first, second, equal_nan=True)


def test_what_the_hard_rules_bar_is_nobodys_answer(recommender, proposed):
    songs = recommender.retrieval.songs
    popular = most_popular_first(songs, 1)
    withdrawn = {Song.WITHDRAWN: np.isin(np.arange(len(songs)), popular)}
    without = replace(songs, arrays={**songs.arrays, **withdrawn})
    barring = replace(recommender, retrieval=replace(recommender.retrieval, songs=without))
    every = {name for name, songs in _first(recommender, proposed).items() if popular[0] in songs}
    assert POPULARITY in every
    assert len(every) > 2
    answers = _first(barring, proposed)
    assert not [name for name, songs in answers.items() if popular[0] in songs]


def _first(recommender, proposed):
    return {
        name: songs[0] for name, songs in ask(recommender, [asked(proposed[0][0])]).songs.items()
    }


def test_answers_are_those_of_the_recommender_and_of_each_generator(recommender, proposed):
    inside, outside = (asked(songs[0]) for songs in proposed)
    found = ask(recommender, [inside, outside, asked("elsewhere")])
    assert found.in_pool.tolist() == [True, False, False]
    slate = recommender.recommend(inside.query, TOP)
    songs = recommender.retrieval.songs
    answered = songs.indices([song.song_id for song in slate.songs]).tolist()
    assert found.songs[SEGUE][0, : len(answered)].tolist() == answered
    scores = recommender.retrieval.scores(resolve(inside.query, songs))
    for name in recommender.retrieval.names:
        top = scores[name].top(TOP).tolist()
        assert found.songs[name][0, : len(top)].tolist() == top


def test_next_songs_and_session_starts_are_summed_up_apart(recommender, proposed):
    song = proposed[0][0]
    queries = [asked(song), asked(song, user="u1"), asked(song, session=(), user="u2")]
    heard = pd.DataFrame({"session_id": ["a"], "song_id": [song]})
    how = PARAMS.evaluation.model_copy(update={"bootstrap": 5})
    found = evaluate(recommender, queries, heard, how)
    mine = found.summary[found.summary["method"] == SEGUE].set_index(["task", "metric"])["queries"]
    assert (mine[NEXT, "ndcg_10"], mine[START, "ndcg_10"]) == (2, 1)
    assert mine[START, "session_recall_20"] == 1
    assert (NEXT, "session_recall_20") not in mine.index
    lonely = evaluate(recommender, [replace(queries[2], user_id="u9")], heard, how)
    assert set(lonely.summary["task"]) == {START}


def test_the_whole_pool_is_ranked_as_it_is_answered(recommender, proposed):
    session = (*(SessionEvent(song_id(i), "skip") for i in (0, 10)), *SESSION[-1:])
    queries = [asked(song, session=session) for song in proposed[0]]
    found = ask(recommender, queries)
    truth = recommender.retrieval.songs.indices([query.answer for query in queries])
    ranks = answer_ranks(found.songs[SEGUE], truth)
    seen = np.isfinite(ranks)
    assert seen.sum() >= 10
    np.testing.assert_array_equal(found.pool_ranks[seen, -1], ranks[seen])


def test_popularity_answers_everybody_alike(recommender, proposed):
    found = ask(recommender, [asked(song) for song in proposed[0][:2]])
    popular = most_popular_first(recommender.retrieval.songs, TOP).tolist()
    assert found.songs[POPULARITY][:, : len(popular)].tolist() == [popular] * 2
