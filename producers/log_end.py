"""The newest records of a topic: where an earlier run of a producer stopped."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager, suppress

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.partitioner import DefaultPartitioner

from producers.settings import ProducerSettings
from schemas.codec import decode
from schemas.errors import Undecodable
from schemas.events import Record
from schemas.topics import Topic

_TIMEOUT_S = 30.0


async def newest(topic: Topic, settings: ProducerSettings) -> list[Record]:
    """Read the last record of each partition that has any; what cannot be read is left out.

    Raises:
        KafkaConnectionError: there is no Kafka at the configured address.
        TimeoutError: Kafka did not answer within half a minute.
    """
    name = settings.topic_prefix + topic.name
    async with asyncio.timeout(_TIMEOUT_S), _reader(name, settings) as consumer:
        partitions = consumer.partitions_for_topic(name) or set()
        found = [
            await _last(consumer, TopicPartition(name, partition))
            for partition in sorted(partitions)
        ]
    return [record for record in found if record is not None]


async def newest_by_key(topic: Topic, settings: ProducerSettings) -> Mapping[bytes, Record]:
    """Read a compacted topic: the last record of each key; what cannot be read is left out.

    Raises:
        KafkaConnectionError: there is no Kafka at the configured address.
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
                    with suppress(Undecodable):
                        found[record.key or b""] = decode(record.value)
    return found


async def newest_of(
    topic: Topic, key: bytes, since_ms: int, settings: ProducerSettings
) -> Record | None:
    """Read the last record of a key, of those written since a time by the log's clock.

    Raises:
        KafkaConnectionError: there is no Kafka at the configured address.
        TimeoutError: Kafka did not answer within half a minute.
    """
    name = settings.topic_prefix + topic.name
    async with asyncio.timeout(_TIMEOUT_S), _reader(name, settings) as consumer:
        partitions = sorted(consumer.partitions_for_topic(name) or {0})
        home = TopicPartition(name, DefaultPartitioner()(key, partitions, partitions))
        consumer.assign([home])
        begin = (await consumer.offsets_for_times({home: since_ms}))[home]
        end = (await consumer.end_offsets([home]))[home]
        if begin is None:
            return None
        consumer.seek(home, begin.offset)
        last = None
        while await consumer.position(home) < end:
            for record in (await consumer.getmany(timeout_ms=1000)).get(home, []):
                last = record.value if record.key == key else last
    try:
        return None if last is None else decode(last)
    except Undecodable:
        return None


@asynccontextmanager
async def _reader(topic: str, settings: ProducerSettings) -> AsyncGenerator[AIOKafkaConsumer]:
    """A consumer that knows a topic's partitions, and follows none."""
    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=settings.bootstrap_servers,
        isolation_level="read_committed",
        enable_auto_commit=False,
    )
    async with consumer:
        consumer.unsubscribe()
        yield consumer


async def _last(consumer: AIOKafkaConsumer, partition: TopicPartition) -> Record | None:
    consumer.assign([partition])
    end = (await consumer.end_offsets([partition]))[partition]
    if end == 0:
        return None
    consumer.seek(partition, end - 1)
    records = (await consumer.getmany(timeout_ms=1000)).get(partition, [])
    try:
        return decode(records[-1].value) if records else None
    except Undecodable:
        return None
