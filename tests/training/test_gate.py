"""A model that a single method beats is named as such; a level one is not."""

import numpy as np
import pandas as pd
import pytest

from features.params import load_params
from training.comparison import Table, summarise
from training.gate import behind, sentences
from training.pages import gate

HOW = load_params().evaluation
LISTENERS = np.arange(200) // 2
RANDOM = np.random.default_rng(3)
NOISE = RANDOM.uniform(0.2, 0.6, 200)


def summary(task, metric, lead):
    """Return the summary of a task where Segue leads one method by so much, and another far."""
    mine = NOISE + lead + RANDOM.normal(0, 0.05, 200)
    values = {"segue": mine, "repeats": NOISE, "popularity": np.zeros(200)}
    tables = [
        Table(method, pd.DataFrame({metric: column, "hr_20": 1 - column}), np.ones(200))
        for method, column in values.items()
    ]
    keep = np.ones(200, dtype=np.bool_)
    return summarise(tables, LISTENERS, keep, HOW).assign(task=task)


@pytest.mark.parametrize(("lead", "lost"), [(-0.1, 1), (0.0, 0), (0.1, 0)])
def test_only_a_certain_loss_counts(lead, lost):
    assert len(behind(summary("next song", "ndcg_10", lead))) == lost


def test_a_steady_winner_is_seen_behind_a_noisy_one():
    noisy = NOISE - 0.5
    noisy[:4] += 100
    values = {"segue": NOISE, "steady": NOISE + 0.02, "noisy": noisy}
    tables = [Table(m, pd.DataFrame({"ndcg_10": v}), np.ones(200)) for m, v in values.items()]
    keep = np.ones(200, dtype=np.bool_)
    found = summarise(tables, LISTENERS, keep, HOW).assign(task="next song")
    assert found.loc[found["value"].idxmax(), "method"] == "noisy"
    assert behind(found)["method"].tolist() == ["steady"]


def test_one_listener_is_no_evidence():
    task = {"task": "next song"}
    values = {"segue": NOISE, "repeats": NOISE + 0.1}
    tables = [Table(m, pd.DataFrame({"ndcg_10": v}), np.ones(200)) for m, v in values.items()]
    alone = summarise(tables, np.zeros(200, "U1"), np.ones(200, dtype=np.bool_), HOW)
    assert behind(alone.assign(**task)).empty


def test_of_many_equal_methods_none_is_thought_ahead_by_chance():
    # One in forty would be, of each method by itself.
    random = np.random.default_rng(11)
    lost, alone = 0, 0
    for _ in range(60):
        noise = {f"m{number}": NOISE + random.normal(0, 0.1, 200) for number in range(13)}
        values = {"segue": NOISE, **noise}
        tables = [Table(m, pd.DataFrame({"ndcg_10": v}), np.ones(200)) for m, v in values.items()]
        found = summarise(tables, LISTENERS, np.ones(200, dtype=np.bool_), HOW)
        lost += len(behind(found.assign(task="next song")))
        alone += (found["lead_high"] < 0).any()
    assert alone > 10
    assert lost <= 5


def test_each_task_is_judged_by_its_own_metric_and_says_who_won():
    parts = [
        summary("next song", "ndcg_10", 0.1),
        summary("session start", "session_recall_20", -0.1),
    ]
    (line,) = sentences(behind(pd.concat(parts)))
    assert line.startswith("session start: `repeats` alone reaches session_recall_20 0.")


def test_the_report_warns_first_and_only_then(tmp_path):
    for lead, sections in ((-0.1, 1), (0.1, 0)):
        summary("next song", "ndcg_10", lead).to_csv(tmp_path / "methods.csv", index=False)
        assert len(gate(tmp_path)) == sections
