"""What came before a moment, by owner: a hand-worked case."""

import pandas as pd

from features.timelines import Timelines

SECONDS = {"a": [0, 1, 1, 2], "b": [1]}


def test_rows_before_a_moment_are_the_owners_own():
    rows = [(owner, second) for owner, seconds in SECONDS.items() for second in seconds]
    owners, seconds = zip(*rows, strict=True)
    moments = pd.Series(pd.to_datetime(seconds, unit="s", utc=True))
    timelines = Timelines.of(pd.Series(owners), moments)
    assert timelines.times.tolist() == [1_000_000 * second for second in seconds]
    assert timelines.before("a", 0) == slice(0, 0)
    # Strictly before: of one moment none is before the other.
    assert timelines.before("a", 1_000_000) == slice(0, 1)
    assert timelines.before("a", 1_000_001) == slice(0, 3)
    assert timelines.before("b", 9_000_000) == slice(4, 5)
    assert timelines.before("nobody", 9_000_000) == slice(0, 0)


def test_a_table_without_rows_has_nobody():
    nothing = Timelines.of(pd.Series([], dtype=str), pd.to_datetime(pd.Series([]), utc=True))
    assert nothing.span_of == {}
