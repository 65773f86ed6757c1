from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from features.query import SessionEvent
from tests.training import tiny
from tests.training.test_evaluate import labelled
from tests.training.tiny import DAY, MINUTE, START, TICK
from training.error_analysis import (
    FATES,
    MET,
    NEVER_HEARD,
    NEVER_MET,
    cross_table,
    examples,
    fate_table,
    fates,
    meetings,
    read_listenings,
)


def heard(*sessions):
    """Return listenings from strings of one-letter songs."""
    rows = [(f"s{number}", song) for number, songs in enumerate(sessions) for song in songs]
    return pd.DataFrame(rows, columns=["session_id", "song_id"])


def asked(answer, session="", history=""):
    one = labelled(answer, place=len(session), history_songs=list(history))
    query = replace(one.query, session=tuple(SessionEvent(song) for song in session))
    return replace(one, query=query)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (asked("b", "a"), MET),
        (asked("c", "a"), NEVER_MET),
        (asked("c", "xd"), MET),
        (asked("z", "a"), NEVER_HEARD),
        # Only songs that nobody heard: there is nothing to have met.
        (asked("a", "xy"), NEVER_MET),
        # It was heard, so it has met itself.
        (asked("a", "a"), MET),
        # A start has no session; there the history counts, and nowhere else.
        (asked("b", "", "a"), MET),
        (asked("b", "", ""), NEVER_MET),
        (asked("b", "c", "a"), NEVER_MET),
    ],
)
def test_what_the_past_knows_of_an_answer(query, expected):
    assert meetings(heard("ab", "cd", "d"), [query]).tolist() == [expected]


def test_meetings_are_the_naive_ones():
    rng = np.random.default_rng(0)
    letters = "abcdefghijklmnop"
    sessions = ["".join(rng.choice(list(letters[:12]), 3)) for _ in range(15)]
    queries = [
        asked(str(rng.choice(list(letters))), "".join(rng.choice(list(letters), 2)))
        for _ in range(80)
    ]
    naive = []
    for query in queries:
        company = {event.song_id for event in query.query.session}
        known = any(query.answer in session for session in sessions)
        met = any(query.answer in session and company & set(session) for session in sessions)
        naive.append(MET if met else NEVER_MET if known else NEVER_HEARD)
    assert meetings(heard(*sessions), queries).tolist() == naive
    assert set(naive) == {MET, NEVER_MET, NEVER_HEARD}


RANKS = np.array([1.0, np.nan, np.nan, np.nan, np.nan, 20.0])
IN_POOL = np.array([True, True, False, False, False, True])
MEETING = np.array([MET, NEVER_MET, MET, NEVER_MET, NEVER_HEARD, NEVER_HEARD])


def test_the_past_is_what_was_known_by_then(tmp_path):
    events = [
        tiny.event(0, START - DAY, "x", "a"),
        tiny.event(1, START - MINUTE, "x", "b", "skip", received_ts=START - TICK),
        tiny.event(2, START - MINUTE, "x", "c", received_ts=START),
        tiny.event(3, START - MINUTE, "x", "d", "like"),
        tiny.event(4, START, "x", "e"),
    ]
    tiny.write_lake(tmp_path, events, [tiny.user("u0")], [tiny.song(song) for song in "abcde"])
    assert read_listenings(tmp_path, START)["song_id"].tolist() == ["a", "b"]


def test_every_query_has_one_fate():
    fate = fates(RANKS, IN_POOL, MEETING)
    assert fate.tolist() == [*FATES, FATES[0]]


def test_shares_add_up_in_every_slice():
    fate = np.tile(fates(RANKS, IN_POOL, MEETING), 10)
    kinds = pd.DataFrame({"region": ["north"] * 30 + ["south"] * 25 + ["west"] * 5})
    table = fate_table(fate, kinds, fewest=25)
    assert table["slice"].tolist() == ["all", "region: north", "region: south"]
    assert table["queries"].tolist() == [60, 30, 25]
    assert table[list(FATES)].sum(axis=1).tolist() == pytest.approx([1, 1, 1])
    assert table.iloc[0][list(FATES)].tolist() == pytest.approx([2 / 6, *[1 / 6] * 4])


def test_meetings_tell_what_was_in_reach():
    table = cross_table(MEETING, RANKS, IN_POOL).set_index("meeting")
    assert table["queries"].to_dict() == {MET: 2, NEVER_MET: 2, NEVER_HEARD: 2}
    assert table["in_pool"].to_dict() == {MET: 0.5, NEVER_MET: 0.5, NEVER_HEARD: 0.5}
    assert table["found_20"].to_dict() == {MET: 0.5, NEVER_MET: 0.0, NEVER_HEARD: 0.5}


def test_examples_are_ids_of_each_fate():
    queries = [replace(asked("a", "xy"), query_id=f"q{number}") for number in range(60)]
    fate = np.tile(fates(RANKS, IN_POOL, MEETING), 10)
    found = examples(queries, fate, 3, seed=1)
    assert found.groupby("fate").size().to_dict() == dict.fromkeys(FATES, 3)
    assert all(fate[int(row.query_id[1:])] == row.fate for row in found.itertuples())
    assert set(found["last_song"]) == {"y"}
    assert examples(queries, fate, 3, seed=1).equals(found)
