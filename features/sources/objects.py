"""Raw rows as Python's objects, to be shown, whatever they hold."""

import pyarrow as pa


def as_objects(rows: pa.Table) -> list[dict[str, object]]:
    """Return each row by column name.

    Where a row holds what Python cannot: moments beyond its years or of a zone that this machine
    does not know as Arrow's texts in UTC, texts that are not UTF-8 as bytes.
    """
    try:
        return rows.to_pylist()
    # An unknown zone is a KeyError, texts that are not UTF-8 a ValueError.
    except (OverflowError, ValueError, KeyError):
        columns = [_plain(column) for column in rows.columns]
        return pa.Table.from_arrays(columns, names=rows.column_names).to_pylist()


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_timestamp(column.type) and column.type.tz:
        column = column.cast(pa.timestamp(column.type.unit, "UTC"))
    if pa.types.is_temporal(column.type):
        return column.cast(pa.string())
    return column.cast(_as_bytes(column.type))


def _as_bytes(kind: pa.DataType) -> pa.DataType:
    """Return a type with bytes for its texts, those in lists and structures too."""
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return pa.binary()
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return pa.list_(_as_bytes(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_as_bytes(field.type)) for field in kind])
    return kind
