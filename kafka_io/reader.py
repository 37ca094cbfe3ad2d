"""Reads of topics from outside: all records, the newest, one key's, and what a group has left.

Each function opens a consumer without a group, reads up to the offsets that were the end when it
began, and closes it. Only committed records are read, and a value that cannot be decoded is left
out. A `tenant` is whose records are read: empty for those of no tenant, None for all. Each function
raises `Unread` if Kafka cannot be read, and `TimeoutError` after half a minute without an answer.
"""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, suppress
from typing import Any, NamedTuple, Protocol

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from kafka_io import client
from kafka_io.client import homes_of, partition_of
from kafka_io.clock import append_time_ms
from kafka_io.errors import Unread
from kafka_io.refusals import reason_of
from kafka_io.settings import ProducerSettings
from schemas.errors import Refused
from schemas.events import Record
from schemas.gate import admit
from schemas.headers import tenant_in
from schemas.keys import tenant_of_key
from schemas.topics import Topic

logger = logging.getLogger(__name__)

_TIMEOUT_S = 30.0
_ROWS_KEPT = 3
"""The rows of a key that are kept while a table is read, in case that the last is refused."""
_FETCH_WAIT_MS = 20
"""The records exist already, so a broker need not wait for more."""
_POLL_MS = 1_000

Ends = Mapping[TopicPartition, int]
"""The offset that the next record of each partition will have."""


class ConsumedRecord(NamedTuple):
    """A record as Kafka holds it."""

    topic: str
    partition: int
    offset: int
    timestamp: float
    """The broker's time of appending, in seconds since 1970; 0 if it is unknown."""
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


def as_consumed(record: Any) -> ConsumedRecord:
    """Return a record of aiokafka's consumer as the rest of the system reads it."""
    return ConsumedRecord(
        record.topic,
        record.partition,
        record.offset,
        append_time_ms(record.timestamp) / 1000,
        record.key,
        record.value,
        record.headers,
    )


class KeyFollower:
    """Reads the records of one key, from a time on, as they are written."""

    def __init__(self, consumer: AIOKafkaConsumer, topic: str, key: bytes, since_ms: int) -> None:
        """Follow a key.

        Args:
            consumer: a started consumer without an assignment.
            topic: the full name of the topic.
            key: the records' key.
            since_ms: the earliest append time, in milliseconds since 1970.
        """
        partitions = consumer.partitions_for_topic(topic) or {0}
        self._partition = TopicPartition(topic, partition_of(key, len(partitions)))
        self._consumer = consumer
        self._key = key
        self._since_ms: int | None = since_ms

    async def poll(self) -> Sequence[Record]:
        """Return the records that were written since the last call."""
        partition, consumer = self._partition, self._consumer
        end = (await consumer.end_offsets([partition]))[partition]
        if self._since_ms is not None:
            consumer.assign([partition])
            start = (await consumer.offsets_for_times({partition: self._since_ms}))[partition]
            consumer.seek(partition, end if start is None else start.offset)
            self._since_ms = None
        found = []
        while await consumer.position(partition) < end:
            for record in (await consumer.getmany(timeout_ms=_POLL_MS)).get(partition, []):
                if record.key == self._key:
                    with suppress(Refused):
                        found.append(admit(record.value))
        return found


@asynccontextmanager
async def follow_key(
    topic: Topic, key: bytes, since_ms: int, settings: ProducerSettings
) -> AsyncGenerator[KeyFollower]:
    """Follow the records of a key that are written from a time on.

    Args:
        topic: the topic.
        key: the records' key.
        since_ms: the earliest append time, in milliseconds since 1970.
        settings: where Kafka is.
    """
    name = settings.topic_prefix + topic.name
    async with _topic_consumer(name, settings) as consumer:
        yield KeyFollower(consumer, name, key, since_ms)


async def read_newest(
    topic: Topic, settings: ProducerSettings, count: int = 1, tenant: str | None = None
) -> list[Record]:
    """Return the tenant's among the last `count` records of each partition, in their order."""
    name = settings.topic_prefix + topic.name
    async with asyncio.timeout(_TIMEOUT_S), _topic_consumer(name, settings) as consumer:
        partitions = _partitions_of(consumer, name)
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        begins = await consumer.beginning_offsets(partitions)
        for partition in partitions:
            consumer.seek(partition, max(begins[partition], ends[partition] - count))
        return await _decode_until(consumer, ends, tenant)


