import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition

from kafka_io import reader
from kafka_io.client import partition_of
from kafka_io.clock import now_us
from kafka_io.errors import Unread
from kafka_io.publisher import Publisher
from kafka_io.reader import (
    follow_key,
    open_past,
    read_all,
    read_end_offsets,
    read_newest,
    read_partition,
    read_table,
)
from kafka_io.settings import ProducerSettings
from schemas.events import RiskLimits, TrainingProgress
from schemas.topics import PARTITIONS, RISK_LIMITS, TRAINING_EVENTS
from tests.conftest import World


def progress(task_id: str, percent: float) -> TrainingProgress:
    return TrainingProgress(
        task_id=task_id,
        progress=percent,
        status="running",
        message="",
        metrics={},
        event_time_us=now_us(),
    )


def limits(portfolio_id: str, comment: str) -> RiskLimits:
    return RiskLimits(portfolio_id=portfolio_id, limits=[], comment=comment, event_time_us=now_us())


@pytest.mark.kafka
async def test_all_the_newest_and_one_keys_partition_are_read(world: World) -> None:
    settings = world.producer_settings
    written = [progress(f"t-{number % 3}", float(number)) for number in range(12)]
    async with Publisher(settings) as publisher:
        for event in written:
            await publisher.publish(event)
    found = await read_all(TRAINING_EVENTS, settings)
    assert sorted(event.progress for event in found if isinstance(event, TrainingProgress)) == [
        float(number) for number in range(12)
    ]
    newest = await read_newest(TRAINING_EVENTS, settings)
    assert written[-1] in newest
    home = await read_partition(TRAINING_EVENTS, b"t-1", settings)
    assert [event for event in home if getattr(event, "task_id", "") == "t-1"] == written[1::3]
    ends = await read_end_offsets([TRAINING_EVENTS], settings)
    assert sum(ends.values()) == len(written)


@pytest.mark.kafka
async def test_the_past_of_a_key_is_read_from_a_time_on(world: World) -> None:
    settings = world.producer_settings
    async with Publisher(settings) as publisher:
        for number in range(3):
            await publisher.publish(progress("t-1", float(number)))
        await asyncio.sleep(0.01)  # records have times in whole milliseconds
        since_ms = now_us() // 1_000
        await publisher.publish(progress("t-1", 3.0))
    for since, expected in ((0, 4), (since_ms, 1), (since_ms + 3_600_000, 0)):
        async with open_past(TRAINING_EVENTS, b"t-1", since, settings) as past:
            records = [record async for record in past.read]
        assert past.is_whole
        assert [record.key for record in records] == [b"t-1"] * expected


@pytest.mark.kafka
async def test_a_table_holds_the_last_record_of_each_key(world: World) -> None:
    settings = world.producer_settings
    async with Publisher(settings) as publisher:
        await publisher.publish(limits("A", "first"))
        await publisher.publish(limits("B", "only"))
        last = limits("A", "second")
        await publisher.publish(last)
    table = await read_table(RISK_LIMITS, settings)
    assert set(table) == {b"A", b"B"}
    assert table[b"A"] == last
    async with AIOKafkaProducer(bootstrap_servers=settings.bootstrap_servers) as producer:
        home = partition_of(b"A", PARTITIONS)
        await producer.send_and_wait(world.topic("risk.limits"), b"odd", b"A", partition=home)
    assert await read_table(RISK_LIMITS, settings) == table  # it hides nothing


@pytest.mark.kafka
async def test_a_followed_key_gives_each_record_once(world: World) -> None:
    settings = world.producer_settings
    async with (
        Publisher(settings) as publisher,
        follow_key(TRAINING_EVENTS, b"t-1", now_us() // 1000 - 1000, settings) as follower,
    ):
        await publisher.publish(progress("t-1", 1.0))
        await publisher.publish(progress("t-2", 2.0))
        (first,) = await follower.poll()
        assert await follower.poll() == []
        await publisher.publish(progress("t-1", 3.0))
        (second,) = await follower.poll()
    assert isinstance(first, TrainingProgress)
    assert isinstance(second, TrainingProgress)
    assert (first.progress, second.progress) == (1.0, 3.0)


async def test_without_kafka_reading_ends_with_an_error_that_names_the_topic() -> None:
    settings = ProducerSettings(bootstrap_servers="localhost:1")
    async with asyncio.timeout(30):
        with pytest.raises(Unread, match=r"training\.events cannot be read"):
            await read_all(TRAINING_EVENTS, settings)


class SilentConsumer:
    """A consumer whose Kafka has gone away after it has said where the topic ends."""

    def seek(self, _home: object, _offset: int) -> None:
        """Go nowhere."""

    async def beginning_offsets(self, homes: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(homes, 0)

    async def position(self, _home: object) -> int:
        return 0

    async def getmany(self, *, timeout_ms: int) -> dict[TopicPartition, list[object]]:
        await asyncio.sleep(timeout_ms / 1_000)
        return {}


async def test_kafka_that_falls_silent_ends_a_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    home = TopicPartition("t", 0)

    @asynccontextmanager
    async def consumer_of(*_: object) -> AsyncGenerator[SilentConsumer]:
        yield SilentConsumer()

    async def ends_of(*_: object) -> dict[TopicPartition, int]:
        return {home: 7}

    monkeypatch.setattr(reader, "_topic_consumer", consumer_of)
    monkeypatch.setattr(reader, "_partitions_of", lambda *_: [home])
    monkeypatch.setattr(reader, "_ends_from_start", ends_of)
    monkeypatch.setattr(reader, "_TIMEOUT_S", 0.3)
    async with asyncio.timeout(10):
        with pytest.raises(TimeoutError):
            await anext(reader.stream_records("t", ProducerSettings()))
