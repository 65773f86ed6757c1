"""The measures of modes, contexts and spacing, by hand and over a small simulated world."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from benchmarks.modes import (
    Judge,
    ask,
    asked_for,
    by_word,
    context,
    mean,
    precision,
    show,
    summarise,
    wished,
    words_of,
)
from benchmarks.simulated_past import Latest
from features.catalogue import Catalogue, catalogue
from features.columns import Action, Event, Song
from features.query import Query, Wishes
from serving.recommender import Recommender
from simulation.__main__ import simulate
from simulation.sizes import Size
from simulation.truth import Truth
from tests.serving.conftest import AS_OF, SONGS, bundle, songs_frame
from training.queries import Labelled

__all__ = ["bundle"]
MOMENT = datetime(2023, 12, 20, 18, tzinfo=UTC)


@dataclass(frozen=True)
class World:
    songs: Catalogue
    truth: Truth
    judge: Judge
    user: str


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Return a simulated world of sixty songs; somebody has heard songs 0 and 10, and later 1."""
    folder = tmp_path_factory.mktemp("simulated")
    simulate(Size(30, 60, date(2023, 12, 12), 3, 0.9), 5, folder / "out", folder / "truth")
    truth = Truth.load(folder / "truth")
    frame = songs_frame().head(60).assign(**{Song.ID: sorted(map(str, truth.song_ids))})
    songs = catalogue(frame)
    user = str(truth.user_ids[0])
    rows = [
        (f"e{i}", MOMENT + timedelta(hours=hours), user, songs.ids[song], Action.PLAY)
        for i, (hours, song) in enumerate([(-9, 0), (-2, 10), (1, 1)])
    ]
    names = [Event.ID, Event.TS, Event.USER, Event.SONG, Event.ACTION]
    latest = Latest.of(pd.DataFrame(rows, columns=names))
    return World(songs, truth, Judge(songs, truth, latest), user)


def asked(user: str, **context: str) -> Labelled:
    return Labelled("q", user, Query(ts=MOMENT, context=context), 1, "x", "full", ("x",), ("full",))


def row(*songs: int) -> np.ndarray:
    return np.array([[*songs, *[-1] * (10 - len(songs))]], dtype=np.int32)


