from dataclasses import replace

import numpy as np
import pytest

from features.mistakes import Mistake
from features.params import load_params
from training.rows import Rows
from training.sessions import OUTCOMES
from training.starts import MIN_QUERIES, at_start, fit_starts

NAMES = ("prefix_length", "first", "heard")
SMALL = {"rounds": 60, "min_data_in_leaf": 5, "feature_fraction": 1.0}
STARTS = load_params().ranker.starts.model_copy(update=SMALL)
PARAMS = load_params().ranker.model_copy(update={"starts": STARTS})


def made_rows(queries=200, *, length=0.0):
    """Return queries of four songs: the next one, two heard later, and one that is not heard.

    `first` is the next song alone, `heard` tells all three of them from the fourth.
    """
    features = np.tile(
        np.array([[length, 1, 1], [length, 0, 1], [length, 0, 1], [length, 0, 0]], np.float32),
        (queries, 1),
    )
    rows = 4 * queries
    return Rows(
        features=features,
        query=np.repeat(np.arange(queries, dtype=np.int32), 4),
        answer=np.tile([True, False, False, False], queries),
        later=np.tile([False, True, True, False], queries),
        in_pool=np.ones(rows, dtype=np.bool_),
        outcome=np.ones(rows, dtype=np.int8),
        ts=np.zeros(rows, dtype="datetime64[us]"),
        listener=np.zeros(rows, dtype=np.uint32),
    )


def test_settings_that_leave_no_row_are_refused_with_a_sentence():
    none = STARTS.model_copy(update={"bagging_fraction": 1e-9})
    with pytest.raises(Mistake, match="cannot fit `starts` .* under `ranker` in params.yaml"):
        fit_starts(made_rows(), NAMES, PARAMS.model_copy(update={"starts": none}))


def test_at_a_start_all_songs_of_the_session_count_alike():
    scores = fit_starts(made_rows(), NAMES, PARAMS).predict(made_rows(1).features, raw_score=True)
    np.testing.assert_allclose(scores[0], scores[1], atol=1e-9)
    assert scores[1] > scores[3] + 1


def test_only_starts_teach_the_order_of_starts():
    assert at_start(made_rows(2), NAMES).all()
    assert not at_start(made_rows(2, length=3.0), NAMES).any()
    assert not at_start(made_rows(2), ("other", "first", "heard")).any()
    assert fit_starts(made_rows(length=3.0), NAMES, PARAMS) is None


def test_few_starts_with_a_song_that_was_proposed_give_no_order():
    assert fit_starts(made_rows(MIN_QUERIES - 1), NAMES, PARAMS) is None
    rows = made_rows(MIN_QUERIES)
    assert fit_starts(rows, NAMES, PARAMS) is not None
    assert fit_starts(replace(rows, in_pool=rows.query > 0), NAMES, PARAMS) is None


def test_songs_that_nobody_proposed_teach_nothing():
    rows = made_rows()
    # Songs not heard would look good if the heard ones that nobody proposed were counted.
    unseen = replace(rows, features=rows.features[:, [0, 2, 1]])
    in_pool = np.concatenate([np.ones(len(rows.query), np.bool_), np.zeros(len(rows.query), bool)])
    names = {name: np.concatenate([getattr(rows, name)] * 2) for name in vars(rows)}
    both = Rows(
        **names
        | {
            "features": np.concatenate([rows.features, unseen.features]),
            "query": np.concatenate([rows.query, rows.query + 200]),
            "in_pool": in_pool,
        }
    )
    alone, mixed = (fit_starts(some, NAMES, PARAMS).model_to_string() for some in (rows, both))
    assert alone == mixed


def test_a_start_weighs_what_became_of_it():
    # The same two songs in every query; which one was heard is a coin toss that the outcome tells.
    rows = made_rows(400)
    first = np.random.default_rng(3).random(400) < 0.5
    keep = np.tile([True, True, False, False], 400)
    rows = Rows(**{n: v[keep] for n, v in vars(rows).items()})
    answer = np.column_stack([first, ~first]).ravel()
    outcome = np.repeat(np.where(first, OUTCOMES.index("liked"), OUTCOMES.index("skip")), 2)
    rows = replace(rows, answer=answer, later=np.zeros(800, bool), outcome=outcome.astype(np.int8))
    one, two = fit_starts(rows, NAMES, PARAMS).predict(rows.features[:2], raw_score=True)
    assert one > two + 0.5
