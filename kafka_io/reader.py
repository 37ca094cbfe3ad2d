"""What a log holds, looked at from outside: its newest records, all of them, who is behind."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from aiokafka.partitioner import DefaultPartitioner

from kafka_io.errors import Unread
from kafka_io.settings import ProducerSettings
from schemas.codec import decode
from schemas.errors import Undecodable
from schemas.events import Record
from schemas.topics import Topic

_TIMEOUT_S = 30.0
_FETCH_WAIT_MS = 20
"""What is read is there: a broker need not wait for more."""


async def read_newest(topic: Topic, settings: ProducerSettings, count: int = 1) -> list[Record]:
    """Read the last records of each partition; what cannot be read is left out.

    Args:
        topic: what to read.
        settings: where Kafka is.
        count: how many of each partition at most.

    Raises:
        Unread: there is no Kafka at the configured address.
        TimeoutError: Kafka did not answer within half a minute.
    """
    name = settings.topic_prefix + topic.name
    async with asyncio.timeout(_TIMEOUT_S), _reader(name, settings) as consumer:
        homes = [
            TopicPartition(name, one) for one in sorted(consumer.partitions_for_topic(name) or ())
        ]
        consumer.assign(homes)
        ends = await consumer.end_offsets(homes)
        begins = await consumer.beginning_offsets(homes)
        for home in homes:
            consumer.seek(home, max(begins[home], ends[home] - count))
        return await _upto(consumer, ends)


async def read_table(topic: Topic, settings: ProducerSettings) -> Mapping[bytes, Record]:
    """Read a compacted topic: the last record of each key; what cannot be read is left out.

    Raises:
        Unread: there is no Kafka at the configured address.
        TimeoutError: Kafka did not answer within half a minute.
    """
    name = settings.topic_prefix + topic.name
    found: dict[bytes, Record] = {}
    async with asyncio.timeout(_TIMEOUT_S), _reader(name, settings) as consumer:
        homes = [TopicPartition(name, one) for one in consumer.partitions_for_topic(name) or ()]
        consumer.assign(homes)
        await consumer.seek_to_beginning()
        ends = await consumer.end_offsets(homes)
        while any([await consumer.position(one) < ends[one] for one in homes]):
            for records in (await consumer.getmany(timeout_ms=1000)).values():
                for record in records:
                    found.pop(
                        record.key or b"", None
                    )  # a record without a value takes its key's away
                    with suppress(Undecodable):
                        found[record.key or b""] = decode(record.value)
    return found


async def read_partition(topic: Topic, key: bytes, settings: ProducerSettings) -> list[Record]:
    """Read the whole partition where a key's records lie; what cannot be read is left out.

    Raises:
        Unread: there is no Kafka at the configured address.
        TimeoutError: Kafka did not answer within half a minute.
    """
    name = settings.topic_prefix + topic.name
    async with _reader(name, settings) as consumer:
        partitions = sorted(consumer.partitions_for_topic(name) or {0})
        home = TopicPartition(name, DefaultPartitioner()(key, partitions, partitions))
        return await _whole(consumer, [home])


class KeyFollower:
    """The records of one key, of those written since a time by the log's clock, as they come."""

    def __init__(self, consumer: AIOKafkaConsumer, topic: str, key: bytes, since_ms: int) -> None:
        partitions = sorted(consumer.partitions_for_topic(topic) or {0})
        self._home = TopicPartition(topic, DefaultPartitioner()(key, partitions, partitions))
        self._consumer = consumer
        self._key = key
        self._since_ms: int | None = since_ms

    async def news(self) -> Sequence[Record]:
        """What has come since the last time; what cannot be read is left out."""
        home, consumer = self._home, self._consumer
        end = (await consumer.end_offsets([home]))[home]
        if self._since_ms is not None:
            consumer.assign([home])
            begin = (await consumer.offsets_for_times({home: self._since_ms}))[home]
            consumer.seek(home, end if begin is None else begin.offset)
            self._since_ms = None
        found = []
        while await consumer.position(home) < end:
            for record in (await consumer.getmany(timeout_ms=1000)).get(home, []):
                if record.key == self._key:
                    with suppress(Undecodable):
                        found.append(decode(record.value))
        return found


@asynccontextmanager
async def follow_key(
    topic: Topic, key: bytes, since_ms: int, settings: ProducerSettings
) -> AsyncGenerator[KeyFollower]:
    """Follow a key's records.

    Raises:
        Unread: there is no Kafka at the configured address, or none any more.
    """
    name = settings.topic_prefix + topic.name
    async with _reader(name, settings) as consumer:
        yield KeyFollower(consumer, name, key, since_ms)


Ends = Mapping[TopicPartition, int]
"""The offset that the next record of each partition will have."""


class ConsumedRecord(NamedTuple):
    """A record as the log has it."""

    topic: str
    partition: int
    offset: int
    timestamp: float
    """In seconds since 1970."""
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


