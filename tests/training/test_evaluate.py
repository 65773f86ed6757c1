from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace

import numpy as np
import pytest

from features.columns import SongRow
from features.query import Query, SessionEvent
from serving.retrieval import Pool
from training.evaluate import (
    CANDIDATES,
    TOP,
    cut_ranks,
    fused_order,
    pad,
    prefix_bin,
    repeat_kind,
    slices,
    song_age,
)
from training.queries import Labelled

# A Saturday evening in UTC.
EVENING = datetime(2024, 1, 6, 20, 30, tzinfo=UTC)


def labelled(answer="a", *, place=0, session=(), **user):
    query = Query(ts=EVENING, user=user, session=tuple(SessionEvent(song) for song in session))
    return Labelled("q", "u", query, place, answer, "full", (answer,), ("full",))


@pytest.mark.parametrize("count", [0, 3, TOP])
def test_short_answers_are_filled_up(count):
    filled = pad(np.arange(count, dtype=np.int32))
    assert filled.tolist() == [*range(count), *[-1] * (TOP - count)]
    assert filled.dtype == np.int32


@pytest.mark.parametrize(
    ("session", "history", "kind"),
    [
        (["b", "a"], ["a"], "in the session"),
        (["b"], np.array(["x", "a"]), "in the history"),
        (["b"], ["x"], "in neither"),
        ([], [], "in neither"),
        ([], None, "in neither"),
    ],
)
def test_what_kind_of_repeat_an_answer_is(session, history, kind):
    assert repeat_kind(labelled(session=session, history_songs=history)) == kind
    assert repeat_kind(labelled()) == "in neither"


def test_prefixes_fall_into_their_bins():
    bins = [prefix_bin(place) for place in (0, 1, 2, 4, 5, 9, 10, 300)]
    assert bins == ["0 (start)", "1", "2-4", "2-4", "5-9", "5-9", "10+", "10+"]


def test_songs_are_new_for_a_fortnight():
    assert song_age(-1, 3.0) == "not in the catalogue"
    assert song_age(0, 13.99) == "new (under 14 days)"
    assert song_age(0, 14.0) == song_age(0, float("nan")) == "older"


def catalogue():
    """Return what `slices` reads of a recommender."""
    numbers = {
        SongRow.AGE_DAYS: np.array([3.0, 99.0, 50.0]),
    }
    songs = SimpleNamespace(index_of={"a": 0, "b": 1, "c": 2}, numbers=numbers)
    seen = {"seen_until": "2024-01-01T00:00:00+00:00"}
    return SimpleNamespace(retrieval=SimpleNamespace(songs=songs), manifest=seen)


def test_slices_describe_each_query():
    queries = [
        labelled("a", plays=3, region="north", utc_offset_minutes=330),
        labelled("b", place=3, plays=None, region=None, utc_offset_minutes=0),
        labelled("elsewhere", place=12, session=["elsewhere"]),
    ]
    found = slices(catalogue(), queries)
    assert found["listener"].tolist() == ["known", "new", "new"]
    assert found["song"].tolist() == ["new (under 14 days)", "older", "not in the catalogue"]
    assert found["repeat"].tolist() == ["in neither", "in neither", "in the session"]
    assert found["prefix"].tolist() == ["0 (start)", "2-4", "10+"]
    assert found["region"].tolist() == ["north", "unknown", "unknown"]
    # 20:30 UTC on Saturday is 02:00 on Sunday at +05:30.
    assert found["daypart"].tolist()[:2] == ["weekend 00-06", "weekend 18-24"]


def test_slices_tell_how_old_the_fit_was():
    queries = [labelled(), labelled()]
    queries[1] = replace(
        queries[1], query=replace(queries[1].query, ts=datetime(2024, 1, 8, tzinfo=UTC))
    )
    assert slices(catalogue(), queries)["fit"].tolist() == ["week 1", "week 2"]


def test_slices_tell_what_was_recommended_where_anything_was():
    queries = [labelled("a"), labelled("b")]
    assert "found" not in slices(catalogue(), queries)
    queries[1] = replace(queries[1], is_recommended=True)
    assert slices(catalogue(), queries)["found"].tolist() == ["otherwise", "recommended"]


def test_a_listener_whose_history_began_after_the_snapshot_is_known():
    asked = [labelled("a", plays=None, history_songs=songs) for songs in ([], ["b"])]
    assert slices(catalogue(), asked)["listener"].tolist() == ["new", "known"]


def test_pools_are_cut_by_reciprocal_rank_fusion():
    # Song 9 is proposed twice (1/63 + 1/62), then come the first, the second, the third places.
    ranks = np.array([[0, np.nan], [np.nan, 0], [2, 1], [1, np.nan], [np.nan, np.nan]], "f4")
    pool = Pool(np.array([3, 5, 9, 11, 12], "i4"), np.zeros((5, 2), "f4"), ranks)
    assert fused_order(pool).tolist() == [2, 0, 1, 3, 4]


def test_ranks_count_only_what_is_left_in_a_cut_pool():
    n = CANDIDATES[1]
    # Fusion follows the songs' numbers; the ranker turns them round.
    ranks = np.arange(n, dtype=np.float32)[:, None]
    pool = Pool(np.arange(n, dtype=np.int32), np.zeros((n, 1), "f4"), ranks)
    scores = np.arange(n, dtype=np.float64)
    assert cut_ranks(pool, 10, scores)[:2] == [CANDIDATES[0] - 10, n - 10]
    late = cut_ranks(pool, CANDIDATES[0], scores)
    assert np.isnan(late[0])
    assert late[1:] == [n - CANDIDATES[0]] * (len(CANDIDATES) - 1)
    assert np.isnan(cut_ranks(pool, n + 5, scores)).all()
