"""Exposures: written behind the answers, read as frames, and without skew."""

import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from sqlalchemy import event, update
from tqdm import tqdm

from features.columns import User, UserRow
from features.ingest import ingest
from features.lake import read_events
from features.mistakes import Mistake
from features.sources import open_source
from features.store import historical_user_rows
from features.words import Words
from serving import forget_exposures
from serving.api import Profile, RecommendRequest
from serving.database import Database
from serving.event_log import EventLog, export
from serving.exploration import Explore, drawn
from serving.exploration import propensities as plackett_luce
from serving.exposures import (
    LEAST_ROOM_BYTES,
    PAGE_BYTES,
    Exposure,
    ExposureLog,
    _compressed,
    exposures,
    exposures_total,
    frame,
    metadata,
)
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


@pytest.fixture(autouse=True)
def roomy_disk(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Let the disk look as if it had just enough room, however full it really is."""
    # Other processes change what is really free.
    disk = SimpleNamespace(free=LEAST_ROOM_BYTES)
    monkeypatch.setattr("serving.database.shutil.disk_usage", lambda path: disk)
    return disk


@pytest.fixture
def log(database: str) -> Iterator[ExposureLog]:
    opened = ExposureLog.open(database)
    yield opened
    opened.close()


def written(log: ExposureLog) -> list[Exposure]:
    return list(log.read(datetime(2020, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)))


def test_what_is_put_can_be_read(log: ExposureLog) -> None:
    bare = {"features": np.empty((0, 0), "f4"), "feature_names": NAMES, "user_id": None}
    for make in (partial(exposure, 1), partial(exposure, 0), partial(exposure, 2, **bare)):
        log.put(make)
    wait_for(lambda: len(written(log)) == 3)
    found = written(log)
    assert [one.request_id for one in found] == ["r0", "r1", "r2"]
    for got, put in zip(found[:2], (exposure(0), exposure(1)), strict=True):
        for name, value in vars(put).items():
            np.testing.assert_array_equal(getattr(got, name), value)
    assert found[2].user_id is None
    assert found[2].features.shape == (0, 0)
    some = list(log.read(AS_OF + timedelta(seconds=1), AS_OF + timedelta(seconds=2)))
    assert [one.request_id for one in some] == ["r1"]


@pytest.mark.parametrize("count", [0, 1, 3, 4, 6, 7])
def test_a_period_is_read_in_blocks_and_holds_no_connection(
    log: ExposureLog, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    monkeypatch.setattr("serving.exposures.READ_ROWS", 3, raising=False)
    # Several of one moment: blocks end among them.
    put = [exposure(number, ts=AS_OF + timedelta(seconds=number // 5)) for number in range(count)]
    log.write(put)
    found = []
    for one in log.read(AS_OF, AS_OF + timedelta(days=1)):
        assert log.database.reader.pool.checkedout() == 0  # type: ignore[attr-defined]
        found.append(one.request_id)
    assert found == [one.request_id for one in put]


def test_song_ids_are_read_whether_they_were_given_looked_up_or_written_as_json(
    log: ExposureLog,
) -> None:
    words = Words.of(["[x]", "a", "b", "ü\n🎵"])
    given: list[Sequence[str]] = [[], ["[x]"], ["ü\n🎵", "a"], words.chosen(np.array([3, 0, 1]))]
    for number, songs in enumerate(given):
        log.put(partial(exposure, number, songs=songs, features=np.zeros((len(songs), 2), "f4")))
    wait_for(lambda: len(written(log)) == len(given))
    assert [one.songs for one in written(log)] == [list(songs) for songs in given]
    old = _compressed(json.dumps(["[x]", "ü\n🎵"]).encode())
    with log.database.writing() as connection:
        connection.execute(update(exposures).values(songs=old, features=_compressed(b"")))
    assert [one.songs for one in written(log)] == [["[x]", "ü\n🎵"]] * len(given)


def outcomes(log: ExposureLog, group: list[Exposure]) -> dict[str, float]:
    """Put a group in, wait for it, and return how many had each outcome."""
    kinds = ("written", "known", "failed", "dropped")

    def counted() -> dict[str, float]:
        return {kind: exposures_total.labels(kind)._value.get() for kind in kinds}

    before = counted()
    for one in group:
        log.put(lambda one=one: one)  # type: ignore[misc]
    wait_for(lambda: sum(counted().values()) - sum(before.values()) == len(group))
    return {kind: n - before[kind] for kind, n in counted().items() if n > before[kind]}


def test_a_new_file_has_large_pages_and_an_old_one_keeps_its_own(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/exposures.db"
    before = Database(url, metadata)
    before.ensure()
    before.close()
    for path, size in ((url, 4096), (f"sqlite:///{tmp_path}/new.db", PAGE_BYTES)):
        log = ExposureLog.open(path)
        assert log.write([exposure()]) == ["written"]
        with log.database.reading() as connection:
            assert connection.exec_driver_sql("PRAGMA page_size").scalar() == size
            assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        log.close()


def test_a_request_id_that_comes_again_costs_that_exposure_alone(log: ExposureLog) -> None:
    assert outcomes(log, [exposure(0)]) == {"written": 1}
    again = [exposure(0, user_id="u2"), exposure(1, user_id="u2")]
    group = [exposure(1), *again, exposure(2)]
    assert sorted(log.write(group)) == ["known", "known", "written", "written"]
    assert outcomes(log, group) == {"known": 4}
    assert [(one.request_id, one.user_id) for one in written(log)] == [
        ("r0", "u1"),
        ("r1", "u1"),
        ("r2", "u1"),
    ]


def test_an_exposure_that_cannot_be_written_costs_no_other(log: ExposureLog) -> None:
    bad = exposure(1, variant=None)
    assert outcomes(log, [exposure(0), bad, exposure(2)]) == {"written": 2, "failed": 1}
    assert [one.request_id for one in written(log)] == ["r0", "r2"]


def test_an_exposure_that_cannot_be_made_costs_no_other(log: ExposureLog) -> None:
    failed = exposures_total.labels("failed")._value
    before = failed.get()
    log.put(lambda: 1 / 0)  # type: ignore[arg-type, return-value]
    log.put(partial(exposure, 0))
    wait_for(lambda: failed.get() == before + 1 and bool(written(log)))
    assert [one.request_id for one in written(log)] == ["r0"]


def test_a_database_that_is_gone_is_asked_once_for_a_group() -> None:
    log = ExposureLog.open("postgresql://nobody@127.0.0.1:9/none")
    tries = []
    event.listen(log.database.writer, "do_connect", lambda *_: tries.append(1))
    assert outcomes(log, [exposure(number) for number in range(20)]) == {"failed": 20}
    assert len(tries) < 5
    log.close()


def test_old_exposures_are_forgotten_in_blocks(
    log: ExposureLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving.exposures.READ_ROWS", 3)
    log.write([exposure(number) for number in range(8)])
    assert list(log.forget(AS_OF + timedelta(seconds=7))) == [3, 3, 1]
    assert [one.request_id for one in written(log)] == ["r7"]
    assert list(log.forget(AS_OF + timedelta(seconds=7))) == [0]


def test_exposures_leave_the_last_of_the_disk_to_the_events(
    tmp_path: Path, roomy_disk: SimpleNamespace, caplog: pytest.LogCaptureFixture
) -> None:
    roomy_disk.free -= 1
    with closing(ExposureLog.open(f"sqlite:///{tmp_path / 'exposures.db'}")) as log:
        dropped = exposures_total.labels("dropped")._value
        for number in range(3):
            reached = dropped.get() + 1
            log.put(partial(exposure, number))
            wait_for(lambda reached=reached: dropped.get() == reached)
        assert written(log) == []
        assert caplog.text.count("forget_exposures") == 1
        roomy_disk.free += 1
        log.put(partial(exposure, 4))
        wait_for(lambda: [one.request_id for one in written(log)] == ["r4"])


def test_what_was_deleted_in_the_file_is_room(tmp_path: Path, roomy_disk: SimpleNamespace) -> None:
    roomy_disk.free = 1000
    with closing(ExposureLog.open(f"sqlite:///{tmp_path / 'exposures.db'}")) as log:
        log.write([exposure(number) for number in range(200)])
        assert log.database.room_bytes() == 1000
        list(log.forget(AS_OF + timedelta(days=1)))
        with log.database.reading() as connection:
            pages = connection.exec_driver_sql("PRAGMA freelist_count").scalar_one()
        assert pages > 0
        assert log.database.room_bytes() == 1000 + pages * PAGE_BYTES


def test_the_command_deletes_what_is_older(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # As by TQDM_DISABLE: such a bar does not count.
    monkeypatch.setattr("serving.forget.tqdm", partial(tqdm, disable=True))
    url = f"sqlite:///{tmp_path / 'exposures.db'}"
    with closing(ExposureLog.open(url)) as log:
        log.write([exposure(number) for number in range(5)])
        moment = (AS_OF + timedelta(seconds=2)).isoformat()
        forget_exposures.main(["--url", url, "--before", moment])
        assert "deleted 2 exposures" in capsys.readouterr().out
        assert [one.request_id for one in written(log)] == ["r2", "r3", "r4"]
    with pytest.raises(Mistake, match="no exposure log at"):
        forget_exposures.main(["--url", f"sqlite:///{tmp_path / 'none.db'}", "--before", moment])
    with pytest.raises(SystemExit):
        forget_exposures.main(["--url", url, "--before", "yesterday"])
    assert "no moment" in capsys.readouterr().err


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


def test_a_full_queue_drops_and_never_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving.exposures.MOST", 4)
    log = ExposureLog.open(f"sqlite:///{tmp_path / 'exposures.db'}")
    gate = threading.Event()
    real = log._batcher.write
    log._batcher.write = lambda group: gate.wait(SECONDS) and real(group)  # type: ignore[assignment, func-returns-value]
    answering = threading.Thread(
        target=lambda: [log.put(partial(exposure, number)) for number in range(100)]
    )
    answering.start()
    answering.join(SECONDS)
    # All are put while nothing is written.
    assert not answering.is_alive()
    gate.set()
    log.close()
    log = ExposureLog.open(f"sqlite:///{tmp_path / 'exposures.db'}")
    # Those that waited, and those that the thread had already taken.
    assert 4 <= len(written(log)) < 100
    log.close()


@pytest.fixture
def exposed(client: Client, store_data: Path) -> Iterator[Callable[[dict[str, Any]], Exposure]]:
    """Yield a function that returns the exposure of an answer of the service."""
    del client
    log = ExposureLog.open(f"sqlite:///{store_data / 'events' / 'exposures.db'}")

    def of(answer: dict[str, Any]) -> Exposure:
        found: list[Exposure] = []

        def there() -> bool:
            found[:] = [o for o in written(log) if o.request_id == answer["request_id"]]
            return bool(found)

        wait_for(there)
        return found[0]

    yield of
    log.close()


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
