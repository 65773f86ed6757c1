import json
from argparse import Namespace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import ablation, measure
from benchmarks.measure import (
    interleaved,
    machine,
    percentiles,
    ratios,
    refuse_main_weeks,
    refuse_other_settings,
    rounded,
    save,
    spread,
    table,
)
from features.mistakes import Mistake
from features.params import load_params
from tests.training.test_leaks import PHASES
from training.phases import write_phases


def test_every_round_has_every_name_once_and_in_turn() -> None:
    order = list(interleaved(["a", "b", "c"], 2))
    assert order == [(0, "a"), (0, "b"), (0, "c"), (1, "a"), (1, "b"), (1, "c")]


def test_a_drift_of_the_machine_leaves_paired_ratios_alone() -> None:
    slow = np.array([1.0, 2.0, 10.0])
    assert spread(ratios(list(1.5 * slow), list(slow))) == {"median": 1.5, "min": 1.5, "max": 1.5}


def test_rounds_that_do_not_pair_up_are_refused() -> None:
    with pytest.raises(ValueError, match="longer"):
        ratios([1.0], [1.0, 2.0])


def test_the_spread_of_four() -> None:
    assert spread([4.0, 1.0, 2.0, 8.0]) == {"median": 3.0, "min": 1.0, "max": 8.0}


def test_percentiles_are_values_that_were_measured() -> None:
    seconds = [i / 1000 for i in range(1, 201)]
    np.random.default_rng(1).shuffle(seconds)
    found = percentiles(seconds)
    assert found["count"] == 200
    assert found["p50_ms"] == pytest.approx(100.0)
    assert found["p99_ms"] == pytest.approx(198.0)


def test_one_slow_answer_in_a_hundred_is_not_the_p99_but_two_are() -> None:
    assert percentiles([0.001] * 99 + [1.0])["p99_ms"] == pytest.approx(1.0)
    assert percentiles([0.001] * 98 + [1.0] * 2)["p99_ms"] == pytest.approx(1000.0)


def test_figures_keep_five_digits_at_every_depth() -> None:
    found = rounded({"a": [1.2345678, (2.0, 3)], "b": "x", "c": float("nan")})
    assert found == {"a": [1.2346, [2.0, 3]], "b": "x", "c": None}


def test_a_result_says_on_what_machine_and_how_it_was_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "RESULTS", tmp_path)
    content = json.loads(save("x", machine(), {"rounds": 3}, {"ratio": 1.1}).read_text())
    assert content["protocol"] == {"rounds": 3}
    assert content["figures"] == {"ratio": 1.1}
    assert content["machine"]["cores"] >= 1
    assert {"load_before", "load_after", "python", "versions"} <= set(content["machine"])


def test_columns_of_a_table_line_up() -> None:
    assert table(["", "ms"], [["one", "1.5"], ["b", "10.25"]]) == (
        "        ms\none    1.5\nb    10.25\n"
    )


def test_settings_are_not_chosen_on_the_main_test_phase() -> None:
    refuse_main_weeks(PHASES, PHASES.test.end)
    with pytest.raises(Mistake, match=r"not by --until .*phases\.as_of"):
        refuse_main_weeks(PHASES, PHASES.test.end - timedelta(seconds=1))


@pytest.mark.parametrize("until", [PHASES.test.end - timedelta(seconds=1), PHASES.test.end])
def test_the_ablation_refuses_later_weeks_before_it_fits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, until: datetime
) -> None:
    def begun(*_: Any) -> None:
        raise InterruptedError

    write_phases(PHASES, tmp_path / "phases.json")
    monkeypatch.setattr(ablation, "refuse_other_settings", begun)
    arguments = Namespace(
        data=tmp_path, until=until, labels=1, queries=1, starts=1, negatives=1, work=tmp_path
    )
    refused = until < PHASES.test.end
    with pytest.raises(Mistake if refused else InterruptedError):
        ablation.prepared(arguments, load_params())


def test_results_of_other_settings_are_not_taken_for_ones_own(tmp_path: Path) -> None:
    folder = tmp_path / "work"
    refuse_other_settings(folder, {"rounds": 150, "params": {"seeds": (1, 2)}})
    refuse_other_settings(folder, {"params": {"seeds": (1, 2)}, "rounds": 150})
    with pytest.raises(Mistake, match=r"work was made with other rounds, without; name an empty"):
        refuse_other_settings(folder, {"rounds": 400, "params": {"seeds": [1, 2]}, "without": 1})
