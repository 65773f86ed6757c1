"""The songs that are listed for a word of the context."""

import pytest

from features.columns import Song, SongRow
from serving.context_songs import KEPT, KEPT_A_LANGUAGE, ContextSongs
from tests.features.small import songs

COMMON = KEPT + 200


@pytest.fixture(scope="module")
def listed():
    """List a catalogue in which every English party song is more popular than any Tamil one."""
    rows = [
        {
            Song.ID: f"s{n:04d}",
            Song.LANGUAGE: "en" if n < COMMON else "ta",
            Song.OCCASIONS: ["party"],
            SongRow.POPULARITY_PERCENTILE: 1 - n / 2000,
        }
        for n in range(COMMON + KEPT_A_LANGUAGE + 10)
    ]
    return ContextSongs.of(songs(*rows)).lists


def test_the_most_popular_songs_of_a_word_are_listed(listed):
    assert set(range(KEPT)) <= set(listed["occasion", "party"].tolist())


def test_a_language_that_is_nowhere_popular_is_listed_too(listed):
    party = listed["occasion", "party"].tolist()
    assert party == sorted([*range(KEPT), *range(COMMON, COMMON + KEPT_A_LANGUAGE)])


def test_the_word_is_a_language_itself(listed):
    assert listed["language", "ta"].tolist() == list(range(COMMON, COMMON + KEPT_A_LANGUAGE + 10))
