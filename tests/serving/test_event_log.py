"""The log on real databases: SQLite in WAL mode and a PostgreSQL server."""

import fcntl
import os
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from sqlalchemy import MetaData, text
from sqlalchemy import event as listening

from features.columns import Event
from features.ingest import ingest
from features.lake import read_events
from features.mistakes import Mistake
from features.sources import open_source
from features.times import microseconds
from serving import event_log
from serving.database import Database
from serving.event_log import RECEIVED, EventLog, events, export, main, metadata
from serving.events import ANSWER_SECONDS
from serving.logged import Logged
from serving.refusals import Unavailable

DAY_US = 86_400_000_000
NOW_US = 1_709_251_200_000_000  # 2024-03-01


def row(number: int, user: str = "u1", **more: Any) -> dict[str, Any]:
    base = dict.fromkeys(Event.ORDER) | {
        Event.ID: f"e{number}",
        Event.TS: NOW_US + number,
        Event.USER: user,
        Event.SONG: f"s{number % 7}",
        Event.SESSION: f"{user}-1",
        Event.ACTION: "play",
        RECEIVED: NOW_US,
    }
    return base | more


def rows(start: int, stop: int, **more: Any) -> list[dict[str, Any]]:
    return [row(number, **more) for number in range(start, stop)]


@pytest.fixture
def log(database: str) -> Iterator[EventLog]:
    opened = EventLog.open(database)
    yield opened
    opened.database.close()


def test_each_event_is_kept_once_and_counted(log: EventLog) -> None:
    assert log.append([rows(0, 5), rows(3, 8), []]) == [5, 3, 0]
    assert log.append([rows(0, 8)]) == [0]
    assert log.append([[row(9), row(9), row(10)]]) == [2]
    assert log.count() == 10


def test_a_known_event_stays_as_it_was_first_written(log: EventLog) -> None:
    log.append([[row(1, action="like")]])
    log.append([[row(1, action="skip")]])
    assert [event.action for event in log.recent("u1")] == ["like"]


def test_a_new_event_whose_number_is_taken_is_refused_not_called_known(log: EventLog) -> None:
    log.append([[row(1)]])
    # As where a server counts from 1 again, beside rows that were copied there.
    with pytest.raises(Unavailable, match="seq|events_pkey"):
        log.append([[row(2, seq=1)]])
    assert log.count() == 1


def test_recent_events_come_in_order_of_time_the_latest_kept(log: EventLog) -> None:
    log.append([[row(2), row(1, played_ms=5), row(3, **{Event.SESSION: "other"})]])
    log.append([[row(4, user="u2"), row(5, ts=NOW_US + 3)]])
    expected = [
        Logged("s1", "play", 5, "u1-1", NOW_US + 1),
        Logged("s2", "play", None, "u1-1", NOW_US + 2),
        Logged("s3", "play", None, "other", NOW_US + 3),
        # Of two at the same moment the one written later comes later.
        Logged("s5", "play", None, "u1-1", NOW_US + 3),
    ]
    assert log.recent("u1") == expected
    assert log.recent("u1", limit=2) == expected[2:]
    assert log.recent(None, "u2-1") == [Logged("s4", "play", None, "u2-1", NOW_US + 4)]
    assert log.recent("nobody") == log.recent(None) == []


def test_events_far_ahead_do_not_crowd_out_the_latest(log: EventLog) -> None:
    now = microseconds(datetime.now(UTC))
    minute = 60_000_000
    near, far = row(2, ts=now + 4 * minute), rows(10, 20, ts=now + 6 * minute)
    log.append([[row(1)], [near], far])
    assert [event.song_id for event in log.recent("u1", limit=3)] == ["s1", "s2"]
    assert [event.song_id for event in log.recent(None, "u1-1", limit=3)] == ["s1", "s2"]


def test_threads_that_write_the_same_events_write_each_once(log: EventLog) -> None:
    batches = [rows(start, start + 40) for start in range(0, 200, 10)]
    with ThreadPoolExecutor(8) as pool:
        new = list(pool.map(lambda batch: log.append([batch])[0], batches))
    assert sum(new) == log.count() == 230


def test_several_workers_may_make_the_tables_at_once(database: str) -> None:
    start = threading.Barrier(6)

    def open_and_write(worker: int) -> int:
        start.wait()
        log = EventLog.open(database)
        (new,) = log.append([rows(worker * 10, worker * 10 + 10)])
        count = log.count()
        log.database.close()
        return new if count >= 10 else 0

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(open_and_write, range(6))) == [10] * 6


