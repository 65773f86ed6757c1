"""Answers from what is left keep to what was wished, and say where they fall short."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from features.columns import SongRow
from features.query import Query, SessionEvent, Wishes
from features.state import State
from serving import candidates, steering
from serving.context_songs import ContextSongs
from serving.fallback import most_popular, prepared_with, proposed
from serving.generators import Generator
from serving.recommender import Recommender
from serving.scores import Scores
from serving.spacing import ALBUM, ARTIST, RECORDING
from tests.serving.conftest import AS_OF, CLUSTERS, SONGS, song_id

ORDER = np.arange(SONGS, dtype=np.int32)


@pytest.fixture
def recommender(bundle: Path) -> Recommender:
    return Recommender.load(bundle)


def test_popular_songs_that_are_unwanted_or_a_radios_own_are_not_proposed(
    recommender: Recommender,
) -> None:
    songs = recommender.retrieval.songs
    wishes = Wishes(less_like=(song_id(0),), seed_songs=(song_id(2),))
    query = Query(ts=AS_OF, exclude=frozenset({song_id(1)}), wishes=wishes)

    def found(asked: Query) -> list[int]:
        return [song.place for song in most_popular(songs, ORDER, asked, 3).songs]

    assert found(query) == [3, 4, 5]
    assert found(replace(query, allow_repeats=True)) == [2, 3, 4]


def test_short_answers_say_so_whatever_they_were_made_from(recommender: Recommender) -> None:
    everything = frozenset(song_id(i) for i in range(SONGS)) - {song_id(8), song_id(9)}
    query = Query(ts=AS_OF, exclude=everything)
    short = ("short: only 2 of 10 songs may be proposed.",)
    assert most_popular(recommender.retrieval.songs, ORDER, query, 10).notes == short
    assert most_popular(recommender.retrieval.songs, ORDER, query, 2).notes == ()
    prepared = recommender.prepare(query, 10)
    assert proposed(recommender, prepared, (), 10, "deadline").slate.notes == short
    assert proposed(recommender, prepared, (), 2, "deadline").slate.notes == ()


def test_popular_answers_go_on_where_the_most_popular_do_not_suffice(
    recommender: Recommender,
) -> None:
    songs = recommender.retrieval.songs
    query = Query(ts=AS_OF, wishes=Wishes(refused_languages=frozenset({"en", "hi"})))
    slate = most_popular(songs, ORDER[:10], query, 5)
    assert [song.place for song in slate.songs] == [2, 5, 8, 11, 14]
    assert slate.notes == ()


class Failing:
    """Stands for a generator that fails."""

    def __getattr__(self, name: str) -> Any:
        raise OSError(f"planted: {name}")


def test_a_broken_generator_does_not_prepare_the_catalogue_anew(
    recommender: Recommender, monkeypatch: pytest.MonkeyPatch
) -> None:
    generators = {**recommender.retrieval.generators, "listen": Failing()}
    broken = replace(recommender, retrieval=replace(recommender.retrieval, generators=generators))

    # As a served bundle is.
    assert len(broken.candidates.popular)

    def unwanted(*_: Any) -> None:
        raise AssertionError("The catalogue was prepared again.")

    monkeypatch.setattr(ContextSongs, "of", unwanted)
    monkeypatch.setattr(candidates, "most_popular_first", unwanted)
    prepared, degraded = prepared_with(broken, Query(ts=AS_OF), 10)
    assert degraded == ("retrieval.listen",)
    assert len(prepared.pool.songs) >= 10


class FailingOn:
    """Stands for a generator that fails with some song among the seeds."""

    def __init__(self, generator: Generator, song: int) -> None:
        self.generator = generator
        self.song = song

    def scores(self, state: State) -> Scores:
        if self.song in state.seeds(10):
            raise OSError("planted")
        return self.generator.scores(state)


def test_a_generator_that_fails_on_a_radios_seeds_alone_is_left_out(
    recommender: Recommender,
) -> None:
    failing = FailingOn(recommender.retrieval.generators["transitions"], 2)
    generators = {**recommender.retrieval.generators, "transitions": failing}
    broken = replace(recommender, retrieval=replace(recommender.retrieval, generators=generators))
    query = Query(ts=AS_OF, wishes=Wishes(seed_songs=(song_id(2),)))
    prepared, degraded = prepared_with(broken, query, 10)
    assert degraded == ("retrieval.transitions",)
    assert len(prepared.pool.songs) >= 10


def test_popular_answers_bar_what_was_played_and_not_what_was_only_liked(
    recommender: Recommender,
) -> None:
    session = (SessionEvent(song_id(0), "like"), SessionEvent(song_id(1), "play"))
    slate = most_popular(recommender.retrieval.songs, ORDER, Query(ts=AS_OF, session=session), 2)
    assert [song.place for song in slate.songs] == [0, 2]


WISHES = Wishes(mode="popular", less_like=(song_id(7),), spacing=True, heed_context=True)


def test_an_answer_in_retrievals_order_is_moved_and_spaced_as_wished(
    recommender: Recommender,
) -> None:
    def found(wishes: Wishes) -> list[int]:
        asked = Query(ts=AS_OF, session=(SessionEvent(song_id(3)),), wishes=wishes)
        slate = proposed(recommender, recommender.prepare(asked, 10), (), 10, "ranker").slate
        assert slate.notes == ()
        return [song.place for song in slate.songs]

    def most_of_one_artist(songs: list[int]) -> int:
        window = recommender.steering.artist.window
        artists = [song % CLUSTERS for song in songs]
        return max(artists[i : i + window].count(artists[i]) for i in range(len(artists)))

    close, apart = (most_of_one_artist(found(Wishes(spacing=wish))) for wish in (False, True))
    assert close > recommender.steering.artist.limit >= apart
    popularity = recommender.retrieval.songs.numbers[SongRow.POPULARITY]
    modes: tuple[Any, ...] = ("popular", "balanced", "deep_cuts")
    popular, balanced, deep = (popularity[found(Wishes(mode=mode))].mean() for mode in modes)
    assert popular > balanced > deep


def test_where_wishes_fail_the_answer_comes_without_and_says_so(
    recommender: Recommender, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = recommender.prepare(Query(ts=AS_OF, wishes=WISHES), 5)
    monkeypatch.setattr(steering.Steerer, "moved", Failing())
    slate = proposed(recommender, prepared, (), 5, "ranker").slate
    assert len(slate.songs) == 5
    assert slate.notes == ("mode, less_like: not heeded in a degraded answer.",)
    assert set(slate.relaxed) == {ALBUM, ARTIST, RECORDING}
    monkeypatch.undo()
    # There is no time for it where there was none for the ranker.
    late = proposed(recommender, prepared, (), 5, "deadline").slate
    assert (late.notes, late.relaxed) == (slate.notes, slate.relaxed)
    assert proposed(recommender, prepared, (), 5, "ranker").slate.notes == ()


def test_rules_that_give_way_in_retrievals_order_are_named(recommender: Recommender) -> None:
    other = frozenset(song_id(i) for i in range(SONGS) if i % CLUSTERS != 4)
    asked = Query(ts=AS_OF, exclude=other, wishes=Wishes(spacing=True))
    slate = proposed(recommender, recommender.prepare(asked, 10), (), 10, "ranker").slate
    assert ARTIST in slate.relaxed


def test_what_is_popular_says_which_wishes_it_does_not_heed(recommender: Recommender) -> None:
    songs, context = recommender.retrieval.songs, {"occasion": "diwali", "language": "hi"}
    wishes = replace(WISHES, mode="discover", seed_songs=(song_id(3),))

    def told(asked: Query) -> tuple[tuple[str, ...], tuple[str, ...]]:
        slate = most_popular(songs, ORDER, asked, 3)
        return slate.notes, slate.relaxed

    assert told(Query(ts=AS_OF)) == told(Query(ts=AS_OF, context=context)) == ((), ())
    rules = (ALBUM, ARTIST, RECORDING)
    left = "mode, seed, less_like, context: not heeded in a degraded answer."
    assert told(Query(ts=AS_OF, context=context, wishes=wishes)) == ((left,), rules)
    # Popular is what it is.
    assert told(Query(ts=AS_OF, wishes=Wishes(mode="popular", spacing=True))) == ((), rules)
