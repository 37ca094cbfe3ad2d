"""Makes Arrow tables of records as Kafka holds them: one of each class, and one of refused ones.

Records of one version of a schema are decoded together by `analytics.native`. Where it doubts a
group, the group is halved, and what is left is decoded record by record through the gate, whose
word is final. So a few malformed records cost little, and every record is a row or is refused.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pyarrow as pa

from analytics.columns import PLACE, TIMESTAMP, event_schema, schema_of
from analytics.native import Doubt, Layout, layout_of, read
from analytics.rows import event_row
from kafka_io.reader import ConsumedRecord
from schemas.codec import VALUE_BYTES_MAX, version_of
from schemas.errors import Refused
from schemas.events import Record
from schemas.gate import AHEAD_US, admit
from schemas.headers import fault_of_tenant, tenant_in
from schemas.vocabularies import DeadLetterReason

TOMBSTONE = "tombstone"
"""The reason of a record without a value, which deletes its key's records in a compacted topic."""
REFUSED = pa.schema(
    [
        pa.field("reason", pa.string()),
        pa.field("message", pa.string()),
        pa.field("key", pa.binary()),
        pa.field("value", pa.binary()),
        *PLACE,
    ]
)
"""The columns of refused records: the reason is a word as in dead letters, or `TOMBSTONE`."""

_GROUP_RECORDS = 8_192
_GROUP_BYTES = 16 << 20
"""So many records are decoded together at most."""
_FEW = 8
"""So few records are decoded one by one rather than halved again."""


class Decoded(NamedTuple):
    """The tables of some records; each record is a row of one of them."""

    events: Mapping[type[Record], pa.Table]
    """The rows of each class that was found, in the order of the records."""
    refused: pa.Table
    """The records that are no events, with the columns `REFUSED`."""


@dataclass(frozen=True, slots=True)
class _Source:
    """Where records are from, and what is expected there."""

    kinds: Mapping[str, type[Record]]
    epoch: str
    ahead_us: float


class _Refusal(NamedTuple):
    record: ConsumedRecord
    reason: str
    message: str


class _Rows(NamedTuple):
    """Rows of one class."""

    kind: type[Record]
    records: Sequence[ConsumedRecord]
    events: pa.StructArray


def decode(
    kinds: Sequence[type[Record]],
    epoch: str,
    records: Sequence[ConsumedRecord],
    *,
    ahead_us: float = AHEAD_US,
) -> Decoded:
    """Return the rows of records of one topic.

    Args:
        kinds: the classes that the topic carries; records of others are refused.
        epoch: the topic's id in hexadecimal.
        records: the records; those of a partition are in its order.
        ahead_us: how far ahead of the log's time observed times may be, in microseconds.
    """
    source = _Source({kind.__name__: kind for kind in kinds}, epoch, ahead_us)
    refused: list[_Refusal] = []
    groups: defaultdict[Layout | None, list[ConsumedRecord]] = defaultdict(list)
    for record in records:
        groups[_layout(record, source)].append(record)
    found: list[_Rows] = []
    for layout, group in groups.items():
        for part in _parts(group):
            found += _read(layout, part, source, refused)
    of_kind: defaultdict[type[Record], list[_Rows]] = defaultdict(list)
    for rows in found:
        of_kind[rows.kind].append(rows)
    events = {kind: _table(kind, parts, epoch) for kind, parts in of_kind.items()}
    return Decoded(events, _refused_table(refused, epoch))


def _layout(record: ConsumedRecord, source: _Source) -> Layout | None:
    """Return the layout that a record can be decoded by; None if it is decoded alone."""
    value = record.value
    if value is None or len(value) > VALUE_BYTES_MAX:
        return None
    written = version_of(value)
    kind = None if written is None else source.kinds.get(written.record)
    if written is None or kind is None or fault_of_tenant(record.headers) is not None:
        return None
    return layout_of(kind, written.version)


def _parts(records: Sequence[ConsumedRecord]) -> Iterator[Sequence[ConsumedRecord]]:
    """Cut records into groups that are decoded together."""
    begin, size = 0, 0
    for number, record in enumerate(records):
        size += len(record.value or b"")
        if number - begin == _GROUP_RECORDS or size > _GROUP_BYTES:
            if number > begin:
                yield records[begin:number]
            begin, size = number, len(record.value or b"")
    yield records[begin:]