async def read_uncommitted(
    topics: Sequence[Topic], partition: int, group: str, settings: ProducerSettings
) -> list[ConsumedRecord]:
    """Read what a consumer group has not committed of a partition of each topic, by the log's time.

    Raises:
        Unread: there is no Kafka at the configured address.
        TimeoutError: Kafka did not answer within half a minute.
    """
    homes = [TopicPartition(settings.topic_prefix + topic.name, partition) for topic in topics]
    found: list[ConsumedRecord] = []
    async with asyncio.timeout(_TIMEOUT_S), _outsider(group, settings) as consumer:
        consumer.assign(homes)
        await consumer.seek_to_beginning()
        for home in homes:
            offset = await consumer.committed(home)
            if offset is not None:
                consumer.seek(home, offset)
        ends = await consumer.end_offsets(homes)
        while any([await consumer.position(one) < ends[one] for one in homes]):
            for home, records in (await consumer.getmany(timeout_ms=1000)).items():
                found += [
                    ConsumedRecord(
                        *home,
                        record.offset,
                        record.timestamp / 1000,
                        record.key,
                        record.value,
                        record.headers,
                    )
                    for record in records
                ]
    return sorted(found, key=lambda one: one.timestamp)


async def read_end_offsets(topics: Sequence[Topic], settings: ProducerSettings) -> Ends:
    """Where topics end now.

    Raises:
        Unread: there is no Kafka at the configured address.
        TimeoutError: Kafka did not answer within half a minute.
    """
    homes = [
        TopicPartition(settings.topic_prefix + topic.name, partition)
        for topic in topics
        for partition in range(topic.partitions)
    ]
    async with asyncio.timeout(_TIMEOUT_S), _outsider(None, settings) as consumer:
        consumer.assign(homes)
        ends: Ends = await consumer.end_offsets(homes)
    return ends


async def count_uncommitted(ends: Ends, group: str, settings: ProducerSettings) -> int:
    """How many records before some ends a consumer group has not committed.

    Raises:
        Unread: there is no Kafka at the configured address.
        TimeoutError: Kafka did not answer within half a minute.
    """
    count = 0
    async with asyncio.timeout(_TIMEOUT_S), _outsider(group, settings) as consumer:
        consumer.assign(list(ends))
        begins = await consumer.beginning_offsets(list(ends))
        for home, end in ends.items():
            committed = await consumer.committed(home)
            count += max(0, end - max(begins[home], committed or 0))
    return count


async def read_all(topic: Topic, settings: ProducerSettings) -> list[Record]:
    """Read a whole topic; what cannot be read is left out.

    Raises:
        Unread: there is no Kafka at the configured address.
        TimeoutError: Kafka did not answer within half a minute.
    """
    name = settings.topic_prefix + topic.name
    async with _reader(name, settings) as consumer:
        homes = [TopicPartition(name, one) for one in consumer.partitions_for_topic(name) or ()]
        return await _whole(consumer, homes)


@asynccontextmanager
async def _reader(topic: str, settings: ProducerSettings) -> AsyncGenerator[AIOKafkaConsumer]:
    """A consumer that knows a topic's partitions, and follows none."""
    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=settings.bootstrap_servers,
        isolation_level="read_committed",
        enable_auto_commit=False,
        fetch_max_wait_ms=_FETCH_WAIT_MS,
    )
    try:
        async with consumer:
            consumer.unsubscribe()
            yield consumer
    except KafkaError as error:
        raise Unread(f"{topic} cannot be read: {error!r}") from error


@asynccontextmanager
async def _outsider(
    group: str | None, settings: ProducerSettings
) -> AsyncGenerator[AIOKafkaConsumer]:
    """A consumer that can ask what a group has committed, and does not join it."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=settings.bootstrap_servers,
        group_id=group,
        isolation_level="read_committed",
        enable_auto_commit=False,
        fetch_max_wait_ms=_FETCH_WAIT_MS,
    )
    try:
        async with consumer:
            yield consumer
    except KafkaError as error:
        raise Unread(f"Kafka cannot be asked after {group}: {error!r}") from error


async def _whole(consumer: AIOKafkaConsumer, homes: Sequence[TopicPartition]) -> list[Record]:
    async with asyncio.timeout(_TIMEOUT_S):
        consumer.assign(homes)
        await consumer.seek_to_beginning()
        ends = await consumer.end_offsets(homes)
    return await _upto(consumer, ends)


async def _upto(consumer: AIOKafkaConsumer, ends: Mapping[TopicPartition, int]) -> list[Record]:
    """Read on, partition by partition in order, to where they ended."""
    found: dict[TopicPartition, list[Record]] = {home: [] for home in ends}
    now_s = asyncio.get_running_loop().time
    async with asyncio.timeout(_TIMEOUT_S) as patience:
        while any([await consumer.position(home) < end for home, end in ends.items()]):
            for home, records in (await consumer.getmany(timeout_ms=1000)).items():
                patience.reschedule(now_s() + _TIMEOUT_S)
                for record in records:
                    with suppress(Undecodable):
                        found[home].append(decode(record.value))
    return [record for records in found.values() for record in records]
