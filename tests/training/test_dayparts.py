import numpy as np
import pytest
from scipy.sparse import csr_matrix

from features.columns import Event, Song
from features.dayparts import DAYPARTS
from features.params import load_params
from tests.training import tiny
from tests.training.tiny import START
from training.dayparts import (
    exact_factors,
    fit_dayparts,
    heat_maps,
    pair_dayparts,
    parts_of,
)
from training.plays import DAYPART, read_plays

PARAMS = load_params().generators.dayparts
N = 6


def random_plays(seed, count=120):
    """Return plays of two listeners at random dayparts."""
    random = np.random.default_rng(seed)
    sessions = [[(float(random.integers(0, 40)), int(random.integers(0, N)))] for _ in range(count)]
    return tiny.plays(sessions).assign(**{DAYPART: random.integers(0, DAYPARTS, count)})


def random_rows(seed, rows=200):
    random = np.random.default_rng(seed)
    dense = random.uniform(0.1, 3, (rows, DAYPARTS)) * (random.random((rows, DAYPARTS)) < 0.2)
    return csr_matrix(dense)


@pytest.mark.parametrize("seed", range(3))
def test_pairs_equal_a_loop(seed):
    plays = random_plays(seed)
    expected = {}
    for play in plays.itertuples(index=False):
        age = (START - play.ts).total_seconds() / 86_400
        row = expected.setdefault((play.user_id, play.song_id), np.zeros(DAYPARTS))
        row[play.daypart] += 0.5 ** (age / 10)
    matrix, songs = pair_dayparts(plays, START, 10.0, N)
    assert matrix.shape == (len(expected), DAYPARTS)
    by_pair = sorted(
        (song, *row.round(4)) for song, row in zip(songs, np.expm1(matrix.toarray()), strict=True)
    )
    assert by_pair == sorted((song, *row.round(4)) for (_, song), row in expected.items())


@pytest.mark.parametrize("seed", range(3))
def test_the_gram_matrix_gives_numpys_svd(seed):
    matrix = random_rows(seed)
    values, vectors = exact_factors(matrix)
    left, singular, right = np.linalg.svd(matrix.toarray(), full_matrices=False)
    np.testing.assert_allclose(values, singular, rtol=1e-8)
    for kept in (1, 5, DAYPARTS):
        # The best approximation of that rank, whatever the signs.
        best = (left[:, :kept] * singular[:kept]) @ right[:kept]
        found = (matrix @ vectors[:, :kept]) @ vectors[:, :kept].T
        np.testing.assert_allclose(found, best, atol=1e-7)


def test_parts_find_who_listens_when():
    """Morning and weekend listeners, never both: two parts say so, none negative."""
    morning, weekend = np.zeros(DAYPARTS), np.zeros(DAYPARTS)
    morning[1:20:4] = 1
    weekend[20:] = 1
    random = np.random.default_rng(0)
    rows = [random.uniform(1, 3) * (morning if i % 2 else weekend) for i in range(60)]
    parts = parts_of(csr_matrix(np.array(rows)), 2).components_
    assert (parts >= 0).all()
    shapes = sorted((part / part.max()).round(3).tolist() for part in parts)
    assert shapes == sorted([morning.tolist(), weekend.tolist()])


@pytest.mark.parametrize(("plays", "half_life"), [(0, 180), (60, 1e-6)])
def test_a_fit_without_plays_that_count_knows_nothing(plays, half_life):
    params = PARAMS.model_copy(update={"half_life_days": half_life})
    arrays = fit_dayparts(random_plays(0).iloc[:plays], START + tiny.DAY, params, N)
    assert not arrays["totals"].any()
    assert arrays["vectors"].shape == (DAYPARTS, PARAMS.factors)
    assert arrays["song_parts"].shape == (N, PARAMS.parts)


def test_a_fit_can_be_repeated():
    one, two = (fit_dayparts(random_plays(1), START, PARAMS, N) for _ in range(2))
    for name, array in one.items():
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, two[name])


def test_with_all_factors_nothing_of_a_song_is_lost():
    plays = random_plays(2)
    whole = PARAMS.model_copy(update={"factors": DAYPARTS, "half_life_days": 1e9})
    arrays = fit_dayparts(plays, START, whole, N)
    users = plays[Event.USER] == "u1"
    each = np.zeros((2, N, DAYPARTS))
    np.add.at(each, (users.to_numpy(dtype=int), plays[Song.ID], plays[DAYPART]), 1)
    counts = np.log1p(each).sum(axis=0)
    found = arrays["song_factors"] @ arrays["vectors"].T
    np.testing.assert_allclose(found, counts, atol=1e-3)
    np.testing.assert_allclose(arrays["base"], counts.sum(axis=0) / counts.sum(), rtol=1e-4)


def test_heat_maps_have_a_cell_a_daypart():
    maps = heat_maps(fit_dayparts(random_plays(3), START, PARAMS, N))
    assert (maps.groupby("map").size() == DAYPARTS).all()
    assert maps["map"].nunique() == 1 + PARAMS.factors + PARAMS.parts
    first = maps[maps["map"] == "all plays, %"]
    assert first["value"].sum() == pytest.approx(100, abs=0.01)
    assert first["weekday"].iloc[[0, -1]].tolist() == ["0 Mon", "6 Sun"]
    assert first["hours"].iloc[[0, -1]].tolist() == ["00-06", "18-24"]


def test_plays_carry_the_listeners_local_daypart(tmp_path):
    listener = tiny.user("u0") | {"utc_offset_minutes": -60}
    moment = START.replace(hour=0, minute=30)
    tiny.write_lake(
        tmp_path,
        [tiny.event(0, moment, "x", "a"), tiny.event(1, moment, "y", "a", user="gone")],
        [listener],
        [tiny.song("a")],
    )
    plays = read_plays(tmp_path, moment.replace(day=moment.day + 1), np.array(["a"]))
    found = dict(zip(plays[Event.USER], plays[DAYPART], strict=True))
    here = moment.weekday() * 4
    assert found == {"gone": here, "u0": (here - 1) % DAYPARTS}
