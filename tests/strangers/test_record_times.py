"""Topics whose producers set the times of records, as Kafka's own default is: 0, none, absurd."""

import asyncio
import uuid

import httpx
import pytest
from aiokafka import AIOKafkaProducer

from kafka_io.client import partition_of
from kafka_io.clock import append_time_ms, now_us
from kafka_io.command_group import CommandGroup, ReceivedCommand
from kafka_io.publisher import Publisher
from kafka_io.reader import read_all, read_uncommitted
from schemas.codec import encode
from schemas.events import AgentCommand, AgentEvent, AgentStepKind, Return, ReturnBatch, RiskMeasure
from schemas.topics import (
    AGENT_COMMANDS,
    AGENT_EVENTS,
    PARTITIONS,
    PORTFOLIO_RETURNS,
    RISK_ALERTS,
)
from tests.conftest import World
from tests.support.clients import stream
from tests.support.edge import alert
from tests.support.straight_run import TopicReader
from tests.support.topic_config import configure

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(120)]

NOT_A_TIME = (0, -1, 1, 10**15, 253_402_300_799_999, 2**62)
SET_BY_PRODUCERS = {
    "message.timestamp.type": "CreateTime",
    "message.timestamp.after.max.ms": str(2**63 - 1),
    "message.timestamp.before.max.ms": str(2**63 - 1),
}


async def write(world: World, topic: str, partition: int, key: bytes, *values: bytes) -> int:
    """Write values with the times that the broker takes; how many it has taken."""
    count = 0
    async with AIOKafkaProducer(bootstrap_servers=world.kafka.bootstrap_servers) as producer:
        for value, timestamp_ms in zip(values, NOT_A_TIME, strict=False):
            await producer.send_and_wait(
                world.topic(topic), value, key, partition=partition, timestamp_ms=timestamp_ms
            )
            count += 1
    return count


@pytest.mark.parametrize(
    ("timestamp_ms", "known_ms"),
    [(None, 0), (-1, 0), (0, 0), (1, 0), (1_780_000_000_000, 1_780_000_000_000), (2**62, 0)],
)
def test_a_time_that_no_calendar_has_is_unknown(timestamp_ms: int | None, known_ms: int) -> None:
    assert append_time_ms(timestamp_ms) == known_ms


async def test_records_without_a_time_reach_clients_and_are_measured(world: World) -> None:
    topics = (RISK_ALERTS.name, PORTFOLIO_RETURNS.name)
    edge = await world.edge()
    await world.worker()  # it would not start with such a topic, which somebody changes now
    await configure(world, dict.fromkeys(topics, SET_BY_PRODUCERS))
    partition = partition_of(b"p", PARTITIONS)
    batches = [
        encode(ReturnBatch(returns=[Return("p", at, 0.01 * (-1) ** at) for at in range(n, n + 20)]))
        for n in range(0, 120, 20)
    ]
    async with (
        stream(edge.url, "/api/v1/sse/alerts") as live,
        TopicReader(world, "risk.measures") as reader,
    ):
        await live.until(lambda blocks: any(block.id for block in blocks))
        alerts = [alert("p", number) for number in range(len(NOT_A_TIME))]
        count = await write(world, RISK_ALERTS.name, 0, b"p", *alerts)
        assert count == len(NOT_A_TIME)
        await write(world, PORTFOLIO_RETURNS.name, partition, b"p", *batches)
        seen = await live.events("risk_alert", count)
        await reader.until(
            lambda found: any(
                isinstance(event, RiskMeasure) and event.observations == 120 for event in found
            )
        )
    assert [block.inner["message"] for block in seen] == [f"number {n}" for n in range(count)]
    for start in ("earliest", "1969-01-01T00:00:00Z"):
        async with stream(edge.url, "/api/v1/sse/alerts", since=start) as again:
            await again.events("risk_alert", count)
    async with httpx.AsyncClient(base_url=edge.url, timeout=30) as http:
        metrics = (await http.get("/metrics")).text
    lags = [line for line in metrics.splitlines() if "delivery_lag_seconds_sum" in line]
    assert all(0 <= float(line.split()[-1]) < 3_600 * 24 * 365 * 60 for line in lags)
    ages = [line for line in metrics.splitlines() if line.startswith("tapewire_window_age_seconds")]
    assert ages
    assert all(float(line.split()[-1]) >= 0 for line in ages)


async def test_commands_without_a_time_are_done_once(world: World) -> None:
    topics = (AGENT_COMMANDS.name, AGENT_EVENTS.name)
    await configure(world, dict.fromkeys(topics, SET_BY_PRODUCERS))
    done: asyncio.Queue[ReceivedCommand] = asyncio.Queue()
    loop, stop = asyncio.get_running_loop(), asyncio.Event()

    def work(received: ReceivedCommand) -> None:
        assert isinstance(received.command, AgentCommand)
        run_id = received.command.run_id
        received.publish(
            AgentEvent(run_id=run_id, kind=AgentStepKind.COMPLETED, event_time_us=now_us())
        )
        loop.call_soon_threadsafe(done.put_nowait, received)

    over = AgentCommand(run_id=uuid.uuid4().hex, message="over", event_time_us=now_us())
    commands = [over] + [
        AgentCommand(run_id=uuid.uuid4().hex, message=f"{number}", event_time_us=now_us())
        for number in range(len(NOT_A_TIME) - 1)
    ]
    async with Publisher(world.producer_settings) as publisher:
        await publisher.publish(
            AgentEvent(run_id=over.run_id, kind=AgentStepKind.COMPLETED, event_time_us=now_us())
        )
    async with AIOKafkaProducer(bootstrap_servers=world.kafka.bootstrap_servers) as producer:
        for command, timestamp_ms in zip(commands, NOT_A_TIME, strict=True):
            key = command.run_id.encode()
            await producer.send_and_wait(
                world.topic(AGENT_COMMANDS.name),
                encode(command),
                key,
                partition=0,
                timestamp_ms=timestamp_ms,
            )
    group = CommandGroup(AGENT_COMMANDS, AGENT_EVENTS, world.producer_settings)
    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        running = tasks.create_task(group.run(work, stop))
        found = [await done.get() for _ in commands[1:]]
        stop.set()
        await running
    assert [received.command for received in found] == commands[1:]  # the first one was over
    events = await read_all(AGENT_EVENTS, world.producer_settings)
    assert len(events) == len(commands)
    left = await read_uncommitted([AGENT_COMMANDS], 0, "nobody", world.producer_settings)
    assert [record.timestamp >= 0 for record in left] == [True] * len(commands)
