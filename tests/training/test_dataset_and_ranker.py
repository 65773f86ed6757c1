import json
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import lightgbm
import numpy as np
import pandas as pd
import pytest

from features.params import OutcomeWeights, load_params
from training import ranker
from training.boosting import query_weights
from training.dataset import utc
from training.ranker import (
    fit_probability,
    fit_ranker,
    grades,
    sigmoid_curve,
    tree_counts,
    usable,
)
from training.rows import Part, Rows, concatenate, join, read_rows, select, write_rows
from training.sessions import OUTCOMES

PARAMS = load_params().ranker.model_copy(update={"rounds": 40, "min_data_in_leaf": 10})
NAMES = ("signal", "noise", "gap")


def made_rows(seed, queries=300):
    """Return rows whose answer is mostly the one with the largest first feature."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(2, 12, queries)
    query = np.repeat(np.arange(queries, dtype=np.int32), sizes)
    features = rng.normal(size=(len(query), 3)).astype(np.float32)
    features[rng.random(len(query)) < 0.3, 2] = np.nan
    wanted = features[:, 0] + 0.3 * rng.normal(size=len(query))
    answer = wanted == pd.Series(wanted).groupby(query).transform("max").to_numpy()
    return Rows(
        features=features,
        query=query,
        answer=answer,
        later=np.zeros(len(query), dtype=np.bool_),
        in_pool=np.ones(len(query), dtype=np.bool_),
        outcome=np.repeat(rng.integers(0, 4, queries).astype(np.int8), sizes),
        ts=np.repeat(np.datetime64("2024-01-01T00:00:00.000001", "us") + np.arange(queries), sizes),
        listener=np.repeat(np.arange(queries, dtype=np.uint32) % 40, sizes),
    )


def hand_made(**changed):
    """Return three queries of two rows: liked, skipped, and one whose answer nobody proposed."""
    rows = Rows(
        features=np.arange(6, dtype=np.float32).reshape(6, 1),
        query=np.array([0, 0, 1, 1, 2, 2], dtype=np.int32),
        answer=np.array([False, True, True, False, True, False]),
        later=np.array([True, False, False, False, False, False]),
        in_pool=np.array([True, True, True, True, False, True]),
        outcome=np.repeat(np.array([3, 0, 2], dtype=np.int8), 2),
        ts=np.repeat(np.array([1, 2, 3], dtype="datetime64[us]"), 2),
        listener=np.repeat(np.array([7, 8, 7], dtype=np.uint32), 2),
    )
    return replace(rows, **changed)


def share_in_order(scores, rows):
    """Return how often an answer scores above a negative of its query."""
    return np.mean(
        [
            (scores[mine & rows.answer] > scores[mine & ~rows.answer]).mean()
            for mine in (rows.query == query for query in np.unique(rows.query))
        ]
    )


def test_a_query_weighs_what_became_of_its_answer():
    weights = OutcomeWeights(skip=0.5, neutral=1, full=2, liked=4)
    assert OUTCOMES == ("skip", "neutral", "full", "liked")
    rows = hand_made()
    expected = [[0.5, 1, 2, 4][outcome] for outcome in rows.outcome]
    assert query_weights(rows, weights, 1.0).tolist() == expected
    assert query_weights(rows, weights, 0.0).tolist() == [1] * 6
    np.testing.assert_allclose(query_weights(rows, weights, 0.5), np.sqrt(expected))


def test_later_songs_are_graded_below_the_next_one():
    assert grades(hand_made()).tolist() == [1, 2, 2, 0, 2, 0]


def test_songs_heard_later_count_where_the_next_one_says_nothing():
    # The next song is the same whatever the second feature; the songs heard later have it high.
    rows = made_rows(7)
    rng = np.random.default_rng(8)
    second = rng.random(len(rows.query)).astype(np.float32)
    rows.features[:, 1] = second
    rows = replace(rows, later=(second > 0.7) & ~rows.answer)
    probe = np.zeros((2, 3), dtype=np.float32)
    probe[:, 1] = [0.9, 0.1]
    taught = fit_ranker(rows, NAMES, PARAMS).predict(probe)
    alone = fit_ranker(rows, NAMES, PARAMS.model_copy(update={"later_gain": 0.0})).predict(probe)
    assert taught[0] - taught[1] > alone[0] - alone[1] + 0.1


def test_queries_of_which_nobody_proposed_a_song_heard_teach_nothing():
    rows = hand_made(later=np.zeros(6, dtype=np.bool_))
    assert usable(rows).tolist() == [True] * 4 + [False] * 2
    heard = hand_made(later=np.array([False] * 5 + [True]))
    assert usable(heard).tolist() == [True] * 6
    none = hand_made(later=rows.later, in_pool=np.zeros(6, dtype=np.bool_))
    with pytest.raises(ValueError, match="No label query"):
        fit_ranker(none, ("one",), PARAMS)


def test_that_nobody_proposed_a_song_does_not_speak_for_it():
    # In every other query the answer is a song that nobody proposed, which the third feature tells.
    rows = made_rows(7)
    missed = rows.answer & (rows.query % 2 == 0)
    rows.features[:, 2] = missed
    others = np.random.default_rng(3).random(len(rows.query)) < 0.1
    rows = replace(rows, in_pool=~missed, later=others & ~rows.answer)
    probe = np.zeros((2, 3), dtype=np.float32)
    probe[0, 2] = 1
    unproposed, proposed = fit_ranker(rows, NAMES, PARAMS).predict(probe)
    assert unproposed == pytest.approx(proposed)


def test_written_rows_are_read(tmp_path):
    rows = made_rows(0, 20)
    write_rows(rows, NAMES, tmp_path / "deep" / "rows.parquet")
    found, names = read_rows(tmp_path / "deep" / "rows.parquet")
    assert names == NAMES
    for name in ("features", "query", "answer", "later", "in_pool", "outcome", "ts"):
        got, expected = getattr(found, name), getattr(rows, name)
        assert got.dtype == expected.dtype
        np.testing.assert_array_equal(got, expected)


def test_rows_of_queries_are_joined_under_their_numbers():
    def part(size, outcome, listener):
        marks = [np.arange(size) == 0, np.zeros(size, np.bool_), np.ones(size, np.bool_)]
        ts = np.datetime64("2024-06-01T10:00:00", "us")
        return Part(np.full((size, 1), size, np.float32), *marks, outcome, ts, listener)

    rows = join([part(2, 1, 7), part(3, 0, 9)], [4, 6])
    assert rows.query.tolist() == [4, 4, 6, 6, 6]
    assert rows.outcome.tolist() == [1, 1, 0, 0, 0]
    assert rows.listener.tolist() == [7, 7, 9, 9, 9]
    some = select(rows, rows.answer)
    assert some.query.tolist() == [4, 6]
    assert some.features.tolist() == [[2], [3]]


def test_joined_rows_number_their_queries_on():
    one, two = hand_made(), hand_made(ts=hand_made().ts + 9)
    rows, names = concatenate([(one, ("x",)), (two, ("x",)), (one, ("x",))])
    assert names == ("x",)
    assert rows.query.tolist() == [n for n in range(9) for _ in range(2)]
    assert rows.ts.astype(int).tolist() == [1, 1, 2, 2, 3, 3, 10, 10, 11, 11, 12, 12] + [
        *(1, 1, 2, 2, 3, 3)
    ]
    np.testing.assert_array_equal(rows.features, np.tile(one.features, (3, 1)))
    with pytest.raises(ValueError, match="different features"):
        concatenate([(one, ("x",)), (two, ("y",))])


def test_a_planted_order_is_learnt():
    booster = fit_ranker(made_rows(1), NAMES, PARAMS)
    unseen = made_rows(2)
    assert booster.feature_name() == list(NAMES)
    assert share_in_order(booster.predict(unseen.features), unseen) > 0.85
    turned = replace(unseen, features=unseen.features * np.array([-1, 1, 1], dtype=np.float32))
    assert share_in_order(booster.predict(turned.features), turned) < 0.3


def test_trees_that_tell_no_songs_apart_are_named(capsys):
    rows = made_rows(3, 100)
    fit_ranker(rows, NAMES, PARAMS)
    assert "scores all songs alike" not in capsys.readouterr().out
    fit_ranker(rows, NAMES, PARAMS.model_copy(update={"min_data_in_leaf": 1_000_000}))
    assert "`ranker` scores all songs alike. Lower `min_data_in_leaf`" in capsys.readouterr().out


def test_a_full_disk_is_told_as_one():
    """An error of LightGBM's own would show a traceback, and not what to do."""
    booster = fit_ranker(made_rows(3, 100), NAMES, PARAMS)
    with pytest.raises(OSError, match="No space left"):
        ranker.save(booster, Path("/dev/full"))


