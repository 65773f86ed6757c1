from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from features.columns import Action, Event, Song
from simulation.model import Probabilities
from simulation.truth import Truth
from simulation.vocabulary import LANGUAGE_CODES, OCCASIONS
from tests.simulation.conftest import Written


def stated(truth: Truth, rows: pd.DataFrame) -> Probabilities:
    """Ask the truth for the probabilities of logged listenings."""
    return truth.probabilities(
        rows[Event.USER].to_numpy(),
        rows[Event.SONG].to_numpy(),
        occasion=rows[Event.OCCASION].to_numpy(),
        mood=rows[Event.MOOD].to_numpy(),
        activity=rows[Event.ACTIVITY].to_numpy(),
        ts=rows[Event.TS],
        surface=rows[Event.SURFACE].to_numpy(),
        position=rows[Event.POSITION].fillna(1).to_numpy(),
        fatigue=rows["fatigue"].to_numpy(),
    )


def assert_calibrated(chance: np.ndarray, happened: np.ndarray, groups: int) -> None:
    """Compare sums of chances and of outcomes in groups of like chance, within 4 deviations."""
    for rows in np.array_split(np.argsort(chance), groups):
        expected = chance[rows].sum()
        deviation = np.sqrt((chance[rows] * (1 - chance[rows])).sum())
        assert abs(happened[rows].sum() - expected) < 4 * deviation + 1


@pytest.mark.parametrize("answered", [False, True])
def test_actions_happen_as_often_as_stated(
    written: Written, listenings: pd.DataFrame, answered: bool
) -> None:
    rows = listenings[(listenings[Event.SURFACE] == "recommended") == answered]
    assert len(rows) > 2_000
    chances = stated(written.truth, rows)
    assert_calibrated(chances.skip, (rows[Event.ACTION] == Action.SKIP).to_numpy(), 20)
    for chance, action in ((chances.like, Action.LIKE), (chances.add, Action.PLAYLIST_ADD)):
        new = ~rows[f"{action}_before"].to_numpy()
        assert_calibrated(chance[new], rows[action].to_numpy()[new], 6)


def test_calibration_would_notice_another_world(written: Written, listenings: pd.DataFrame) -> None:
    shuffled = listenings.copy()
    shuffled[Event.SONG] = shuffled[Event.SONG].sample(frac=1, random_state=1).to_numpy()
    skipped = (listenings[Event.ACTION] == Action.SKIP).to_numpy()
    with pytest.raises(AssertionError):
        assert_calibrated(stated(written.truth, shuffled).skip, skipped, 20)


def test_every_surface_daypart_and_occasion_is_calibrated(
    written: Written, listenings: pd.DataFrame
) -> None:
    chance = stated(written.truth, listenings).skip
    frame = listenings.assign(
        chance=chance,
        skipped=listenings[Event.ACTION] == Action.SKIP,
        daypart=written.truth.dayparts(listenings[Event.USER].to_numpy(), listenings[Event.TS]),
        tired=listenings["fatigue"].clip(upper=3),
    )
    for column in (Event.SURFACE, Event.OCCASION, Event.MOOD, "daypart", "tired", Event.POSITION):
        for _, rows in frame.groupby(column):
            deviation = np.sqrt((rows["chance"] * (1 - rows["chance"])).sum())
            assert abs(rows["skipped"].sum() - rows["chance"].sum()) < 4.5 * deviation + 1


def test_an_oracle_ranking_is_skipped_less_and_liked_more_than_popularity(
    written: Written, listenings: pd.DataFrame
) -> None:
    popular = listenings[Event.SONG].value_counts().index[:10].to_numpy()
    starts = listenings.groupby(Event.SESSION).head(1).iloc[:300]
    songs = np.tile(written.songs[Song.ID].to_numpy(), (len(starts), 1))
    context = {
        "occasion": starts[Event.OCCASION].to_numpy(),
        "mood": starts[Event.MOOD].to_numpy(),
        "ts": starts[Event.TS],
    }
    users = starts[Event.USER].to_numpy()
    everything = written.truth.probabilities(users, songs, **context)
    best = np.argsort(everything.skip, axis=1)[:, :10]
    rows = np.arange(len(starts))[:, None]
    by_popularity = written.truth.probabilities(users, np.tile(popular, (len(users), 1)), **context)
    assert everything.skip[rows, best].mean() < 0.6 * by_popularity.skip.mean()
    assert everything.like[rows, best].mean() > 2.0 * by_popularity.like.mean()


