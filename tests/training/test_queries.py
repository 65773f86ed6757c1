from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from features import store
from features.columns import UserRow
from features.params import load_params
from features.query import MAX_SESSION
from features.snapshots import write_snapshots
from tests.training import tiny
from tests.training.tiny import DAY, MINUTE, START, TICK
from training import dataset
from training.phases import LeakError, Phase, Phases
from training.queries import Sample, Sessions, labelled_queries, sample_positions
from training.sessions import PLACE, listenings

SNAPSHOTS = [START + 10 * DAY, START + 11 * DAY]
GAP = 30 * MINUTE
PHASES = Phases(
    Phase(START, START + 9 * DAY - GAP),
    Phase(START + 9 * DAY, SNAPSHOTS[0] - GAP),
    Phase(SNAPSHOTS[0], START + 12 * DAY - GAP),
    Phase(START + 12 * DAY, START + 13 * DAY),
    START + 13 * DAY,
)


def at(minutes):
    return SNAPSHOTS[0] + minutes * MINUTE


PAST = [tiny.event(n, START + n * DAY, f"old{n}", "a", user="u0") for n in range(3)]
EVENING = [
    tiny.event(10, at(0), "x", "a", mood="calm", device="phone"),
    tiny.event(11, at(1), "x", "a", "like"),
    tiny.event(12, at(4), "x", "b", "skip", played_ms=1000, mood="happy", device="car"),
    tiny.event(13, at(4), "x", "b", "dislike"),
    tiny.event(14, at(5), "x", "c", mood="sad"),
    tiny.event(15, at(6), "x", "c", "like"),
    tiny.event(16, at(3), "y", "c", user="new", occasion="party"),
    tiny.event(17, SNAPSHOTS[1], "z", "d", user="u0"),
    tiny.event(19, at(40), "v", "a", user="new", request_id="r1"),
    # Another device, at the same time.
    tiny.event(21, at(40.5), "w", "d", user="new"),
    tiny.event(20, at(41), "v", "b", user="new"),
    tiny.event(18, SNAPSHOTS[1] + 9 * MINUTE, "z", "a", user="u0"),
]


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    """Return a lake whose features are served by the real store."""
    folder = tmp_path_factory.mktemp("data")
    users = [tiny.user("u0"), tiny.user("new")]
    tiny.write_lake(folder / "lake", PAST + EVENING, users, [tiny.song(s) for s in "abcd"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEGUE_DATA", str(folder))
        write_snapshots(folder / "lake", folder / "features", SNAPSHOTS, load_params())
        store.apply()
        yield folder / "lake"


@pytest.fixture(scope="module")
def asked(lake):
    """Return all labelled queries of the label phase, by their event id."""
    every = dataset.phase_queries(lake, PHASES, "labels", 128, Sample(1000, seed=1))
    return {item.query_id: item for item in every}


def songs(labelled):
    return [(event.song_id, event.action) for event in labelled.query.session]


def test_every_listening_asks_for_its_song(asked):
    answers = {name: (item.place, item.answer, item.outcome) for name, item in asked.items()}
    assert answers == {
        "e010": (0, "a", "liked"),
        "e012": (1, "b", "skip"),
        "e014": (2, "c", "liked"),
        "e016": (0, "c", "neutral"),
        "e017": (0, "d", "neutral"),
        "e018": (1, "a", "neutral"),
        "e019": (0, "a", "neutral"),
        "e020": (1, "b", "neutral"),
        "e021": (0, "d", "neutral"),
    }


def test_a_query_tells_whether_its_song_was_recommended(asked):
    assert [name for name, item in asked.items() if item.is_recommended] == ["e019"]


def test_a_query_knows_its_session_strictly_before_itself(asked):
    assert songs(asked["e010"]) == []
    # Neither the skip that is asked for nor the dislike at its very time is known.
    assert songs(asked["e012"]) == [("a", "play"), ("a", "like")]
    assert songs(asked["e014"]) == [*songs(asked["e012"]), ("b", "skip"), ("b", "dislike")]
    assert [event.played_ms for event in asked["e014"].query.session] == [None, None, 1000, None]


def test_the_context_is_the_last_listenings_but_a_starts_own(asked):
    def known(name):
        return {key: value for key, value in asked[name].query.context.items() if value}

    assert known("e010") == {"mood": "calm", "device": "phone"}
    assert known("e012") == {"mood": "calm", "device": "phone"}
    assert known("e014") == {"mood": "happy", "device": "car"}
    assert known("e016") == {"occasion": "party"}
    assert known("e018") == {}


def test_the_rest_is_the_sessions_own_from_the_answer_on(asked):
    assert asked["e010"].rest == ("a", "b", "c")
    assert asked["e012"].rest_outcomes == ("skip", "liked")
    assert asked["e016"].rest == ("c",)
    assert asked["e018"].rest == ("a",)


def test_a_row_knows_no_play_from_its_snapshot_on(asked):
    # Every query before the second snapshot sees the three old plays, none of its own evening.
    for name in ("e010", "e012", "e014"):
        row = asked[name].query.user
        assert row[UserRow.PLAYS] == 3
        assert list(row["history_songs"]) == ["a"]
    # The second snapshot knows the evening before it, but not the play at its own moment.
    later = asked["e017"].query.user
    assert later[UserRow.PLAYS] == 3 + 3
    assert "d" not in list(later["history_songs"])
    assert asked["e018"].query.user[UserRow.PLAYS] == 6


def test_a_row_knows_other_sessions_up_to_its_moment(asked):
    def history(name):
        return list(asked[name].query.user["history_songs"])

    # No snapshot knows this listener yet; what was heard in other sessions is known at once.
    assert history("e016") == []
    assert history("e019") == ["c"]
    assert history("e021") == ["a", "c"]
    # The session's own songs are its own, those of the other device are not.
    assert history("e020") == ["d", "c"]
    assert songs(asked["e020"]) == [("a", "play")]


def test_a_newcomer_has_no_plays(asked):
    plays = asked["e016"].query.user[UserRow.PLAYS]
    assert plays is None or np.isnan(plays)


def test_phase_queries_samples_and_refuses_what_leaks(lake):
    one, two = (
        [
            item.query_id
            for item in dataset.phase_queries(lake, PHASES, "labels", 128, Sample(2, seed=1))
        ]
        for _ in range(2)
    )
    assert one == two
    assert len(one) == 2
    into_the_gap = Phase(PHASES.labels.start, PHASES.labels.end + TICK)
    overlapping = replace(PHASES, labels=into_the_gap)
    with pytest.raises(LeakError, match="cut `test`"):
        dataset.phase_queries(lake, overlapping, "test", 128, Sample(5, seed=1))
    with pytest.raises(ValueError, match="No session lies wholly"):
        dataset.phase_queries(lake, PHASES, "test", 128, Sample(5, seed=1))


def test_a_sample_is_seeded_and_keeps_the_order():
    heard = pd.DataFrame({PLACE: [0, 1, 2, 3, 4] * 20})
    some = sample_positions(heard, Sample(20, seed=5))
    assert len(some) == 20
    assert some.index.is_monotonic_increasing
    assert some.index.is_unique
    assert some.index.tolist() == sample_positions(heard, Sample(20, seed=5)).index.tolist()
    assert some.index.tolist() != sample_positions(heard, Sample(20, seed=6)).index.tolist()
    assert sample_positions(heard, Sample(100, seed=5)) is heard


@pytest.mark.parametrize(("size", "share", "least"), [(20, 0.5, 10), (40, 1.0, 20), (20, 0, 0)])
def test_a_sample_holds_its_share_of_starts(size, share, least):
    heard = pd.DataFrame({PLACE: [0, 1, 2, 3, 4] * 20})
    for seed in range(5):
        some = sample_positions(heard, Sample(size, seed, share))
        assert len(some) == len(set(some.index)) == size
        assert least <= (some[PLACE] == 0).sum() < max(least, 1) + 10


def test_what_comes_of_a_session_without_end_is_cut():
    """Else the queries of a listener who is a shop would take the square of its length."""
    size = MAX_SESSION + 20
    events = tiny.frame([tiny.event(n, START + n * MINUTE, "a", f"s{n}") for n in range(size)])
    heard = listenings(events, pd.Series(dtype=float))
    asked = heard.iloc[[5, size - 2]]
    early, late = labelled_queries(events, heard, asked, [{}, {}])
    assert early.rest == tuple(f"s{n}" for n in range(5, 5 + MAX_SESSION))
    assert len(early.rest_outcomes) == MAX_SESSION
    assert late.rest == (f"s{size - 2}", f"s{size - 1}")


def test_a_sample_is_filled_up_from_starts_too():
    heard = pd.DataFrame({PLACE: [0] * 95 + [1] * 5})
    some = sample_positions(heard, Sample(50, seed=1, starts_share=0.1))
    assert len(some) == len(set(some.index)) == 50
    assert (some[PLACE] == 0).sum() > 40


def test_a_session_is_cut_to_its_latest_events():
    size, here = MAX_SESSION + 20, MAX_SESSION + 10
    events = [tiny.event(n, START + n * MINUTE, "a", f"s{n}") for n in range(size)]
    events += [tiny.event(size + n, START + n * MINUTE, "b", "other") for n in range(5)]
    sessions = Sessions.of(tiny.frame(events))
    found = sessions.before("a", tiny.frame(events)["ts"][here])
    assert [event.song_id for event in found] == [f"s{n}" for n in range(10, here)]
    assert len(sessions.before("b", tiny.frame(events)["ts"][size + 3])) == 3
    assert sessions.before("b", tiny.frame(events)["ts"][size]) == ()


def test_whatever_was_played_may_come_again(asked):
    assert all(item.query.allow_repeats for item in asked.values())


def test_phase_queries_hold_their_share_of_starts(lake):
    some = dataset.phase_queries(lake, PHASES, "labels", 128, Sample(5, seed=1, starts_share=1.0))
    assert [item.place for item in some] == [0] * 5


def test_of_one_moment_no_listening_was_heard_before_another():
    """Sources that know times by the minute or the day have many such."""
    events = tiny.frame(
        [
            tiny.event(0, at(0), "x", "a", mood="calm"),
            tiny.event(1, at(4), "x", "b", "skip", mood="happy"),
            tiny.event(2, at(4), "x", "c", mood="sad"),
            tiny.event(3, at(5), "x", "d"),
            tiny.event(4, at(0), "y", "a", mood="calm"),
            tiny.event(5, at(0), "y", "b", mood="happy"),
        ]
    )
    heard = listenings(events, pd.Series(dtype=float))
    found = list(labelled_queries(events, heard, heard, [{}] * len(heard)))
    assert [one.query.context["mood"] for one in found] == [
        *("calm", "calm", "calm", "sad"),
        *("calm", "happy"),
    ]
    assert [one.rest for one in found] == [
        *(tuple("abcd"), tuple("bcd"), tuple("cbd"), tuple("d")),
        *(tuple("ab"), tuple("ba")),
    ]
    assert [one.rest_outcomes for one in found][2] == ("neutral", "skip", "neutral")
    assert [len(one.query.session) for one in found] == [0, 1, 1, 3, 0, 0]
