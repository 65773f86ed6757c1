"""What of an evaluation becomes figures."""

from dataclasses import replace

import numpy as np
import pandas as pd

from features.params import load_params
from tests.training.test_asking import asked, folder, proposed, recommender  # noqa: F401 - fixtures
from training import report
from training.error_analysis import FATES
from training.metrics import NEXT, START, TASKS
from training.report import evaluate


def test_the_figures_count_the_tasks_that_were_lost(recommender, proposed, monkeypatch):  # noqa: F811
    queries = [asked(proposed[0][0]), asked(proposed[0][1], user="u1")]
    heard = pd.DataFrame({"session_id": ["a"], "song_id": [proposed[0][0]]})
    how = load_params().evaluation.model_copy(update={"bootstrap": 5})
    found = evaluate(recommender, queries, heard, how)
    monkeypatch.setattr(report.gate, "behind", lambda summary: summary.head(2))
    fates = report.by_task(found, report.fates_of)
    figures = report.metrics(found, fates, {})
    assert figures["gate"] == {"behind": 2}
    for task, keep in zip(TASKS, (found.tasks == NEXT, found.tasks == START), strict=True):
        if keep.any():
            shares = figures[task.replace(" ", "_")]["fates"]
            assert shares == {one: (found.fate[keep] == one).mean() for one in FATES}
    # As many as a slice needs to be told: of starts, "prefix" would repeat "all".
    often = np.repeat(np.arange(len(queries)), 40)
    kinds = found.kinds.iloc[often].reset_index(drop=True)
    for task, said in ((NEXT, True), (START, False)):
        tasks = np.full(len(often), task)
        many = replace(found, fate=found.fate[often], kinds=kinds, tasks=tasks)
        told = report.by_task(many, report.fates_of)["slice"]
        assert "all" in set(told)
        assert told.str.startswith("prefix").any() == said
