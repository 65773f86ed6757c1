import asyncio
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from features.columns import User, UserRow
from features.query import Row, Wishes
from serving.answers import Sources, Work, answer
from serving.api import Profile, RecommendRequest, RecommendResponse, as_json
from serving.deadline import Deadline
from serving.exploration import Explore
from serving.fallback import when_late
from serving.live import Loaded, load
from serving.logged import Logged
from serving.questions import filled, query_of, wishes_of

EMPTY: dict[str, Any] = {User.BIRTH_YEAR: None, User.REGION: None, User.LANGUAGES: []}


@pytest.fixture(scope="module")
def loaded(bundle: Path) -> Loaded:
    return load(bundle)


def asked(
    loaded: Loaded, read_row: Callable[[str], Row] = lambda _: EMPTY, **body: Any
) -> RecommendResponse:
    request = RecommendRequest.model_validate(body)
    return answered_by(loaded, request, Sources(read_row))


def answered_by(
    loaded: Loaded, request: RecommendRequest, sources: Sources, seconds: float = 60
) -> RecommendResponse:
    """Answer, and hold what is sent to the response's type, byte for byte."""
    content = asyncio.run(answer(loaded, request, sources, Deadline.after(seconds)))
    response = RecommendResponse.model_validate(content, strict=True)
    assert as_json(content) == response.model_dump_json().encode()
    return response


def test_the_row_is_read_once_and_only_for_someone(loaded: Loaded) -> None:
    read: list[str] = []

    def read_row(user_id: str) -> Row:
        read.append(user_id)
        return EMPTY

    asked(loaded, read_row, user_id="u1", k=50, explain=True)
    asked(loaded, read_row, user_id=None)
    assert read == ["u1"]


def test_words_of_a_profile_that_nobody_knows_are_noted(loaded: Loaded) -> None:
    known = {"favourite_artists": ["Artist 3"], "languages": ["hi"], "region": "Europe"}
    assert asked(loaded, profile=known).notes == []
    lost = {"favourite_artists": ["artist 3"], "languages": ["Hindi"], "region": "Mars"}
    lists = "GET /status lists the words that songs and listeners are of."
    assert asked(loaded, profile=lost).notes == [
        "profile.favourite_artists: the catalogue has no artist 'artist 3'.",
        f"profile.languages: no song and no listener is of 'Hindi'; {lists}",
        f"profile.region: no song and no listener is of 'Mars'; {lists}",
    ]


def test_a_failing_store_degrades_the_answer_to_that_of_a_stranger(loaded: Loaded) -> None:
    def fail(user_id: str) -> Row:
        raise ConnectionError(f"no store for {user_id}")

    body = {"session": [{"song_id": "song-003"}]}
    degraded = asked(loaded, fail, user_id="u1", **body)
    stranger = asked(loaded, **body)
    assert degraded.degraded == ["features"]
    assert stranger.degraded == []
    assert degraded.songs == stranger.songs


def test_the_profile_fills_only_what_is_absent() -> None:
    profile = Profile(birth_year=1990, region="Europe", languages=["de"], favourite_artists=["A"])
    row = filled({User.BIRTH_YEAR: 1970, User.REGION: None, User.LANGUAGES: []}, profile)
    assert row[User.BIRTH_YEAR] == 1970
    assert row[User.REGION] == "Europe"
    assert row[User.LANGUAGES] == ["de"]
    assert row[User.FAVOURITE_ARTISTS] == ["A"]
    assert User.COUNTRY not in row


def test_a_newcomers_profile_changes_the_answer(loaded: Loaded) -> None:
    plain = asked(loaded, k=100)
    fan = asked(loaded, k=100, profile={"favourite_artists": ["Artist 4"]}, explain=True)
    found = [song for song in fan.songs if "artists" in song.sources]
    assert found
    assert {artist for song in found for artist in song.artists} == {"Artist 4"}
    assert [s.song_id for s in plain.songs] != [s.song_id for s in fan.songs]


