"""Each generator against plain loops over the same small arrays."""

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from features.arrays import map_arrays
from features.catalogue import catalogue
from features.columns import Action, Song, SongRow, User, UserRow
from features.params import Recent, Seeds, Sessions
from features.query import Query, SessionEvent
from features.state import resolve
from serving.files import TRENDING_FILE
from serving.generators import (
    NearestSessions,
    Neighbours,
    Repeats,
    SameArtist,
    Trending,
)
from serving.layout import lists_by_code, save_trending
from serving.scores import NO_SCORES
from serving.sequences import SongVectors
from tests.features import small

SONGS, PAST = 12, 9
NOW = datetime(2024, 5, 1, 12, tzinfo=UTC)
ARTISTS = ("Ada", "Bo", "Cy", None)
SEEDS = range(8)
CATALOGUE = catalogue(
    small.frame(
        *(
            {Song.ID: f"s{i:02d}", Song.ARTISTS: [ARTISTS[i % 4]] * (i % 4 < 3)}
            for i in range(SONGS)
        )
    )
)


def state(*session, user=None, ts=NOW, skipped=()):
    events = tuple(
        SessionEvent(f"s{i:02d}", Action.SKIP if i in skipped else Action.PLAY) for i in session
    )
    return resolve(Query(ts=ts, user=user or {}, session=events), CATALOGUE)


def history(*songs, days=(), listen=()):
    return {
        UserRow.HISTORY_SONGS: [f"s{i:02d}" for i in songs],
        UserRow.HISTORY_LAST_TS: [int((NOW - timedelta(days=d)).timestamp()) for d in days],
        UserRow.HISTORY_LISTEN: list(listen),
    }


def agree(scores, expected):
    """Compare with {song: score}; every other song has no score."""
    table = [expected.get(song, np.nan) for song in range(SONGS)]
    np.testing.assert_allclose(scores.of(np.arange(SONGS)), table, rtol=1e-5)


def random_links(random):
    dense = random.random((SONGS, SONGS)) * (random.random((SONGS, SONGS)) < 0.4)
    return csr_matrix(dense.astype(np.float32))


@pytest.mark.parametrize("seed", SEEDS)
def test_neighbours_sum_the_latest_seeds_rows_with_decay(seed):
    random = np.random.default_rng(seed)
    links = random_links(random)
    params = Seeds(seeds=3, seed_decay=0.5, half_life_days=1, candidates=1)
    session = random.integers(0, SONGS, 5).tolist()
    expected = {}
    for back, seed_song in enumerate(session[::-1][:3]):
        for song in range(SONGS):
            if links[seed_song, song]:
                expected[song] = expected.get(song, 0) + 0.5**back * links[seed_song, song]
    agree(Neighbours(links, params).scores(state(*session)), expected)
    assert Neighbours(links, params).scores(state()) is NO_SCORES


def past_sessions(random):
    """Return sessions in order of play; a song may come twice in one."""
    return [random.integers(0, SONGS, random.integers(2, 7)).tolist() for _ in range(PAST)]


def nearest(sessions, random, per_song, **changes):
    """Return the generator over some sessions, of which each song keeps its latest."""
    settings = {"seeds": 3, "seed_decay": 0.6, "neighbours": 4, "distance": 2.0, "backward": 0.3}
    fixed = {"half_life_days": 1, "candidates": 1, "per_song": per_song}
    of_song = [
        [i for i, s in enumerate(sessions) if song in s][-per_song:] for song in range(SONGS)
    ]
    return NearestSessions(
        song_sessions=rows_matrix(of_song, PAST),
        session_songs=rows_matrix(sessions, SONGS),
        recency=random.uniform(0.1, 1, PAST).astype(np.float32),
        song_weight=random.uniform(0.5, 2, SONGS).astype(np.float32),
        params=Sessions(**(settings | fixed | changes)),
    )


def rows_matrix(rows, columns):
    indices = np.array([value for row in rows for value in row], dtype=np.int32)
    indptr = np.cumsum([0, *map(len, rows)])
    ones = np.ones(len(indices), np.float32)
    return csr_matrix((ones, indices, indptr), shape=(len(rows), columns))


