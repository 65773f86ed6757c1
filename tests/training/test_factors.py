import numpy as np
import pandas as pd
import pytest

from features.params import load_params
from serving.fold_in import FactorModel, fold_in
from tests.training import tiny
from tests.training.tiny import DAY, MINUTE, START, TICK
from training.factors import confidence_matrix, fit_factors, read_scores

PARAMS = load_params().signals["listen"].model_copy(update={"factors": 2, "iterations": 15})


def scores(pairs):
    return pd.DataFrame(pairs, columns=["user_id", "song_id", "value"])


def checkerboard(seed=0, size=40):
    """Return scores of listeners who hear only songs of their own parity, most of them."""
    rng = np.random.default_rng(seed)
    return scores(
        [
            (f"u{user:02d}", f"s{song:02d}", 1.0)
            for user in range(size)
            for song in range(size)
            if user % 2 == song % 2 and rng.random() < 0.7
        ]
    )


def test_confidence_by_hand():
    table = scores([("v", "s2", 0.5), ("u", "s1", 2.0), ("v", "s1", 1.0)])
    matrix, song_ids = confidence_matrix(table, alpha=10.0)
    assert song_ids.tolist() == ["s1", "s2"]
    # Listeners come in the order they are first seen: v, u.
    assert matrix.toarray().tolist() == [[11, 6], [21, 0]]


def test_an_absent_signal_has_no_songs():
    fitted = fit_factors(scores([]), PARAMS)
    assert fitted.song_ids.tolist() == []
    assert fitted.item_factors.shape == (0, PARAMS.factors)
    assert fitted.spread == 1.0


def test_a_fit_can_be_repeated():
    one, two = (fit_factors(checkerboard(), PARAMS, threads=1) for _ in range(2))
    np.testing.assert_array_equal(one.item_factors, two.item_factors)
    assert one.song_ids.tolist() == two.song_ids.tolist() == sorted(one.song_ids)
    assert one.spread == two.spread > 0
    assert one.item_factors.dtype == np.float32


@pytest.mark.parametrize("half", [0, 1])
def test_a_checkerboard_is_recovered(half):
    """A listener of three songs of one half wants all others of that half before the rest."""
    fitted = fit_factors(checkerboard(), PARAMS, threads=1)
    known = np.ones(len(fitted.song_ids), dtype=np.bool_)
    model = FactorModel(
        fitted.item_factors, known, PARAMS.regularization, PARAMS.alpha, fitted.spread
    )
    number = np.array([int(song[1:]) for song in fitted.song_ids])
    same = number % 2 == half
    heard = np.flatnonzero(same)[:3]
    liking = fitted.item_factors @ fold_in(model, heard, np.ones(3, dtype=np.float32))
    fresh = same.copy()
    fresh[heard] = False
    assert liking[fresh].min() > liking[~same].max()
    assert liking[fresh].mean() - liking[~same].mean() > fitted.spread


@pytest.mark.parametrize("signal", ["listen", "like"])
def test_scores_know_nothing_from_the_end_on(tmp_path, signal):
    past = [
        tiny.event(0, START - DAY, "x", "a", played_ms=150_000),
        tiny.event(1, START - DAY + MINUTE, "x", "a", "like"),
        tiny.event(2, START - 2 * DAY, "y", "b", user="u1", played_ms=50_000),
        tiny.event(3, START - 2 * DAY, "y", "b", "like", user="u1"),
    ]
    late = [
        tiny.event(4, START, "x", "b", played_ms=150_000),
        tiny.event(5, START, "x", "a", "dislike"),
        tiny.event(6, START + TICK, "z", "b", "like"),
    ]
    found = []
    for name, events in (("without", past), ("with", past + late)):
        people, songs = [tiny.user("u0"), tiny.user("u1")], [tiny.song("a"), tiny.song("b")]
        tiny.write_lake(tmp_path / name, events, people, songs)
        found.append(read_scores(tmp_path / name, signal, START, load_params().signals[signal]))
    pd.testing.assert_frame_equal(found[0], found[1])
    assert list(zip(found[0]["user_id"], found[0]["song_id"], strict=True)) == [
        ("u0", "a"),
        ("u1", "b"),
    ]
    assert (found[0]["value"] > 0).all()
