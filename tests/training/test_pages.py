"""The report's pages, made from tables as the stages write them."""

import json
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from tests.training.test_dataset_and_ranker import NAMES, PARAMS, hand_made, made_rows
from training import publish
from training.curves import (
    answered,
    by_candidates,
    by_label_queries,
    by_trees,
    ranks_in_rows,
    select,
)
from training.error_analysis import FATES
from training.evaluate import CANDIDATES
from training.importance import group_importance
from training.metrics import LABELS, NEXT, START, TASKS
from training.pages import few_listeners, few_queries
from training.pictures import PICTURES
from training.quotas import DEPTH
from training.ranker import fit_ranker

SECRET = "listener-4711"


def methods():
    rows = [
        (task, method, metric, value)
        for task in TASKS
        for method, value in (("segue", 0.3), ("<transitions>", 0.2))
        for metric in ("hr_20", "ndcg_10")
    ]
    table = pd.DataFrame(rows, columns=["task", "method", "metric", "value"])
    table = table.assign(low=table["value"] - 0.05, high=table["value"] + 0.05, queries=40)
    return table.assign(lead=0.1, lead_low=0.05, lead_high=0.15, lead_limit=0.2)


def wins():
    rows = [
        (NEXT, "region: south", "ndcg_10", "ahead", 0.1),
        (NEXT, "region: north", "hr_20", "behind", -0.1),
        (START, "region: south", "ndcg_10", "level", 0.0),
    ]
    table = pd.DataFrame(rows, columns=["task", "slice", "metric", "verdict", "lead"])
    table = table.assign(queries=40, method="repeats", value=0.2)
    table = table.assign(segue=table["lead"] + 0.2)
    return table.assign(lead_low=table["lead"] - 0.05, lead_high=table["lead"] + 0.05)


@pytest.fixture
def report(tmp_path):
    """Return a folder with every table, and with rows that must not get out."""
    bins = {"probability": ["p_skip"] * 2, "bin": [1, 2], "songs": [5, 5], "said": [0.2, 0.6]}
    ranks = np.array([[1.0] * 6, [np.nan] * 3 + [4.0] * 3])
    metric = {name: [0.1, 0.2] for name in LABELS}
    quotas = {"pool": ["now", "100, greedy"], "size": [90.0, 95.0], "recall": [0.5, 0.6]}
    shares = dict.fromkeys(FATES, [0.2])
    tables = {
        "methods": methods(),
        "wins": wins(),
        "fates": pd.DataFrame({"task": NEXT, "slice": ["all"], "queries": [40], **shares}),
        "meetings": pd.DataFrame(
            {"meeting": ["met"], "queries": [40], "share": [1.0], "in_pool": [0.8], "found_20": 0.5}
        ).assign(task=NEXT),
        "candidates": by_candidates(ranks, CANDIDATES, np.array([80, 90])).assign(task=START),
        "calibration": pd.DataFrame({**bins, "happened": [0.1, 0.7], "low": 0.05, "high": 0.8}),
        "importance_groups": pd.DataFrame({"group": ["links"], "share": [1.0], "features": [3]}),
        "label_queries": pd.DataFrame({"label_queries": [10, 20], **metric}),
        "quotas": pd.DataFrame({**quotas, "recall_seen": [0.5, 0.7], "like": [0, 0], "ease": 10}),
        "examples": pd.DataFrame({"user_id": [SECRET]}),
    }
    for name, table in tables.items():
        table.to_csv(tmp_path / f"{name}.csv", index=False)
    pool = {"pool": {"size": 85.0, "recall": 0.5}}
    row = {"ece": 0.03, "by_chance": 0.01, "chance_most": 0.02, "songs": 10}
    figures = {"calibration": {"p_skip": row | {"said": 0.4, "happened": 0.4}}}
    figures |= {task.replace(" ", "_"): pool for task in TASKS}
    (tmp_path / "metrics.json").write_text(json.dumps(figures))
    (tmp_path / "about.txt").write_text("What was asked of `whom`.\n")
    return tmp_path


def run(monkeypatch, *arguments):
    monkeypatch.setattr("sys.argv", ["publish", *map(str, arguments)])
    publish.main()


