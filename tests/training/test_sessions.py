import numpy as np
import pandas as pd
import pytest

from tests.training import tiny
from tests.training.tiny import DAY, MINUTE, START, TICK
from training.phases import Phase
from training.sessions import listenings, read_sessions

LENGTHS = pd.Series({"a": 200_000.0, "b": 100_000.0, "c": np.nan})


def heard(*events):
    return listenings(tiny.frame(events), LENGTHS)


def at(minutes):
    return START + minutes * MINUTE


@pytest.mark.parametrize(
    ("song", "action", "played_ms", "outcome"),
    [
        ("a", "play", 180_000, "full"),
        ("a", "play", 179_999, "neutral"),
        ("b", "play", 90_000, "full"),
        ("a", "skip", 5_000, "skip"),
        ("a", "skip", 200_000, "skip"),
        ("c", "play", 500_000, "neutral"),
        ("a", "play", None, "neutral"),
        ("elsewhere", "play", 500_000, "neutral"),
    ],
)
def test_what_became_of_a_listening(song, action, played_ms, outcome):
    found = heard(tiny.event(0, at(0), "x", song, action, played_ms=played_ms))
    assert found["outcome"].tolist() == [outcome]
    assert found["place"].tolist() == [0]


def test_labels_are_what_arrived_within_the_phase(tmp_path):
    phase = Phase(START, START + DAY)
    events = [
        tiny.event(0, START - MINUTE, "across", "a", received_ts=START + 2 * DAY),
        tiny.event(1, at(1), "across", "b"),
        tiny.event(2, at(2), "x", "a", received_ts=phase.end - TICK),
        tiny.event(3, at(3), "x", "b", received_ts=phase.end),
        tiny.event(4, at(4), "x", "c"),
    ]
    tiny.write_lake(tmp_path, events, [tiny.user("u0")], [tiny.song(song) for song in "abc"])
    found = read_sessions(tmp_path, phase)[1]
    # A session began when it began, whenever we heard of that.
    assert list(zip(found["session_id"], found["song_id"], strict=True)) == [("x", "a"), ("x", "c")]


@pytest.mark.parametrize("praise", ["like", "playlist_add"])
def test_praise_counts_at_or_after_the_listening(praise):
    found = heard(
        tiny.event(0, at(0), "x", "a", "skip"),
        tiny.event(1, at(3), "x", "a", praise),
        tiny.event(2, at(3), "x", "a"),
        tiny.event(3, at(3) + TICK, "x", "a"),
        tiny.event(4, at(9), "x", "b", "skip"),
    )
    assert found["outcome"].tolist() == ["liked", "liked", "neutral", "skip"]
    assert found["liked"].tolist() == [True, True, False, False]
    assert found["place"].tolist() == [0, 1, 2, 3]


def test_praise_that_was_taken_back_is_none():
    found = heard(
        tiny.event(0, at(0), "x", "a", "play", played_ms=1000),
        tiny.event(1, at(1), "x", "a", "like"),
        tiny.event(2, at(2), "x", "a", "unlike"),
        tiny.event(3, at(3), "x", "b", "play", played_ms=1000),
        tiny.event(4, at(4), "x", "b", "dislike"),
        tiny.event(5, at(5), "x", "b", "like"),
        tiny.event(6, at(6), "x", "c", "play", played_ms=1000),
        tiny.event(7, at(7), "x", "c", "playlist_add"),
        tiny.event(8, at(7), "x", "c", "playlist_remove"),
        tiny.event(9, at(8), "x", "c", "unlike"),
    )
    assert found["liked"].tolist() == [False, True, False]


def test_praise_elsewhere_is_not_this_listenings():
    found = heard(
        tiny.event(0, at(0), "x", "a", played_ms=200_000),
        tiny.event(1, at(1), "y", "a", "like"),
        tiny.event(2, at(1), "x", "b", "like"),
        tiny.event(3, at(1), "x", "a", "unlike"),
    )
    assert found["outcome"].tolist() == ["full"]


def test_listenings_are_ordered_by_session_and_time_and_else_as_they_come():
    found = heard(
        tiny.event(3, at(5), "y", "a"),
        tiny.event(2, at(1), "x", "b"),
        tiny.event(1, at(1), "x", "c"),
        tiny.event(0, at(0), "y", "c"),
    )
    assert found["event_id"].tolist() == ["e002", "e001", "e000", "e003"]
    # Nothing of session x was heard before either of its songs: both are starts.
    assert found["place"].tolist() == [0, 0, 0, 1]
    assert found.index.tolist() == [0, 1, 2, 3]


def test_sessions_that_began_before_the_phase_are_left_out(tmp_path):
    phase = Phase(START, START + DAY)
    events = [
        tiny.event(0, START - TICK, "early", "a"),
        tiny.event(1, START + MINUTE, "early", "b"),
        tiny.event(2, START, "inside", "a"),
        tiny.event(3, START + MINUTE, "inside", "a", "like"),
        tiny.event(4, START + MINUTE, "inside", "b", played_ms=99_000, mood="calm"),
        tiny.event(5, START + DAY - TICK, "last", "b"),
        tiny.event(6, START + DAY, "late", "b"),
    ]
    songs = [tiny.song("a"), tiny.song("b", 100_000)]
    tiny.write_lake(tmp_path, events, [tiny.user("u0")], songs)
    inside, found = read_sessions(tmp_path, phase)
    assert inside["event_id"].tolist() == ["e002", "e003", "e004", "e005"]
    assert found["event_id"].tolist() == ["e002", "e004", "e005"]
    assert found["outcome"].tolist() == ["liked", "full", "neutral"]
    assert found["mood"].tolist() == [None, "calm", None]