def test_unknown_songs_are_reported_once_and_ignored(loaded: Loaded) -> None:
    known = [{"song_id": "song-003"}]
    strange = [{"song_id": "??"}, *known, {"song_id": "??"}, {"song_id": "!"}]
    answered = asked(loaded, session=strange)
    assert answered.unknown_songs == ["??", "!"]
    assert answered.songs == asked(loaded, session=known).songs


def test_played_and_excluded_songs_are_left_out(loaded: Loaded) -> None:
    session = [{"song_id": "song-003"}, {"song_id": "song-013", "action": "skip"}]
    first = [song.song_id for song in asked(loaded, session=session, k=5).songs]
    assert not {"song-003", "song-013"} & set(first)
    rest = asked(loaded, session=session, k=5, exclude=[first[0], "unheard of"]).songs
    assert first[0] not in [song.song_id for song in rest]
    assert len(rest) == 5


def test_repeats_come_only_where_allowed(loaded: Loaded) -> None:
    session = [{"song_id": "song-003"}]
    again = asked(loaded, session=session, k=100, allow_repeats=True)
    assert "song-003" in [song.song_id for song in again.songs]
    assert "song-003" not in [song.song_id for song in asked(loaded, session=session, k=100).songs]


@pytest.mark.parametrize("k", [1, 7, 30])
def test_k_is_the_number_of_songs(loaded: Loaded, k: int) -> None:
    songs = asked(loaded, k=k).songs
    assert len(songs) == k
    assert len({song.song_id for song in songs}) == k
    assert [s.score for s in songs] == sorted((s.score for s in songs), reverse=True)


def test_nothing_left_is_an_empty_answer(loaded: Loaded) -> None:
    everything = [f"song-{i:03d}" for i in range(200)]
    assert asked(loaded, exclude=everything).songs == []


def test_explained_songs_say_why(loaded: Loaded) -> None:
    session = [{"song_id": "song-003"}]
    for song in asked(loaded, session=session, explain=True).songs:
        assert song.sources
        assert song.reasons
        assert song.p_like is not None
        assert 0 <= song.p_like <= 1
    plain = asked(loaded, session=session).songs[0]
    assert (plain.sources, plain.reasons, plain.p_like) == ([], [], None)


def test_context_and_session_reach_the_query(loaded: Loaded) -> None:
    request = RecommendRequest.model_validate_json(
        '{"context": {"occasion": "party", "era": "1990", "ts": "2024-03-01T12:00:00+02:00"},'
        ' "session": [{"song_id": "a", "action": "skip", "played_ms": 5}], "exclude": ["b"]}'
    )
    query = query_of(request, {}, [], loaded.recommender.retrieval.songs, 128)
    assert query.ts.isoformat() == "2024-03-01T12:00:00+02:00"
    assert query.context == {"occasion": "party", "era": "1990"}
    event = query.session[0]
    assert (event.song_id, event.action, event.played_ms) == ("a", "skip", 5)
    assert query.exclude == {"a", "b"}


def test_a_moment_past_is_asked_with_the_row_of_then(loaded: Loaded) -> None:
    songs = loaded.recommender.retrieval.songs
    row = {UserRow.HISTORY_SONGS: ["a", "b"], UserRow.HISTORY_LAST_TS: [1_709_290_000, 5]}
    for moment, history in (("2024-03-01T10:00:00Z", ["b"]), ("2124-03-01T10:00:00Z", ["a", "b"])):
        request = RecommendRequest.model_validate_json(f'{{"context": {{"ts": "{moment}"}}}}')
        assert query_of(request, row, [], songs, 128).user[UserRow.HISTORY_SONGS] == history


