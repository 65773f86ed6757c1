from datetime import UTC, datetime, timedelta

import ibis
import numpy as np
import pyarrow as pa
import pytest

from features.columns import Action
from features.params import SIGNALS
from features.query import Query, SessionEvent
from features.signals import signal_values
from features.state import resolve
from tests.features import small, worlds

NOW = datetime(2024, 3, 1, tzinfo=UTC)
DURATIONS = {"s0": 200_000, "s1": 100_000, "s2": None, "s3": 240_000, "s4": None}
SONGS = small.songs(*({"song_id": s, "duration_ms": ms} for s, ms in DURATIONS.items()))
SONG_IDS = list(DURATIONS)


def state_of(*events, user=None):
    session = tuple(SessionEvent(*event) for event in events)
    return resolve(Query(ts=NOW, user=user or {}, session=session), SONGS)


def online(events):
    """Return {signal: {song: value}} of a session as a request sees it, zeros left out."""
    state = resolve(Query(ts=NOW, session=tuple(events)), SONGS)
    return {signal: by_song(*state.observed(signal)) for signal in SIGNALS}


def by_song(songs, values):
    total = {}
    for song, value in zip(songs, values, strict=True):
        total[SONG_IDS[song]] = total.get(SONG_IDS[song], 0.0) + float(value)
    return total


def offline(events):
    """Return the same from the Ibis expressions over the events as the lake holds them."""
    rows = [
        {
            "ts": NOW - timedelta(minutes=len(events) - place),
            "user_id": "u",
            "song_id": event.song_id,
            "action": event.action,
            "played_ms": event.played_ms,
        }
        for place, event in enumerate(events)
    ]
    table = ibis.memtable(pa.Table.from_pylist(rows, worlds.EVENTS))
    listed = [{"song_id": song, "duration_ms": ms} for song, ms in DURATIONS.items()]
    songs = ibis.memtable(pa.Table.from_pylist(listed, worlds.SONGS))
    found = {}
    for signal in SIGNALS:
        values = signal_values(table, songs, signal, NOW).to_pandas()
        total = values.groupby("song_id")["value"].sum()
        found[signal] = total[total > 0].to_dict()
    return found


def random_events(seed):
    random = np.random.default_rng(seed)
    return [
        SessionEvent(
            str(random.choice(SONG_IDS)),
            str(random.choice(Action.ALL, p=[0.35, 0.2, 0.15, 0.1, 0.08, 0.07, 0.05])),
            int(random.integers(300_000)) if random.random() < 0.7 else None,
        )
        for _ in range(12)
    ]


@pytest.mark.filterwarnings("ignore:fetch_arrow_table:DeprecationWarning")
@pytest.mark.parametrize("seed", range(8))
def test_a_running_session_is_valued_as_its_events_are_offline(seed):
    events = random_events(seed)
    expected = offline(events)
    for signal, found in online(events).items():
        assert found == pytest.approx(expected[signal], abs=1e-6), signal


def test_the_values_of_a_session_worked_out_by_hand():
    state = state_of(
        ("s0", "play", 50_000), ("s1", "skip", None), ("s2", "play", 60_000), ("s3", "play", None)
    )
    assert state.acted.tolist() == [0, 1, 2, 3]
    assert state.session_values["listen"].tolist() == [0.25, 0, 0.25, 1]
    # A play without the song's length or the time played says nothing of skipping.
    assert state.session_values["skip"].tolist() == [0.75, 1, 0, 0]


def test_an_unlike_in_the_session_cancels_the_like_of_the_history():
    user = {"history_songs": ["s1", "s0"], "history_last_ts": [1, 2], "history_like": [0.5, 0.4]}
    state = state_of(("s1", "play", None), ("s1", "unlike", None), user=user)
    songs, values = state.observed("like")
    assert songs.tolist() == [0]
    assert values.tolist() == pytest.approx([0.4])


def test_a_song_liked_again_counts_once():
    user = {"history_songs": ["s1"], "history_last_ts": [1], "history_like": [0.5]}
    state = state_of(("s1", "like", None), ("s1", "like", None), user=user)
    assert by_song(*state.observed("like")) == {"s1": 1.0}


def test_a_like_counts_without_a_listening_and_is_no_place_in_the_session():
    state = state_of(("s0", "play", None), ("s3", "like", None))
    assert state.session.tolist() == [0]
    assert by_song(*state.observed("like")) == {"s3": 1.0}


