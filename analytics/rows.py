"""Makes Arrow tables of records, record by record, through the gate."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import pyarrow as pa

from analytics.columns import event_schema, schema_of
from kafka_io.reader import ConsumedRecord
from schemas.errors import Refused
from schemas.events import Record, ReturnBatch
from schemas.gate import admit
from schemas.headers import fault_of_tenant, tenant_in


class Decoded(NamedTuple):
    """Rows, and how many records gave none."""

    rows: pa.RecordBatch
    refused: int
    """The records that the gate refuses."""


def decode_rows(
    kind: type[Record], epoch: str, records: Sequence[ConsumedRecord], tenant: str | None = None
) -> Decoded:
    """Return the rows of a class of events among records.

    Args:
        kind: the class; records of other classes in the same topic are left out.
        epoch: the topic's id in hexadecimal.
        records: the records.
        tenant: the tenant whose records are taken; empty for those without one, None for all.
    """
    rows: list[dict[str, Any]] = []
    refused = 0
    for record in records:
        named = tenant_in(record.headers)
        if record.value is None or (tenant is not None and (named or "") != tenant):
            continue
        try:
            if fault_of_tenant(record.headers) is not None:
                raise Refused  # noqa: TRY301  # it is counted as the gate's
            event = admit(record.value)
        except Refused:
            refused += 1
            continue
        if type(event) is kind:
            rows.append(event_row(event) | _place(record, epoch, named))
    return Decoded(pa.RecordBatch.from_pylist(rows, schema_of(kind)), refused)


def _place(record: ConsumedRecord, epoch: str, tenant: str | None) -> dict[str, Any]:
    return {
        "_topic": record.topic,
        "_partition": record.partition,
        "_offset": record.offset,
        "_ingested_at": round(record.timestamp * 1000) * 1000,
        "_epoch": epoch,
        "_tenant": tenant,
    }


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
