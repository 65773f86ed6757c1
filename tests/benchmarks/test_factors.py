import pandas as pd
import pytest

from benchmarks.factors import BARE, figures, matrix_size, measure, show


def test_work_runs_in_turn_and_as_often_as_asked() -> None:
    ran: list[str] = []
    work = {BARE: lambda: ran.append("bare"), "fit": lambda: ran.append("fit")}
    seconds = measure(work, 3)
    assert ran == ["bare", "fit"] * 3
    assert [len(own) for own in seconds.values()] == [3, 3]


def test_ratios_are_taken_within_rounds() -> None:
    found = figures({BARE: [1.0, 4.0, 2.0], "fit": [1.1, 4.0, 2.6]})
    assert found["fit"]["ratio"] == pytest.approx({"median": 1.1, "min": 1.0, "max": 1.3})
    assert found[BARE]["ratio"] == {"median": 1.0, "min": 1.0, "max": 1.0}
    assert "1.100" in show(found)


def test_the_matrix_is_counted_by_distinct_ids() -> None:
    scores = pd.DataFrame({"user_id": ["a", "a", "b"], "song_id": ["x", "y", "x"]})
    assert matrix_size(scores) == {"listeners": 2, "songs": 2, "non_zeros": 3}