def test_the_session_holds_listenings_of_known_songs_in_order():
    state = state_of(
        ("s3", "play", 1), ("new", "play", 1), ("s1", "skip", 1), ("s3", "like"), ("s3", "play", 1)
    )
    assert state.session.tolist() == [3, 1, 3]
    assert state.skipped.tolist() == [False, True, False]
    assert state.unknown_songs == ("new",)


def test_a_song_disliked_after_it_was_played_counts_as_skipped():
    heard, disliked = ("s3", "play", None), ("s3", "dislike", None)
    assert state_of(("s1", "play", None), heard, disliked).skipped.tolist() == [False, True]
    # What is said of another song, of one not heard yet, or taken back by playing it again, is not.
    assert state_of(heard, ("s1", "dislike", None)).skipped.tolist() == [False]
    assert state_of(disliked, heard).skipped.tolist() == [False]
    assert state_of(heard, disliked, heard).skipped.tolist() == [True, False]


def test_seeds_are_the_latest_songs_and_the_history_where_the_session_is_empty():
    user = {"history_songs": ["s2", "gone", "s0"], "history_last_ts": [30, 20, 10]}
    state = state_of(("s3", "play", 1), ("s1", "play", 1), user=user)
    assert state.seeds(5).tolist() == [1, 3]
    assert state.seeds(1).tolist() == [1]
    assert state_of(user=user).seeds(5).tolist() == [2, 0]


def test_skips_alone_are_not_continued_from():
    user = {"history_songs": ["s2", "s0"], "history_last_ts": [30, 10]}
    skip, dislike = ("s1", "skip", 1), (("s3", "play", 1), ("s3", "dislike", None))
    refused = state_of(skip, *dislike)
    assert refused.session.tolist() == [1, 3]
    assert refused.course.tolist() == refused.seeds(5).tolist() == []
    known = state_of(skip, *dislike, user=user)
    assert known.course.tolist() == [1, 3]
    assert known.seeds(5).tolist() == [2, 0]


def test_skipped_songs_are_continued_from_beside_others_in_their_place_or_last():
    state = state_of(*((song, "play", 1) for song in ("s0", "s2")), ("s1", "skip", 1))
    assert state.seeds(5).tolist() == [1, 2, 0]
    assert state.seeds(5, enjoyed_first=True).tolist() == [2, 0, 1]
    assert state.seeds(2, enjoyed_first=True).tolist() == [2, 0]


def test_history_lists_stay_aligned_when_a_song_left_the_catalogue():
    user = {
        "history_songs": np.array(["s2", "gone", "s0"], dtype=object),
        "history_last_ts": np.array([30, 20, 10]),
        "history_listen": np.array([1.0, 5.0, np.nan]),
        "history_like": np.array([]),
    }
    state = state_of(user=user)
    assert state.history.tolist() == [2, 0]
    # The history is kept in whole seconds.
    assert state.history_last_us.tolist() == [30_000_000, 10_000_000]
    assert state.history_values["listen"].tolist() == [1, 0]
    assert state.history_values["like"].tolist() == [0, 0]


def test_nothing_is_known_of_an_unknown_listener():
    state = state_of()
    assert len(state.session) == len(state.history) == len(state.acted) == 0
    for signal in SIGNALS:
        songs, values = state.observed(signal)
        assert len(songs) == len(values) == 0


def test_the_moment_is_in_microseconds_since_the_epoch():
    moment = datetime(1970, 1, 1, 0, 0, 1, 5, tzinfo=UTC)
    assert resolve(Query(ts=moment), SONGS).ts_us == 1_000_005


def test_skips_are_taken_off_song_by_song():
    user = {
        "history_songs": ["s4", "s1", "s0"],
        "history_last_ts": [3, 2, 1],
        "history_listen": [0.5, 1.0, 0.75],
        "history_skip": [0.0, 2.0, 1.5],
    }
    state = state_of(("s0", "play", 200_000), ("s2", "skip", 0), user=user)
    songs, values = state.observed_net("listen", 0.5)
    # s0: 0.75 + 1 heard, 1.5 skipped; s1: 1 heard, 2 skipped, which leaves nothing.
    assert dict(zip(songs.tolist(), values.tolist(), strict=True)) == {0: 1.0, 2: -0.5, 4: 0.5}
