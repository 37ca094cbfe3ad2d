"""Reads the log as rows of tables: which of its offsets, and the rows in them, batch by batch."""

from collections.abc import AsyncGenerator, Sequence
from typing import NamedTuple, Protocol

import pyarrow as pa

from analytics.columns import schema_of
from analytics.decoding import TOMBSTONE, decode
from analytics.names import EventTable
from kafka_io.log_ranges import LogRange, find_ranges, read_ranges
from kafka_io.reader import ConsumedRecord
from kafka_io.settings import ProducerSettings
from schemas.gate import AHEAD_US
from schemas.headers import tenant_in

BATCH_ROWS = 10_000
BATCH_BYTES = 16 << 20
"""Rows are handed on when there are so many, or when their records have so many bytes."""


class Log(Protocol):
    """The log, as tables are read from it."""

    ahead_us: float
    """How far ahead of its time in the log the time of an event may be, in microseconds."""

    def full_name(self, topic: str) -> str:
        """Return a topic's name in Kafka, with the system's prefix."""
        ...

    async def ranges(
        self, topics: Sequence[str], since_ms: int | None = None, until_ms: int | None = None
    ) -> Sequence[LogRange]:
        """Return ranges of topics that hold all records of an interval.

        Args:
            topics: the topics' names in the catalogue.
            since_ms: the beginning, in milliseconds since 1970 UTC; None for that of the log.
            until_ms: the end; None for the present one.
        """
        ...

    def read(
        self, ranges: Sequence[LogRange]
    ) -> AsyncGenerator[tuple[LogRange, Sequence[ConsumedRecord]]]:
        """Yield the records of ranges, with the part of a range that they are of."""
        ...


class KafkaLog:
    """The log in Kafka."""

    def __init__(self, settings: ProducerSettings) -> None:
        self._settings = settings
        self.ahead_us = settings.ahead_s * 1e6

    def full_name(self, topic: str) -> str:
        """Return a topic's name in Kafka, with the system's prefix."""
        return self._settings.topic_prefix + topic

    async def ranges(
        self, topics: Sequence[str], since_ms: int | None = None, until_ms: int | None = None
    ) -> Sequence[LogRange]:
        """Return ranges of topics that hold all records of an interval."""
        names = [self.full_name(topic) for topic in topics]
        return await find_ranges(names, self._settings, since_ms=since_ms, until_ms=until_ms)

    def read(
        self, ranges: Sequence[LogRange]
    ) -> AsyncGenerator[tuple[LogRange, Sequence[ConsumedRecord]]]:
        """Yield the records of ranges."""
        return read_ranges(ranges, self._settings)


class Interval(NamedTuple):
    """An interval of times of the log, in milliseconds since 1970 UTC."""

    since_ms: int | None = None
    until_ms: int | None = None
    """The first time after it."""

    def includes(self, record: ConsumedRecord) -> bool:
        """Return whether the log got a record in the interval."""
        at_ms = round(record.timestamp * 1000)
        is_early = self.since_ms is not None and at_ms < self.since_ms
        return not is_early and (self.until_ms is None or at_ms < self.until_ms)


class RowBatch(NamedTuple):
    """Rows of a table."""

    rows: pa.RecordBatch
    refused: int
    """The records among them that the gate refused, which are no rows."""


async def read_rows(
    log: Log,
    table: EventTable,
    ranges: Sequence[LogRange],
    interval: Interval = Interval(),  # noqa: B008  # it cannot change
    tenant: str | None = None,
) -> AsyncGenerator[RowBatch]:
    """Yield the rows of a table in ranges of the log.

    Args:
        log: the log.
        table: the table.
        ranges: the ranges, of the table's topic.
        interval: the times of the log that are taken.
        tenant: the tenant whose rows are taken; empty for those without one, None for all.
    """
    held: list[ConsumedRecord] = []
    held_bytes, epoch = 0, ""
    async for span, records in log.read(ranges):
        if span.epoch != epoch and held:
            yield rows_of(table, epoch, held, tenant, log.ahead_us)
            held, held_bytes = [], 0
        epoch = span.epoch
        for record in records:
            if not interval.includes(record):
                continue
            held.append(record)
            held_bytes += len(record.value or b"")
            if len(held) >= BATCH_ROWS or held_bytes >= BATCH_BYTES:
                yield rows_of(table, epoch, held, tenant, log.ahead_us)
                held, held_bytes = [], 0
    if held:
        yield rows_of(table, epoch, held, tenant, log.ahead_us)


def rows_of(
    table: EventTable,
    epoch: str,
    records: Sequence[ConsumedRecord],
    tenant: str | None = None,
    ahead_us: float = AHEAD_US,
) -> RowBatch:
    """Return the rows of a table among records, as a lake has them.

    Args:
        table: the table; records of other classes in the same topic are left out.
        epoch: the topic's id in hexadecimal.
        records: the records.
        tenant: the tenant whose records are taken; empty for those without one, None for all.
        ahead_us: how far ahead of the log's time observed times may be, in microseconds.
    """
    if tenant is not None:
        records = [record for record in records if (tenant_in(record.headers) or "") == tenant]
    decoded = decode(table.topic.records, epoch, records, ahead_us=ahead_us)
    refused = sum(reason != TOMBSTONE for reason in decoded.refused["reason"].to_pylist())
    schema = schema_of(table.kind)
    rows = decoded.events.get(table.kind, schema.empty_table()).combine_chunks()
    columns = [column.chunk(0) if column.num_chunks else [] for column in rows.columns]
    return RowBatch(pa.RecordBatch.from_arrays(columns, schema=schema), refused)
