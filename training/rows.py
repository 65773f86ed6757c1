"""Ranker rows: what `training.dataset` makes and `training.ranker` learns from."""

from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from features.catalogue import FloatArray, IntArray


@dataclass(frozen=True)
class Rows:
    """Ranker rows, contiguous by query.

    `features` is (rows, features); `query` (rows,) ascending; `ts` the query's time;
    `answer` marks the song that was played, `later` those heard, not skipped, in the session's rest
    after it, `in_pool` whether some generator proposed it,
    `outcome` indexes `OUTCOMES`, `listener` is `listener_code` (both the query's, on every row).
    """

    features: FloatArray
    query: IntArray
    answer: NDArray[np.bool_]
    later: NDArray[np.bool_]
    in_pool: NDArray[np.bool_]
    outcome: NDArray[np.int8]
    ts: NDArray[np.datetime64]
    listener: NDArray[np.uint32]


MARKS = ("query", "answer", "later", "in_pool", "outcome", "ts", "listener")


def listener_code(user_id: str) -> int:
    """Return a number that is the same for a listener in every file of rows.

    Examples
    --------
    >>> listener_code("u1") == listener_code("u1"), listener_code("u1") == listener_code("u2")
    (True, False)
    """
    return crc32(user_id.encode())


def write_rows(rows: Rows, names: tuple[str, ...], path: Path) -> None:
    """Write the rows as Parquet, one column a feature."""
    frame = pd.DataFrame(rows.features, columns=list(names), copy=False)
    marks = {name: getattr(rows, name) for name in MARKS}
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.assign(**marks).to_parquet(path, index=False)


def read_rows(path: Path) -> tuple[Rows, tuple[str, ...]]:
    """Read what `write_rows` wrote."""
    frame = pd.read_parquet(path)
    marks = {name: frame.pop(name).to_numpy() for name in MARKS}
    return Rows(frame.to_numpy(dtype=np.float32), **marks), tuple(frame.columns)
