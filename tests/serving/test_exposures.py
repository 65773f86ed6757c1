"""Exposures: packed and unpacked, read as frames, what the service logs, and without skew."""

import json
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from features.columns import User, UserRow
from features.ingest import ingest
from features.lake import read_events
from features.sources import open_source
from features.store import historical_user_rows
from features.words import Words
from serving.api import Profile, RecommendRequest
from serving.event_log import EventLog, export
from serving.exploration import Explore, drawn
from serving.exploration import propensities as plackett_luce
from serving.exposure_log import ExposureLog
from serving.exposures import Exposure, frame, packed, unpacked
from serving.logged import Logged
from serving.questions import filled, query_of
from serving.recommender import Recommender
from tests.serving.conftest import AS_OF, Client

SECONDS = 30
NAMES = ("first", "second")


def exposure(number: int = 0, **more: Any) -> Exposure:
    random = np.random.default_rng(number)
    features = random.normal(size=(5, 2)).astype(np.float32)
    features[1, 1] = np.nan
    base: dict[str, Any] = {
        "request_id": f"r{number}",
        "ts": AS_OF + timedelta(seconds=number),
        "user_id": "u1",
        "variant": "ranker",
        "model_version": "m1",
        "temperature": 0.5,
        "degraded": ("events",),
        "request": "{}",
        "songs": ["a", "ü\n🎵", "c", "d", "e"],
        "scores": random.normal(size=5),
        "shown": np.array([3, 1]),
        "propensities": np.array([0.5, 0.25]),
        "features": features,
        "feature_names": NAMES,
    }
    return Exposure(**(base | more))


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, "It did not come about in time."
        pause.wait(0.02)


def written(log: ExposureLog) -> list[Exposure]:
    return list(log.read(datetime(2020, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)))


LOOKED_UP = Words.of(["[x]", "a", "ü\n🎵"]).chosen(np.array([2, 0, 1]))


@pytest.mark.parametrize("songs", [[], ["[x]"], ["ü\n🎵", "a"], LOOKED_UP])
@pytest.mark.parametrize("names", [NAMES, ()])
def test_a_packed_exposure_is_the_same_when_unpacked(
    songs: Sequence[str], names: tuple[str, ...]
) -> None:
    random = np.random.default_rng(len(songs))
    features = np.asfortranarray(random.normal(size=(len(songs), len(names))).astype("f4"))
    features[::2] = np.nan
    scores = random.normal(size=len(songs))
    one = exposure(songs=songs, scores=scores, features=features, feature_names=names, user_id=None)
    header, body = packed(one)
    again = unpacked(json.loads(json.dumps(header)), memoryview(body))
    for name, value in vars(replace(one, songs=list(songs))).items():
        np.testing.assert_array_equal(getattr(again, name), value)


def test_a_frame_of_nothing_has_no_rows() -> None:
    assert list(frame([])) == list(frame([exposure(0)]))[: len(frame([]).columns)]
    assert frame([]).empty


def test_an_exposure_without_candidates_adds_no_row() -> None:
    nothing = np.empty(0)
    none = {
        "songs": [],
        "scores": nothing,
        "shown": nothing.astype(np.intp),
        "propensities": nothing,
        "features": np.empty((0, len(NAMES)), np.float32),
    }
    alone = frame([exposure(0)])
    pd.testing.assert_frame_equal(frame([exposure(1, **none), exposure(0)]), alone)
    pd.testing.assert_frame_equal(frame([exposure(0), exposure(1, **none)]), alone)
    pd.testing.assert_frame_equal(frame([exposure(1, **none)]), frame([]))


def test_a_frame_has_one_row_a_candidate() -> None:
    rows = frame([exposure(0), exposure(1)])
    assert len(rows) == 10
    first = rows[rows["request_id"] == "r0"].set_index("song_id")
    assert first["position"].to_dict() == pytest.approx(
        {"a": np.nan, "ü\n🎵": 2, "c": np.nan, "d": 1, "e": np.nan}, nan_ok=True
    )
    assert first.loc["d", "propensity"] == 0.5
    np.testing.assert_array_equal(first["second"], exposure(0).features[:, 1])


