"""New songs, against loops over all songs of a small catalogue."""

import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from features.arrays import map_rows
from features.catalogue import Catalogue
from features.columns import Action, Song, SongRow, User, UserRow
from features.query import Query, SessionEvent
from features.state import State, resolve
from serving.bundle import load_retrieval
from serving.files import FRESH_FILE
from serving.fresh import OF_FRESH, FreshSongs
from serving.layout import save_fresh
from serving.scores import NO_SCORES
from tests.features import small

SONGS, DAYS = 60, 14.0
NOW = datetime(2024, 5, 1, 12, tzinfo=UTC)
LISTENER = {
    UserRow.ARTIST_KEYS: ["Ada", "Nobody"],
    UserRow.ARTIST_SHARES: [0.5, 0.5],
    User.FAVOURITE_ARTISTS: ["Bo"],
    # The sixth genre and the fourth language are heard too little to be asked.
    UserRow.GENRE_KEYS: ["rock", "unheard of", "pop", "jazz", "folk", "soul"],
    UserRow.GENRE_SHARES: [0.4, 0.2, 0.15, 0.1, 0.1, 0.05],
    UserRow.LANGUAGE_KEYS: ["de", "en", "tlh", "fr"],
    UserRow.LANGUAGE_SHARES: [0.6, 0.2, 0.1, 0.1],
}


def one_of(random: np.random.Generator, *values: str | None) -> Any:
    return values[random.integers(len(values))]


def drawn(seed: int) -> list[dict[str, Any]]:
    """Return songs of all ages, some of no artist, genre or language."""
    random = np.random.default_rng(seed)
    found = []
    for number in range(SONGS):
        artist = one_of(random, "Ada", "Bo", "Cy", "Dee", None)
        genre = one_of(random, "rock", "pop", "jazz", "folk", "soul", None)
        found.append(
            {
                Song.ID: f"s{number:02d}",
                Song.ARTISTS: [artist] if artist else [],
                Song.GENRES: [genre] if genre else [],
                Song.LANGUAGE: one_of(random, "de", "en", "fr", None),
                SongRow.AGE_DAYS: float(random.uniform(0, 2 * DAYS))
                if random.random() < 0.9
                else None,
                SongRow.PLAYS: int(random.integers(0, 50)) if random.random() < 0.8 else None,
            }
        )
    return found


def generator(folder: Path, songs: Catalogue) -> FreshSongs:
    save_fresh(folder, songs, DAYS)
    return FreshSongs(map_rows(folder / FRESH_FILE), songs)


def state(songs: Catalogue, user: dict[str, Any], *session: str) -> State:
    events = tuple(SessionEvent(song, Action.PLAY) for song in session)
    return resolve(Query(ts=NOW, user=user, session=events), songs)


def share(user: dict[str, Any], keys: str, shares: str, word: str | None, most: int) -> float:
    return dict(zip(user[keys][:most], user[shares][:most], strict=True)).get(word, 0.0)


def naive(rows: list[dict[str, Any]], user: dict[str, Any], session: list[int]) -> dict[int, float]:
    """Return the score of each song that has one."""
    weight: dict[str, float] = {"Bo": 0.2, "Ada": 0.5}
    for back, place in enumerate(reversed(session)):
        for artist in rows[place][Song.ARTISTS]:
            weight[artist] = weight.get(artist, 0.0) + 0.7**back
    found = {}
    for place, song in enumerate(rows):
        age = song[SongRow.AGE_DAYS]
        if age is None or age >= DAYS:
            continue
        worth = sum(weight.get(artist, 0.0) for artist in song[Song.ARTISTS])
        for genre in song[Song.GENRES]:
            of_genre = share(user, UserRow.GENRE_KEYS, UserRow.GENRE_SHARES, genre, 5)
            word = song[Song.LANGUAGE]
            languages = (UserRow.LANGUAGE_KEYS, UserRow.LANGUAGE_SHARES)
            worth += 0.3 * of_genre * (share(user, *languages, word, 3) if word else 1.0)
        if worth:
            found[place] = worth * ((song[SongRow.PLAYS] or 0) + 1) / (age + 1)
    return found


@pytest.mark.parametrize("seed", range(10))
def test_new_songs_count_by_artist_genre_and_language(seed: int, tmp_path: Path) -> None:
    rows = drawn(seed)
    songs = small.songs(*rows)
    session = np.random.default_rng(seed).integers(0, SONGS, 4).tolist()
    scores = generator(tmp_path, songs).scores(
        state(songs, LISTENER, *(f"s{place:02d}" for place in session))
    )
    expected = naive(rows, LISTENER, session)
    assert expected
    found = scores.of(np.arange(SONGS, dtype=np.int32))
    np.testing.assert_allclose(found, [expected.get(i, np.nan) for i in range(SONGS)], rtol=1e-5)
    assert scores.top(5).tolist() == sorted(expected, key=lambda i: -expected[i])[:5]


def test_of_many_new_songs_those_heard_most_a_day_are_kept(tmp_path: Path) -> None:
    heard = {f"s{number:02d}": number for number in range(OF_FRESH + 5)}
    rows = (
        {Song.ID: song, Song.ARTISTS: ["Ada"], SongRow.AGE_DAYS: 1.0, SongRow.PLAYS: plays}
        for song, plays in heard.items()
    )
    songs = small.songs(*rows)
    scores = generator(tmp_path, songs).scores(state(songs, LISTENER))
    kept = sorted(heard, key=lambda song: -heard[song])[:OF_FRESH]
    assert [songs.ids[place] for place in scores.top(len(heard))] == kept


def test_nobody_hears_of_new_songs_by_nothing(tmp_path: Path) -> None:
    songs = small.songs(*drawn(0))
    fresh = generator(tmp_path, songs)
    for user in ({}, {UserRow.GENRE_KEYS: [], UserRow.LANGUAGE_KEYS: []}):
        assert fresh.scores(state(songs, user)) is NO_SCORES


@pytest.mark.parametrize("genres", [[], ["rock"]])
def test_a_source_that_names_neither_artists_nor_genres_has_no_such_generator(
    bundle: Path, tmp_path: Path, genres: list[str]
) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(bundle, folder)
    (folder / FRESH_FILE).unlink()
    rows = [{Song.ID: f"s{i}", SongRow.AGE_DAYS: 1.0, Song.GENRES: genres} for i in range(3)]
    save_fresh(folder, small.songs(*rows), DAYS)
    assert ("fresh" in load_retrieval(folder).names) == bool(genres)
