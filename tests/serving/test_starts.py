"""What is added to the ranker at session starts: used there, nowhere else, and not needed."""

import lightgbm
import numpy as np
import pytest

from features.query import Query, SessionEvent
from serving.bundle import load_retrieval
from serving.recommender import Recommender
from serving.warm_up import warm_up_queries
from tests.serving.conftest import AS_OF, song_id, write_manifest

START = Query(ts=AS_OF, user={"history_songs": [song_id(3)], "history_last_ts": [1]})
MIDDLE = Query(ts=AS_OF, session=(SessionEvent(song_id(4)),))


@pytest.fixture
def with_starts(copy_bundle):
    """Return a bundle whose starts go by unpopularity, whatever the ranker says."""
    folder = copy_bundle("starts")
    names = list(load_retrieval(folder).feature_names)
    random = np.random.default_rng(3)
    inputs = random.random((2000, len(names)))
    target = inputs[:, names.index("popularity_percentile")] < 0.5
    data = lightgbm.Dataset(inputs, target.astype(int), feature_name=names)
    settings = {"objective": "binary", "verbose": -1, "num_threads": 1, "num_leaves": 7}
    settings["learning_rate"] = 20.0
    lightgbm.train(settings, data, 2).save_model(folder / "starts.txt")
    write_manifest(folder, "starts")
    return Recommender.load(folder)


def answers(recommender, queries):
    return [
        [(song.song_id, song.score) for song in slate.songs]
        for slate in recommender.recommend_many(queries, 20)
    ]


def test_only_starts_get_what_is_added_there(with_starts, bundle):
    plain = Recommender.load(bundle)
    assert plain.ranker.starts is None
    start, middle = answers(with_starts, [START, MIDDLE])
    assert middle == answers(plain, [MIDDLE])[0]
    assert start != answers(plain, [START])[0]
    percentile = with_starts.retrieval.songs.numbers["popularity_percentile"]
    found = with_starts.retrieval.songs.indices([song for song, _ in start])
    assert (percentile[found] < 0.55).mean() > 0.9


def test_one_answer_is_that_of_many_whatever_is_asked_beside_it(with_starts):
    together = answers(with_starts, [START, MIDDLE, START])
    alone = [answers(with_starts, [query])[0] for query in (START, MIDDLE, START)]
    assert together == alone


def test_the_trees_laid_out_score_starts_as_lightgbm_adds_them_up(with_starts):
    trees = with_starts.ranker.starts.trees
    features = with_starts.prepare(START).features
    assert trees.forest is not None
    raw = trees.booster.predict(features, raw_score=True)
    np.testing.assert_allclose(trees.scores(features), raw, atol=1e-6)
    bare = type(trees)(trees.booster)
    np.testing.assert_allclose(bare.scores(features), raw)


def test_both_scores_are_added_up(with_starts):
    ranker, features = with_starts.ranker, with_starts.prepare(START).features
    both = ranker.trees.scores(features) + ranker.starts.trees.scores(features)
    np.testing.assert_array_equal(ranker.scores(features), both)
    assert np.ptp(ranker.trees.scores(features)) > 0


def test_starts_are_explained(with_starts):
    slate = with_starts.recommend(START, 5, explain=True)
    assert len(slate.songs) == 5
    assert all(song.sources for song in slate.songs)


def test_warming_up_asks_for_starts_too(with_starts):
    lengths = [len(query.session) for query in warm_up_queries(with_starts.retrieval.songs, [0, 1])]
    assert 0 in lengths
    assert max(lengths) > 0