def naive_nearest(generator, sessions, session):
    params = generator.params
    seeds = session[::-1][: params.seeds]
    near = {}
    for back, song in enumerate(seeds):
        for past in generator.song_sessions[song].indices.tolist():
            weight = params.seed_decay**back * generator.song_weight[song]
            near[past] = near.get(past, 0) + weight * generator.recency[past]
    found = {}
    for past in sorted(near, key=lambda p: (-near[p], p))[: params.neighbours]:
        songs = sessions[past]
        shared = songs.index(next(song for song in seeds if song in songs))
        for place, song in enumerate(songs):
            distance = place - shared
            closeness = math.exp(-(abs(distance) - 1) / params.distance)
            closeness *= 1 if distance > 0 else params.backward
            if song not in session:
                found[song] = found.get(song, 0) + near[past] * closeness
    return found


@pytest.mark.parametrize("per_song", [2, PAST])
@pytest.mark.parametrize("seed", SEEDS)
def test_nearest_sessions_agree_with_loops_over_sessions(seed, per_song):
    random = np.random.default_rng(seed)
    sessions = past_sessions(random)
    generator = nearest(sessions, random, per_song)
    session = random.integers(0, SONGS, random.integers(1, 6)).tolist()
    agree(generator.scores(state(*session)), naive_nearest(generator, sessions, session))


def test_nearest_sessions_worked_out_by_hand():
    random = np.random.default_rng(0)
    sessions = [[3, 1, 5, 7, 2], *[[9, 10]] * (PAST - 1)]
    generator = nearest(sessions, random, PAST)
    weight = (0.6 * generator.song_weight[1]) * generator.recency[0]
    step = math.exp(-1 / 2)
    expected = {3: 0.3 * weight, 5: weight, 7: weight * step, 2: weight * step**2}
    agree(generator.scores(state(1, 11)), expected)


@pytest.mark.parametrize("seed", SEEDS)
def test_nearest_sessions_never_propose_a_song_of_the_session(seed):
    random = np.random.default_rng(seed)
    session = random.integers(0, SONGS, 6).tolist()
    scores = nearest(past_sessions(random), random, PAST, seeds=2).scores(state(*session))
    assert not set(scores.top(SONGS).tolist()) & set(session)


def test_nobody_is_near_a_session_of_songs_that_no_session_held():
    random = np.random.default_rng(1)
    generator = nearest([[1, 2]] * PAST, random, PAST)
    assert generator.scores(state(4)) is NO_SCORES
    assert generator.scores(state()) is NO_SCORES


def test_where_likeness_counts_a_skipped_song_stands_behind_the_others():
    random = np.random.default_rng(4)
    vectors = random.normal(size=(SONGS, 3)).astype(np.float32)
    seeds = Seeds(seeds=3, seed_decay=0.5, half_life_days=1, candidates=1)
    popularity = np.linspace(0.1, 1, SONGS).astype(np.float32)
    artists = CATALOGUE.codes[Song.ARTISTS]
    listed = lists_by_code(artists.codes, popularity, len(artists.vocabulary), SONGS)
    likeness = (
        nearest(past_sessions(random), random, PAST),
        SongVectors(vectors, np.ones(SONGS, dtype=np.bool_), seeds),
        SameArtist(listed, popularity, CATALOGUE),
    )
    songs = np.arange(SONGS)
    for generator in likeness:
        found = generator.scores(state(1, 2, 4, skipped={4})).of(songs)
        np.testing.assert_array_equal(found, generator.scores(state(4, 1, 2)).of(songs))
    # Sequences go on from the song that was played last, however it was liked.
    follows = Neighbours(random_links(random), seeds)
    found = follows.scores(state(1, 2, 4, skipped={4})).of(songs)
    np.testing.assert_array_equal(found, follows.scores(state(1, 2, 4)).of(songs))