async def read_table(
    topic: Topic, settings: ProducerSettings, tenant: str | None = None
) -> Mapping[bytes, Record]:
    """Return the last record of each key of a compacted topic.

    Where the topic has grown, an earlier partition may still have a record of a key; the highest
    of its partitions has the last one.
    """
    name = settings.topic_prefix + topic.name
    table: dict[bytes, Record] = {}
    homes: dict[bytes, int] = {}
    async with asyncio.timeout(_TIMEOUT_S), _topic_consumer(name, settings) as consumer:
        partitions = _partitions_of(consumer, name)
        async for home, record in _records_until(
            consumer, await _ends_from_start(consumer, partitions)
        ):
            key = record.key or b""
            if home.partition < homes.get(key, 0):
                continue
            if record.value is None:
                table.pop(key, None)
                homes.pop(key, None)
                continue
            if not _is_of(record, tenant):
                continue
            with suppress(Refused):  # the key's record before it holds
                row = admit(record.value)
                table.pop(key, None)  # so that the record that changed last is last
                table[key] = row
                homes[key] = home.partition
    return table


async def read_partition(
    topic: Topic, key: bytes, settings: ProducerSettings, tenant: str | None = None
) -> list[Record]:
    """Return all records of the partition that holds a key, and of those that held it before."""
    name = settings.topic_prefix + topic.name
    async with _topic_consumer(name, settings) as consumer:
        partitions = consumer.partitions_for_topic(name) or {0}
        numbers = sorted(homes_of(key, len(partitions), topic.partitions))
        homes = [TopicPartition(name, number) for number in numbers]
        return await _decode_until(consumer, await _ends_from_start(consumer, homes), tenant)


async def read_homes(
    topic: Topic, key: bytes, settings: ProducerSettings, tenant: str | None = None
) -> list[ConsumedRecord]:
    """Return all records as `read_partition` does, as Kafka holds them."""
    name = settings.topic_prefix + topic.name
    async with _topic_consumer(name, settings) as consumer:
        partitions = consumer.partitions_for_topic(name) or {0}
        numbers = sorted(homes_of(key, len(partitions), topic.partitions))
        found: dict[int, list[ConsumedRecord]] = {number: [] for number in numbers}
        homes = [TopicPartition(name, number) for number in numbers]
        ends = await _ends_from_start(consumer, homes)
        async for home, record in _records_until(consumer, ends):
            if _is_of(record, tenant):
                found[home.partition].append(as_consumed(record))
    return [record for records in found.values() for record in records]


async def read_all(topic: Topic, settings: ProducerSettings) -> list[Record]:
    """Return all records of a topic, partition by partition."""
    return [record for _, record in await read_keyed(topic, settings)]


async def read_keyed(topic: Topic, settings: ProducerSettings) -> list[tuple[bytes, Record]]:
    """Return all records of a topic, each with its key, partition by partition."""
    name = settings.topic_prefix + topic.name
    async with _topic_consumer(name, settings) as consumer:
        partitions = _partitions_of(consumer, name)
        return await _decode_keyed(consumer, await _ends_from_start(consumer, partitions))


async def read_uncommitted(
    topics: Sequence[Topic], partition: int, group: str, settings: ProducerSettings
) -> list[ConsumedRecord]:
    """Return the records of one partition number that a group has not committed.

    They are in the order of their append times; of equal times, in the order of the topics.
    """
    partitions = [TopicPartition(settings.topic_prefix + topic.name, partition) for topic in topics]
    found: list[ConsumedRecord] = []
    async with asyncio.timeout(_TIMEOUT_S), _observer(group, settings) as consumer:
        ends = await _ends_from_start(consumer, partitions)
        for home in partitions:
            offset = await consumer.committed(home)
            if offset is not None:
                consumer.seek(home, offset)
        async for _, record in _records_until(consumer, ends):
            found.append(as_consumed(record))
    ranks = {home.topic: rank for rank, home in enumerate(partitions)}
    return sorted(found, key=lambda record: (record.timestamp, ranks[record.topic], record.offset))


async def read_rows(
    topics: Mapping[str, Topic], number: int, settings: ProducerSettings
) -> Mapping[str, Mapping[bytes, Record]]:
    """Return the rows of one partition number of compacted topics, by full name and by key.

    A row that the gate refuses is not of this system. It is passed over, with a line in the log,
    and the key's last row before it holds.
    """
    partitions = [TopicPartition(topic, number) for topic in topics]
    values: dict[str, dict[bytes, deque[bytes]]] = {topic: {} for topic in topics}
    async with _observer(None, settings) as consumer:
        ends = await _ends_from_start(consumer, partitions)
        async for home, record in _records_until(consumer, ends):
            if record.value is None:
                values[home.topic].pop(record.key or b"", None)
            else:
                of_key = values[home.topic].setdefault(record.key or b"", deque(maxlen=_ROWS_KEPT))
                of_key.append(record.value)
    return {
        name: dict(_admitted_rows(f"{name}/{number}", rows, topics[name].rows))
        for name, rows in values.items()
    }


