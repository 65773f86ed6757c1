"""What the curves and shares of the report are made of."""

import numpy as np
import pytest

from tests.training.test_asking import folder, recommender  # noqa: F401 - fixtures
from tests.training.test_dataset_and_ranker import NAMES, PARAMS, made_rows
from tests.training.test_evaluate import labelled
from training.curves import answered, by_trees, dayparts, ranks_in_rows
from training.importance import feature_groups, importance
from training.metrics import METRICS
from training.ranker import fit_ranker


def test_each_number_of_trees_has_its_own_value():
    booster, rows = fit_ranker(made_rows(1), NAMES, PARAMS), made_rows(2)
    curve = by_trees(booster, rows, 4)
    ranks = ranks_in_rows(answered(rows), booster.predict(rows.features, num_iteration=10))
    assert curve["ndcg_10"].iloc[0] == pytest.approx(METRICS["ndcg_10"](ranks).mean())


def test_importance_is_the_share_of_gain_by_feature_and_group(recommender):  # noqa: F811
    table = importance(recommender).set_index("feature")
    booster = recommender.ranker.trees.booster
    gain = dict(zip(booster.feature_name(), booster.feature_importance("gain"), strict=True))
    whole = sum(gain.values())
    assert table["share"].to_dict() == pytest.approx({k: v / whole for k, v in gain.items()})
    groups = feature_groups(recommender.retrieval)
    assert groups.keys() == set(recommender.retrieval.feature_names)
    for name in recommender.retrieval.names:
        assert groups[f"{name}_score"] == groups[f"{name}_rank"] == f"generator {name}"
    assert groups["proposed_by"] == "agreement"


def test_queries_are_counted_by_local_daypart():
    # A Saturday at 20:30 UTC, which at +05:30 is Sunday at 02:00.
    queries = [labelled(utc_offset_minutes=0), labelled(utc_offset_minutes=330)]
    table = dayparts(queries, np.array([1.0, np.nan])).set_index(["weekday", "hours"])
    assert table["queries"].tolist() == [1, 1]
    assert [hours for _, hours in table.index] == ["18-24", "00-06"]
    assert table["ndcg_10"].tolist() == [1, 0]


def test_a_ranker_that_says_the_same_of_all_songs_is_none():
    rows = made_rows(3, 300)
    ranks = ranks_in_rows(rows, np.zeros(len(rows.query)))
    sizes = np.bincount(rows.query)
    assert 1.5 < ranks.mean() < sizes.mean()