def test_repeats_halve_with_each_half_life_and_add_the_session():
    listener = history(4, 8, 2, days=(0, 10, 20), listen=(3, 2, 0))
    generator = Repeats(Recent(half_life_days=10, candidates=1))
    # A song that was only ever skipped (no listening value) still counts a little.
    agree(generator.scores(state(user=listener)), {4: 3, 8: 1, 2: 0.1 / 4})
    agree(generator.scores(state(8, 5, 8, user=listener)), {4: 3, 8: 3, 2: 0.1 / 4, 5: 1})
    assert generator.scores(state()) is NO_SCORES


@pytest.mark.parametrize("years", [0, 5, 12, 90])
def test_repeats_of_long_ago_keep_their_order(years):
    days = [years * 365 + day for day in (300, 0, 20, 100)]
    listener = history(4, 8, 2, 6, days=days, listen=(1, 1, 1, 1))
    generator = Repeats(Recent(half_life_days=14, candidates=1))
    assert generator.scores(state(user=listener)).top(4).tolist() == [8, 2, 6, 4]


def test_same_artist_adds_session_usual_and_favourite_artists():
    random = np.random.default_rng(3)
    words = CATALOGUE.codes[Song.ARTISTS].vocabulary.tolist()
    popularity = {i: float(random.uniform(0.1, 1)) for i in range(SONGS) if i % 4 < 3}
    of_song = np.array([popularity.get(i, 0) for i in range(SONGS)], dtype=np.float32)
    listed = lists_by_code(CATALOGUE.codes[Song.ARTISTS].codes, of_song, len(words), SONGS)
    listener = {
        UserRow.ARTIST_KEYS: ["Bo", "Nobody"],
        UserRow.ARTIST_SHARES: [0.25, 0.75],
        User.FAVOURITE_ARTISTS: ["Cy", "Stranger"],
    }
    generator = SameArtist(listed, of_song, CATALOGUE)
    # Latest first: 7 has no artist, then Ada, Bo, Ada.
    weight = {"Ada": 0.7 + 0.7**3, "Bo": 0.7**2 + 0.25, "Cy": 0.2}
    expected = {song: value * weight[ARTISTS[song % 4]] for song, value in popularity.items()}
    scores = generator.scores(state(0, 1, 4, 7, user=listener))
    agree(scores, expected)
    assert scores.top(5).tolist() == sorted(expected, key=lambda song: -expected[song])[:5]
    assert generator.scores(state(7)) is NO_SCORES


def test_trending_is_the_mean_of_the_shares_that_apply(tmp_path):
    spread = {SongRow.REGION_KEYS: ["EU"], SongRow.REGION_POPULARITY: [1.0]}
    spread |= {SongRow.LANGUAGE_KEYS: ["de", "en"], SongRow.LANGUAGE_POPULARITY: [1.0, 1.0]}
    songs = small.songs(*({Song.ID: f"s{i:02d}"} | spread for i in range(SONGS)))
    random = np.random.default_rng(4)
    overall = np.where(np.arange(SONGS) < 3, 0, random.random(SONGS)).astype(np.float32)
    region, language = (random.random((SONGS, n)).astype(np.float32) for n in (1, 2))
    region[0], language[0] = 0, 0
    tables = {"region_popularity": region, "language_popularity": language}
    songs = replace(songs, arrays={**songs.arrays, **tables})
    save_trending(tmp_path, overall, songs)
    generator = Trending(**map_arrays(tmp_path / TRENDING_FILE), songs=songs)
    region, language = region / region.sum(axis=0), language / language.sum(axis=0)
    german = {User.REGION: "EU", User.LANGUAGES: ["de", "tlh"]}
    score = [(overall[i] + region[i, 0] + language[i, 0]) / 3 for i in range(SONGS)]
    found = generator.scores(state(user=german))
    agree(found, {i: score[i] for i in range(1, SONGS)})
    assert found.top(4).tolist() == sorted(range(SONGS), key=lambda i: -score[i])[:4]
    stranger = {User.REGION: "Atlantis"}
    agree(generator.scores(state(user=stranger)), {i: overall[i] for i in range(3, SONGS)})
