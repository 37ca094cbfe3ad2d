"""Fits rows and the columns of their table to each other.

A table gets columns that only the rows have, also inside of records, lists and maps. Columns
that only the table has are null in the rows. A type never changes: a column of the rows has the
type of the table's column, or one of which it holds every value.
"""

from collections.abc import Sequence

import pyarrow as pa

from analytics.sinks.base import Span
from analytics.sinks.errors import TypeChanged

DAY = "_day"
"""The column of all tables by whose values their files are divided: the day of `_ingested_at`."""

_WIDER: dict[pa.DataType, Sequence[pa.DataType]] = {
    pa.int32(): (pa.int64(), pa.float64()),
    pa.float32(): (pa.float64(),),
}
"""The types that hold every value of a type."""


def with_day(rows: pa.Table) -> pa.Table:
    """Return rows with the day when the log got them, in UTC."""
    if DAY in rows.column_names:
        return rows
    ingested = rows["_ingested_at"].cast(pa.timestamp("us"))
    return rows.append_column(pa.field(DAY, pa.date32()), ingested.cast(pa.date32()))


def merged(table: str, columns: pa.Schema, rows: pa.Schema) -> pa.Schema:
    """Return the columns of a table after rows came.

    Args:
        table: the table's name, for messages.
        columns: its columns before.
        rows: the columns of the rows.

    Raises:
        TypeChanged: a column of the rows does not fit its column in the table.
    """
    before = pa.struct([plain_field(field) for field in columns])
    after = _merged_type(table, "", before, pa.struct([plain_field(field) for field in rows]))
    return pa.schema(list(after))


def conform(rows: pa.Table, columns: pa.Schema) -> pa.Table:
    """Return rows with exactly these columns."""
    missing = [field for field in columns if field.name not in rows.column_names]
    for field in missing:
        rows = rows.append_column(field, pa.nulls(len(rows), field.type))
    return rows.select(columns.names).cast(columns)


def plain(columns: pa.Schema) -> pa.Schema:
    """Return columns that may be null, of types whose values other programs hold the same way."""
    return pa.schema([plain_field(field) for field in columns])


def plain_field(field: pa.Field) -> pa.Field:
    """Return a column, or a part of one, as `plain` does."""
    return pa.field(field.name, _plain_type(field.type))


def check_spans(spans: Sequence[Span]) -> None:
    """Check that spans are ranges of different lanes.

    Raises:
        ValueError: a span ends before it begins, or two are of one lane.
    """
    if not spans:
        raise ValueError("rows are appended with the spans of the log that they stand for")
    if any(not 0 <= span.begin <= span.end for span in spans):
        raise ValueError("a span begins at an offset of the log, and ends there or later")
    if len({span.lane for span in spans}) < len(spans):
        raise ValueError("each lane has one span at most")


def _plain_type(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_struct(kind):
        return pa.struct([plain_field(field) for field in kind])
    if pa.types.is_map(kind):
        return pa.map_(_plain_type(kind.key_type), _plain_type(kind.item_type))
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_list_view(kind):
        return pa.list_(_plain_type(kind.value_type))
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind):
        return pa.binary()
    return pa.timestamp(kind.unit, "UTC") if pa.types.is_timestamp(kind) and kind.tz else kind


def _merged_type(table: str, path: str, before: pa.DataType, rows: pa.DataType) -> pa.DataType:
    """Return the type of a column that holds the values of both types."""
    if before == rows or pa.types.is_null(rows) or before in _WIDER.get(rows, ()):
        return before
    if pa.types.is_struct(before) and pa.types.is_struct(rows):
        found = {field.name: field for field in before}
        for field in rows:
            where = f"{path}.{field.name}" if path else field.name
            if field.name in found:
                kind = _merged_type(table, where, found[field.name].type, field.type)
                found[field.name] = pa.field(field.name, kind)
            elif not pa.types.is_null(field.type):
                found[field.name] = field
        return pa.struct(list(found.values()))
    if pa.types.is_list(before) and pa.types.is_list(rows):
        return pa.list_(_merged_type(table, f"{path}[]", before.value_type, rows.value_type))
    if pa.types.is_map(before) and pa.types.is_map(rows) and before.key_type == rows.key_type:
        item = _merged_type(table, f"{path}{{}}", before.item_type, rows.item_type)
        return pa.map_(before.key_type, item)
    raise TypeChanged(
        f"the column {path} of the table {table} is {before}, and the rows have {rows}; "
        "a column keeps its type: write a new column, or these rows into another lake"
    )
