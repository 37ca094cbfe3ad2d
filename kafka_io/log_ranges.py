"""Reads ranges of topics: from an instant to an instant, or from an offset, to a known end.

The ends are asked for once, when a range is found; a reader never goes beyond. Only committed
records are read. Each function raises `Unread` if Kafka cannot be read, and `TimeoutError` after
half a minute without an answer.
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from kafka_io import client
from kafka_io.errors import Unread
from kafka_io.reader import ConsumedRecord, as_consumed
from kafka_io.refusals import reason_of
from kafka_io.settings import ProducerSettings
from kafka_io.topic_admin import TopicAdmin

_TIMEOUT_S = 30.0
_POLL_MS = 500
_FETCH_WAIT_MS = 20
"""The records exist already, so a broker need not wait for more."""
RECORDS_MAX = 2_000
"""The most records that are returned at once."""
CLOCK_STEP_MS = 5 * 60 * 1000
"""How far a broker's clock may have stepped back. Records may follow the first one that is later
than an instant, and be earlier; so a range ends only with the first one that is later by this."""


@dataclass(frozen=True, slots=True)
class LogRange:
    """Offsets of a partition, in one incarnation of its topic."""

    topic: str
    """The topic's full name."""
    epoch: str
    """The topic's id in hexadecimal."""
    partition: int
    begin: int
    """The first offset."""
    end: int
    """The offset after the last one."""

    @property
    def home(self) -> TopicPartition:
        """The partition as aiokafka names it."""
        return TopicPartition(self.topic, self.partition)


async def find_ranges(
    topics: Sequence[str],
    settings: ProducerSettings,
    *,
    since_ms: int | None = None,
    until_ms: int | None = None,
) -> list[LogRange]:
    """Return the ranges that hold all records of topics which the log got in an interval.

    A range may begin and end with records outside of the interval.

    Args:
        topics: full names; those that do not exist are left out.
        settings: where Kafka is.
        since_ms: the beginning, in milliseconds since 1970 UTC; None for that of the log.
        until_ms: the end; None for the present one.
    """
    admin = TopicAdmin(settings.bootstrap_servers, timeout_s=_TIMEOUT_S)
    known = await asyncio.to_thread(admin.describe, sorted(set(topics)))
    homes = [
        TopicPartition(name, number)
        for name, topic in sorted(known.items())
        for number in range(topic.partitions)
    ]
    if not homes:
        return []
    consumer = client.consumer(settings.bootstrap_servers, fetch_max_wait_ms=_FETCH_WAIT_MS)
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            await consumer.start()
            await client.require_topics(consumer, known)
            begins: Mapping[TopicPartition, int] = await consumer.beginning_offsets(homes)
            ends: Mapping[TopicPartition, int] = await consumer.end_offsets(homes)
            if since_ms is not None:
                begins = await _first_since(consumer, since_ms, ends)
            if until_ms is not None:
                ends = await _first_since(consumer, until_ms + CLOCK_STEP_MS, ends)
    except KafkaError as error:
        raise Unread(f"the log cannot be read: {reason_of(error)}") from error
    finally:
        await client.stop(consumer)
    return [
        LogRange(
            home.topic,
            known[home.topic].topic_id.hex(),
            home.partition,
            begins[home],
            max(begins[home], ends[home]),
        )
        for home in homes
    ]


async def read_ranges(
    ranges: Sequence[LogRange], settings: ProducerSettings
) -> AsyncGenerator[tuple[LogRange, Sequence[ConsumedRecord]]]:
    """Yield the records of ranges, one range after the other, some records at a time.

    The range that comes with records says which of its offsets they cover, from the end of the
    last one on: offsets between records are those of markers of transactions, or compacted away.

    Args:
        ranges: the ranges.
        settings: where Kafka is.
    """
    spans = [span for span in ranges if span.begin < span.end]
    if not spans:
        return
    consumer = client.consumer(
        settings.bootstrap_servers,
        fetch_max_wait_ms=_FETCH_WAIT_MS,
        auto_offset_reset="earliest",  # the log may have deleted the first records by now
    )
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            await consumer.start()
            await client.require_topics(consumer, {span.topic for span in spans})
        for span in spans:
            consumer.assign([span.home])
            consumer.seek(span.home, span.begin)
            begin = span.begin
            while begin < span.end:
                records, position = await _next_records(consumer, span.home)
                found = [as_consumed(record) for record in records if record.offset < span.end]
                until = min(position, span.end)
                yield replace(span, begin=begin, end=until), found
                begin = until
    except KafkaError as error:
        raise Unread(f"the log cannot be read: {reason_of(error)}") from error
    finally:
        await client.stop(consumer)


async def _next_records(
    consumer: AIOKafkaConsumer, home: TopicPartition
) -> tuple[Sequence[Any], int]:
    """Return the next records of a partition, and the offset after them; wait for either."""
    async with asyncio.timeout(_TIMEOUT_S):
        before = await consumer.position(home)
        while True:
            batches = await consumer.getmany(home, timeout_ms=_POLL_MS, max_records=RECORDS_MAX)
            position = await consumer.position(home)
            if position > before:
                return batches.get(home, []), position


async def _first_since(
    consumer: AIOKafkaConsumer, append_ms: int, ends: Mapping[TopicPartition, int]
) -> Mapping[TopicPartition, int]:
    """Return the first offset that was appended at a time or later; the end where none was."""
    found = await consumer.offsets_for_times(dict.fromkeys(ends, append_ms))
    return {home: end if found[home] is None else found[home].offset for home, end in ends.items()}