def test_what_is_written_is_there_for_another_connection_at_once(log: EventLog) -> None:
    other = EventLog.open(log.database.url.render_as_string(hide_password=False))
    for number in range(20):
        log.append([[row(number)]])
        assert other.count() == number + 1
    other.database.close()


def test_a_batch_that_fails_midway_leaves_nothing(log: EventLog) -> None:
    bad = row(2) | {Event.SONG: None}
    with pytest.raises(Unavailable):
        log.append([rows(10, 20), [row(1), bad, row(3)]])
    assert log.count() == 0


def test_a_full_disk_is_told_and_leaves_nothing_half_written(tmp_path: Path) -> None:
    log = EventLog.open(f"sqlite:///{tmp_path / 'events.db'}")
    log.append([rows(0, 10)])
    full = threading.Event()
    full.set()

    def limit(connection: Any) -> None:
        pages = "100" if full.is_set() else "1000000"
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")

    listening.listen(log.database.writer, "begin", limit)
    with pytest.raises(Unavailable, match="full") as caught:
        log.append([rows(10, 10_000)])
    assert (caught.value.reason, caught.value.retry_seconds) == ("full", 30)
    assert log.count() == 10
    full.clear()
    assert log.append([rows(0, 10_000)]) == [9990]
    log.database.close()


def test_a_locked_log_is_told_and_then_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving.database.BUSY_MS", 50)
    log = EventLog.open(f"sqlite:///{tmp_path / 'events.db'}")
    other = Database(f"sqlite:///{tmp_path / 'events.db'}", metadata)
    with other.writing(), pytest.raises(Unavailable) as caught:
        log.append([rows(0, 10)])
    assert caught.value.reason == "locked"
    assert log.append([rows(0, 10)]) == [10]
    for database in (log.database, other):
        database.close()


def test_a_log_that_was_read_only_is_written_again_once_it_is_not(tmp_path: Path) -> None:
    log = EventLog.open(f"sqlite:///{tmp_path / 'events.db'}")
    # As SQLite opens a file that is not ours to write: so the connection stays.
    kept = log.database.writer.raw_connection()
    kept.cursor().execute("PRAGMA query_only = ON")
    kept.close()
    with pytest.raises(Unavailable, match="readonly"):
        log.append([rows(0, 3)])
    assert log.append([rows(0, 3)]) == [3]
    assert len(log.recent("u1")) == 3
    log.close()


def test_a_server_set_up_without_a_locale_keeps_texts(postgresql: str) -> None:
    server = Database(postgresql, MetaData())
    with server.writer.execution_options(isolation_level="AUTOCOMMIT").connect() as aside:
        aside.execute(text("CREATE DATABASE plain ENCODING 'SQL_ASCII' TEMPLATE template0"))
        log = EventLog.open(f"{postgresql.rpartition('/')[0]}/plain")
        log.append([[row(1, song_id="süß 🎵")]])
        assert [event.song_id for event in log.recent("u1")] == ["süß 🎵"]
        assert [block[Event.SONG].to_pylist() for block in log.blocks()] == [["süß 🎵"]]
        log.close()
        aside.execute(text("DROP DATABASE plain"))
    server.close()


@pytest.mark.parametrize("made", [True, False])
def test_a_server_that_was_read_only_is_written_again_once_it_is_not(
    postgresql: str, made: bool
) -> None:
    server = Database(postgresql, MetaData())
    asides = server.writer.execution_options(isolation_level="AUTOCOMMIT")
    name = f"readonly_{made}".lower()
    with asides.connect() as aside:
        aside.execute(text(f"CREATE DATABASE {name}"))
        if made:
            EventLog.open(f"{postgresql.rpartition('/')[0]}/{name}").close()
        read_only = f"ALTER DATABASE {name} SET default_transaction_read_only"
        aside.execute(text(f"{read_only} = on"))
        log = EventLog.open(f"{postgresql.rpartition('/')[0]}/{name}", eager=False)
        with pytest.raises(Unavailable, match="ReadOnly"):
            log.append([rows(0, 3)])
        aside.execute(text(f"{read_only} = off"))
        assert log.append([rows(0, 3)]) == [3]
        log.close()
        aside.execute(text(f"DROP DATABASE {name}"))
    server.close()