def test_a_slate_is_judged_by_what_came_before_it(world: World) -> None:
    measures = world.judge([asked(world.user)], row(0, 1, 11, 20))
    # Song 0 was heard before; songs 0 and 20 are by artist 0, songs 1 and 11 by artist 1.
    assert measures["known_share"].tolist() == [0.25]
    assert measures["known_artist_share"].tolist() == [0.5]
    assert measures["artists"].tolist() == [2]
    assert measures["popularity_percentile"][0] == pytest.approx(1 - 8 / SONGS)
    plays = np.array([1000 // (i + 1) + 1 for i in range(60)]) + 1
    bits = -np.log2(plays[[0, 1, 11, 20]] / plays.sum())
    assert measures["novelty_bits"][0] == pytest.approx(bits.mean(), rel=1e-4)


def test_expected_likes_are_the_truths(world: World) -> None:
    songs = world.songs.ids[[5, 7]].astype(object)
    known = world.truth.probabilities(
        [world.user], songs[None, :], ts=[MOMENT], position=np.array([1, 2])
    )
    measures = world.judge([asked(world.user)], row(5, 7))
    assert measures["expected_likes"][0] == pytest.approx(known.like.sum())
    assert measures["expected_skips"][0] == pytest.approx(known.skip.sum())


def test_an_empty_slate_counts_as_no_likes_and_no_share(world: World) -> None:
    measures = world.judge([asked(world.user)], row())
    assert measures["expected_likes"].tolist() == [0]
    assert np.isnan(measures["known_share"]).all()


def test_precision_counts_missing_songs_as_misses(world: World) -> None:
    # Songs 0, 8 and 16 are for parties.
    queries = [asked(world.user, occasion="party")]
    assert precision(world.songs, queries, row(0, 8, 3)).tolist() == [0.2]
    assert precision(world.songs, queries, row()).tolist() == [0]


def test_only_words_that_can_fill_an_answer_are_asked_for() -> None:
    songs = catalogue(songs_frame())
    assert words_of(songs, "occasion") == ["diwali", "party"]
    assert words_of(songs, "language") == ["de", "en", "hi"]
    few = catalogue(songs_frame().head(45))
    assert words_of(few, "occasion") == []
    assert "2010" not in words_of(few, "era")


def test_means_leave_out_what_is_not_there() -> None:
    values, there = np.array([[1.0, 5.0], [2.0, 3.0]]), np.array([[True, False], [False, False]])
    np.testing.assert_array_equal(mean(values, there), [1.0, np.nan])


def test_differences_are_taken_query_by_query() -> None:
    measured = {"a": {"x": np.array([1.0, 2.0, 3.0])}, "b": {"x": np.array([1.5, 2.5, 3.5])}}
    found = summarise(measured, "a", np.array([0, 1, 1]), 50, 3)
    assert found["b"]["x"]["value"] == 2.5
    assert found["b"]["x"]["minus_a"] == 0.5
    assert found["b"]["x"]["minus_a_interval"] == (0.5, 0.5)
    assert "+0.500 [+0.500, +0.500]" in show(found, ["x"], "a", "what")


def test_answers_are_those_of_the_recommender(bundle) -> None:  # type: ignore[no-untyped-def]
    recommender = Recommender.load(bundle)
    (query,) = wished([asked("u")], Wishes(mode="popular"))
    assert not query.allow_repeats
    slate = recommender.recommend(query, 10)
    found = ask(recommender, [query], "test")
    assert recommender.retrieval.songs.ids[found[0]].tolist() == [s.song_id for s in slate.songs]
    everything = frozenset(songs_frame()[Song.ID])
    short = ask(recommender, [Query(ts=AS_OF, exclude=everything)], "test")
    assert (short == -1).all()


def test_each_query_names_a_word_that_can_fill_an_answer() -> None:
    songs = catalogue(songs_frame())
    queries = [asked("u") for _ in range(20)]
    named = asked_for(songs, queries, "language", seed=1)
    words = {one.query.context["language"] for one in named}
    assert words == set(words_of(songs, "language"))
    assert all(set(one.query.context) == {"language"} for one in named)
    again = asked_for(songs, queries, "language", seed=1)
    assert [one.query.context for one in again] == [one.query.context for one in named]


def test_precision_is_also_told_by_word() -> None:
    matching = {"de": np.array([True, False, True]), "en": np.array([False, True, False])}
    found = by_word(["de", "en", "de"], np.array([1.0, 0.5, 0.6]), matching)
    assert found["de"] == {"precision": pytest.approx(0.8), "queries": 2, "songs": 2}
    assert found["en"] == {"precision": 0.5, "queries": 1, "songs": 1}


def test_asking_for_a_context_is_compared_with_not_asking(bundle) -> None:  # type: ignore[no-untyped-def]
    recommender = Recommender.load(bundle)
    queries = [asked("u", occasion="party") for _ in range(6)]
    contexts: list[list[object]] = []

    def judge(named, answers):  # type: ignore[no-untyped-def]
        contexts.append([dict(one.query.context) for one in named])
        return {"answers": (answers >= 0).sum(axis=1).astype(float)}

    measured, words = context(recommender, judge, queries, "language", seed=1)  # type: ignore[arg-type]
    assert list(measured) == ["unasked", "ranker", "served", "popular", "popular_matching"]
    # All are judged in the context that was asked for.
    assert all(one == contexts[0] for one in contexts)
    assert measured["popular_matching"]["precision"].tolist() == [1.0] * 6
    assert measured["served"]["precision"].mean() > measured["unasked"]["precision"].mean()
    assert sum(one["queries"] for one in words.values()) == 6