@pytest.fixture
def exposed(client: Client, store_data: Path) -> Callable[[dict[str, Any]], Exposure]:
    """Return a function that returns the exposure of an answer of the service."""
    del client
    log = ExposureLog(store_data / "events" / "exposures")

    def of(answer: dict[str, Any]) -> Exposure:
        found: list[Exposure] = []

        def there() -> bool:
            found[:] = [o for o in written(log) if o.request_id == answer["request_id"]]
            return bool(found)

        wait_for(there)
        return found[0]

    return of


def asked(client: Client, **body: Any) -> dict[str, Any]:
    answered = client.post("/recommend", json=body)
    assert answered.status_code == 200, answered.text
    return dict(answered.json())


def test_the_answer_and_its_exposure_say_the_same(
    client: Client, exposed: Callable[[dict[str, Any]], Exposure]
) -> None:
    answer = asked(client, user_id="user-1", k=7, temperature=0.4)
    one = exposed(answer)
    assert (one.user_id, one.model_version, one.variant) == ("user-1", "test-1", "ranker")
    assert [one.songs[i] for i in one.shown] == [s["song_id"] for s in answer["songs"]]
    assert one.propensities.tolist() == [s["propensity"] for s in answer["songs"]]
    assert one.scores[one.shown].tolist() == [s["score"] for s in answer["songs"]]
    assert [s["position"] for s in answer["songs"]] == list(range(1, 8))
    # From the log alone the slate can be drawn again.
    explore = Explore.of(one.request_id, one.temperature)
    assert drawn(one.scores, 7, explore).tolist() == one.shown.tolist()
    certain = asked(client, user_id="user-1", k=7)
    assert [s["propensity"] for s in certain["songs"]] == [1.0] * 7


def test_an_exposure_lies_at_the_servers_time_and_keeps_the_asked_moment(
    client: Client, exposed: Callable[[dict[str, Any]], Exposure]
) -> None:
    begun = datetime.now(UTC)
    past = exposed(asked(client, context={"ts": "2014-01-01T02:00:00.000001+02:00"}))
    assert begun <= past.ts <= datetime.now(UTC)
    assert past.asked_ts == datetime(2014, 1, 1, 0, 0, 0, 1, UTC)
    for more in ({}, {"context": {"mood": "calm"}}):
        present = exposed(asked(client, **more))
        assert past.ts <= present.ts == present.asked_ts


def test_logged_propensities_are_how_often_slates_come(
    client: Client, exposed: Callable[[dict[str, Any]], Exposure]
) -> None:
    """Monte Carlo over the logged scores, and over answers of the service itself."""
    body = {"session": [{"song_id": "song-003"}], "context": {"ts": AS_OF.isoformat()}}
    one = exposed(asked(client, k=3, temperature=0.3, **body))
    draws = 20_000
    firsts, seconds, thirds = (0, 0, 0)
    a, b, c = one.shown
    for seed in range(draws):
        chosen = drawn(one.scores, 3, Explore(0.3, seed))
        firsts += chosen[0] == a
    # The later places given the earlier ones: drawn from what is left.
    left = np.setdiff1d(np.arange(len(one.scores)), [a])
    last = np.setdiff1d(left, [b])
    for seed in range(draws):
        seconds += left[drawn(one.scores[left], 1, Explore(0.3, seed))[0]] == b
        thirds += last[drawn(one.scores[last], 1, Explore(0.3, seed))[0]] == c
    for count, p in zip((firsts, seconds, thirds), one.propensities, strict=True):
        assert count / draws == pytest.approx(p, abs=4 * np.sqrt(p * (1 - p) / draws) + 1e-4)
    # The service: the share of answers that begin with each song, against that song's propensity.
    tops: dict[str, list[float]] = {}
    for _ in range(300):
        (song,) = asked(client, k=1, temperature=0.3, **body)["songs"]
        tops.setdefault(song["song_id"], []).append(song["propensity"])
    expected = dict(zip(one.songs, _first_places(one), strict=True))
    for song_id, told in tops.items():
        assert told == pytest.approx([expected[song_id]] * len(told))
        p = expected[song_id]
        assert len(told) / 300 == pytest.approx(p, abs=5 * np.sqrt(p * (1 - p) / 300) + 0.005)


def _first_places(one: Exposure) -> list[float]:
    """Return each candidate's probability of the first place."""
    places = range(len(one.scores))
    return [float(plackett_luce(one.scores, np.array([i]), 0.3)[0]) for i in places]


