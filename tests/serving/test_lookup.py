from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from features.catalogue import catalogue
from features.columns import Song
from serving.bundle import load_factors
from serving.live import load
from serving.lookup import Lookup, lookup, normal, save_search
from tests.serving.conftest import EVIL_TITLE, SONGS, songs_frame


@pytest.fixture(scope="module")
def names(bundle: Path) -> Lookup:
    return load(bundle).lookup


def naive(words: str, k: int) -> list[int]:
    """Search row by row: song i of the frame has index i and is the i-th most popular."""
    starts, contains = [], []
    for i, row in songs_frame().iterrows():
        fields = [row.title or "", *(row.artists or []), row.song_id]
        folded = [normal(field) for field in fields]
        if any(field.startswith(normal(words)) for field in folded):
            starts.append(int(i))
        elif any(normal(words) in field for field in folded):
            contains.append(int(i))
    return (starts + contains)[:k]


@pytest.mark.parametrize(
    "words",
    ["tune 1", "TUNE 12", "lamp", "of the", "artist 4", "song-007", "SONG-19", "e", "zum SCHLUSS"]
    + ["  tune   1 ", "nothing at all", "<img src=x", "1"],
)
def test_search_agrees_with_a_loop_over_the_rows(names: Lookup, words: str) -> None:
    assert names.name_index.search(words, 8) == naive(words, 8)


def test_search_leaves_out_what_is_withdrawn(tmp_path: Path) -> None:
    withdrawn = [i == 3 for i in range(SONGS)]
    songs = catalogue(songs_frame().assign(**{Song.WITHDRAWN: withdrawn}))
    save_search(songs, tmp_path)
    found = lookup(SimpleNamespace(), tmp_path)
    assert sorted(found.name_index.search("artist 3", 100)) == list(range(13, SONGS, 10))


def test_search_finds_all_of_an_artist(names: Lookup) -> None:
    assert sorted(names.name_index.search("artist 3", 100)) == list(range(3, SONGS, 10))


@pytest.mark.parametrize(
    ("one", "other"),
    [("Björk", "bjork"), ("Beyoncé", "BEYONCE"), ("Bj\u00f6rk", "Bjo\u0308rk"), ("Ảnh", "anh")]
    + [("´velvet", "velvet"), ("hollow ´city", "hollow city"), ("a¨ b", "a b")],
)
def test_accents_are_folded(one: str, other: str) -> None:
    assert normal(one) == normal(other)


@pytest.mark.parametrize(("one", "other"), [("कि", "का"), ("が", "か"), ("ø", "o")])
def test_marks_that_make_other_letters_stay(one: str, other: str) -> None:
    assert normal(one) != normal(other)


@pytest.mark.parametrize("words", ["", "   ", "\n", "\t\n ", "´", " ¨¯ "])
def test_search_for_nothing_finds_nothing(names: Lookup, words: str) -> None:
    assert names.name_index.search(words, 5) == []


def test_a_hit_does_not_run_over_two_fields(names: Lookup) -> None:
    assert names.name_index.search("river artist", 5) == []


def test_titles_and_artists(names: Lookup) -> None:
    assert names.title(3) == EVIL_TITLE
    assert names.title(7) is None
    assert names.artist_names(3) == ["Artist 3"]
    assert names.artist_names(49) == []


def test_similar_is_the_cosine_of_listen_factors(names: Lookup, bundle: Path) -> None:
    factors = load_factors(bundle / "factors_listen.npz").item_factors.astype(np.float64)
    cosine = [
        float(row @ factors[3] / (np.linalg.norm(row) * np.linalg.norm(factors[3]) or 1))
        for row in factors
    ]
    order = sorted((i for i in range(SONGS - 1) if i != 3), key=lambda i: -cosine[i])
    by, nearest = names.similar(3, 5)
    assert by == "listen"
    assert [song for song, _ in nearest] == order[:5]
    assert [score for _, score in nearest] == pytest.approx([cosine[i] for i in order[:5]])


@pytest.mark.parametrize("song", [3, SONGS - 1])
def test_similar_leaves_out_what_is_withdrawn(names: Lookup, song: int) -> None:
    by, before = names.similar(song, 4)
    gone = [one for one, _ in before[:2]]
    songs = names.retrieval.songs
    withdrawn = {Song.WITHDRAWN: np.isin(np.arange(SONGS), gone)}
    without = replace(songs, arrays={**songs.arrays, **withdrawn})
    left = replace(names, retrieval=replace(names.retrieval, songs=without))
    assert left.similar(song, 2) == (by, before[2:])


def test_similar_never_holds_the_song_or_one_without_factors(names: Lookup) -> None:
    _, nearest = names.similar(3, 10 * SONGS)
    assert {song for song, _ in nearest} == set(range(SONGS - 1)) - {3}


def test_a_song_without_factors_goes_by_sessions(names: Lookup) -> None:
    by, nearest = names.similar(SONGS - 1, 4)
    assert by == "together"
    assert len(nearest) == 4
    assert all(song % 10 == 9 for song, _ in nearest)


def test_vocabulary_holds_the_catalogues_words(names: Lookup) -> None:
    assert names.vocabulary == {
        "occasion": ["diwali", "party"],
        "mood": ["calm", "happy"],
        "era": ["1970", "1980", "1990", "2000", "2010"],
        "language": ["de", "en", "hi"],
        "region": ["Europe", "South Asia"],
    }
