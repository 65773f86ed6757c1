from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from features.columns import SongRow
from features.params import Evaluation
from tests.training.test_evaluate import labelled
from training import pages
from training.comparison import (
    FEWEST_LISTENERS,
    LEAD_ENDS,
    Table,
    best_others,
    coverage,
    headline,
    mean_of_rows,
    methods_table,
    outcome_rate,
    per_query,
    pool_recall,
    session_recall,
    slice_table,
    slices_by_task,
    summarise,
)
from training.methods import SEGUE, Answers
from training.metrics import NEXT, START

HOW = Evaluation(max_queries=100, bootstrap=200, seed=1)
INDEX = {"a": 0, "b": 1, "c": 2}


def query(rest, outcomes=None, place=0):
    one = labelled(rest[0], place=place)
    return replace(one, rest=tuple(rest), rest_outcomes=tuple(outcomes or ["full"] * len(rest)))


def found(*rows):
    return np.array([[*row, *[-1] * (20 - len(row))] for row in rows], dtype=np.int32)


def test_session_recall_is_the_share_of_different_songs_found():
    queries = [query("aab"), query("ab", place=1), query(["c", "elsewhere"]), query("abc")]
    recall = session_recall(found([0, 2], [0, 1], [2], []), queries, INDEX)
    np.testing.assert_array_equal(recall, [0.5, np.nan, 0.5, 0])


def test_each_uncatalogued_song_of_the_coming_session_counts():
    recall = session_recall(found([0]), [query(["a", "elsewhere", "nowhere"])], INDEX)
    assert recall.tolist() == [pytest.approx(1 / 3)]


def test_an_uncatalogued_song_is_not_found_in_the_filling():
    recall = session_recall(found([0]), [query(["elsewhere"])], INDEX)
    assert recall.tolist() == [0]


def test_outcome_rates_count_what_was_played_of_the_first_five():
    queries = [
        query("abca", ["skip", "full", "skip", "full"]),
        query("c", ["skip"]),
        query("ab", ["skip", "full"]),
    ]
    answers = found([0, 1], [0, 1], [5, 6, 7, 8, 0, 1])
    # First: a (skip), b, a again; second: nothing of it was shown; third: a is fifth, b sixth.
    skips = outcome_rate(answers, queries, INDEX, "skip")
    np.testing.assert_allclose(skips, [1 / 3, np.nan, 1])
    np.testing.assert_allclose(outcome_rate(answers, queries, INDEX, "liked"), [0, np.nan, 0])


def test_coverage_counts_different_songs_of_the_first_ten():
    answers = found([0, 1], [1, 2], list(range(3, 3 + 12)))
    assert coverage(answers, 26) == pytest.approx(13 / 26)
    assert coverage(found([], []), 26) == 0


def test_means_leave_out_what_is_unknown():
    values = np.array([[1.0, np.nan, 3.0], [np.nan] * 3, [0.0, 0.0, 6.0]])
    np.testing.assert_array_equal(mean_of_rows(values), [2, np.nan, 2])


def tables(**columns):
    """Return one table a method from {method: values of ndcg_10}."""
    return [
        Table(method, pd.DataFrame({"ndcg_10": values, "extra": np.nan}), np.ones(len(values)))
        for method, values in columns.items()
    ]


VALUES = np.random.default_rng(0).random(90)
LISTENERS = np.array([f"u{number % 30}" for number in range(90)])
EVERYONE = np.ones(90, dtype=np.bool_)


def test_identical_methods_lead_each_other_by_nothing():
    both = tables(segue=VALUES, twin=VALUES, worse=VALUES - 0.1)
    summary = summarise(both, LISTENERS, EVERYONE, HOW).set_index("method")
    assert summary.loc["twin", ["lead_low", "lead_high"]].tolist() == [0, 0]
    assert summary.loc["worse", ["lead_low", "lead_high"]].tolist() == pytest.approx([0.1, 0.1])
    row = summary.loc["segue"]
    assert row["value"] == pytest.approx(VALUES.mean())
    assert row["low"] < row["value"] < row["high"]
    # A metric that applies to no query is not reported.
    assert set(summary["metric"]) == {"ndcg_10"}


def test_a_lead_is_of_the_queries_where_both_are_known():
    # Where the other says nothing, Segue does badly; where both are known, it leads by 0.1.
    unknown = np.arange(90) % 4 == 0
    values = np.where(unknown, 0.0, VALUES + 0.1)
    other = np.where(unknown, np.nan, VALUES)
    summary = summarise(tables(segue=values, other=other), LISTENERS, EVERYONE, HOW)
    row = summary.set_index("method").loc["other"]
    assert row[["lead", *LEAD_ENDS]].tolist() == pytest.approx([0.1] * 4)
    # Also where it is shown: the difference of the two means has another sign.
    assert row["value"] > values.mean()
    (best,) = best_others(summary).to_dict("records")
    assert best["lead"] == pytest.approx(0.1)


