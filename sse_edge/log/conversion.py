"""Turns Kafka's records into the edge's own, in the process that has unpacked them."""

from collections.abc import Iterable
from typing import Any

from kafka_io.clock import append_time_ms, now_us
from kafka_io.tracing import TRACEPARENT, parsed
from schemas.headers import ID, ORIGIN, TENANT
from sse_edge.log.record import Partition, Record, tenant_of_key

AHEAD_MS = 86_400_000
"""How far ahead of this clock a broker's may be; a later time is not one of appending."""


def records_of(partition: Partition, found: Iterable[Any]) -> list[Record]:
    """Return the records of a partition.

    Args:
        partition: the partition.
        found: aiokafka's records, with `offset`, `timestamp`, `key`, `value` and `headers`.
    """
    latest_ms = now_us() // 1000 + AHEAD_MS
    return [_record(partition, record, latest_ms) for record in found]


def _record(partition: Partition, record: Any, latest_ms: int) -> Record:
    event_id, tenant, origin, traceparent = None, b"", b"", b""
    for name, value in record.headers:
        if name == ID:
            event_id = value
        elif name == TENANT:
            tenant = value or b""
        elif name == ORIGIN:
            origin = value or b""
        elif name == TRACEPARENT:
            traceparent = value or b""
    return Record(
        partition,
        record.offset,
        append_time_ms(record.timestamp, latest_ms),
        record.key,
        record.value,
        event_id,
        tenant or tenant_of_key(record.key),
        origin,
        traceparent if traceparent and parsed(traceparent) else b"",
    )