def test_a_server_that_is_gone_is_told() -> None:
    log = EventLog.open("postgresql://nobody@127.0.0.1:9/none", eager=False)
    with pytest.raises(Unavailable) as caught:
        log.append([rows(0, 1)])
    assert caught.value.reason == "gone"


def test_a_server_that_lost_its_power_is_not_waited_for(postgresql: str) -> None:
    log = EventLog.open(postgresql)
    with log.database.reading() as connection:
        handle = os.dup(connection.connection.driver_connection.pgconn.socket)  # type: ignore[union-attr]
        with socket.socket(fileno=handle) as line:
            silence = line.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) / 1000
            assert line.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            idle = line.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)
    assert 0 < idle < silence < ANSWER_SECONDS
    log.close()


@pytest.mark.parametrize(("code", "reason"), [("57014", "locked"), ("53100", "full")])
def test_a_server_says_why_by_its_code_in_any_language(
    postgresql: str, code: str, reason: str
) -> None:
    log = EventLog.open(postgresql)
    raised = f"DO $$ BEGIN RAISE 'Abfrage abgebrochen' USING ERRCODE = '{code}'; END $$"
    with pytest.raises(Unavailable) as caught, log.database.writing() as connection:
        connection.execute(text(raised))
    assert caught.value.reason == reason
    log.close()


def test_a_log_that_is_gone_at_the_start_is_made_once_it_is_back(tmp_path: Path) -> None:
    place = tmp_path / "disk"
    place.write_text("in the way", encoding="utf-8")
    log = EventLog.open(f"sqlite:///{place / 'events.db'}", eager=False)
    for use in (lambda: log.append([rows(0, 3)]), lambda: log.recent("u1")):
        with pytest.raises(Unavailable) as caught:
            use()
        assert caught.value.reason == "gone"
    place.unlink()
    assert log.append([rows(0, 3)]) == [3]
    log.close()


def gone(path: Path) -> None:
    for file in path.parent.glob("events.db*"):
        file.unlink()


def moved(path: Path) -> None:
    path.rename(path.with_name("moved.db"))


def without_wal(path: Path) -> None:
    path.with_name("events.db-wal").unlink()


def without_folder(path: Path) -> None:
    shutil.rmtree(path.parent)


@pytest.mark.parametrize("happens", [gone, moved, without_wal, without_folder])
def test_what_is_acknowledged_is_in_the_file_at_the_path(
    tmp_path: Path, happens: Callable[[Path], None]
) -> None:
    path = tmp_path / "log" / "events.db"
    workers = [EventLog.open(f"sqlite:///{path}") for _ in range(2)]
    for number, log in enumerate(workers):
        assert log.append([[row(number)]]) == [1]
        assert log.recent("u1")
    happens(path)
    acknowledged = []
    for number in range(10, 20):
        try:
            workers[number % 2].append([[row(number)]])
        except Unavailable:
            continue
        acknowledged.append(f"s{number % 7}")
    assert len(acknowledged) >= 8
    other = EventLog.open(f"sqlite:///{path}")
    for log in (*workers, other):
        assert [event.song_id for event in log.recent("u1")][-len(acknowledged) :] == acknowledged
        log.close()
    if happens is moved:
        with closing(EventLog.open(f"sqlite:///{path.with_name('moved.db')}")) as old:
            assert old.count() == 2


def test_a_file_that_goes_while_it_is_written_to_acknowledges_nothing(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    log = EventLog.open(f"sqlite:///{path}")

    def write_as_it_goes() -> None:
        with log.database.writing() as connection:
            connection.execute(events.insert(), [row(1)])
            gone(path)

    with pytest.raises(Unavailable, match="moved"):
        write_as_it_goes()
    assert log.append([[row(1)]]) == [1]
    log.close()


@pytest.mark.parametrize("url", ["mysql://a/b", "sqlite://"])
def test_another_database_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="SEGUE_EVENTS_URL"):
        Database(url, metadata)


