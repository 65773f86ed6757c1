"""What can wait: done in order, soon, all of it, and at once where somebody asks."""

import threading

import pytest

from serving.afterwards import MOST, Afterwards

LATER = 3600.0


def test_what_waits_is_done_in_order_when_asked_for() -> None:
    done: list[int] = []
    afterwards = Afterwards(done.append, "test", LATER)
    for number in range(5):
        afterwards.put(number)
    assert done == []
    afterwards.flush()
    assert done == [0, 1, 2, 3, 4]
    afterwards.stop()


def test_it_is_done_soon_without_being_asked_for() -> None:
    done = threading.Event()
    afterwards = Afterwards(lambda event: event.set(), "test", 0.01)
    afterwards.put(done)
    assert done.wait(30)
    afterwards.stop()


def test_nothing_is_lost_at_the_end_or_after_it() -> None:
    done: list[int] = []
    afterwards = Afterwards(done.append, "test", LATER)
    afterwards.put(1)
    afterwards.stop()
    assert done == [1]
    afterwards.put(2)
    assert done == [1, 2]


def test_no_more_waits_than_said() -> None:
    done: list[int] = []
    afterwards = Afterwards(done.append, "test", LATER)
    for number in range(MOST + 1):
        afterwards.put(number)
    assert done == list(range(MOST))
    afterwards.stop()


def test_what_fails_keeps_nothing_else_from_being_done(caplog: pytest.LogCaptureFixture) -> None:
    done: list[float] = []
    afterwards = Afterwards(lambda number: done.append(1 / number), "test", LATER)
    for number in (1, 0, 2):
        afterwards.put(number)
    afterwards.stop()
    assert done == [1, 0.5]
    assert "left undone by test" in caplog.text
