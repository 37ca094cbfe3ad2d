"""Makes rows of events that are decoded already, as Arrow takes them."""

from typing import Any

import pyarrow as pa

from analytics.columns import event_schema
from schemas.events import Record, ReturnBatch


def event_row(event: Record) -> dict[str, Any]:
    """Return the event's own columns as Arrow takes them."""
    if isinstance(event, ReturnBatch):
        return _return_columns(event)
    schema = event_schema(type(event))
    return {field.name: _fitted(getattr(event, field.name, None), field.type) for field in schema}


def _return_columns(batch: ReturnBatch) -> dict[str, Any]:
    """Return the columns that the newest version of the schema has."""
    columns = zip(*batch.returns, strict=True) if batch.returns else ((), (), (), ())
    portfolio_ids, times_us, values, versions = columns
    return {
        "returns": [],
        "portfolio_ids": portfolio_ids,
        "times_us": times_us,
        "values": values,
        "versions": versions,
        "lap": batch.lap,
    }


def _fitted(value: Any, kind: pa.DataType) -> Any:
    """Return a value of an event as Arrow takes it."""
    if value is None:
        return None
    if pa.types.is_struct(kind):
        return {part.name: _fitted(getattr(value, part.name), part.type) for part in kind}
    if pa.types.is_list(kind):
        return [_fitted(part, kind.value_type) for part in value]
    if pa.types.is_map(kind):
        return [(name, _fitted(part, kind.item_type)) for name, part in value.items()]
    return _scalar(value, kind)


def _scalar(value: Any, kind: pa.DataType) -> Any:
    if pa.types.is_string(kind) and not isinstance(value, str):
        return str(value)
    return float(value) if pa.types.is_floating(kind) else value
