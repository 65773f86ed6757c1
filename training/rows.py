"""Ranker rows: what `training.dataset` makes and `training.ranker` learns from."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from zlib import crc32

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from features.catalogue import FloatArray, IntArray
from features.mistakes import Mistake


@dataclass(frozen=True)
class Rows:
    """Ranker rows, contiguous by query.

    `features` is (rows, features), all others (rows,). `query` ascends. `answer` marks the song
    that was played, `later` those heard, not skipped, in the session's rest after it, `in_pool`
    those that some generator proposed. The query's own, on every row: `outcome` indexes `OUTCOMES`,
    `ts` is its time, `listener` the `listener_code`.
    """

    features: FloatArray
    query: IntArray
    answer: NDArray[np.bool_]
    later: NDArray[np.bool_]
    in_pool: NDArray[np.bool_]
    outcome: NDArray[np.int8]
    ts: NDArray[np.datetime64]
    listener: NDArray[np.uint32]


MARKS = tuple(field.name for field in fields(Rows) if field.name != "features")


@dataclass(frozen=True)
class Part:
    """The rows of one query.

    `features` is (rows, features), `answer`, `later` and `in_pool` are (rows,); the others are the
    query's. All mean what they do in `Rows`.
    """

    features: FloatArray
    answer: NDArray[np.bool_]
    later: NDArray[np.bool_]
    in_pool: NDArray[np.bool_]
    outcome: int
    ts: np.datetime64
    listener: int


def join(parts: Sequence[Part], numbers: Sequence[int]) -> Rows:
    """Return the rows of queries under their ascending numbers."""
    sizes = [len(part.answer) for part in parts]
    return Rows(
        features=np.concatenate([part.features for part in parts]),
        query=np.repeat(np.array(numbers, dtype=np.int32), sizes),
        answer=np.concatenate([part.answer for part in parts]),
        later=np.concatenate([part.later for part in parts]),
        in_pool=np.concatenate([part.in_pool for part in parts]),
        outcome=np.repeat(np.array([part.outcome for part in parts], dtype=np.int8), sizes),
        ts=np.repeat(np.array([part.ts for part in parts]), sizes),
        listener=np.repeat(np.array([part.listener for part in parts], dtype=np.uint32), sizes),
    )


def concatenate(parts: list[tuple[Rows, tuple[str, ...]]]) -> tuple[Rows, tuple[str, ...]]:
    """Join sets of rows, numbering their queries on.

    Raises
    ------
    Mistake
        If their features differ.
    """
    names = parts[0][1]
    if any(other != names for _, other in parts):
        raise Mistake("The sets of rows have different features; rebuild them all.")
    offsets = np.cumsum([0, *(int(rows.query.max()) + 1 for rows, _ in parts[:-1])])
    query = [rows.query + offset for (rows, _), offset in zip(parts, offsets, strict=True)]
    others = {
        field.name: np.concatenate([getattr(rows, field.name) for rows, _ in parts])
        for field in fields(Rows)
        if field.name != "query"
    }
    return Rows(query=np.concatenate(query), **others), names


def select(rows: Rows, keep: NDArray[np.bool_] | NDArray[np.intp]) -> Rows:
    """Return the rows that are marked, or those at some places."""
    return Rows(**{name: values[keep] for name, values in vars(rows).items()})


def places(query: IntArray, scores: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return each row's place within its query, 0 the best; queries are contiguous and ascend.

    Ties go to the song that comes first, as in serving.
    """
    order = np.lexsort((np.arange(len(query)), -scores, query))
    found = np.empty(len(order), dtype=np.intp)
    found[order] = np.arange(len(order)) - np.searchsorted(query, query[order])
    return found


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
