import numpy as np
import pytest

from features.catalogue import catalogue
from features.columns import Song, SongRow
from tests.features import small

SONGS = small.songs(
    {
        "song_id": "c",
        "artists": ["Zoe", "Ann"],
        "language": "hi",
        "release_year": 1999,
        "moods": ["calm", "sad"],
        "energy": 0.2,
        SongRow.REGION_KEYS: ["south", "north"],
        SongRow.REGION_POPULARITY: [3.0, 5.0],
    },
    {"song_id": "a", "artists": ["Ann"], "language": "en", "release_year": 2000, "energy": 0.6},
    {
        "song_id": "b",
        "artists": [],
        "moods": ["happy"],
        SongRow.REGION_KEYS: ["north"],
        SongRow.REGION_POPULARITY: [7.0],
    },
)


def test_songs_are_in_order_of_id_and_unknown_ids_are_minus_one():
    assert SONGS.ids.tolist() == ["a", "b", "c"]
    assert SONGS.indices(["c", "nobody", "a", "c"]).tolist() == [2, -1, 0, 2]
    assert len(SONGS) == 3


def test_codes_are_of_the_first_artist_and_minus_one_where_absent():
    artists = SONGS.codes[Song.ARTISTS]
    assert artists.vocabulary.tolist() == ["Ann", "Zoe"]
    assert artists.codes.tolist() == [0, -1, 1]
    assert SONGS.codes[Song.LANGUAGE].codes.tolist() == [0, -1, 1]
    assert artists.code_of == {"Ann": 0, "Zoe": 1}


def test_eras_are_decades():
    eras = SONGS.codes["era"]
    assert eras.vocabulary.tolist() == ["1990", "2000"]
    assert eras.codes.tolist() == [1, -1, 0]


def test_tags_are_a_matrix_and_an_untagged_song_has_an_empty_row():
    moods = SONGS.tags[Song.MOODS]
    assert moods.vocabulary.tolist() == ["calm", "happy", "sad"]
    assert moods.has.tolist() == [[0, 0, 0], [0, 1, 0], [1, 0, 1]]


def test_a_column_without_any_tag_has_no_columns():
    assert SONGS.tags[Song.OCCASIONS].has.shape == (3, 0)


def test_absent_numbers_are_nan():
    years = SONGS.numbers[Song.RELEASE_YEAR]
    np.testing.assert_array_equal(years, [2000, np.nan, 1999])
    assert np.isnan(SONGS.numbers[SongRow.POPULARITY]).all()


def test_audio_is_standardised_over_the_songs_that_have_it():
    place = Song.AUDIO.index(Song.ENERGY)
    np.testing.assert_allclose(SONGS.audio[:, place], [1, np.nan, -1], rtol=1e-5)
    assert SONGS.audio_mean[place] == pytest.approx(0.4)
    assert SONGS.audio_spread[place] == pytest.approx(0.2)


def test_a_sound_that_no_song_has_or_that_never_varies_stays_finite():
    one = small.songs({"song_id": "a", "energy": 0.5}, {"song_id": "b", "energy": 0.5})
    place = Song.AUDIO.index(Song.ENERGY)
    assert one.audio[:, place].tolist() == [0, 0]
    assert np.isnan(one.audio[:, Song.AUDIO.index(Song.TEMPO)]).all()
    assert np.isfinite(one.audio_spread).all()


def test_popularity_by_region_is_a_matrix_over_sorted_regions():
    assert SONGS.listener_regions == {"north": 0, "south": 1}
    assert SONGS.region_popularity.tolist() == [[0, 0], [7, 0], [5, 3]]
    assert SONGS.listener_languages == {}
    assert SONGS.language_popularity.shape == (3, 0)


def test_no_song_or_the_same_song_twice_is_refused():
    with pytest.raises(ValueError, match="one row per song"):
        catalogue(small.frame({"song_id": "a"}, {"song_id": "a"}))
    with pytest.raises(ValueError, match="at least one song"):
        catalogue(small.frame({"song_id": "a"}).iloc[:0])
