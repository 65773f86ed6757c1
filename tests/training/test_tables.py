import numpy as np
import pytest

from training.tables import bounds, cells_of, markdown_table


@pytest.mark.parametrize(("spaced", "rule"), [(False, "|---|---|"), (True, "| --- | --- |")])
def test_a_table_has_a_rule_below_its_head(spaced, rule):
    lines = markdown_table(["a", "b"], [["1", ""]], spaced).splitlines()
    assert lines == ["| a | b |", rule, "| 1 |  |"]


def test_an_interval_stands_behind_its_value_if_there_is_one():
    assert bounds(0.1, 0.25, form=".2f") == " [0.10, 0.25]"
    assert bounds(np.nan, np.nan) == ""
    assert bounds(None, None) == ""


def test_a_cells_own_bars_end_no_cell():
    cells = ["region: north | south", "|", ""]
    row = markdown_table(["a", "b", "c"], [cells]).splitlines()[-1]
    assert row == r"| region: north \| south | \| |  |"
    assert cells_of(row) == cells
    told = markdown_table(["a", "b"], [["region: <b>a|\n\x85b", "x\u2028y"]]).splitlines()
    assert cells_of(told[-1]) == ["region: <b>a|  b", "x y"]