def _read(
    layout: Layout | None,
    records: Sequence[ConsumedRecord],
    source: _Source,
    refused: list[_Refusal],
) -> list[_Rows]:
    """Decode records that have one layout, and add those that are refused."""
    if layout is not None:
        values = [record.value or b"" for record in records]
        try:
            events = read(layout, values, [_logged_us(r) for r in records], source.ahead_us)
        except Doubt:
            if len(records) > _FEW:
                middle = len(records) // 2
                return [
                    *_read(layout, records[:middle], source, refused),
                    *_read(layout, records[middle:], source, refused),
                ]
        else:
            return [_Rows(layout.kind, records, events)]
    return _read_alone(records, source, refused)


def _read_alone(
    records: Sequence[ConsumedRecord], source: _Source, refused: list[_Refusal]
) -> list[_Rows]:
    """Decode records one by one through the gate, and add those that are refused."""
    admitted: defaultdict[type[Record], list[tuple[ConsumedRecord, Record]]] = defaultdict(list)
    for record in records:
        if record.value is None:
            refused.append(_Refusal(record, TOMBSTONE, "its key's records are deleted"))
            continue
        fault = fault_of_tenant(record.headers)
        if fault is not None:
            refused.append(_Refusal(record, DeadLetterReason.INVALID, fault))
            continue
        try:
            event = admit(
                record.value,
                *source.kinds.values(),
                logged_us=_logged_us(record),
                ahead_us=source.ahead_us,
            )
        except Refused as error:
            refused.append(_Refusal(record, error.reason, str(error)))
        else:
            admitted[type(event)].append((record, event))
    return [
        _Rows(kind, [record for record, _ in pairs], structs_of(kind, [e for _, e in pairs]))
        for kind, pairs in admitted.items()
    ]


def structs_of(kind: type[Record], events: Sequence[Record]) -> pa.StructArray:
    """Return events of a class as structs with the class's columns."""
    kinds = pa.struct(list(event_schema(kind)))
    return pa.array([event_row(event) for event in events], kinds)


def _logged_us(record: ConsumedRecord) -> int:
    return round(record.timestamp * 1000) * 1000


def _table(kind: type[Record], parts: Sequence[_Rows], epoch: str) -> pa.Table:
    """Return rows of a class as a table, in the order of partitions and offsets."""
    records = [record for part in parts for record in part.records]
    events = [part.events for part in parts]
    columns = pa.Table.from_struct_array(pa.chunked_array(events)).columns
    table = pa.table([*columns, *_places(records, epoch)], schema=schema_of(kind))
    return table if len(parts) == 1 else _in_order(table)


def _refused_table(refused: Sequence[_Refusal], epoch: str) -> pa.Table:
    columns: list[Any] = [
        pa.array([str(refusal.reason) for refusal in refused], pa.string()),
        pa.array([refusal.message for refusal in refused], pa.string()),
        pa.array([refusal.record.key for refusal in refused], pa.binary()),
        pa.array([refusal.record.value for refusal in refused], pa.binary()),
    ]
    places = _places([refusal.record for refusal in refused], epoch)
    return _in_order(pa.table([*columns, *places], schema=REFUSED))


def _in_order(table: pa.Table) -> pa.Table:
    return table.sort_by([("_partition", "ascending"), ("_offset", "ascending")])


def _places(records: Sequence[ConsumedRecord], epoch: str) -> list[pa.Array]:
    """Return the columns of `PLACE` for records."""
    logged_us = [_logged_us(record) or None for record in records]
    return [
        pa.array([record.topic for record in records], pa.string()),
        pa.array([record.partition for record in records], pa.int32()),
        pa.array([record.offset for record in records], pa.int64()),
        pa.array(logged_us, pa.int64()).view(TIMESTAMP),
        pa.array([epoch] * len(records), pa.string()),
        pa.array([tenant_in(record.headers) for record in records], pa.string()),
    ]
