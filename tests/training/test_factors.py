import numpy as np
import pandas as pd
import pytest
from implicit.cpu.als import AlternatingLeastSquares
from threadpoolctl import threadpool_limits

from features.mistakes import Mistake
from features.params import load_params
from serving.bundle import load_factors
from serving.fold_in import FactorModel, fold_in
from tests.training import tiny
from tests.training.tiny import DAY, MINUTE, START, TICK
from training import factors
from training.als import half_step
from training.factors import (
    confidence_matrix,
    fit_by_frequency,
    fit_factors,
    frequency,
    net_of_skips,
    read_matrix,
    read_scores,
    save_fit,
    spread_of,
)
from training.generators import write_factors
from training.phases import CUTS, Phase, Phases, write_phases

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


@pytest.mark.parametrize("exponent", [0.0, 0.5])
@pytest.mark.filterwarnings("ignore:.* encountered in:RuntimeWarning")
def test_factors_that_are_not_finite_are_refused(exponent):
    extreme = PARAMS.model_copy(update={"alpha": 1e30, "frequency_exponent": exponent})
    with pytest.raises(Mistake, match="not finite; .* smaller `alpha`"):
        fit_factors(checkerboard(), extreme, threads=1)


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
    # Brackets: no path is a pattern.
    for name, events in (("without [1]", past), ("with [1]", past + late)):
        people, songs = [tiny.user("u0"), tiny.user("u1")], [tiny.song("a"), tiny.song("b")]
        tiny.write_lake(tmp_path / name, events, people, songs)
        found.append(read_scores(tmp_path / name, signal, START, load_params().signals[signal]))
    pd.testing.assert_frame_equal(found[0], found[1])
    assert list(zip(found[0]["user_id"], found[0]["song_id"], strict=True)) == [
        ("u0", "a"),
        ("u1", "b"),
    ]
    assert (found[0]["value"] > 0).all()


def test_frequency_by_hand():
    params = PARAMS.model_copy(
        update={"frequency_exponent": 0.5, "alpha": 2.0, "regularization": 0.3}
    )
    found = frequency(np.array([4, 0]), columns=10, params=params)
    # 10 songs at 1 / alpha each: roots of 4 + 5 and 0 + 5, scaled to a mean of 0.3.
    roots = np.array([3.0, 5**0.5])
    np.testing.assert_allclose(found.of(np.array([4, 0])), 0.3 * roots / roots.mean())


def model_of(params):
    with threadpool_limits(limits=1, user_api="blas"):
        return AlternatingLeastSquares(
            factors=params.factors,
            regularization=params.regularization,
            iterations=params.iterations,
            random_state=7,
            num_threads=1,
        )


def test_at_exponent_zero_our_loop_is_implicits():
    user_items, _ = confidence_matrix(checkerboard(), PARAMS.alpha)
    ours, theirs = model_of(PARAMS), model_of(PARAMS)
    fit_by_frequency(ours, user_items, PARAMS)
    theirs.fit(user_items, show_progress=False)
    np.testing.assert_allclose(ours.item_factors, theirs.item_factors, rtol=0.02, atol=0.02)


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0])
def test_the_fold_in_regularises_as_the_fit(exponent):
    params = PARAMS.model_copy(update={"frequency_exponent": exponent, "regularization": 0.5})
    table = checkerboard(size=20)
    fitted = fit_factors(table, params, threads=1)
    user_items, song_ids = confidence_matrix(table, params.alpha)
    with threadpool_limits(limits=1, user_api="blas"):
        exact = AlternatingLeastSquares(factors=2, use_cg=False, num_threads=1).solver
    rows = np.zeros((20, 2), np.float32)
    regularization = fitted.listeners.of(np.diff(user_items.indptr))
    half_step(exact, user_items, rows, fitted.item_factors, regularization, threads=1)
    model = FactorModel(
        fitted.item_factors,
        np.ones(len(song_ids), np.bool_),
        fitted.listeners.regularization,
        params.alpha,
        1.0,
        fitted.listeners.exponent,
        fitted.listeners.offset,
    )
    for row, vector in zip(user_items, rows, strict=True):
        values = (row.data - 1) / params.alpha
        np.testing.assert_allclose(fold_in(model, row.indices, values), vector, 2e-3, 1e-4)


def test_a_higher_exponent_shrinks_what_is_heard_often():
    """The same mean, but the song of many listeners pays more and that of one less."""
    table = scores([(f"u{i}", "often", 1.0) for i in range(30)] + [("u0", "once", 1.0)])
    size = {}
    for exponent in (0.0, 1.0):
        params = PARAMS.model_copy(update={"frequency_exponent": exponent, "alpha": 100.0})
        found = frequency(np.array([30, 1]), 31, params).of(np.array([30, 1]))
        size[exponent] = dict(zip(["often", "once"], found, strict=True))
    assert len(table) == 31
    assert size[1.0]["often"] > size[0.0]["often"] == size[0.0]["once"] > size[1.0]["once"]