def test_a_fit_can_be_repeated():
    rows = made_rows(3, 100)
    first, second = (fit_ranker(rows, NAMES, PARAMS).model_to_string() for _ in range(2))
    assert first == second


def test_probabilities_are_calibrated_on_songs_not_seen():
    rng = np.random.default_rng(4)
    features = rng.normal(size=(8000, 3)).astype(np.float32)
    truth = 1 / (1 + np.exp(-1.5 * features[:, 0] + 1))
    happened = rng.random(8000) < truth
    fitted = fit_probability(
        features[:5000], happened[:5000], np.arange(5000, dtype=np.uint32) % 97, NAMES, PARAMS
    )
    said = np.interp(fitted.booster.predict(features[5000:]), fitted.raw, fitted.share)
    assert said.min() >= 0
    assert said.max() <= 1
    assert said.mean() == pytest.approx(truth[5000:].mean(), abs=0.02)
    for part in np.array_split(np.argsort(said), 5):
        assert said[part].mean() == pytest.approx(truth[5000:][part].mean(), abs=0.05)


def test_few_listeners_are_held_out_all_the_same():
    happened = np.random.default_rng(5).random(400) < 0.5
    features = np.random.default_rng(6).normal(size=(400, 3)).astype(np.float32)
    # 3 and 9 have one remainder.
    listeners = np.where(np.arange(400) < 200, 3, 9).astype(np.uint32)
    assert fit_probability(features, happened, listeners, NAMES, PARAMS) is not None
    alone = np.full(400, 9, dtype=np.uint32)
    assert fit_probability(features, happened, alone, NAMES, PARAMS) is None