def test_a_history_grows_to_the_length_that_the_bundle_says(loaded: Loaded) -> None:
    params = {"features": {"history_songs": 3}}
    recommender = replace(loaded.recommender, manifest={"version": "short", "params": params})
    changed = replace(loaded, recommender=recommender)
    work = Work(changed, RecommendRequest(user_id="u"), Explore.of("r", 0.0), Deadline.after(60))
    work.events = [Logged(f"s{n}", "play", None, "earlier", n * 1_000_000) for n in range(9)]
    assert work.query.user[UserRow.HISTORY_SONGS] == ["s8", "s7", "s6"]


def test_wishes_reach_the_query(loaded: Loaded) -> None:
    songs = loaded.recommender.retrieval.songs
    plain = wishes_of(RecommendRequest(), False)
    assert plain == Wishes(fill=True)
    request = RecommendRequest.model_validate(
        {
            "mode": "discover",
            "seed": {"song_ids": ["a", "b"]},
            "less_like": ["c"],
            "spacing": True,
            "allow_explicit": False,
            "context": {"mood": "calm"},
            "profile": {"refused_languages": ["en"]},
        }
    )
    assert wishes_of(request, True) == Wishes(
        mode="discover",
        seed_songs=("a", "b"),
        less_like=("c",),
        heed_context=True,
        spacing=True,
        refused_languages=frozenset({"en"}),
        allow_explicit=False,
        fill=True,
    )
    by_artist = RecommendRequest.model_validate({"seed": {"artist": "A"}})
    assert wishes_of(by_artist, False).seed_artist == "A"
    # A device says nothing that songs could match.
    on_phone = RecommendRequest.model_validate({"context": {"device": "phone"}})
    assert not query_of(on_phone, {}, [], songs, 128).wishes.heed_context
    calm = RecommendRequest.model_validate({"context": {"mood": "calm"}})
    assert query_of(calm, {}, [], songs, 128).wishes.heed_context
    known = calm.model_copy(update={"heed_context": False})
    assert query_of(known, {}, [], songs, 128).context == {"mood": "calm"}
    assert not query_of(known, {}, [], songs, 128).wishes.heed_context


def test_an_answer_without_a_ranking_has_the_same_shape(loaded: Loaded) -> None:
    request, over = RecommendRequest(user_id="u1", k=5), threading.Event()

    def slow(_: str) -> dict[str, Any]:
        over.wait()
        return dict(EMPTY)

    answered = answered_by(loaded, request, Sources(slow), seconds=0)
    over.set()
    assert (answered.variant, answered.degraded) == ("popularity", ["deadline"])
    assert len(answered.songs) == 5


def test_an_occasion_is_told_among_the_reasons(loaded: Loaded) -> None:
    answered = asked(loaded, context={"occasion": "party"}, k=100, explain=True)
    for song in answered.songs:
        tagged = int(song.song_id[-3:]) % 8 == 0
        assert ("For party" in song.reasons) == tagged


def test_a_row_that_cannot_be_used_is_left_out(loaded: Loaded) -> None:
    torn = EMPTY | {
        UserRow.HISTORY_SONGS: ["song-003", "song-013"],
        UserRow.HISTORY_LAST_TS: [1_700_000_000],
    }
    newer = Logged("song-033", "play", 200_000, "earlier", 1_705_000_000_000_000)
    sources = Sources(lambda _: torn, lambda *_: [newer])
    request = RecommendRequest(user_id="u1", k=5)
    answered = answered_by(loaded, request, sources)
    assert (answered.variant, answered.degraded) == ("ranker", ["features"])
    plain = Sources(lambda _: {}, lambda *_: [newer])
    assert answered.songs == answered_by(loaded, request, plain).songs
    # Whoever has no time for a ranking asks for the query, too.
    work = Work(loaded, request, Explore.of("", 0.0), Deadline.after(0), row=torn, events=[newer])
    late = when_late(loaded.recommender, loaded.popular, work.query, 5, work.reached)
    assert len(late.slate.songs) == 5
    assert work.failed == ("features",)
