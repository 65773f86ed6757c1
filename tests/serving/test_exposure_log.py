"""The exposure log: written behind the answers, read in order, forgotten."""

import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tqdm import tqdm

from features.mistakes import Mistake
from serving import forget_exposures
from serving.exposure_log import LEAST_ROOM_BYTES, ExposureLog, ExposureWriter, exposures_total
from serving.exposures import Exposure, packed
from serving.segments import Appender, records, segments
from tests.serving.test_exposures import AS_OF, SECONDS, exposure, wait_for

EVER = (datetime(2020, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC))
KINDS = ("written", "failed", "dropped")


@pytest.fixture(autouse=True)
def roomy_disk(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Let the disk look as if it had just enough room, however full it really is."""
    # Other processes change what is really free.
    disk = SimpleNamespace(free=LEAST_ROOM_BYTES)
    monkeypatch.setattr("serving.exposure_log.shutil.disk_usage", lambda path: disk)
    return disk


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[ExposureWriter]:
    with closing(ExposureWriter(tmp_path / "exposures")) as opened:
        yield opened


def write(folder: Path, group: list[Exposure], most_bytes: int = 1 << 20) -> None:
    """Append exposures as a worker of their own does."""
    with closing(Appender(folder, most_bytes)) as appender:
        for one in group:
            appender.append(*packed(one))


def written(folder: Path) -> list[Exposure]:
    return list(ExposureLog(folder).read(*EVER))


def ids(found: list[Exposure]) -> list[str]:
    return [one.request_id for one in found]


def outcomes(writer: ExposureWriter, makes: list[Callable[[], Exposure]]) -> dict[str, float]:
    """Put a group in, wait for it, and return how many had each outcome."""

    def counted() -> dict[str, float]:
        return {kind: exposures_total.labels(kind)._value.get() for kind in KINDS}

    before = counted()
    for make in makes:
        writer.put(make)
    wait_for(lambda: sum(counted().values()) - sum(before.values()) == len(makes))
    return {kind: n - before[kind] for kind, n in counted().items() if n > before[kind]}


def test_what_is_put_can_be_read(writer: ExposureWriter) -> None:
    assert written(writer.folder) == []
    bare = {"features": np.empty((5, 0), "f4"), "feature_names": (), "user_id": None}
    makes = [partial(exposure, 1), partial(exposure, 0), partial(exposure, 2, **bare)]
    assert outcomes(writer, makes) == {"written": 3}
    found = written(writer.folder)
    assert ids(found) == ["r0", "r1", "r2"]
    for got, put in zip(found, (exposure(0), exposure(1), exposure(2, **bare)), strict=True):
        for name, value in vars(put).items():
            np.testing.assert_array_equal(getattr(got, name), value)


def test_a_period_is_read_in_order_of_time_from_all_writers(tmp_path: Path) -> None:
    order = np.random.default_rng(5).permutation(60).tolist()
    # Several of one moment, in several files of three writers.
    now = datetime.now(UTC)
    made = [exposure(n, ts=now + timedelta(seconds=n // 2)) for n in order]
    for part in range(3):
        own = sorted(made[part::3], key=lambda one: one.ts)
        write(tmp_path, own, most_bytes=2000)
    assert len(segments(tmp_path)) > 6
    log = ExposureLog(tmp_path)
    found = list(log.read(now + timedelta(seconds=5), now + timedelta(seconds=20)))
    assert sorted(ids(found)) == sorted(f"r{n}" for n in range(10, 40))
    assert [one.ts for one in found] == sorted(one.ts for one in found)


def test_a_file_is_read_when_what_is_older_was_yielded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    since = datetime.now(UTC)
    for number in range(4):
        write(tmp_path, [exposure(number, ts=datetime.now(UTC))])
    read: list[Path] = []
    monkeypatch.setattr(
        "serving.exposure_log.records", lambda path: [read.append(path), *records(path)][1:]
    )
    found = ExposureLog(tmp_path).read(since, since + timedelta(hours=1))
    for number in range(4):
        assert next(found).request_id == f"r{number}"
        assert len(read) == number + 1


def test_files_of_other_times_are_not_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = datetime.now(UTC)
    write(tmp_path, [exposure(0, ts=now)])
    log = ExposureLog(tmp_path)
    day = timedelta(days=1)
    assert ids(list(log.read(now, now + day))) == ["r0"]

    def looked(path: Path) -> list[Any]:
        raise AssertionError(path)

    monkeypatch.setattr("serving.exposure_log.records", looked)
    assert list(log.read(now - 2 * day, now - day)) == []
    assert list(log.read(now + day, now + 2 * day)) == []
    with pytest.raises(AssertionError):
        list(log.read(now, now + day))


def test_of_a_request_id_that_comes_again_the_first_counts(tmp_path: Path) -> None:
    write(tmp_path, [exposure(0), exposure(1)])
    again = exposure(0).ts + timedelta(seconds=9)
    write(tmp_path, [exposure(0, ts=again, user_id="u2"), exposure(2)])
    assert [(one.request_id, one.user_id) for one in written(tmp_path)] == [
        ("r0", "u1"),
        ("r1", "u1"),
        ("r2", "u1"),
    ]


@pytest.mark.parametrize(
    "bad", [lambda: 1 / 0, lambda: exposure(1, songs=None), lambda: exposure(1, temperature=b"x")]
)
def test_an_exposure_that_cannot_be_made_costs_no_other(
    writer: ExposureWriter, bad: Callable[[], Any]
) -> None:
    makes = [partial(exposure, 0), bad, partial(exposure, 2)]
    assert outcomes(writer, makes) == {"written": 2, "failed": 1}
    assert ids(written(writer.folder)) == ["r0", "r2"]


def test_a_disk_that_takes_none_is_told_once_and_tried_again(
    writer: ExposureWriter, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refused(*_: Any) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as broken:
        broken.setattr("serving.exposure_log.Appender.append", refused)
        assert outcomes(writer, [partial(exposure, n) for n in range(3)]) == {"failed": 3}
    assert caplog.text.count("Input/output error") == 1
    assert outcomes(writer, [partial(exposure, 3)]) == {"written": 1}
    assert ids(written(writer.folder)) == ["r3"]


def test_a_folder_that_cannot_be_made_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with closing(ExposureWriter(tmp_path / "file" / "exposures")) as writer:
        assert outcomes(writer, [partial(exposure, 0)]) == {"failed": 1}


def test_exposures_leave_the_last_of_the_disk_to_the_events(
    writer: ExposureWriter, roomy_disk: SimpleNamespace, caplog: pytest.LogCaptureFixture
) -> None:
    roomy_disk.free -= 1
    assert outcomes(writer, [partial(exposure, n) for n in range(3)]) == {"dropped": 3}
    assert written(writer.folder) == []
    assert caplog.text.count("forget_exposures") == 1
    roomy_disk.free += 1
    assert outcomes(writer, [partial(exposure, 4)]) == {"written": 1}
    assert ids(written(writer.folder)) == ["r4"]


def test_a_full_queue_drops_and_never_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving.exposure_log.MOST", 4)
    gate = threading.Event()

    def held(number: int) -> Exposure:
        assert gate.wait(SECONDS)
        return exposure(number)

    writer = ExposureWriter(tmp_path)
    answering = threading.Thread(target=lambda: [writer.put(partial(held, n)) for n in range(100)])
    answering.start()
    answering.join(SECONDS)
    # All are put while nothing is written.
    assert not answering.is_alive()
    gate.set()
    writer.close()
    # Those that waited, and the one that the thread had already taken.
    assert 4 <= len(written(tmp_path)) <= 5
    dropped = exposures_total.labels("dropped")._value
    before = dropped.get()
    writer.put(partial(exposure, 200))
    assert dropped.get() == before + 1


def test_old_exposures_are_forgotten_file_by_file(writer: ExposureWriter) -> None:
    write(writer.folder, [exposure(number) for number in range(8)], most_bytes=1500)
    assert outcomes(writer, [partial(exposure, 8)]) == {"written": 1}
    files = len(segments(writer.folder))
    assert files > 2
    log = ExposureLog(writer.folder)
    gone = list(log.forget(AS_OF + timedelta(seconds=7)))
    assert (sum(gone), len(gone)) == (7, files)
    assert ids(written(writer.folder)) == ["r7", "r8"]
    assert len(segments(writer.folder)) == 2
    assert sum(log.forget(AS_OF + timedelta(seconds=7))) == 0
    # The service's own file, too.
    assert sum(log.forget(AS_OF + timedelta(seconds=9))) == 2
    assert outcomes(writer, [partial(exposure, 9)]) == {"written": 1}
    assert ids(written(writer.folder)) == ["r9"]


def test_the_command_deletes_what_is_older(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # As by TQDM_DISABLE: such a bar does not count.
    monkeypatch.setattr("serving.forget.tqdm", partial(tqdm, disable=True))
    folder = tmp_path / "exposures"
    write(folder, [exposure(number) for number in range(5)])
    moment = (AS_OF + timedelta(seconds=2)).isoformat()
    forget_exposures.main(["--folder", str(folder), "--before", moment])
    assert "deleted 2 exposures" in capsys.readouterr().out
    assert ids(written(folder)) == ["r2", "r3", "r4"]
    with pytest.raises(Mistake, match="no exposure log at"):
        forget_exposures.main(["--folder", str(tmp_path / "none"), "--before", moment])
    with pytest.raises(SystemExit):
        forget_exposures.main(["--folder", str(folder), "--before", "yesterday"])
    assert "no moment" in capsys.readouterr().err
    monkeypatch.setenv("SEGUE_EXPOSURES", "off")
    with pytest.raises(Mistake, match="name the exposure log by --folder"):
        forget_exposures.main(["--before", moment])
