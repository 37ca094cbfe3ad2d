import asyncio
from contextlib import AbstractAsyncContextManager, AsyncExitStack, suppress
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError

from infra.embedded_broker import free_port
from kafka_io.errors import Fenced, RecordRefused, TransactionFailed
from kafka_io.reader import read_offsets
from kafka_io.transactions import OutgoingRecord, TransactionalWriter, open_writer
from schemas.topics import RISK_ALERTS, TRAINING_EVENTS, TopicPartition
from tests.conftest import World
from tests.support.topic_config import configure

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(120)]


def record(world: World, value: bytes) -> OutgoingRecord:
    return OutgoingRecord(world.topic(TRAINING_EVENTS.name), b"k", value, 1, [("name", b"text")])


def writer(world: World) -> AbstractAsyncContextManager[TransactionalWriter]:
    group = f"{world.prefix}group"
    servers = world.kafka.bootstrap_servers
    return open_writer(servers, f"{group}-1", group, timeout_s=10, within_s=20)


async def committed_values(
    world: World, count: int, name: str = TRAINING_EVENTS.name
) -> list[bytes | None]:
    topic = world.topic(name)
    async with (
        AIOKafkaConsumer(
            topic,
            bootstrap_servers=world.kafka.bootstrap_servers,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
        ) as consumer,
        asyncio.timeout(30),
    ):
        return [(await consumer.getone()).value for _ in range(count)]


async def test_records_and_offsets_are_committed_together(world: World) -> None:
    topic = world.topic(TRAINING_EVENTS.name)
    async with writer(world) as first:
        await first.commit(
            [record(world, b"1"), record(world, b"2")], {TopicPartition(topic, 3): 5}
        )
        await first.commit([], {TopicPartition(topic, 3): 6})
        await first.commit([record(world, b"3")], {})
    assert await committed_values(world, 3) == [b"1", b"2", b"3"]
    group = f"{world.prefix}group"
    offsets = await read_offsets([topic], 3, group, world.producer_settings)
    assert offsets[topic].committed == 6


async def test_a_later_writer_of_the_id_fences_the_earlier_one(world: World) -> None:
    async with writer(world) as first:
        await first.commit([record(world, b"first")], {})
        async with writer(world) as second:
            assert second.epoch > first.epoch
            with pytest.raises(Fenced, match="another worker writes in this one's place"):
                await first.commit([record(world, b"zombie")], {})
            await second.commit([record(world, b"second")], {})
    assert await committed_values(world, 2) == [b"first", b"second"]


async def test_a_writer_that_is_fenced_between_two_of_its_records_says_so(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with writer(world) as first, AsyncExitStack() as stack:
        send: Any = first._producer.send
        sent: list[Any] = []

        async def send_and_wait(*args: Any, **options: Any) -> Any:
            if len(sent) == 1:
                await stack.enter_async_context(writer(world))
            sent.append(await send(*args, **options))
            with suppress(KafkaError):
                await sent[-1]
            return sent[-1]

        monkeypatch.setattr(first._producer, "send", send_and_wait)
        with pytest.raises(Fenced, match="another worker writes in this one's place"):
            # Each is for another partition, which aiokafka first adds to the transaction.
            await first.commit(
                [record(world, b"x")._replace(partition=number) for number in range(3)], {}
            )
        assert len(sent) == 2  # aiokafka took no more


async def test_a_transaction_that_was_left_open_is_aborted_by_the_next_writer(
    world: World,
) -> None:
    async with writer(world) as first:
        producer = first._producer  # to stop in the middle of a commit
        await producer.begin_transaction()
        await producer.send_and_wait(record(world, b"").topic, b"unfinished", b"k", partition=1)
        async with writer(world) as second:
            await second.commit([record(world, b"after")], {})
    assert await committed_values(world, 1) == [b"after"]


async def test_a_record_that_kafka_never_takes_is_named_and_nothing_is_written(
    world: World,
) -> None:
    await configure(world, {TRAINING_EVENTS.name: {"max.message.bytes": "2000"}})
    good, bad = record(world, b"good"), record(world, b"x" * 3_000)
    for refused, why in (
        (bad, r"300\d bytes for .*: it is larger than the topic's max"),
        (good._replace(value=b"x" * (1 << 20)), "larger than the topic's max"),
        (good._replace(topic="nobody.x"), r"there is no topic nobody\.x"),
        (good._replace(partition=77), "and no partition 77"),
    ):
        async with writer(world) as first:
            with pytest.raises(RecordRefused, match=why):
                await first.commit([refused], {})
        async with writer(world) as second:
            with pytest.raises((RecordRefused, TransactionFailed)):
                await second.commit([good, refused], {})
    async with writer(world) as third:
        await third.commit([record(world, b"after")], {})
    assert await committed_values(world, 1) == [b"after"]


async def test_a_batch_that_is_too_large_for_its_topic_is_written_record_by_record(
    world: World,
) -> None:
    topic = RISK_ALERTS.name
    await configure(world, {topic: {"max.message.bytes": "2000"}})
    records = [
        record(world, b"%03d" % number + b"x" * 500)._replace(topic=world.topic(topic))
        for number in range(20)
    ]
    async with writer(world) as first:
        with pytest.raises(TransactionFailed):
            await first.commit(records, {})
    async with writer(world) as second:
        await second.commit(records, {})
    found = await committed_values(world, 20, topic)
    assert found == [sent.value for sent in records]


async def test_no_broker_is_an_error_with_the_id() -> None:
    address = f"localhost:{free_port()}"
    with pytest.raises(TransactionFailed, match="no writer of some-id"):
        async with open_writer(address, "some-id", "group", timeout_s=10, within_s=1):
            pass
