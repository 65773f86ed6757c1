"""Factors and their blend, and what the bundle derives from its files."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from features.columns import SongRow
from features.query import Query, SessionEvent
from features.state import resolve
from serving.bundle import blend
from serving.fold_in import FactorModel, fold_in
from serving.generators import SignalFactors
from serving.index import EXACT_BELOW
from serving.layout import latest, lists_by_code
from serving.scores import NO_SCORES
from tests.features import small

NOW = datetime(2024, 3, 1, tzinfo=UTC)
N = 8
IDS = [f"s{i}" for i in range(N)]
ARTISTS = ["Ann", "Ann", "Bob", "Bob", "Cy", None, "Cy", "Dee"]
SONGS = small.songs(
    *(
        {
            "song_id": song,
            "artists": [artist] if artist else None,
            "duration_ms": 100_000,
            SongRow.POPULARITY_PERCENTILE: (i + 1) / 10,
        }
        for i, (song, artist) in enumerate(zip(IDS, ARTISTS, strict=True))
    )
)
EVERY = np.arange(N, dtype=np.int32)


def asking(*songs, user=None, actions=None):
    session = tuple(
        SessionEvent(f"s{song}", action, 100_000)
        for song, action in zip(songs, actions or ["play"] * len(songs), strict=True)
    )
    return resolve(Query(ts=NOW, user=user or {}, session=session), SONGS)


def knowing(*songs, days=0.0, **values):
    last = int((NOW - timedelta(days=days)).timestamp())
    return {
        "history_songs": [f"s{song}" for song in songs],
        "history_last_ts": [last] * len(songs),
        **{f"history_{name}": value for name, value in values.items()},
    }


def given(scores):
    """Return {song: score} of what is scored."""
    values = scores.of(EVERY)
    return {int(song): float(values[song]) for song in np.flatnonzero(np.isfinite(values))}


def factors(seed, spread=1.0):
    random = np.random.default_rng(seed)
    known = EVERY != 7
    item_factors = (random.normal(size=(N, 3)) * known[:, None]).astype(np.float32)
    return FactorModel(item_factors, known, 0.1, 5.0, spread)


def test_factors_score_with_the_listener_folded_in_from_history_and_session():
    model = factors(1)
    state = asking(2, user=knowing(3, 2, listen=[0.5, 1.5]))
    vector = fold_in(model, np.array([2, 3]), np.array([2.5, 0.5], np.float32))
    found = given(SignalFactors("listen", model).scores(state))
    expected = {song: float(model.item_factors[song] @ vector) for song in range(7)}
    assert found == pytest.approx(expected, rel=1e-3, abs=1e-5)


def test_factors_say_nothing_where_the_listener_has_not_that_signal():
    assert SignalFactors("like", factors(1)).scores(asking(2)) is NO_SCORES


def test_a_like_in_the_session_counts_at_once():
    generator = SignalFactors("like", factors(1))
    assert generator.scores(asking(2, 2, actions=["play", "like"])) is not NO_SCORES


def test_the_blend_is_the_weighted_sum_of_the_signals_in_units_of_their_spread():
    parts = {
        "like": SignalFactors("like", factors(1, spread=0.5)),
        "listen": SignalFactors("listen", factors(2, spread=2.0)),
    }
    mixed = blend(parts, {"like": 4.0, "listen": 1.0}, N)
    state = asking(2, 3, 3, actions=["play", "play", "like"])
    scores = {name: part.scores(state) for name, part in parts.items()}
    expected = 4 / 0.5 * scores["like"].of(EVERY) + 1 / 2 * scores["listen"].of(EVERY)
    np.testing.assert_allclose(mixed.combine(scores).of(EVERY), expected, rtol=1e-4)


def test_a_signal_that_the_listener_lacks_leaves_the_blend_to_the_others():
    parts = {
        "like": SignalFactors("like", factors(1)),
        "listen": SignalFactors("listen", factors(2)),
    }
    mixed = blend(parts, {"like": 4.0, "listen": 1.0}, N)
    scores = {name: part.scores(asking(2)) for name, part in parts.items()}
    assert scores["like"] is NO_SCORES
    found = mixed.combine(scores).of(EVERY)
    np.testing.assert_allclose(found, scores["listen"].of(EVERY), rtol=1e-5)
    assert mixed.combine({"like": NO_SCORES, "listen": NO_SCORES}) is NO_SCORES


@pytest.mark.parametrize("songs", [N, EXACT_BELOW])
def test_a_song_that_only_a_signal_without_the_listener_knows_has_no_score(songs):
    few = factors(1)
    known = np.arange(N) < 3
    few = replace(few, item_factors=few.item_factors * known[:, None], known=known)
    parts = {"like": SignalFactors("like", factors(2)), "listen": SignalFactors("listen", few)}
    mixed = blend(parts, {"like": 4.0, "listen": 1.0}, songs)
    scores = {name: part.scores(asking(2)) for name, part in parts.items()}
    assert scores["like"] is NO_SCORES
    assert set(given(mixed.combine(scores))) == {0, 1, 2}


def test_a_source_without_any_signal_has_an_empty_blend():
    assert blend({}, {}, N).combine({}) is NO_SCORES


def test_artists_list_their_songs_the_most_popular_first():
    popularity = SONGS.numbers[SongRow.POPULARITY_PERCENTILE]
    codes = SONGS.codes["artists"]
    found = lists_by_code(codes.codes, popularity, len(codes.vocabulary), 2)
    listed = {
        artist: found.indices[found.indptr[code] : found.indptr[code + 1]].tolist()
        for code, artist in enumerate(codes.vocabulary)
    }
    assert listed == {"Ann": [1, 0], "Bob": [3, 2], "Cy": [6, 4], "Dee": [7]}
    np.testing.assert_allclose(found.data, popularity[found.indices])


def test_latest_keeps_the_last_entries_of_each_row():
    matrix = csr_matrix(np.array([[1, 2, 3, 4], [0, 5, 0, 0], [0, 0, 0, 0], [6, 0, 7, 8]]))
    expected = [[0, 0, 3, 4], [0, 5, 0, 0], [0, 0, 0, 0], [0, 0, 7, 8]]
    assert latest(matrix, 2).toarray().tolist() == expected