def _admitted_rows(
    place: str, rows: Mapping[bytes, Iterable[bytes]], kinds: Sequence[type[Record]]
) -> Iterator[tuple[bytes, Record]]:
    for key, values in rows.items():
        for value in reversed(tuple(values)):
            try:
                row = admit(value, *kinds)
            except Refused as error:
                logger.error(  # noqa: TRY400  # the text says it all
                    "a row of %r in %s is passed over: %s", key[:80], place, error
                )
            else:
                yield key, row
                break


async def stream_records(
    topic: str,
    settings: ProducerSettings,
    *,
    since_ms: int | None = None,
    newest: int | None = None,
    follow: bool = False,
) -> AsyncGenerator[ConsumedRecord]:
    """Yield records of a topic; those that are fetched together, by their append times.

    Args:
        topic: the topic's full name.
        settings: where Kafka is.
        since_ms: the earliest append time, in milliseconds since 1970 UTC; None for any.
        newest: the most records of each partition, of its last ones; None for all.
        follow: whether to wait for further records, for ever, instead of ending at the end.

    Raises:
        TimeoutError: it does not follow, and half a minute has passed without a record.
    """
    async with _topic_consumer(topic, settings) as consumer:
        partitions = _partitions_of(consumer, topic)
        if not partitions:
            raise Unread(f"there is no topic {topic}; `tapewire topics create` makes it")
        async with asyncio.timeout(_TIMEOUT_S):
            ends = await _ends_from_start(consumer, partitions)
            begins = await consumer.beginning_offsets(partitions)
            found = (
                await consumer.offsets_for_times(dict.fromkeys(partitions, since_ms))
                if since_ms is not None
                else {}
            )
        for home in partitions:
            start = begins[home]
            if since_ms is not None:
                start = ends[home] if found[home] is None else found[home].offset
            if newest is not None:
                start = max(start, ends[home] - newest)
            consumer.seek(home, start)
        now_s = asyncio.get_running_loop().time
        silent_until_s = now_s() + _TIMEOUT_S
        while True:
            async with asyncio.timeout_at(None if follow else silent_until_s):
                at_end = [await consumer.position(home) >= ends[home] for home in ends]
                if not follow and all(at_end):
                    return
                batches = await consumer.getmany(timeout_ms=_POLL_MS)
            records = [as_consumed(record) for batch in batches.values() for record in batch]
            for record in sorted(records, key=_time_and_place):
                yield record
            if records:
                silent_until_s = now_s() + _TIMEOUT_S


async def read_last(
    partitions: Mapping[str, int], settings: ProducerSettings, count: int
) -> list[ConsumedRecord]:
    """Return the records among the last offsets of each partition of some topics.

    Args:
        partitions: the number of partitions of each topic, by its full name.
        settings: where Kafka is.
        count: how many offsets of each partition; markers of transactions have some of them.
    """
    homes = [
        TopicPartition(name, number) for name, size in partitions.items() for number in range(size)
    ]
    if not homes:
        return []
    async with asyncio.timeout(_TIMEOUT_S), _observer(None, settings) as consumer:
        await client.require_topics(consumer, partitions)
        consumer.assign(homes)
        ends = await consumer.end_offsets(homes)
        begins = await consumer.beginning_offsets(homes)
        for home in homes:
            consumer.seek(home, max(begins[home], ends[home] - count))
        return [as_consumed(record) async for _, record in _records_until(consumer, ends)]


def _time_and_place(record: ConsumedRecord) -> tuple[float, int, int]:
    return record.timestamp, record.partition, record.offset


class OffsetRange(NamedTuple):
    """The offsets of a partition, and how far a group has read it."""

    begin: int
    end: int
    committed: int | None
    """None if the group has committed no offset."""


async def read_offsets(
    topics: Sequence[str], number: int, group: str, settings: ProducerSettings
) -> Mapping[str, OffsetRange]:
    """Return the offsets of one partition number of topics, by the topic's full name."""
    partitions = [TopicPartition(topic, number) for topic in topics]
    async with asyncio.timeout(_TIMEOUT_S), _observer(group, settings) as consumer:
        await client.require_topics(consumer, {home.topic for home in partitions})
        consumer.assign(partitions)
        begins = await consumer.beginning_offsets(partitions)
        ends = await consumer.end_offsets(partitions)
        return {
            home.topic: OffsetRange(begins[home], ends[home], await consumer.committed(home))
            for home in partitions
        }


