"""Ends of logs are asked for by a connection of their own, which is given up with its broker."""

import asyncio
import socket

import pytest
from aiokafka import AIOKafkaProducer

from kafka_io.errors import Unread
from kafka_io.log_ends import LogEnds
from kafka_io.publisher import Publisher
from producers.progress import training_progress
from schemas.topics import TRAINING_EVENTS, TopicPartition
from tests.conftest import World

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(60)]


async def test_a_caller_gets_the_end_as_it_is_after_the_question(world: World) -> None:
    ends = LogEnds(lambda: world.kafka.bootstrap_servers)
    topic = world.topic(TRAINING_EVENTS.name)
    homes = [TopicPartition(topic, number) for number in range(6)]
    async with Publisher(world.producer_settings) as publisher:
        for number in range(20):
            event = training_progress(f"t{number}", 0, "running", now_us=number)
            where = await publisher.publish(event)
            home = TopicPartition(topic, where.partition)
            async with asyncio.TaskGroup() as tasks:
                answers = [tasks.create_task(ends.read(asked)) for asked in ([home], homes)]
            assert [answer.result()[home] for answer in answers] == [where.offset + 1] * 2
    await ends.close()


async def test_an_end_is_after_the_records_of_an_open_transaction(world: World) -> None:
    ends = LogEnds(lambda: world.kafka.bootstrap_servers)
    topic = world.topic(TRAINING_EVENTS.name)
    home = TopicPartition(topic, 0)
    async with (
        AIOKafkaProducer(
            bootstrap_servers=world.kafka.bootstrap_servers,
            transactional_id=f"{world.prefix}open",
        ) as producer,
        producer.transaction(),
    ):
        await producer.send_and_wait(topic, b"value", partition=0)
        assert await ends.read([home]) == {home: 1}
    await ends.close()


async def test_a_broker_that_is_silent_is_asked_once(world: World) -> None:
    home = TopicPartition(world.topic(TRAINING_EVENTS.name), 0)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # it accepts, and never answers
        servers = [f"127.0.0.1:{silent.getsockname()[1]}"]
        ends = LogEnds(lambda: servers[0])
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await ends.read([home])
        servers[0] = world.kafka.bootstrap_servers
        assert await ends.read([home]) == {home: 0}
    await ends.close()


async def test_an_address_without_a_broker_is_an_error_that_says_so(world: World) -> None:
    home = TopicPartition(world.topic(TRAINING_EVENTS.name), 0)
    with socket.create_server(("127.0.0.1", 0)) as gone:
        address = f"127.0.0.1:{gone.getsockname()[1]}"
    ends = LogEnds(lambda: address)
    with pytest.raises(Unread, match="the ends of logs cannot be read"):
        await ends.read([home])