def test_a_method_that_answers_alike_is_level():
    same = summarise(tables(segue=VALUES, twin=VALUES), LISTENERS, np.ones(90, np.bool_), HOW)
    (best,) = best_others(same).to_dict("records")
    assert (best["lead_low"], best["lead_high"]) == (0, 0)
    assert best["verdict"] == "level"


def test_only_the_queries_kept_are_summarised():
    keep = np.arange(90) < 30
    values = np.where(np.arange(90) % 2, np.nan, VALUES)
    row = summarise(tables(segue=values), LISTENERS, keep, HOW).iloc[0]
    assert row["queries"] == 15
    assert row["value"] == pytest.approx(VALUES[:30:2].mean())


def test_slices_with_few_queries_are_left_out():
    metrics = pd.DataFrame(dict.fromkeys(("hr_20", "mrr_20", "ndcg_10"), VALUES))
    kinds = pd.DataFrame({"region": ["north"] * 50 + ["south"] * 30 + ["west"] * 10})
    parts = slice_table([Table(SEGUE, metrics, VALUES)], LISTENERS, kinds, HOW)
    assert sorted(set(parts["slice"])) == ["region: north", "region: south"]
    south = parts[(parts["slice"] == "region: south") & (parts["metric"] == "mrr_20")].iloc[0]
    assert south["value"] == pytest.approx(VALUES[50:80].mean())


def test_without_slices_that_are_large_enough_the_report_says_so(tmp_path):
    metrics = pd.DataFrame(dict.fromkeys(("hr_20", "mrr_20", "ndcg_10"), VALUES))
    kinds = pd.DataFrame({"region": LISTENERS})
    few = slice_table([Table(SEGUE, metrics, VALUES)], LISTENERS, kinds, HOW)
    enough = slice_table([Table(SEGUE, metrics, VALUES)], LISTENERS, kinds, HOW, fewest=1)
    assert few.empty
    assert list(few.columns) == list(enough.columns)
    best_others(few).to_csv(tmp_path / "wins.csv", index=False)
    (section,) = pages.wins(tmp_path)
    assert section.picture is None
    assert "No slice has enough queries" in section.parts[0]


def part():
    rows = [
        ("popularity", "ndcg_10", 0.1, 0.05, 0.15),
        (SEGUE, "ndcg_10", 0.3, 0.25, 0.35),
        (SEGUE, "coverage_10", 0.5, np.nan, np.nan),
        ("popularity", "coverage_10", 0.01, np.nan, np.nan),
    ]
    table = pd.DataFrame(rows, columns=["method", "metric", "value", "low", "high"])
    return table.assign(task="next song", queries=1234)


def test_the_methods_are_listed_best_first():
    assert methods_table(part()).splitlines() == [
        "| method | ndcg_10 | coverage_10 |",
        "|---|---|---|",
        "| segue | 0.3000 [0.2500, 0.3500] | 0.5000 |",
        "| popularity | 0.1000 [0.0500, 0.1500] | 0.0100 |",
    ]


def test_a_pool_tells_recall_and_size_of_the_queries_kept():
    answers = Answers(
        {}, np.array([True, False, True]), np.array([10, 99, 20]), np.full((3, 6), np.nan)
    )
    assert pool_recall(answers, np.array([True, False, True])) == {"recall": 1.0, "size": 15.0}
    assert headline(part(), "next song") == {"ndcg_10": 0.3, "coverage_10": 0.5}


def test_the_best_other_method_of_each_slice_is_named_with_its_verdict():
    rows = [
        ("s", "ndcg_10", SEGUE, 0.30, 0, 0),
        ("s", "ndcg_10", "good", 0.20, 0.05, 0.15),
        ("s", "ndcg_10", "poor", 0.10, 0.15, 0.25),
        ("t", "ndcg_10", SEGUE, 0.30, 0, 0),
        ("t", "ndcg_10", "good", 0.10, 0.1, 0.3),
        ("t", "ndcg_10", "poor", 0.35, -0.08, -0.02),
        ("u", "ndcg_10", SEGUE, 0.30, 0, 0),
        ("u", "ndcg_10", "good", 0.31, -0.05, 0.03),
    ]
    columns = ["slice", "metric", "method", "value", "lead_low", "lead_high"]
    best = best_others(
        pd.DataFrame(rows, columns=columns).assign(queries=40, lead=lambda all: 0.3 - all["value"])
    )
    assert best["slice"].tolist() == ["s", "t", "u"]
    assert best["method"].tolist() == ["good", "poor", "good"]
    assert best["verdict"].tolist() == ["ahead", "behind", "level"]
    assert best["lead"].tolist() == pytest.approx([0.1, -0.05, -0.01])


