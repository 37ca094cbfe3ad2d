"""A topic of alerts for engines of others, and the rows that Tapewire's own sink has of it."""

from collections.abc import Iterable, Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, cast

import fastavro
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from analytics.decoding import decode
from analytics.sinks.address import open_sink
from analytics.sinks.base import Lane, Span, Tables
from analytics.table_names import table_name
from kafka_io.reader import ConsumedRecord
from schemas.codec import MARKER, encode, fingerprint_of_schema, versions
from schemas.events import RiskAlert
from tests.support.alerts import raised_alert

PARTITIONS = 3
EPOCH = "0a"
TENANT = b"acme"
_BEGIN_US = 1_700_000_000_000_000
_HEAD_BYTES = 10
_NEWEST: Any = versions("RiskAlert")[-1]
_OLDEST: Any = versions("RiskAlert")[0]

Row = tuple[bytes | None, list[tuple[str, str | bytes | None]]]
"""A value, and the record's headers."""


def alert_body(number: int, *, oldest: bool = False) -> bytes:
    """Return an alert without its framing, in the newest version of its schema or in the oldest."""
    alert = raised_alert(f"t{number}", event_time_us=_BEGIN_US + number)
    body = encode(alert)[_HEAD_BYTES:]
    if not oldest:
        return body
    old = BytesIO()
    datum = fastavro.schemaless_reader(BytesIO(body), _NEWEST, _OLDEST)
    fastavro.schemaless_writer(old, _OLDEST, cast("Any", datum))
    return old.getvalue()


def single_object(number: int, *, oldest: bool = False) -> bytes:
    """Return an alert in single-object encoding."""
    head = MARKER + fingerprint_of_schema(_OLDEST if oldest else _NEWEST)
    return head + alert_body(number, oldest=oldest)


def confluent(number: int, ids: Mapping[str, int], *, oldest: bool = False) -> bytes:
    """Return an alert in Confluent's framing; `ids` has the schemas' by their fingerprints."""
    schema_id = ids[fingerprint_of_schema(_OLDEST if oldest else _NEWEST).hex()]
    return b"\0" + schema_id.to_bytes(4) + alert_body(number, oldest=oldest)


def ids_of(oldest: int, newest: int) -> dict[str, int]:
    """Return a registry's ids of both versions, as `confluent` takes them."""
    return {
        fingerprint_of_schema(_OLDEST).hex(): oldest,
        fingerprint_of_schema(_NEWEST).hex(): newest,
    }


def write(servers: str, topic: str, values: Iterable[Row]) -> None:
    """Make a topic, and write values to its partitions in turn."""
    admin = AdminClient({"bootstrap.servers": servers})
    admin.create_topics([NewTopic(topic, PARTITIONS, 1)])[topic].result()
    producer = Producer({"bootstrap.servers": servers, "linger.ms": 50})
    for number, (value, headers) in enumerate(values):
        producer.produce(topic, value, partition=number % PARTITIONS, headers=headers)
        producer.poll(0)
        if number % 10_000 == 0:
            producer.flush()
    assert producer.flush(60) == 0


def own_rows(servers: str, topic: str, lake: Path, ids: Mapping[str, int]) -> list[dict[str, Any]]:
    """Return the rows that our sink has of a topic of alerts, where `ids` are a registry's."""
    sink = cast("Tables", open_sink(f"delta:{lake}/own"))
    table = table_name(RiskAlert)
    marks = {schema_id: bytes.fromhex(mark) for mark, schema_id in ids.items()}
    for partition in range(PARTITIONS):
        records = list(_records(servers, topic, partition, marks))
        rows = decode([RiskAlert], EPOCH, records).events[RiskAlert]
        sink.append(table, rows, [Span(Lane(topic, EPOCH, partition), 0, len(records))])
    return [dict(row) for row in sink.read(table).to_pylist()]


def by_place(
    rows: Iterable[Mapping[str, Any]], without: Iterable[str] = ()
) -> dict[tuple[int, int], dict[str, Any]]:
    """Return rows by their partition and offset, without the columns that one writer only has."""
    return {
        (row["_partition"], row["_offset"]): {
            name: value for name, value in row.items() if name not in without
        }
        for row in rows
    }


def _records(
    servers: str, topic: str, partition: int, marks: Mapping[int, bytes]
) -> Iterator[ConsumedRecord]:
    """Yield a partition's records; those in Confluent's framing as single objects."""
    consumer = Consumer({"bootstrap.servers": servers, "group.id": "unused"})
    try:
        place = TopicPartition(topic, partition, 0)
        _, end = consumer.get_watermark_offsets(place, timeout=30)
        consumer.assign([place])
        found = 0
        while found < end:
            for message in consumer.consume(min(10_000, end - found), timeout=30):
                assert message.error() is None
                found += 1
                value = message.value()
                if value is not None and value[:1] == b"\0":
                    mark = marks.get(int.from_bytes(value[1:5]))
                    value = value if mark is None else MARKER + mark + value[5:]
                yield ConsumedRecord(
                    topic,
                    partition,
                    message.offset() or 0,
                    message.timestamp()[1] / 1_000,
                    message.key(),
                    value,
                    tuple(cast("Any", message.headers() or ())),
                )
    finally:
        consumer.close()
