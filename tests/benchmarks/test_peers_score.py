"""Scoring cached answers beside Segue's own report, with Segue's metric code."""

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from benchmarks.peers.files import Folder
from benchmarks.peers.score import (
    best_of_slices,
    by_task,
    figures,
    markdown,
    read_scored,
)
from benchmarks.peers.scoring import per_query
from features.params import Evaluation
from training.comparison import best_others, session_recall
from training.metrics import METRICS, NEXT, START, answer_ranks

HOW = Evaluation(max_queries=1000, bootstrap=50, seed=7)
SONGS = pd.Index([f"s{i:02d}" for i in range(30)])
COUNT = 200


def test_ranks_and_recall_are_those_of_segues_own_code():
    random = np.random.default_rng(1)
    found = np.stack([random.permutation(30)[:20] for _ in range(50)])
    truth = random.integers(-1, 30, 50)
    rest = [random.permutation(30)[: random.integers(1, 6)] for _ in range(50)]
    queries = [
        SimpleNamespace(is_start=i % 2 == 0, rest=SONGS[r].tolist()) for i, r in enumerate(rest)
    ]
    index_of = {song: i for i, song in enumerate(SONGS)}
    start = np.arange(50) % 2 == 0
    mine = per_query(found, truth, rest, start)
    np.testing.assert_allclose(mine["session_recall_20"], session_recall(found, queries, index_of))
    for name, metric in METRICS.items():
        np.testing.assert_allclose(mine[name], metric(answer_ranks(found, truth)))


@pytest.fixture
def cut(tmp_path):
    """Return folders of a cut where Segue has the answer first, `good` second and `bad` never."""
    folder, report = Folder(tmp_path / "cut"), tmp_path / "report"
    random = np.random.default_rng(2)
    answer = random.integers(0, 9, COUNT)
    truth = pd.DataFrame(
        {
            "query_id": [f"q{i:03d}" for i in range(COUNT)],
            "user_id": [f"u{i % 37}" for i in range(COUNT)],
            "task": np.where(np.arange(COUNT) % 4 == 0, START, NEXT),
            "answer": SONGS[answer],
            "rest": [[SONGS[a], SONGS[25]] for a in answer],
            "met": "never met it",
        }
    )
    folder.truth("test").parent.mkdir(parents=True)
    truth.to_parquet(folder.truth("test"))
    (folder.root / "answers").mkdir()
    for name, rank in (("good", 2), ("bad", None)):
        rows = {"query_id": truth["query_id"], "rank": rank or 1}
        rows["song_id"] = truth["answer"] if rank else SONGS[29]
        pd.DataFrame(rows).to_parquet(folder.answers(name))
        facts = {"fit_plays": 10, "fit_seconds": 1.5, "predict_ms": 0.1}
        folder.facts(name).write_text(json.dumps(facts))
    report.mkdir()
    start = (truth["task"] == START).to_numpy()
    segue = pd.DataFrame({name: metric(np.ones(COUNT)) for name, metric in METRICS.items()})
    segue = segue.assign(
        session_recall_20=np.where(start, 0.5, np.nan),
        rank=1.0,
        method="segue",
        query_id=truth["query_id"],
        user_id=truth["user_id"],
        listener=np.where(np.arange(COUNT) % 3 == 0, "new", "known"),
        region="unknown",
    )
    shuffled = segue.sample(frac=1, random_state=1)
    shuffled.to_parquet(report / "answers.parquet")
    rows = [
        {"method": "segue", "metric": "coverage_10", "task": t, "value": 0.5} for t in (NEXT, START)
    ]
    pd.DataFrame(rows).to_csv(report / "methods.csv", index=False)
    return folder, report


def test_peers_are_compared_with_segue_query_by_query(cut):
    scored = read_scored(*cut, SONGS)
    summary = by_task(scored, HOW).set_index(["task", "method", "metric"])
    good = summary.loc[(NEXT, "good", "mrr_20")]
    assert good["value"] == pytest.approx(0.5)
    assert good["lead"] == pytest.approx(0.5)
    assert good["lead_percent"] == pytest.approx(100)
    assert (good["lead_low"], good["lead_high"]) == pytest.approx((0.5, 0.5))
    assert summary.loc[(NEXT, "bad", "hr_20"), "value"] == 0
    assert summary.loc[(START, "good", "session_recall_20"), "value"] == pytest.approx(0.5)
    assert (NEXT, "good", "session_recall_20") not in summary.index
    assert scored.coverage["bad"][NEXT] == pytest.approx(1 / 30)


def test_tables_name_every_method_and_hold_no_query(cut):
    scored = read_scored(*cut, SONGS)
    summary, slices = by_task(scored, HOW), best_of_slices(scored, HOW)
    text = markdown(scored, summary, slices, "A cut")
    assert all(f"| {name} |" in text for name in ("**segue**", "good", "bad"))
    assert "listener: new" in text
    whole = text + json.dumps(figures(scored, summary, slices))
    assert "q001" not in whole
    assert "s29" not in whole


def test_the_best_peer_of_each_slice_is_the_one_compared(cut):
    slices = best_of_slices(read_scored(*cut, SONGS), HOW)
    mrr = slices[slices["metric"] == "mrr_20"]
    assert set(mrr["method"]) == {"good"}
    assert set(mrr["verdict"]) == {"ahead"}


def test_a_slice_where_a_peer_is_ahead_is_called_behind():
    row = {"task": NEXT, "slice": "a: b", "metric": "hr_20", "queries": 50}
    rows = [
        {**row, "method": "segue", "value": 0.2, "lead": 0.0, "lead_low": 0.0, "lead_high": 0.0},
        {**row, "method": "one", "value": 0.3, "lead": -0.1, "lead_low": -0.2, "lead_high": -0.01},
        {**row, "method": "two", "value": 0.25, "lead": -0.05, "lead_low": -0.2, "lead_high": 0.1},
    ]
    best = best_others(pd.DataFrame(rows)).iloc[0]
    assert best["method"] == "one"
    assert best["verdict"] == "behind"
    assert best["lead"] == pytest.approx(-0.1)


def test_a_report_of_other_queries_is_refused(cut):
    folder, report = cut
    detail = pd.read_parquet(report / "answers.parquet")
    detail.iloc[1:].to_parquet(report / "answers.parquet")
    with pytest.raises(ValueError, match="other queries"):
        read_scored(folder, report, SONGS)