def test_many_songs_a_query_equal_one_by_one(written: Written) -> None:
    users = written.users["user_id"].to_numpy()[:4]
    songs = written.songs[Song.ID].to_numpy()[:12].reshape(4, 3)
    occasion = np.array([None, "christmas", "party", ""], dtype=object)
    wide = written.truth.probabilities(users, songs, occasion=occasion, daypart=[0, 5, 27, 3])
    for row in range(4):
        for column in range(3):
            single = written.truth.probabilities(
                users[[row]],
                songs[row, [column]],
                occasion=occasion[row],
                daypart=[[0, 5, 27, 3][row]],
            )
            for many, one in zip(wide, single, strict=True):
                assert many[row, column] == pytest.approx(one[0])


def test_ts_means_the_listeners_local_daypart(written: Written) -> None:
    user = written.users[written.users["utc_offset_minutes"] == 330]["user_id"].iloc[0]
    # Sunday 20:00 UTC is Monday 01:30 in India.
    assert written.truth.dayparts([user], pd.Timestamp("2023-12-10 20:00", tz="UTC"))[0] == 0


def test_position_and_fatigue_raise_skips_and_lower_likes(written: Written) -> None:
    users, songs = written.users["user_id"].to_numpy()[:50], written.songs[Song.ID].to_numpy()[:50]
    first = written.truth.probabilities(users, songs)
    deep = written.truth.probabilities(users, songs, position=10)
    tired = written.truth.probabilities(users, songs, fatigue=3)
    for later in (deep, tired):
        assert (later.skip > first.skip).all()
        assert (later.like < first.like).all()
        assert (later.add < first.add).all()


def test_taste_language_nostalgia_occasion_and_fame_each_raise_the_utility(
    written: Written,
) -> None:
    model = written.truth.model
    users = np.arange(100)[:, None]
    songs = np.arange(len(written.songs))[None, :]
    utility = model.affinity(users, songs)
    match = model.taste @ model.vector.T
    assert np.corrcoef(match[:100].ravel(), utility.ravel())[0, 1] > 0.5
    liking = model.language_liking[:100][:, model.language]
    known, unknown = utility[liking > 0.5], utility[liking < -1]
    assert known.mean() > unknown.mean() + 1
    age = np.abs(model.year[None, :] - model.birth_year[:100, None] - 16)
    assert utility[age <= 3].mean() > utility[(age > 12)].mean() + 0.2
    christmas = np.flatnonzero(model.occasion == OCCASIONS.index("christmas"))
    assert len(christmas)
    zero = np.zeros(1, dtype=int)
    in_season = model.fit(christmas, zero + OCCASIONS.index("christmas"), zero, zero, zero - 1)
    off_season = model.fit(christmas, zero, zero, zero, zero - 1)
    assert (in_season > off_season + 2).all()
    assert len(LANGUAGE_CODES) == model.language_liking.shape[1]


def test_truth_survives_saving(written: Written, tmp_path: Path) -> None:
    written.truth.save(tmp_path)
    users, songs = written.users["user_id"].to_numpy()[:20], written.songs[Song.ID].to_numpy()[:20]
    again = Truth.load(tmp_path).probabilities(users, songs, mood="happy")
    for before, after in zip(
        written.truth.probabilities(users, songs, mood="happy"), again, strict=True
    ):
        np.testing.assert_array_equal(before, after)


def test_unknown_questions_are_refused_by_name(written: Written, tmp_path: Path) -> None:
    user, song = written.users["user_id"].iloc[0], written.songs[Song.ID].iloc[0]
    with pytest.raises(KeyError, match="no user 'nobody'"):
        written.truth.probabilities(["nobody"], [song])
    with pytest.raises(KeyError, match="no song 'nothing'"):
        written.truth.probabilities([user], ["nothing"])
    with pytest.raises(KeyError, match="no occasion 'funeral'"):
        written.truth.probabilities([user], [song], occasion="funeral")
    with pytest.raises(ValueError, match="daypart"):
        written.truth.probabilities([user], [song], daypart=28)
    with pytest.raises(FileNotFoundError, match="python -m simulation"):
        Truth.load(tmp_path / "nowhere")
