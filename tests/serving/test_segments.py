"""Records in files: appended, read, cut while others write, and what a killed process leaves."""

import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from features.paths import PROJECT
from serving.segments import FRAME, MAGIC, Appender, cut, records, segments

SECONDS = 60


@pytest.fixture
def appender(tmp_path: Path) -> Iterator[Appender]:
    with closing(Appender(tmp_path / "log", most_bytes=1000)) as opened:
        yield opened


def numbers(folder: Path) -> list[int]:
    return [record.header["n"] for path in segments(folder) for record in records(path)]


def fill(appender: Appender, first: int, last: int) -> None:
    for n in range(first, last):
        appender.append({"n": n}, bytes([n % 256]) * 100)


def test_records_are_read_as_they_were_appended(appender: Appender) -> None:
    appender.append({"user": "ü\n", "none": None}, b"\0body SEG1")
    appender.append({}, b"")
    (path,) = segments(appender.folder)
    first, second = records(path)
    assert (first.header, bytes(first.body)) == ({"user": "ü\n", "none": None}, b"\0body SEG1")
    assert (second.header, bytes(second.body)) == ({}, b"")


def test_a_full_file_is_followed_by_another(appender: Appender) -> None:
    fill(appender, 0, 30)
    paths = segments(appender.folder)
    assert len(paths) > 2
    assert numbers(appender.folder) == list(range(30))
    assert all(path.stat().st_size < 1000 + 200 for path in paths)


@pytest.mark.parametrize("lost", [1, FRAME.size - 1, FRAME.size + 3, 100])
def test_what_was_written_half_is_skipped_and_told(
    appender: Appender, lost: int, caplog: pytest.LogCaptureFixture
) -> None:
    fill(appender, 0, 3)
    (path,) = segments(appender.folder)
    whole = path.read_bytes()
    path.write_bytes(whole[:-lost])
    assert numbers(appender.folder) == [0, 1]
    assert "are no whole record" in caplog.text
    # Somebody else's records behind it, as of copied files, are found again.
    path.write_bytes(whole[:-lost] + whole)
    assert numbers(appender.folder) == [0, 1, 0, 1, 2]


def test_a_damaged_record_costs_no_other(appender: Appender) -> None:
    fill(appender, 0, 3)
    (path,) = segments(appender.folder)
    content = bytearray(path.read_bytes())
    length = len(content) // 3
    for place in (length + 1, length + 5, length + FRAME.size + 2, 2 * length - 1):
        damaged = content.copy()
        damaged[place] ^= 0xFF
        path.write_bytes(damaged)
        assert numbers(appender.folder) == [0, 2], place


def test_a_file_that_is_no_segment_is_left_alone(appender: Appender) -> None:
    fill(appender, 0, 2)
    for name in ("notes.segment", "20260101T000000000000Z-0123456x.segment", "README"):
        (appender.folder / name).write_bytes(MAGIC)
    assert numbers(appender.folder) == [0, 1]


def test_what_is_cut_is_gone_and_the_writer_goes_on(appender: Appender) -> None:
    fill(appender, 0, 30)
    assert sum(cut(path, lambda h: h["n"] % 3 == 0) for path in segments(appender.folder)) == 10
    fill(appender, 30, 33)
    assert numbers(appender.folder) == [n for n in range(33) if n % 3 or n >= 30]
    assert not list(appender.folder.glob("*.part"))


def test_files_of_which_nothing_stays_are_deleted(appender: Appender) -> None:
    fill(appender, 0, 30)
    before = segments(appender.folder)
    assert [cut(path, lambda h: h["n"] < 29) > 0 for path in before] == [True] * len(before)
    assert len(segments(appender.folder)) == 1
    assert numbers(appender.folder) == [29]
    assert cut(before[0], lambda _: True) == 0
    assert records(before[0]) == []


def test_what_is_no_whole_record_goes_with_a_cut(appender: Appender) -> None:
    fill(appender, 0, 3)
    (path,) = segments(appender.folder)
    path.write_bytes(path.read_bytes()[:-1])
    assert cut(path, lambda header: header["n"] == 7) == 0
    assert numbers(appender.folder) == [0, 1]
    assert path.read_bytes().count(MAGIC) == 2


def test_a_cut_that_takes_nothing_changes_no_file(appender: Appender) -> None:
    fill(appender, 0, 3)
    (path,) = segments(appender.folder)
    node = path.stat().st_ino
    assert cut(path, lambda _: False) == 0
    fill(appender, 3, 4)
    assert path.stat().st_ino == node
    assert segments(appender.folder) == [path]


def test_a_file_or_folder_that_was_deleted_is_begun_anew(appender: Appender) -> None:
    fill(appender, 0, 2)
    segments(appender.folder)[0].unlink()
    appender.folder.rmdir()
    fill(appender, 2, 4)
    assert numbers(appender.folder) == [2, 3]


def test_a_record_that_finds_no_room_leaves_nothing(
    appender: Appender, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(appender, 0, 1)
    real = os.writev
    with monkeypatch.context() as full:
        full.setattr("serving.segments.os.writev", lambda file, parts: real(file, parts[:2]))
        with pytest.raises(OSError, match="No space left"):
            fill(appender, 1, 2)
    fill(appender, 2, 3)
    assert numbers(appender.folder) == [0, 2]
    assert len(segments(appender.folder)) == 1


def test_nothing_is_lost_or_doubled_while_files_are_cut(
    appender: Appender, caplog: pytest.LogCaptureFixture
) -> None:
    """One appends, one cuts every third out, one reads: none sees half a record."""
    caplog.set_level(logging.WARNING)
    done, count = threading.Event(), 600
    unwanted = 0

    def cutting() -> None:
        nonlocal unwanted
        while True:
            last = done.is_set()
            for path in segments(appender.folder):
                unwanted += cut(path, lambda header: header["n"] % 3 == 0)
            if last:
                return

    fill(appender, 0, 1)
    thread = threading.Thread(target=cutting)
    thread.start()
    for n in range(1, count):
        fill(appender, n, n + 1)
        if n % 50 == 0:
            seen = numbers(appender.folder)
            assert len(seen) == len(set(seen))
    done.set()
    thread.join(SECONDS)
    assert sorted(numbers(appender.folder)) == [n for n in range(count) if n % 3]
    assert unwanted == count // 3
    assert caplog.text == ""


def test_a_killed_process_leaves_what_it_had_appended(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from serving.segments import Appender\n"
        "log = Appender(Path(sys.argv[1]))\n"
        "for n in range(10**9):\n"
        "    log.append({'n': n}, b'x' * 20000)\n"
        "    sys.stdout.write(f'{n}\\n'); sys.stdout.flush()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=PROJECT
    ) as process:
        assert process.stdout is not None
        told = [int(next(process.stdout)) for _ in range(50)]
        process.send_signal(signal.SIGKILL)
        told += [int(line) for line in process.stdout if line.endswith("\n")]
    found = numbers(tmp_path)
    assert found == list(range(len(found)))
    assert len(told) <= len(found)
