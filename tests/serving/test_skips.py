"""What skips cost the songs that are like the skipped."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from features.columns import Song
from features.params import Feedback
from features.query import Query, SessionEvent
from features.state import State, resolve
from serving.radio import tuned
from serving.recommender import Recommender
from serving.skips import likeness, skip_cost
from tests.serving.conftest import AS_OF, CLUSTERS, song_id

NOTHING = {"artist": 0.0, "genre": 0.0, "mood": 0.0, "tempo": 0.0}


@pytest.fixture(scope="module")
def recommender(bundle: Path) -> Recommender:
    return Recommender.load(bundle)


def state(recommender: Recommender, *events: tuple[int, str]) -> State:
    session = tuple(SessionEvent(song_id(i), action) for i, action in events)
    return resolve(Query(ts=AS_OF, session=session), recommender.retrieval.songs)


def cost(recommender: Recommender, asked: State, candidates: list[int], **weights: Any) -> Any:
    params = Feedback(**(NOTHING | weights))
    songs = np.array(candidates, dtype=np.int32)
    # Scores of standard deviation 2.
    scores = np.resize([1.0, 5.0], len(songs))
    return skip_cost(asked, recommender.retrieval.songs, songs, scores, params)


def test_likeness_by_hand(recommender: Recommender) -> None:
    songs = recommender.retrieval.songs

    def alike(candidates: list[int], *session: int) -> Any:
        weight = np.arange(1.0, len(session) + 1)
        return likeness(songs, np.array(candidates), np.array(session), weight)

    # Songs 4, 14, 24 are of Artist 4; song 49 has no artist, so it is like no song.
    assert alike([4, 14, 5, 49], 24, 49)[0].tolist() == [1, 1, 0, 0]
    assert alike([4, 5], 24, 14, 15)[0].tolist() == [1 + 2, 3]
    # Song i is calm if 6 divides i, happy if the remainder is 1, else without mood.
    assert alike([12, 7, 8], 6, 8)[2].tolist() == [1, 0, 0]
    # Odd songs are pop, even ones rock.
    assert alike([2, 3], 5, 4, 7)[1].tolist() == [2, 1 + 3]
    # Tempo is 100 + i % 40, so songs 0 and 40 have the same, and near ones nearly the same.
    near = alike([40, 1, 20], 0)[3]
    step = 1 / songs.audio_spread[Song.AUDIO.index(Song.TEMPO)]
    assert near[0] == 1
    assert near[1] == pytest.approx(np.exp(-((step / 0.5) ** 2)), rel=1e-5)
    assert near[2] < 0.1


def test_a_skip_costs_its_artists_songs(recommender: Recommender) -> None:
    asked = state(recommender, (3, "play"), (4, "skip"))
    found = cost(recommender, asked, [14, 13, 5, 24], artist=0.5)
    assert found.tolist() == [1.0, 0.0, 0.0, 1.0]


def test_hearing_out_weighs_against_skipping(recommender: Recommender) -> None:
    asked = state(recommender, (4, "skip"), (14, "play"))
    # The skip lies one place back: 0.8 against 1.
    assert cost(recommender, asked, [24, 5], artist=0.5, decay=0.8).tolist() == [0, 0]
    turned = state(recommender, (4, "play"), (14, "skip"))
    assert cost(recommender, turned, [24, 5], artist=0.5, decay=0.8) == pytest.approx([0.2, 0])


def test_a_radios_seeds_were_not_heard_out(recommender: Recommender) -> None:
    asked = state(recommender, (5, "play"), (4, "skip"))
    seeds = np.array([14, 24, 34], dtype=np.int32)
    for weights in ({"artist": 0.5}, {"mood": 0.5}, {"tempo": 0.5}):
        plain = cost(recommender, asked, [44, 64, 6], **weights)
        assert cost(recommender, tuned(asked, seeds), [44, 64, 6], **weights).tolist() == (
            plain.tolist()
        )
    assert cost(recommender, tuned(asked, seeds), [44, 6], artist=0.5).tolist() == [1.0, 0.0]


def test_more_skips_cost_no_more_than_the_weight(recommender: Recommender) -> None:
    asked = state(recommender, *((4 + CLUSTERS * i, "skip") for i in range(9)))
    assert cost(recommender, asked, [104, 5], artist=0.5).tolist() == [1.0, 0.0]


def test_the_latest_twenty_songs_count(recommender: Recommender) -> None:
    others = tuple((1 + CLUSTERS * (i % 9), "play") for i in range(20))
    weights = {"artist": 0.5, "decay": 1.0}
    counts = state(recommender, (4, "skip"), *others[:19])
    assert cost(recommender, counts, [24, 5], **weights).tolist() == [1.0, 0.0]
    forgotten = state(recommender, (4, "skip"), *others)
    assert not cost(recommender, forgotten, [24, 5], **weights).any()


def test_without_skips_nothing_changes(recommender: Recommender) -> None:
    for events in ((), ((4, "play"),), ((4, "like"), (4, "dislike"))):
        asked = state(recommender, *events)
        assert not cost(recommender, asked, [14, 5], artist=1, mood=1, tempo=1).any()


@pytest.mark.parametrize(("row", "kind"), list(enumerate(("artist", "genre", "mood", "tempo"))))
def test_the_default_weight_pushes_the_like_of_the_skipped_down(
    recommender: Recommender, row: int, kind: str
) -> None:
    """Measured: the mean place of songs like the skipped, with the default weight and without."""
    songs = recommender.retrieval.songs

    def mean_place(weight: float) -> float:
        feedback = Feedback(**(NOTHING | {kind: weight}))
        there = Recommender(
            recommender.retrieval, recommender.ranker, recommender.manifest, feedback=feedback
        )
        places = []
        for i in range(0, 60, 6):
            events = (SessionEvent(song_id(i + 1)), SessionEvent(song_id(i + 60), "skip"))
            slate = there.recommend(Query(ts=AS_OF, session=events), k=200)
            shown = songs.indices([song.song_id for song in slate.songs])
            skipped = songs.indices([song_id(i + 60)])
            alike = likeness(songs, shown, skipped, np.ones(1))[row] > 0.5
            places += np.flatnonzero(alike).tolist()
        return float(np.mean(places))

    default = getattr(Feedback(), kind)
    assert mean_place(default) > mean_place(0.0) + 0.5