def test_skips_are_taken_off_by_hand():
    heard = scores([("u", "a", 1.0), ("u", "b", 0.5), ("v", "a", 0.25)])
    skipped = scores([("u", "a", 0.5), ("u", "b", 1.0), ("u", "c", 2.0), ("v", "a", 0.5)])
    found = net_of_skips(heard, skipped, 0.5)
    assert list(found.itertuples(index=False, name=None)) == [("u", "a", 0.75), ("u", "c", -1.0)]
    matrix, _ = confidence_matrix(found, alpha=10.0)
    assert matrix.toarray().tolist() == [[8.5, -11.0]]


def test_skips_enter_the_matrix_that_asks_for_them(tmp_path):
    events = [
        tiny.event(0, START - DAY, "x", "a", played_ms=200_000),
        tiny.event(1, START - DAY + MINUTE, "x", "b", "skip", played_ms=0),
    ]
    tiny.write_lake(tmp_path, events, [tiny.user("u0")], [tiny.song("a"), tiny.song("b")])
    signals = dict(load_params().signals)
    apart = read_matrix(tmp_path, "listen", START, signals)
    assert apart["song_id"].tolist() == ["a"]
    signals["listen"] = signals["listen"].model_copy(update={"skip_as": "zero"})
    found = read_matrix(tmp_path, "listen", START, signals)
    assert found["song_id"].tolist() == ["a", "b"]
    assert found["value"][0] > 0 > found["value"][1]


@pytest.mark.parametrize("signal", ["like", "playlist"])
def test_a_fit_says_whether_any_cut_has_the_signal(tmp_path, monkeypatch, signal):
    # Four phases of ten days; the one like is of the third, so that two cuts have seen it.
    bounds = [(START + day * DAY, START + (day + 9) * DAY) for day in (0, 10, 20, 30)]
    phases = Phases(*(Phase(*bound) for bound in bounds), as_of=START + 39 * DAY)
    write_phases(phases, tmp_path / "phases.json")
    events = [
        tiny.event(0, START, "x", "a"),
        tiny.event(1, START + 21 * DAY, "y", "a", "like"),
    ]
    tiny.write_lake(tmp_path / "lake", events, [tiny.user("u0")], [tiny.song("a")])
    at = ["--lake", str(tmp_path / "lake"), "--phases", str(tmp_path / "phases.json")]
    said = []
    for cut in CUTS:
        command = ["factors", "--signal", signal, "--cut", cut, *at, "--out", str(tmp_path / cut)]
        monkeypatch.setattr("sys.argv", command)
        factors.main()
        with np.load(tmp_path / cut / f"{signal}.npz") as fit:
            said.append((len(fit["song_ids"]), bool(fit["seen"])))
    late = [(0, True), (0, True), (1, True), (1, True)]
    assert said == (late if signal == "like" else [(0, False)] * 4)


def test_a_listener_is_folded_in_as_the_fit_was_made(tmp_path):
    own = PARAMS.model_copy(update={"frequency_exponent": 0.5, "skip_as": "zero", "alpha": 5.0})
    signals = {**load_params().signals, "listen": own}
    fitted = fit_factors(checkerboard(), own, threads=1)
    save_fit(tmp_path / "fit.npz", fitted, signals, "listen", START)
    write_factors(tmp_path / "fit.npz", tmp_path / "out.npz", fitted.song_ids, START)
    model = load_factors(tmp_path / "out.npz")
    assert model.exponent == 0.5
    assert model.offset == fitted.listeners.offset > 0
    assert model.regularization == pytest.approx(fitted.listeners.regularization)
    assert model.skip_weight == signals["skip"].alpha / 5.0
    assert model.spread == pytest.approx(fitted.spread)


def test_skips_are_taken_off_as_of_the_cut_and_in_their_own_window(tmp_path):
    events = [
        tiny.event(0, START - DAY, "x", "a", played_ms=200_000),
        tiny.event(1, START - 200 * DAY, "y", "b", "skip", played_ms=0),
        tiny.event(2, START, "z", "c", "skip", played_ms=0),
    ]
    songs = [tiny.song(name) for name in "abc"]
    tiny.write_lake(tmp_path, events, [tiny.user("u0")], songs)
    signals = dict(load_params().signals)
    assert signals["skip"].window_days < 200 < signals["listen"].window_days
    signals["listen"] = signals["listen"].model_copy(update={"skip_as": "zero"})
    assert read_matrix(tmp_path, "listen", START, signals)["song_id"].tolist() == ["a"]


def test_the_spread_is_that_of_all_products():
    r = np.random.default_rng(0)
    u = r.normal(0.2, 1, (70, 5)).astype("f4")
    s = r.normal(0.1, 1, (90, 5)).astype("f4")
    assert spread_of(u, s) == pytest.approx((u @ s.T).std(), rel=1e-5)