def test_folds_stay_as_they_are_where_none_is_empty():
    listeners = np.array([6, 1, 5, 4, 6], dtype=np.uint32)
    assert ranker.folds(listeners).tolist() == [0, 1, 2, 1, 0]


@pytest.mark.parametrize("often", [ranker.MIN_POSITIVES - 1, 300 - ranker.MIN_POSITIVES + 1])
def test_what_never_or_always_happened_has_no_probability(often):
    happened = np.arange(300) < often
    listeners = np.arange(300, dtype=np.uint32)
    features = np.zeros((300, 3), np.float32)
    assert fit_probability(features, happened, listeners, NAMES, PARAMS) is None


def test_more_trees_than_pay_are_not_grown():
    # What happened is a coin toss: any tree is one too many, and all songs get the mean.
    rng = np.random.default_rng(9)
    features = rng.normal(size=(2000, 3)).astype(np.float32)
    happened = rng.random(2000) < 0.3
    listeners = np.arange(2000, dtype=np.uint32)
    params = PARAMS.model_copy(update={"rounds": 120})
    fitted = fit_probability(features, happened, listeners, NAMES, params)
    assert fitted.booster.num_trees() == 20
    said = np.interp(fitted.booster.predict(features), fitted.raw, fitted.share)
    assert said == pytest.approx(happened.mean(), abs=0.1)


def test_a_curve_follows_a_known_distortion_and_is_never_certain():
    # What is said is twice as sure, in log odds, as it should be.
    rng = np.random.default_rng(10)
    odds = rng.normal(size=40_000)
    happened = rng.random(40_000) < 1 / (1 + np.exp(-odds))
    raw, share = sigmoid_curve(1 / (1 + np.exp(-2 * odds)), happened)
    assert np.interp([0.5, 0.8808, 0.1192], raw, share) == pytest.approx(
        [0.5, 0.7311, 0.2689], abs=0.02
    )
    assert np.all(np.diff(share) >= 0)
    assert share[0] > 0
    assert share[-1] < 1
    _, upside_down = sigmoid_curve(1 / (1 + np.exp(2 * odds)), happened)
    assert upside_down == pytest.approx(happened.mean())


def test_chances_of_some_thousandths_are_on_the_curve_too():
    rng = np.random.default_rng(11)
    said = 1 / (1 + np.exp(7 - 1.5 * rng.normal(size=40_000)))
    happened = rng.random(40_000) < 3 * said**1.4
    raw, share = sigmoid_curve(said, happened)
    # A straight line in log odds, also between the points.
    found = np.interp(said, raw, share)
    odds, wanted = np.log(said / (1 - said)), np.log(found / (1 - found))
    slope, level = np.polyfit(odds, wanted, 1)
    assert slope > 1.1
    assert np.abs(wanted - (level + slope * odds)).max() < 0.01