def test_what_is_published_has_every_picture_and_no_rows(report, monkeypatch, tmp_path):
    out = tmp_path / "published"
    run(monkeypatch, "--report", report, "--out", out)
    text = (out / "README.md").read_text()
    assert set(re.findall(r"\]\((\w+)\.png\)", text)) == set(PICTURES)
    for name in PICTURES:
        assert (out / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert {path.suffix for path in out.iterdir()} == {".md", ".png"}
    assert SECRET not in text
    assert "What was asked of `whom`." in text
    assert f"Of {START}s: recall of the pool" in text
    assert "Over 3 slices and 2 metrics: 1 ahead, 1 level, 1 behind." in text
    # What is lost is listed whatever its metric; a generator that gives nothing is not.
    assert "| next song | region: north | 40 | HR@20 | repeats | 0.2000 | 0.1000 |" in text
    assert "| pool | size | recall | recall_seen | ease |" in text
    assert f"the first {DEPTH} proposals count." in text
    assert "| p_skip | 10 | 0.4000 | 0.4000 | 0.0300 | 0.0100 | 0.0200 | no |" in text


def test_few_listeners_are_said(report):
    assert few_listeners(report) == []
    table = pd.read_csv(report / "methods.csv")
    table.loc[table["task"] == NEXT, "low"] = np.nan
    table.to_csv(report / "methods.csv", index=False)
    (few,) = few_listeners(report)
    assert f"({NEXT})" in few.parts[0]


def test_few_queries_are_said(report):
    (few,) = few_queries(report)
    assert "(40 of next songs, 40 of session starts)" in few.parts[0]
    table = pd.read_csv(report / "methods.csv")
    table.loc[table["task"] == TASKS[0], "queries"] = 200
    table.to_csv(report / "methods.csv", index=False)
    (few,) = few_queries(report)
    assert "(40 of session starts)" in few.parts[0]
    table.assign(queries=200).to_csv(report / "methods.csv", index=False)
    assert few_queries(report) == []


def test_the_page_needs_nothing_from_outside(report, monkeypatch):
    run(monkeypatch, "--report", report)
    page = (report / "report.html").read_text()
    assert page.count('src="data:image/png;base64,') == len(PICTURES)
    assert not re.search(r"https?://|(src|href)=\"(?!data:)", page)
    assert "&lt;transitions&gt;" in page
    assert "<code>whom</code>" in page
    assert SECRET not in page


def test_every_row_of_the_page_has_a_cell_a_column(report, monkeypatch):
    run(monkeypatch, "--report", report)
    page = (report / "report.html").read_text()
    for table in re.findall(r"<table>(.*?)</table>", page, re.DOTALL):
        rows = re.findall(r"<tr>(.*?)</tr>", table, re.DOTALL)
        assert len({len(re.findall(r"<t[hd]>", row)) for row in rows}) == 1, rows[0]


def test_the_same_tables_give_the_same_bytes(report, monkeypatch):
    run(monkeypatch, "--report", report)
    first = (report / "report.html").read_bytes()
    run(monkeypatch, "--report", report)
    assert (report / "report.html").read_bytes() == first


def test_names_of_the_data_are_neither_cells_nor_formulas(report, monkeypatch, tmp_path):
    for name in ("wins", "fates"):
        table = pd.read_csv(report / f"{name}.csv")
        table.assign(slice="region: $a_{$ | b").to_csv(report / f"{name}.csv", index=False)
    run(monkeypatch, "--report", report)
    page = (report / "report.html").read_text()
    assert "<td>region: $a_{$ | b</td><td>40</td>" in page
    run(monkeypatch, "--report", report, "--out", tmp_path / "out")
    assert r"| region: $a_{$ \| b | 40 |" in (tmp_path / "out" / "README.md").read_text()


def test_the_best_peers_stand_beside_it(report, monkeypatch, tmp_path):
    found = wins().assign(task=TASKS[0], method="vstan").to_dict("records")
    content = {"cut": {"as_of": "2014-11-27T10:29"}, "figures": {"best_peer_per_slice": found}}
    (tmp_path / "peers_x.json").write_text(json.dumps(content))
    run(
        monkeypatch,
        "--report",
        report,
        "--out",
        tmp_path / "o",
        "--peers",
        tmp_path / "peers_x.json",
    )
    text = (tmp_path / "o" / "README.md").read_text()
    assert "## Against the best peer" in text
    assert "| next song | region: south | 40 | NDCG@10 | vstan | 0.2000 | 0.3000 |" in text


def test_ranks_within_rows_are_the_naive_ones():
    rows = answered(made_rows(3, 60))
    scores = np.random.default_rng(4).random(len(rows.query))
    naive = [
        1 + (scores[rows.query == query] > scores[(rows.query == query) & rows.answer]).sum()
        for query in np.unique(rows.query)
    ]
    assert ranks_in_rows(rows, scores).tolist() == naive


def test_queries_whose_answer_nobody_proposed_are_left_out():
    rows = hand_made()
    assert answered(rows).query.tolist() == [0, 0, 1, 1]
    assert answered(rows, 1).query.tolist() == [0, 0]
    assert select(rows, rows.answer).listener.tolist() == [7, 8, 7]


def test_more_label_queries_order_better():
    curve = by_label_queries(made_rows(1, 400), made_rows(2, 200), NAMES, PARAMS, (0.05, 1.0))
    assert curve["label_queries"].tolist() == [20, 400]
    assert curve["ndcg_10"].is_monotonic_increasing
    trees = by_trees(fit_ranker(made_rows(1, 400), NAMES, PARAMS), made_rows(2, 200), 4)
    assert trees["trees"].tolist() == [10, 20, 30, 40]
    assert trees["ndcg_10"].iloc[-1] == pytest.approx(curve["ndcg_10"].iloc[-1])


def test_a_part_that_teaches_no_order_is_left_out():
    rows = made_rows(1, 400)
    drawn_first = np.random.default_rng(PARAMS.seed).permutation(400)[0]
    hidden = (rows.query == drawn_first) & (rows.answer | rows.later)
    rows = replace(rows, in_pool=rows.in_pool & ~hidden)
    curve = by_label_queries(rows, made_rows(2, 200), NAMES, PARAMS, (1 / 400, 1.0))
    assert curve["label_queries"].tolist() == [400]


def test_the_candidates_curve_by_hand():
    ranks = np.array([[1.0, 2.0], [np.nan, 1.0], [np.nan, np.nan]])
    curve = by_candidates(ranks, (25, 50), np.array([30, 40, 60]))
    assert curve["size"].tolist() == [25, pytest.approx((30 + 40 + 50) / 3)]
    assert curve["recall"].tolist() == pytest.approx([1 / 3, 2 / 3])
    assert curve["mrr_20"].tolist() == pytest.approx([1 / 3, 0.5])


def test_groups_add_up_their_features():
    features = pd.DataFrame({"group": ["a", "b", "a"], "share": [0.2, 0.5, 0.3]})
    table = group_importance(features)
    assert table["group"].tolist() == ["a", "b"]
    assert table["share"].tolist() == [0.5, 0.5]
    assert table["features"].tolist() == [2, 1]
