from types import SimpleNamespace

import numpy as np
import pytest

from features.dayparts import DAYPARTS
from features.times import DAY_US
from serving.dayparts import Dayparts, TensorFactors, last_heard, now
from serving.scores import NO_SCORES

HOUR_US = DAY_US // 24
SONGS, WIDTH = 5, 3


def state(ts_us=0, history=(), last_us=(), values=None, acted=(), acted_values=None, **user):
    return SimpleNamespace(
        query=SimpleNamespace(user=user),
        ts_us=ts_us,
        history=np.array(history, np.int32),
        history_last_us=np.array(last_us, np.int64),
        history_values={"listen": np.array(values or [1.0] * len(history), np.float32)},
        acted=np.array(acted, np.int32),
        session_values={"listen": np.array(acted_values or [1.0] * len(acted), np.float32)},
    )


def test_dayparts_are_local():
    # The epoch was a Thursday at midnight.
    asked = state(3 * HOUR_US, [0, 1], [0, 7 * HOUR_US])
    assert now(asked) == 12
    assert last_heard(asked).tolist() == [12, 13]
    asked.query.user = {"utc_offset_minutes": -240}
    assert now(asked) == 11
    assert last_heard(asked).tolist() == [11, 12]


def model(**changes):
    """Return a model whose song 0 is heard at daypart 12 only, 1 evenly, 2 never."""
    songs = np.zeros((3, DAYPARTS))
    songs[0, 12], songs[1] = 14, 0.5
    whole = {
        "base": np.full(DAYPARTS, 1 / DAYPARTS),
        "vectors": np.eye(DAYPARTS),
        "song_factors": songs,
        "parts": np.eye(DAYPARTS),
        "song_parts": songs,
        "again": np.arange(DAYPARTS**2).reshape(DAYPARTS, DAYPARTS),
        "totals": songs.sum(axis=1),
    }
    arrays = {name: array.astype(np.float32) for name, array in (whole | changes).items()}
    return Dayparts(**arrays, prior=14.0)


def test_lifts_by_hand():
    here, elsewhere = state(0), state(6 * HOUR_US)
    songs = np.array([0, 1, 2], np.int32)
    # 14 plays all here are 28 times the even share: (14 * 28 + 14) / (14 + 14).
    for name in ("song_daypart", "song_daypart_parts"):
        assert model().features(here, songs)[name] == pytest.approx([14.5, 1, 1])
        assert model().features(elsewhere, songs)[name] == pytest.approx([0.5, 1, 1])


def test_own_songs_are_looked_up_from_their_last_daypart_to_now():
    asked = state(6 * HOUR_US, [1, 0], [0, 12 * HOUR_US])
    found = model().features(asked, np.array([0, 1, 2], np.int32))["own_daypart"]
    assert found[:2].tolist() == [14 * DAYPARTS + 13, 12 * DAYPARTS + 13]
    assert np.isnan(found[2])


def test_a_listeners_usual_dayparts_against_the_songs():
    shares = [0.0] * DAYPARTS
    shares[12] = 1.0
    songs = np.array([0, 1, 2], np.int32)
    found = model().features(state(daypart_shares=shares), songs)["listener_dayparts"]
    assert found[:2] == pytest.approx([1, DAYPARTS**-0.5])
    assert np.isnan(found[2])
    assert np.isnan(model().features(state(), songs)["listener_dayparts"]).all()


def test_a_listener_is_folded_into_the_tensor():
    random = np.random.default_rng(0)
    songs = random.normal(size=(SONGS, WIDTH)).astype(np.float32)
    dayparts = random.normal(size=(DAYPARTS, WIDTH)).astype(np.float32)
    known = np.ones(SONGS, np.bool_)
    tensor = TensorFactors(songs, dayparts, known, regularization=0.4, alpha=5.0)
    asked = state(3 * HOUR_US, [3, 1], [7 * HOUR_US, 0], [0.5, 2.0], [1, 4], [1.0, 0.25])
    # Song 1 was heard at this daypart before and is heard now: one cell of value 3.
    observed = {(3, 13): 0.5, (1, 12): 3.0, (4, 12): 0.25}
    product = np.einsum("sf,df->sdf", songs, dayparts).reshape(-1, WIDTH).astype(np.float64)
    confidence, preference = np.ones(SONGS * DAYPARTS), np.zeros(SONGS * DAYPARTS)
    for (song, daypart), value in observed.items():
        confidence[song * DAYPARTS + daypart] += 5 * value
        preference[song * DAYPARTS + daypart] = 1
    system = product.T @ np.diag(confidence) @ product + 0.4 * np.eye(WIDTH)
    listener = np.linalg.solve(system, product.T @ (confidence * preference))
    expected = (songs * dayparts[12]) @ listener
    # Asked again, it says the same: what all listeners share is not written over.
    for _ in range(3):
        found = tensor.scores(asked).of(np.arange(SONGS, dtype=np.int32))
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


def test_nobody_is_folded_in_without_a_listening():
    nothing = TensorFactors(
        np.ones((2, 1), np.float32), np.ones((DAYPARTS, 1), np.float32), np.zeros(2, bool), 1, 1
    )
    assert nothing.scores(state()) is NO_SCORES
    assert nothing.scores(state(0, [1], [0])) is NO_SCORES