async def read_between(
    topic: str, number: int, offsets: range, settings: ProducerSettings, *, resolves: bool = True
) -> list[ConsumedRecord]:
    """Return the records of a partition whose offsets are in a range, if the log has them.

    Args:
        topic: the full name of the topic.
        number: the partition.
        offsets: the range.
        settings: where Kafka is.
        resolves: whether values in Confluent's framings are read in single-object encoding; else
            they are as the log has them.
    """
    home = TopicPartition(topic, number)
    found = []
    async with (
        asyncio.timeout(_TIMEOUT_S),
        _observer(None, settings, resolves=resolves) as consumer,
    ):
        await client.require_topics(consumer, [topic])
        consumer.assign([home])
        begin = (await consumer.beginning_offsets([home]))[home]
        end = (await consumer.end_offsets([home]))[home]
        start, stop = max(offsets.start, begin), min(offsets.stop, end)
        if start < stop:
            consumer.seek(home, start)
            async for _, record in _records_until(consumer, {home: stop}):
                if record.offset < stop:
                    found.append(as_consumed(record))
    return found


class PastRecords(NamedTuple):
    """Records of the partitions that hold a key."""

    is_whole: bool
    """Whether the log has all records since the time that was asked for."""
    read: AsyncIterator[ConsumedRecord]
    """Reads the records, partition by partition."""


class OpenPast(Protocol):
    """Opens the past of a key, as `open_past` does."""

    def __call__(
        self, topic: Topic, key: bytes, since_ms: int, settings: ProducerSettings
    ) -> AbstractAsyncContextManager[PastRecords]:
        """Return the records."""
        ...


@asynccontextmanager
async def open_past(
    topic: Topic, key: bytes, since_ms: int, settings: ProducerSettings
) -> AsyncGenerator[PastRecords]:
    """Read the records of a key that were appended since a time, among all of its partitions.

    Args:
        topic: the topic.
        key: the key, whose partitions are read: the present one, and those before the topic grew.
        since_ms: the time, in milliseconds since 1970 UTC.
        settings: where Kafka is.
    """
    name = settings.topic_prefix + topic.name
    async with _topic_consumer(name, settings) as consumer:
        count = len(consumer.partitions_for_topic(name) or {0})
        numbers = homes_of(key, count, topic.partitions)
        homes = [TopicPartition(name, number) for number in sorted(numbers)]
        async with asyncio.timeout(_TIMEOUT_S):
            consumer.assign(homes)
            begins = await consumer.beginning_offsets(homes)
            ends = await consumer.end_offsets(homes)
            found = await consumer.offsets_for_times(dict.fromkeys(homes, since_ms))
        starts = {home: ends[home] if found[home] is None else found[home].offset for home in homes}
        is_whole = all(begins[home] == 0 or begins[home] < starts[home] for home in homes)

        async def read() -> AsyncGenerator[ConsumedRecord]:
            for home in homes:
                consumer.assign([home])
                consumer.seek(home, starts[home])
                async for _, record in _records_until(consumer, {home: ends[home]}):
                    if record.offset < ends[home]:
                        yield as_consumed(record)

        async with aclosing(read()) as records:
            yield PastRecords(is_whole, records)


async def find_offset_after(
    topic: str, number: int, append_ms: int, settings: ProducerSettings
) -> int | None:
    """Return the first offset of a partition that was appended after a time; None if none was.

    Args:
        topic: the topic's full name.
        number: the partition.
        append_ms: milliseconds since 1970 UTC.
        settings: where Kafka is.
    """
    home = TopicPartition(topic, number)
    async with asyncio.timeout(_TIMEOUT_S), _observer(None, settings) as consumer:
        await client.require_topics(consumer, [topic])
        consumer.assign([home])
        found = (await consumer.offsets_for_times({home: append_ms + 1}))[home]
    return None if found is None else int(found.offset)


async def read_end_offsets(topics: Sequence[Topic], settings: ProducerSettings) -> Ends:
    """Return the present end offset of each partition of some topics."""
    partitions = [
        TopicPartition(settings.topic_prefix + topic.name, partition)
        for topic in topics
        for partition in range(topic.partitions)
    ]
    async with asyncio.timeout(_TIMEOUT_S), _observer(None, settings) as consumer:
        await client.require_topics(consumer, {home.topic for home in partitions})
        consumer.assign(partitions)
        ends: Ends = await consumer.end_offsets(partitions)
    return ends