def test_the_command_says_what_it_has_seen(tmp_path, monkeypatch):
    for name, seed in (("labels", 5), ("test", 6)):
        write_rows(made_rows(seed, 120), NAMES, tmp_path / f"{name}.parquet")
    paths = [str(tmp_path / f"{name}.parquet") for name in ("labels", "test")]
    out = tmp_path / "ranker"
    monkeypatch.setattr("sys.argv", ["ranker", "--rows", *paths, "--out", str(out)])
    ranker.main()
    fit = json.loads((out / "ranker_fit.json").read_text())
    # The last of 120 queries, a microsecond each, and the moment after it.
    assert pd.Timestamp(fit["seen_until"]) == pd.Timestamp("2024-01-01T00:00:00.000121Z")
    curves = json.loads((out / "calibration.json").read_text())
    assert {f"{name}.txt" for name in ("ranker", *curves)} <= {path.name for path in out.iterdir()}


def test_what_an_earlier_run_left_is_no_part_of_a_ranker(tmp_path, monkeypatch):
    # Too few for probabilities, and without the feature that tells starts.
    write_rows(made_rows(5, 20), NAMES, tmp_path / "labels.parquet")
    out = tmp_path / "ranker"
    out.mkdir()
    for name in ("starts", "p_like", "p_skip"):
        (out / f"{name}.txt").write_text("of more rows", encoding="utf-8")
    rows = str(tmp_path / "labels.parquet")
    monkeypatch.setattr("sys.argv", ["ranker", "--rows", rows, "--out", str(out)])
    ranker.main()
    left = {path.name for path in out.iterdir()}
    assert left == {"ranker.txt", "calibration.json", "ranker_fit.json"}


def test_numbers_of_trees_reach_the_last():
    assert tree_counts(20) == [20]
    assert tree_counts(60) == [20, 40, 60]
    assert tree_counts(7) == [7]


def test_query_times_are_kept_in_utc():
    berlin = timezone(timedelta(hours=2))
    moment = datetime(2024, 6, 1, 12, 0, 0, 5, tzinfo=berlin)
    assert utc(moment) == np.datetime64("2024-06-01T10:00:00.000005", "us")


def test_an_outcome_that_weighs_more_wins_where_two_songs_contradict_each_other():
    # The same two songs in every query; which one was played is a coin toss, and the outcome
    # tells which toss: the ranker must side with the outcome that weighs more.
    queries = 400
    features = np.tile(np.array([[0.0], [1.0]], dtype=np.float32), (queries, 1))
    first = np.random.default_rng(3).random(queries) < 0.5
    rows = Rows(
        features=features,
        query=np.repeat(np.arange(queries, dtype=np.int32), 2),
        answer=np.column_stack([first, ~first]).ravel(),
        later=np.zeros(2 * queries, dtype=np.bool_),
        in_pool=np.ones(2 * queries, dtype=np.bool_),
        outcome=np.repeat(np.where(first, OUTCOMES.index("liked"), 0), 2).astype(np.int8),
        ts=np.zeros(2 * queries, dtype="datetime64[us]"),
        listener=np.zeros(2 * queries, dtype=np.uint32),
    )
    params = load_params().ranker.model_copy(update={"rounds": 20, "min_data_in_leaf": 5})
    played_first, played_second = fit_ranker(rows, ("x",), params).predict(features[:2])
    assert played_first > played_second


def test_each_probability_is_of_its_own_outcome(tmp_path, monkeypatch):
    rows = made_rows(5, 600)
    liked, skipped = (rows.outcome == OUTCOMES.index(name) for name in ("liked", "skip"))
    rows.features[:, 1] = liked.astype(np.float32) - skipped
    write_rows(rows, NAMES, tmp_path / "rows.parquet")
    out = tmp_path / "ranker"
    monkeypatch.setattr(
        "sys.argv", ["r", "--rows", str(tmp_path / "rows.parquet"), "--out", str(out)]
    )
    ranker.main()
    songs = np.array([[0, 1, 0], [0, -1, 0]], dtype=np.float32)
    like, skip = (
        lightgbm.Booster(model_file=out / f"{p}.txt").predict(songs) for p in ("p_like", "p_skip")
    )
    assert like[0] > like[1]
    assert skip[1] > skip[0]


def test_what_is_known_of_one_listener_says_nothing_of_another():
    # Each listener has a number of their own, and either skips all songs or none.
    random = np.random.default_rng(11)
    listeners = np.repeat(np.arange(90, dtype=np.uint32), 20)
    features = np.zeros((1800, 3), dtype=np.float32)
    features[:, 0] = random.random(90)[listeners]
    happened = (random.random(90) < 0.5)[listeners]
    fitted = fit_probability(features, happened, listeners, NAMES, PARAMS)
    said = np.interp(fitted.booster.predict(features), fitted.raw, fitted.share)
    assert said == pytest.approx(happened.mean(), abs=0.2)
