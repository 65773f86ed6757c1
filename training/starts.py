"""Fit what is added to the ranker at session starts, where any song of the coming session counts.

A start knows no song to continue from, so that which song comes first is close to chance. There
are few starts, and a listener of whom nothing is known is proposed the same songs as everybody:
the ranker learns the order of the label phase by heart. Many small trees on half the rows each,
that only tell songs heard from songs not heard, keep better where listeners are hardly known; where
much is known of them the ranker is better. Their scores are added up (docs/benchmarks.md).
"""

from collections.abc import Sequence
from typing import Final

import lightgbm
import numpy as np
from numpy.typing import NDArray

from features.params import Ranker
from serving.ranker import SESSION_LENGTH
from training.boosting import query_weights, settings_of, train
from training.rows import Rows

MIN_QUERIES: Final = 50


def fit_starts(rows: Rows, names: Sequence[str], params: Ranker) -> lightgbm.Booster | None:
    """Fit the log odds that a proposed song is heard in the session; None for too few starts."""
    keep = at_start(rows, names) & rows.in_pool
    heard = rows.answer | rows.later
    if len(np.unique(rows.query[keep & heard])) < MIN_QUERIES:
        return None
    data = lightgbm.Dataset(
        rows.features[keep],
        label=heard[keep].astype(np.int32),
        weight=query_weights(rows, params.weights, params.slate_value)[keep],
        feature_name=list(names),
    )
    how = params.starts.model_dump()
    rounds = how.pop("rounds")
    return train(settings_of(params) | how | {"objective": "binary"}, data, rounds, "starts")


def at_start(rows: Rows, names: Sequence[str]) -> NDArray[np.bool_]:
    """Mark the rows of queries that know no song of their session; none without that feature."""
    if SESSION_LENGTH not in names:
        return np.zeros(len(rows.query), dtype=np.bool_)
    start: NDArray[np.bool_] = rows.features[:, list(names).index(SESSION_LENGTH)] == 0
    return start
