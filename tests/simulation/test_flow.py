import numpy as np
import pandas as pd
import pytest

from features.columns import Event, Song, User
from tests.simulation.conftest import Written


@pytest.fixture(scope="module")
def pairs(written: Written, listenings: pd.DataFrame) -> pd.DataFrame:
    """Own choices with the song before them in the session, both with song columns."""
    heard = listenings.merge(written.songs, on=Song.ID).merge(written.users, on=User.ID)
    heard = heard.sort_values([Event.SESSION, Event.TS])
    heard["artist"] = heard[Song.ARTISTS].map(lambda names: names[0])
    names = ["artist", Song.ALBUM, Song.TEMPO, Song.RELEASE_YEAR, Event.SONG]
    before = heard.groupby(Event.SESSION)[names].shift()
    heard = heard.join(before.add_suffix("_before"))
    return heard[(heard[Event.SURFACE] != "recommended") & heard["artist_before"].notna()]


def shuffled(values: pd.Series) -> np.ndarray:
    return values.sample(frac=1.0, random_state=3).to_numpy()


def test_artists_come_in_runs(pairs: pd.DataFrame) -> None:
    same = pairs["artist"] == pairs["artist_before"]
    assert same.mean() > 3 * (shuffled(pairs["artist"]) == pairs["artist_before"]).mean()


def test_eras_come_in_runs(pairs: pd.DataFrame) -> None:
    other = pairs[pairs["artist"] != pairs["artist_before"]]
    years = (other["release_year"] - other["release_year_before"]).abs()
    by_chance = np.abs(shuffled(other["release_year"]) - other["release_year_before"])
    assert years.mean() < 0.9 * by_chance.mean()


def test_tempo_is_continuous(pairs: pd.DataFrame) -> None:
    step = (pairs["tempo"] - pairs["tempo_before"]).abs()
    assert step.mean() < 0.85 * np.abs(shuffled(pairs["tempo"]) - pairs["tempo_before"]).mean()


def test_a_song_is_hardly_ever_repeated_at_once(pairs: pd.DataFrame) -> None:
    assert (pairs[Event.SONG] == pairs[f"{Event.SONG}_before"]).mean() < 0.01


def test_listeners_stay_with_languages_they_know(pairs: pd.DataFrame) -> None:
    known = [
        song in spoken for song, spoken in zip(pairs["language"], pairs["languages"], strict=True)
    ]
    assert np.mean(known) > 0.8


def test_teens_songs_are_over_represented(written: Written, pairs: pd.DataFrame) -> None:
    near = (pairs[Song.RELEASE_YEAR] - pairs[User.BIRTH_YEAR] - 16).abs() <= 4
    strangers = np.abs(pairs[Song.RELEASE_YEAR] - shuffled(pairs[User.BIRTH_YEAR]) - 16) <= 4
    assert near.mean() > 1.15 * strangers.mean()
    assert written.users[User.BIRTH_YEAR].max() <= 2023 - 13


def test_christmas_songs_are_for_christmas(written: Written, pairs: pd.DataFrame) -> None:
    truth = written.truth
    festive = set(truth.song_ids[truth.model.occasion == 1])
    is_festive = pairs[Event.SONG].isin(festive)
    inside = pairs[Event.OCCASION] == "christmas"
    assert is_festive[inside].mean() > 5 * is_festive[~inside].mean()


def test_workouts_are_louder_than_sleep(pairs: pd.DataFrame) -> None:
    energy = pairs.groupby(pairs[Event.ACTIVITY].fillna("none"))[Song.ENERGY].mean()
    assert energy["exercising"] > energy["none"] + 0.05
    assert energy["sleeping"] < energy["none"] - 0.1


def test_purposes_have_their_hours(written: Written) -> None:
    first = written.events.groupby(Event.SESSION).head(1).merge(written.users, on=User.ID)
    hour = (first[Event.TS] + pd.to_timedelta(first[User.UTC_OFFSET], unit="m")).dt.hour
    working, sleeping = (hour[first[Event.ACTIVITY] == a] for a in ("working", "sleeping"))
    assert working.between(9, 16).mean() > 0.6
    assert (sleeping.between(21, 23) | (sleeping <= 4)).mean() > 0.7
