"""What an answer says about each song."""

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from features.columns import User, UserRow
from features.query import Query, SessionEvent
from features.state import resolve
from serving.bundle import load_retrieval
from serving.reasons import MOST, reasons
from serving.retrieval import Pool
from tests.serving.conftest import AS_OF, SONGS, UNTITLED, song_id

LIKED, HEARD = 43, 5
USER = {
    User.REGION: "Europe",
    UserRow.HISTORY_SONGS: [song_id(LIKED), song_id(HEARD)],
    UserRow.HISTORY_LAST_TS: [int((AS_OF - timedelta(days=1)).timestamp())] * 2,
    UserRow.HISTORY_LISTEN: [2.0, 1.0],
    UserRow.HISTORY_LIKE: [1.0, 0.0],
}


@pytest.fixture(scope="module")
def retrieval(bundle):
    return load_retrieval(bundle)


def say(retrieval, song, sources=(), session=(), **changes):
    """Return the reasons for one song that the named generators proposed."""
    events = tuple(SessionEvent(song_id(i)) for i in session)
    state = resolve(replace(Query(ts=AS_OF, session=events), **changes), retrieval.songs)
    ranks = [[0.0 if name in sources else np.nan for name in retrieval.names]]
    pool = Pool(np.array([song], np.int32), np.zeros((1, len(retrieval.names))), np.array(ranks))
    return reasons(retrieval, state, pool, 0)


def test_a_song_of_the_history_says_what_the_listener_did_with_it(retrieval):
    assert say(retrieval, LIKED, user=USER)[0] == "You liked it"
    assert say(retrieval, HEARD, user=USER)[0] == "You have played it before"
    assert not {"You liked it", "You have played it before"} & set(say(retrieval, 6, user=USER))


@pytest.mark.parametrize(("song", "occasion"), [(8, "party"), (9, "diwali")])
def test_an_occasion_is_named_where_it_is_asked_for_and_the_song_is_for_it(
    retrieval, song, occasion
):
    assert say(retrieval, song, context={"occasion": occasion})[0] == f"For {occasion}"
    for context in ({}, {"occasion": None}, {"occasion": "wedding"}):
        assert not any(text.startswith("For ") for text in say(retrieval, song, context=context))
    assert "For party" not in say(retrieval, 7, context={"occasion": "party"})


@pytest.mark.parametrize("age", [12, 13, 16, 19, 20])
def test_a_song_of_the_listeners_teens_says_how_old_they_were(retrieval, age):
    # Song 20 is of 1990.
    found = say(retrieval, 20, user={User.BIRTH_YEAR: 1990 - age})
    assert (f"From when you were {age}" in found) == (13 <= age <= 19)
    assert any("when you were" in text for text in found) == (13 <= age <= 19)


@pytest.mark.parametrize("born", [None, np.nan])
def test_nothing_is_said_of_an_age_that_is_not_known(retrieval, born):
    for song in range(SONGS):
        found = say(retrieval, song, user={User.BIRTH_YEAR: born})
        assert not any("when you were" in text for text in found)


def test_the_session_is_named_by_artist_and_last_song(retrieval):
    last = "Tune 6 of the Storm"
    same = say(retrieval, 16, ["transitions"], session=(3, 6))
    assert same == ("More by Artist 6", f"Often played after {last}")
    for source in ("together", "sessions"):
        found = say(retrieval, 17, [source], session=(3, 6))
        assert found == (f"Played in sessions like this one, with {last}",) + found[1:]
    after_untitled = say(retrieval, 18, ["transitions"], session=(7,))
    assert after_untitled[0] == f"Often played after song {UNTITLED}"


def test_without_a_session_the_artist_and_the_crowd_speak(retrieval):
    assert say(retrieval, 16, ["artists"]) == (
        "By Artist 6, whom you play",
        "Played by listeners like you",
    )
    taste = "Loved by listeners with a taste like yours"
    assert say(retrieval, 16, ["like"]) == (taste,)
    assert say(retrieval, 16, ["trending"]) == ("Much played now",)
    region = {User.REGION: "Europe"}
    assert say(retrieval, 16, ["blend", "trending"], user=region) == (
        taste,
        "Much played now in Europe",
    )


@pytest.mark.parametrize("user", [{}, USER, USER | {User.BIRTH_YEAR: 1980, User.REGION: None}])
@pytest.mark.parametrize("session", [(), (3, 13), (7, 49, 99)])
def test_there_is_always_one_reason_and_never_more_than_two(retrieval, user, session):
    events = tuple(SessionEvent(song_id(i)) for i in session)
    query = Query(ts=AS_OF, user=user, session=events, context={"occasion": "diwali"})
    state = resolve(query, retrieval.songs)
    pool = retrieval.pool(state, also=np.arange(SONGS, dtype=np.int32))
    for row in range(len(pool.songs)):
        found = reasons(retrieval, state, pool, row)
        assert 1 <= len(found) <= MOST
        assert len(set(found)) == len(found)
        assert all(text and "None" not in text and "nan" not in text for text in found)
