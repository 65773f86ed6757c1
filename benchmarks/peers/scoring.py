"""Per-query metrics of answers given as song ids or indices, from Segue's own metric code."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from training.metrics import METRICS, TOP


def ranks(found: NDArray[np.int64], truth: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the truth's rank from 1 in each row of answers, NaN where it is not there.

    Examples
    --------
    >>> ranks(np.array([[5, 7], [5, -1]]), np.array([7, -1]))
    array([ 2., nan])
    """
    hits = (found == truth[:, None]) & (truth[:, None] >= 0)
    return np.where(hits.any(axis=1), hits.argmax(axis=1) + 1.0, np.nan)


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
    rank = ranks(found[:, :TOP], truth)
    values = pd.DataFrame({name: metric(rank) for name, metric in METRICS.items()})
    recall = [
        len(set(songs.tolist()) & set(row[row >= 0].tolist())) / len(songs) if first else np.nan
        for row, songs, first in zip(found[:, :TOP], coming, start, strict=True)
    ]
    return values.assign(session_recall_20=np.array(recall, dtype=np.float64))