@pytest.mark.parametrize("form", ["parquet", "csv"])
def test_the_loop_closes_logged_events_are_ingested(
    log: EventLog, tmp_path: Path, form: str
) -> None:
    answering = {"request_id": "r1", "position": 2, "propensity": 0.25, "variant": "ranker"}
    log.append([rows(0, 250), [row(900, **answering, played_ms=1000, mood="ruhig; 'süß' \n 🎵")]])
    log.append([rows(100, 300)])
    # What no client may send reaches the log only past the desk: the import still finds it.
    log.append([[row(901, ts=NOW_US + 400 * DAY_US), row(902, action="dance")]])
    out = tmp_path / "mine"
    assert export(log, out, form) == export(log, out, form) == 303
    # A second copy of some rows, as when a log is exported again beside the first.
    copy = pd.read_parquet if form == "parquet" else pd.read_csv
    first = copy(out / "events" / f"log-00000.{form}").head(40)
    getattr(first, f"to_{form}")(out / f"events-again.{form}", index=False)
    now = datetime(2024, 3, 2, tzinfo=UTC)
    summary = ingest(open_source("files", out, {}), tmp_path / "lake", 0.05, now)
    assert (summary["rows_in"], summary["kept"]) == (343, 301)
    assert (summary["duplicates"], summary["quarantined"]) == (40, 2)
    assert summary["by_reason"] == {"action: unknown": 1, "ts: in the future": 1}
    kept = read_events(tmp_path / "lake").set_index(Event.ID)
    assert kept.loc["e0", Event.TS] == pd.Timestamp("2024-03-01", tz="UTC")
    # The row that was sent first: what is trained on it may know it only from here on.
    assert (kept.loc["e0":"e249", Event.RECEIVED] == pd.Timestamp("2024-03-01", tz="UTC")).all()
    told = kept.loc["e900", [*answering, "played_ms", "mood"]].to_dict()
    assert told == answering | {"played_ms": 1000, "mood": "ruhig; 'süß' \n 🎵"}


def test_an_export_replaces_only_its_own(log: EventLog, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "events").mkdir(parents=True)
    (out / "events" / "mine.parquet").write_bytes(b"")
    with pytest.raises(Mistake, match=r"mine\.parquet"):
        export(log, out)


@pytest.mark.parametrize(("at_once", "blocks"), [(10, [3]), (3, [3, 1]), (2, [2, 2, 1])])
def test_an_export_ends_while_events_keep_coming(
    log: EventLog, at_once: int, blocks: list[int]
) -> None:
    log.append([rows(0, 3)])
    found: list[int] = []
    for block in log.blocks(at_once):
        found.append(block.num_rows)
        log.append([[row(10 + len(found))]])
        assert len(found) <= len(blocks)
    assert found == blocks


def test_exports_to_one_folder_wait_for_each_other(
    log: EventLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "mine"
    log.append([rows(0, 5)])
    busy = []

    def written(block: Any, path: Path) -> None:
        handle = os.open(out, os.O_RDONLY)
        try:
            # As another export would, but without waiting.
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            busy.append(error)
        finally:
            os.close(handle)
        path.touch()

    monkeypatch.setitem(event_log._WRITERS, "parquet", written)
    assert export(log, out) == export(log, out) == 5
    assert len(busy) == 2


def test_what_an_export_killed_in_the_swap_replaced_comes_back(
    log: EventLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "mine"
    log.append([rows(0, 5)])
    export(log, out)
    before = pd.read_parquet(out / "events")
    left = out / ".events.part"
    left.mkdir()
    (out / "events").rename(left / "old")

    def full(block: Any, path: Path) -> None:
        path.touch()
        raise OSError("No space left on device")

    monkeypatch.setitem(event_log._WRITERS, "parquet", full)
    with pytest.raises(OSError, match="No space left"):
        export(log, out)
    pd.testing.assert_frame_equal(pd.read_parquet(out / "events"), before)
    assert [path.name for path in out.iterdir()] == ["events"]


def test_the_command_counts_and_exports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = f"sqlite:///{tmp_path / 'events.db'}"
    log = EventLog.open(url)
    log.append([rows(0, 3)])
    log.database.close()
    main(["--url", url, "count"])
    main(["--url", url, "export", "--out", str(tmp_path / "out")])
    assert capsys.readouterr().out.splitlines()[0] == "3 events"
    assert len(pd.read_parquet(tmp_path / "out" / "events" / "log-00000.parquet")) == 3
    with pytest.raises(Mistake, match="names 'mysql'"):
        main(["--url", "mysql://x/y", "count"])
    missing = tmp_path / "no" / "events.db"
    with pytest.raises(Mistake, match=f"There is no event log at {missing}"):
        main(["--url", f"sqlite:///{missing}", "count"])
    assert not missing.parent.exists()
    with pytest.raises(SystemExit, match="refused"):
        main(["--url", "postgresql://nobody@127.0.0.1:9/none", "count"])