async def count_uncommitted(ends: Ends, group: str, settings: ProducerSettings) -> int:
    """Return how many records before some end offsets a consumer group has not committed."""
    count = 0
    async with asyncio.timeout(_TIMEOUT_S), _observer(group, settings) as consumer:
        await client.require_topics(consumer, {home.topic for home in ends})
        consumer.assign(list(ends))
        begins = await consumer.beginning_offsets(list(ends))
        for partition, end in ends.items():
            committed = await consumer.committed(partition)
            count += max(0, end - max(begins[partition], committed or 0))
    return count


@asynccontextmanager
async def _topic_consumer(
    topic: str, settings: ProducerSettings
) -> AsyncGenerator[AIOKafkaConsumer]:
    """Start a consumer that knows a topic's partitions, and has none assigned."""
    consumer = client.consumer(settings.bootstrap_servers, topic, fetch_max_wait_ms=_FETCH_WAIT_MS)
    async with _started(consumer, f"{topic} cannot be read"):
        consumer.unsubscribe()
        yield consumer


@asynccontextmanager
async def _observer(
    group: str | None, settings: ProducerSettings, *, resolves: bool = True
) -> AsyncGenerator[AIOKafkaConsumer]:
    """Start a consumer that can ask for a group's committed offsets, and does not join it."""
    consumer = client.consumer(
        settings.bootstrap_servers,
        resolves=resolves,
        group_id=group,
        fetch_max_wait_ms=_FETCH_WAIT_MS,
    )
    async with _started(consumer, f"the offsets of group {group} cannot be read"):
        yield consumer


@asynccontextmanager
async def _started(consumer: AIOKafkaConsumer, failure: str) -> AsyncGenerator[None]:
    try:
        await consumer.start()
        yield
    except KafkaError as error:
        raise Unread(f"{failure}: {reason_of(error)}") from error
    finally:
        await client.stop(consumer)


def _partitions_of(consumer: AIOKafkaConsumer, topic: str) -> list[TopicPartition]:
    numbers: Iterable[int] = consumer.partitions_for_topic(topic) or ()
    return [TopicPartition(topic, number) for number in sorted(numbers)]


async def _ends_from_start(
    consumer: AIOKafkaConsumer, partitions: Sequence[TopicPartition]
) -> Ends:
    """Assign partitions, go to their first records, and return their end offsets."""
    async with asyncio.timeout(_TIMEOUT_S):
        await client.require_topics(consumer, {home.topic for home in partitions})
        consumer.assign(partitions)
        await consumer.seek_to_beginning()
        ends: Ends = await consumer.end_offsets(partitions)
    return ends


async def _decode_until(
    consumer: AIOKafkaConsumer, ends: Ends, tenant: str | None = None
) -> list[Record]:
    """Decode a tenant's records before some end offsets, partition by partition."""
    return [record for _, record in await _decode_keyed(consumer, ends, tenant)]


async def _decode_keyed(
    consumer: AIOKafkaConsumer, ends: Ends, tenant: str | None = None
) -> list[tuple[bytes, Record]]:
    found: dict[TopicPartition, list[tuple[bytes, Record]]]
    found = {partition: [] for partition in ends}
    async for partition, record in _records_until(consumer, ends):
        if not _is_of(record, tenant):
            continue
        with suppress(Refused):
            found[partition].append((record.key or b"", admit(record.value)))
    return [keyed for records in found.values() for keyed in records]


def _is_of(record: Any, tenant: str | None) -> bool:
    """Return whether a record is a tenant's; a row of a state has the tenant in its key only."""
    if tenant is None:
        return True
    named = tenant_in(record.headers) or tenant_of_key(record.key)
    return (named or "") == tenant


async def _records_until(
    consumer: AIOKafkaConsumer, ends: Ends
) -> AsyncGenerator[tuple[TopicPartition, Any]]:
    """Read on to some end offsets; half a minute without a record is a `TimeoutError`."""
    now_s = asyncio.get_running_loop().time
    deadline_s = now_s() + _TIMEOUT_S
    while True:
        async with asyncio.timeout_at(deadline_s):
            if all([await consumer.position(home) >= end for home, end in ends.items()]):
                return
            batches = await consumer.getmany(timeout_ms=_POLL_MS)
        for partition, records in batches.items():
            deadline_s = now_s() + _TIMEOUT_S
            for record in records:
                yield partition, record
