"""Per-query metrics of answers given as song ids or indices, from Segue's own metric code."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from training.metrics import METRICS, TOP, answer_ranks


def per_query(
    found: NDArray[np.int64],
    truth: NDArray[np.int64],
    coming: Sequence[NDArray[np.int64]],
    start: NDArray[np.bool_],
) -> pd.DataFrame:
    """Return the metrics of each query; recall of the session only for starts, else NaN.

    Parameters
    ----------
    found
        Answers, shape (queries, TOP), -1 = none.
    truth
        What was played, -1 = not in the catalogue.
    coming
        Each query's distinct songs from its own to the session's end, -1 = not in the catalogue.
    start
        Whether the query is a session start.
    """
    rank = answer_ranks(found[:, :TOP], truth)
    values = pd.DataFrame({name: metric(rank) for name, metric in METRICS.items()})
    recall = [
        len(set(songs.tolist()) & set(row[row >= 0].tolist())) / len(songs) if first else np.nan
        for row, songs, first in zip(found[:, :TOP], coming, start, strict=True)
    ]
    return values.assign(session_recall_20=np.array(recall, dtype=np.float64))
