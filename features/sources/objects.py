"""Raw rows as Python's objects, to be shown, whatever they hold."""

from typing import Any

import pyarrow as pa

# An unknown zone is a KeyError, texts that are not UTF-8 and moments out of years are ValueErrors.
_UNSHOWN = (pa.ArrowException, KeyError, OverflowError, ValueError)


def as_objects(rows: pa.Table) -> list[dict[str, Any]]:
    """Return each row by column name.

    What Python cannot hold: moments beyond its years or of a zone that this machine does not know
    as Arrow's texts in UTC, texts that are not UTF-8 as bytes, such things within others by their
    type alone.
    """
    columns = [_cells(column) for column in rows.columns]
    names = rows.column_names
    return [dict(zip(names, cells, strict=True)) for cells in zip(*columns, strict=True)]


def _cells(column: pa.ChunkedArray) -> list[Any]:
    for shown in (lambda: column, lambda: _plain(column)):
        try:
            return list(shown().to_pylist())
        except _UNSHOWN:
            continue
    return [_cell(one) for one in column]


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_timestamp(column.type) and column.type.tz:
        column = column.cast(pa.timestamp(column.type.unit, "UTC"))
    if pa.types.is_temporal(column.type):
        return column.cast(pa.string())
    is_list = pa.types.is_list(column.type)
    return column.cast(pa.list_(pa.binary()) if is_list else pa.binary())


def _cell(one: pa.Scalar) -> Any:
    try:
        return one.as_py()
    except _UNSHOWN:
        return f"<{one.type}>"
