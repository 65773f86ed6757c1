"""Whether a model may replace the one that is served: not where a simple method beats it."""

from typing import Final

import pandas as pd

from training.comparison import best_others
from training.methods import SEGUE
from training.metrics import TASKS

# What a model is judged by: the order of next songs, and the songs of a coming session.
JUDGED: Final = dict(zip(TASKS, ("ndcg_10", "session_recall_20"), strict=True))


def behind(summary: pd.DataFrame) -> pd.DataFrame:
    """Return the tasks in which a single method is ahead of Segue, with the best that is.

    Ahead: the paired interval of Segue's lead lies below zero, also when widened so that of all
    methods together one in forty would be thought ahead by chance (`lead_limit` of
    `comparison.summarise`). Level passes, since on little data nothing is certain; but not all
    methods are level where the best of them is, since its figure may be the noisiest.

    Parameters
    ----------
    summary
        One row a task, method and metric, as in methods.csv.
    """
    judged = summary[summary["metric"] == summary["task"].map(JUDGED)]
    surely = judged["lead_limit"] < 0
    return best_others(judged[surely | (judged["method"] == SEGUE)])


def sentences(lost: pd.DataFrame) -> list[str]:
    """Say of each task that was lost to whom and by how much."""
    return [
        f"{row.task}: `{row.method}` alone reaches {row.metric} {row.value:.4f}, Segue "
        f"{row.segue:.4f} ({row.lead:+.4f} [{row.lead_low:+.4f}, {row.lead_high:+.4f}])."
        for row in lost.itertuples()
    ]