def measured(queries, *answers):
    """Return the table of one method that answers so, over eleven songs of rising popularity."""
    numbers = {SongRow.POPULARITY_PERCENTILE: np.linspace(0, 1, 11)}
    songs = SimpleNamespace(
        index_of=INDEX, numbers=numbers, indices=lambda ids: np.array([INDEX[i] for i in ids])
    )
    return per_query(songs, queries, SimpleNamespace(songs={SEGUE: found(*answers)}))


def test_each_figure_of_a_query_by_hand():
    queries = [query("ab", ["skip", "full"], place=1), query("ac", ["skip", "liked"])]
    (table,) = measured(queries, [1, 0, *range(2, 11)], [10, 2])
    assert table.ranks.tolist()[0] == 2
    assert table.values["popularity_10"].tolist() == pytest.approx([0.45, 0.6])
    assert table.values["skip_rate_5"].tolist() == [0.5, 0]
    assert table.values["like_rate_5"].tolist() == [0, 1]
    np.testing.assert_array_equal(table.values["session_recall_20"], [np.nan, 0.5])


def test_what_a_source_does_not_know_is_absent_and_not_zero():
    queries = [query("ab", ["skip", "full"], place=1), query("ac", ["full", "full"])]
    tables_of_it = measured(queries, [1, 0, *range(2, 11)], [0, 2])
    summary = summarise(tables_of_it, np.array(["u", "v"]), np.ones(2, bool), HOW)
    assert "skip_rate_5" in set(summary["metric"])
    assert "like_rate_5" not in set(summary["metric"])


def test_intervals_are_over_listeners():
    # Four thousand queries of forty listeners tell no more than forty queries.
    values = np.tile([0.0, 1.0], 2000)
    listeners = np.tile([f"u{number}" for number in range(40)], 100)
    many = summarise(tables(segue=values), listeners, np.ones(4000, bool), HOW).iloc[0]
    one = summarise(tables(segue=values[:40]), listeners[:40], np.ones(40, bool), HOW).iloc[0]
    assert (many["low"], many["high"]) == pytest.approx((one["low"], one["high"]))
    assert many["high"] - many["low"] > 0.2


def test_few_listeners_allow_no_interval():
    for listeners, certain in ((FEWEST_LISTENERS - 1, False), (FEWEST_LISTENERS, True)):
        # One more listener, of whom nothing is known, does not count.
        names = np.arange(90) % (listeners + 1)
        values = np.where(names == listeners, np.nan, VALUES)
        both = tables(segue=values, other=values - 0.1)
        row = summarise(both, names.astype(str), EVERYONE, HOW).set_index("method").loc["other"]
        assert np.isfinite(row[["low", "high", *LEAD_ENDS]].astype(float)).all() == certain
        assert row["lead"] == pytest.approx(0.1)
        assert best_others(summarise(both, names.astype(str), EVERYONE, HOW))[
            "verdict"
        ].tolist() == ["ahead" if certain else "level"]


def test_a_limit_for_all_methods_lies_beyond_the_interval_of_one():
    random = np.random.default_rng(1)
    others = {f"m{number}": VALUES + random.normal(0, 0.1, 90) for number in range(9)}
    found = summarise(tables(segue=VALUES, **others), LISTENERS, EVERYONE, HOW)
    theirs = found[found["method"] != SEGUE]
    assert (theirs["lead_limit"] > theirs["lead_high"]).all()
    alone = summarise(tables(segue=VALUES, m0=others["m0"]), LISTENERS, EVERYONE, HOW)
    assert alone["lead_limit"].tolist() == alone["lead_high"].tolist()


def test_slices_are_of_one_task_each():
    metrics = pd.DataFrame(dict.fromkeys(("hr_20", "mrr_20", "ndcg_10"), VALUES))
    tasks = np.where(np.arange(90) < 50, NEXT, START)
    kinds = pd.DataFrame({"region": ["north"] * 90, "prefix": ["2-4"] * 50 + ["0 (start)"] * 40})
    found = slices_by_task(
        [Table(SEGUE, metrics, VALUES)], LISTENERS, kinds, tasks, HOW, only_within=("prefix",)
    )
    by_name = found[found["metric"] == "hr_20"].set_index(["task", "slice"])["value"]
    assert by_name.to_dict() == pytest.approx(
        {
            (NEXT, "region: north"): VALUES[:50].mean(),
            (NEXT, "prefix: 2-4"): VALUES[:50].mean(),
            (START, "region: north"): VALUES[50:].mean(),
        }
    )
    few = slices_by_task(
        [Table(SEGUE, metrics, VALUES)],
        LISTENERS,
        pd.DataFrame({"region": LISTENERS}),
        tasks,
        HOW,
        (),
    )
    assert few.empty
    assert set(few.columns) == set(found.columns)
