"""The compiled loops of generators and ranking against naive versions."""

import numpy as np
import pytest

from serving.compiled import (
    best_of_artists,
    best_of_shares,
    mean_shares,
    pooled,
    proposals,
    rows_filled,
    rows_weighted,
    worth_by_artist,
)
from serving.compiled_sessions import followers_here

SEEDS = range(20)


@pytest.mark.parametrize("seed", SEEDS)
def test_songs_of_artists_come_by_worth_and_weight(seed: int) -> None:
    random = np.random.default_rng(seed)
    artist_of = random.integers(0, 6, 40).astype(np.int32)
    worth = random.random(40).astype(np.float32)
    rows = [sorted(np.flatnonzero(artist_of == a), key=lambda s: -worth[s]) for a in range(6)]
    starts = np.cumsum([0, *map(len, rows)])
    songs = np.concatenate(rows).astype(np.int32)
    artists = random.permutation(6)[:3].astype(np.int32)
    weights = random.random(3).astype(np.float32)
    count = int(random.integers(1, 8))
    values = {
        int(s): float(worth[s] * w) for a, w in zip(artists, weights, strict=True) for s in rows[a]
    }
    found = best_of_artists(starts, songs, worth[songs], artists, weights, count)
    assert found.tolist() == sorted(values, key=lambda s: -values[s])[:count]
    every = np.arange(40, dtype=np.int32)
    scores = worth_by_artist(artist_of, worth, artists, weights, every)[0]
    np.testing.assert_allclose(scores, [values.get(int(s), np.nan) for s in every], rtol=1e-6)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_pool_is_what_the_lists_may_propose(seed: int) -> None:
    random = np.random.default_rng(seed)
    most = 30 if seed % 2 else 70_000
    lists = [random.permutation(most)[: random.integers(0, 12)] for _ in range(4)]
    quotas = random.integers(0, 8, 4)
    barred = random.integers(0, most, 5 if seed % 4 else 20).astype(np.int32)
    also = random.integers(0, most, seed % 3).astype(np.int32)
    kept = [
        [song for song in one.tolist() if song not in barred.tolist()][:quota]
        for one, quota in zip(lists, quotas.tolist(), strict=True)
    ]
    expected = sorted({*also.tolist(), *(song for one in kept for song in one)})
    places = [[one.index(s) if s in one else np.nan for one in kept] for s in expected]
    proposed = np.concatenate(lists).astype(np.int32)
    songs, found = pooled(proposed, np.cumsum([len(one) for one in lists]), quotas, barred, also)
    assert songs.tolist() == expected
    assert songs.dtype == np.int32
    np.testing.assert_array_equal(found, np.array(places, np.float32).reshape(-1, 4))


@pytest.mark.parametrize("seed", SEEDS)
def test_followers_of_the_last_song_fade_by_gap_and_age(seed: int) -> None:
    session = np.random.default_rng(seed).integers(0, 4, 12).astype(np.int32)
    before = [place for place in range(11) if session[place] == session[11]]
    expected = [
        (session[place + gap], 0.5 ** (gap - 1) * 0.8**age)
        for age, place in enumerate(reversed(before))
        for gap in (1, 2, 3)
        if place + gap < 12
    ]
    songs, values = followers_here(session, 3, 0.5, 0.8)
    assert songs.tolist() == [song for song, _ in expected]
    np.testing.assert_allclose(values, [value for _, value in expected], rtol=1e-6)


@pytest.mark.parametrize("seed", SEEDS)
def test_rows_come_end_to_end_times_their_weights(seed: int) -> None:
    random = np.random.default_rng(seed)
    lengths = random.integers(0, 4, 5)
    starts = np.cumsum([0, *lengths])
    columns = random.integers(0, 30, starts[-1]).astype(np.int32)
    data = random.random(starts[-1]).astype(np.float32)
    rows = random.permutation(5)[: random.integers(0, 5)].astype(np.int32)
    weights = random.random(len(rows)).astype(np.float32)
    expected = [
        (columns[at], weight * data[at])
        for row, weight in zip(rows, weights, strict=True)
        for at in range(starts[row], starts[row + 1])
    ]
    keys, values = rows_weighted(starts, columns, data, rows, weights)
    assert keys.tolist() == [key for key, _ in expected]
    np.testing.assert_allclose(values, [value for _, value in expected], rtol=1e-6)


@pytest.mark.parametrize("seed", SEEDS)
def test_songs_of_lists_come_by_their_mean_share(seed: int) -> None:
    random = np.random.default_rng(seed)
    # Tenths, so that shares are equal and zero now and then.
    overall, left, right = (
        (random.integers(0, 4, shape) / 10).astype(np.float32) for shape in (30, (30, 2), (30, 3))
    )
    columns, totals = random.permutation(5)[: seed % 3], np.full(5, 2, np.float32)
    listed = random.integers(-1, 30, (6, 8)).astype(np.int32)
    count = int(random.integers(1, 12))
    tables = np.hstack([left, right])[:, columns] / 2
    shares = np.column_stack([overall, tables]).mean(axis=1)
    asked = listed[[0, *(1 + columns)], : 2 * count].ravel()
    heard = [s for s in sorted({*asked.tolist()} - {-1}) if shares[s] > 0]
    found = best_of_shares(overall, left, right, columns, totals, listed, count)
    every = np.arange(30, dtype=np.int32)
    worth = mean_shares(overall, left, right, columns, totals, every)[0]
    np.testing.assert_allclose(worth[heard], shares[heard], rtol=1e-6)
    assert found.tolist() == sorted(heard, key=lambda s: -worth[s])[:count]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_chosen_song_is_of_the_generator_that_ranked_it_best(seed: int) -> None:
    random = np.random.default_rng(seed)
    ranks = random.integers(0, 9, (12, 4)).astype(np.float32)
    ranks[random.random((12, 4)) < 0.6] = np.nan
    chosen = random.permutation(12)[:5]
    counts, first = proposals(ranks, chosen)
    assert counts.tolist() == np.isfinite(ranks).sum(axis=0).tolist()
    # Of two that ranked it alike, the first.
    expected = [-1 if np.isnan(row).all() else int(np.nanargmin(row)) for row in ranks[chosen]]
    assert first.tolist() == expected


def test_rows_without_entries_are_left_out() -> None:
    starts, rows = np.array([0, 2, 2, 3]), np.array([2, 1, 0], np.int32)
    found, values = rows_filled(starts, rows, np.array([0.1, 0.2, 0.3], np.float32))
    assert found.tolist() == [2, 0]
    assert values.tolist() == np.array([0.1, 0.3], np.float32).tolist()