def recomputed(
    one: Exposure, recommender: Recommender, events: list[Logged]
) -> tuple[list[str], np.ndarray]:
    """Return an exposure's candidates and features from the offline store and the lake."""
    request = RecommendRequest.model_validate_json(one.request)
    entities = pd.DataFrame({User.ID: [one.user_id], UserRow.TS: [pd.Timestamp(one.asked_ts)]})
    row = historical_user_rows(entities).iloc[0].to_dict()
    known = filled(row, request.profile or Profile())
    songs = recommender.retrieval.songs
    query = query_of(request, known, events, songs, 128, now=one.ts)
    assert query.ts == one.asked_ts
    prepared = recommender.prepare(query)
    return [str(song) for song in songs.ids[prepared.pool.songs]], prepared.features


def skew(exposure: Exposure, songs: Sequence[str], features: NDArray[np.float32]) -> dict[str, int]:
    """Compare logged features with the same computed again; return the candidates that differ.

    Parameters
    ----------
    songs, features
        The candidates found again (m,) and their features (m, features).

    Returns
    -------
    dict
        Feature name to the number of candidates for which it differs; "candidates" for songs that
        only one side has. Empty if nothing differs.
    """
    place_of = {song: place for place, song in enumerate(songs)}
    both = [(i, place_of[song]) for i, song in enumerate(exposure.songs) if song in place_of]
    alone = len(exposure.songs) + len(songs) - 2 * len(both)
    ours, theirs = np.array(both, dtype=np.intp).reshape(-1, 2).T
    logged, found = exposure.features[ours], features[theirs]
    same = np.isclose(logged, found, rtol=1e-5, atol=1e-6, equal_nan=True)
    counts = dict(zip(exposure.feature_names, (~same).sum(axis=0).tolist(), strict=True))
    return {name: n for name, n in ({"candidates": alone} | counts).items() if n}


@pytest.mark.parametrize("behind", [None, timedelta(seconds=2)])
def test_logged_features_show_no_skew_against_the_lake(
    client: Client,
    bundle: Path,
    store_data: Path,
    tmp_path: Path,
    exposed: Callable[[dict[str, Any]], Exposure],
    behind: timedelta | None,
) -> None:
    # Each time a listener whose events no other test has sent.
    user, session = "user-2" if behind else "user-1", uuid.uuid4().hex
    sent = [
        {"song_id": "song-013", "action": "like", "session_id": "before"},
        {"song_id": "song-044", "action": "skip", "played_ms": 5000, "session_id": "before"},
        {"song_id": "song-023", "action": "play", "session_id": session},
        {"song_id": "song-033", "action": "skip", "session_id": session},
    ]
    events = [e | {"event_id": uuid.uuid4().hex, "user_id": user} for e in sent]
    assert client.post("/events", json={"events": events}).json()["new"] == 4
    body = {"user_id": user, "session_id": session, "profile": {"birth_year": 1980}}
    moment = {"ts": (datetime.now(UTC) - behind).isoformat()} if behind else {}
    one = exposed(asked(client, **body, context={"mood": "calm"} | moment, temperature=0.2))
    assert one.features.shape[0] == len(one.songs) > 50
    # The same events on their way through export and import.
    log = EventLog.open(f"sqlite:///{store_data / 'events' / 'events.db'}")
    export(log, tmp_path / "exported")
    log.close()
    source = open_source("files", tmp_path / "exported", {})
    ingest(source, tmp_path / "lake", 0.05, datetime.now(UTC))
    lake = read_events(tmp_path / "lake")
    mine = lake[(lake["user_id"] == user) & (lake["ts"] <= pd.Timestamp(one.ts))]
    history = [
        Logged(e.song_id, e.action, None if pd.isna(e.played_ms) else int(e.played_ms),
               e.session_id, int(e.ts.value // 1000))
        for e in mine.itertuples()
    ]  # fmt: skip
    recommender = Recommender.load(bundle)
    songs, features = recomputed(one, recommender, history)
    assert skew(one, songs, features) == {}

    # Planted: a feature logged in other units, an event that the log has not, a song that is not.
    column = one.feature_names.index("tempo_step")
    planted = one.features.copy()
    planted[:, column] *= 1.8
    assert set(skew(replace(one, features=planted), songs, features)) == {"tempo_step"}
    less = skew(one, *recomputed(one, recommender, history[1:]))
    assert "own_like" in less
    lost = skew(one, songs[1:], features[1:])
    assert lost == {"candidates": 1}
