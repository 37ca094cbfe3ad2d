import asyncio
import uuid
from collections.abc import Callable

import pytest
from aiokafka import AIOKafkaProducer

from kafka_io.clock import now_us
from kafka_io.command_group import CommandGroup, ReceivedCommand
from kafka_io.publisher import Publisher
from schemas.events import AgentCommand, AgentEvent, AgentStepKind, Record
from schemas.topics import AGENT_COMMANDS, AGENT_EVENTS
from tests.conftest import World

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(120)]


def command(message: str = "") -> AgentCommand:
    return AgentCommand(run_id=uuid.uuid4().hex, message=message, event_time_us=now_us())


def event(run_id: str, kind: AgentStepKind) -> AgentEvent:
    return AgentEvent(run_id=run_id, kind=kind, event_time_us=now_us())


class Worker:
    """Records the commands that it gets, in a worker thread."""

    def __init__(self, world: World, cancels: Callable[[Record], bool] = lambda _: False) -> None:
        settings = world.producer_settings
        self._group = CommandGroup(AGENT_COMMANDS, AGENT_EVENTS, settings, cancels)
        self._loop = asyncio.get_running_loop()
        self.received: asyncio.Queue[ReceivedCommand] = asyncio.Queue()
        self.stop = asyncio.Event()
        self.do: Callable[[ReceivedCommand], None] = lambda _: None

    def _work(self, received: ReceivedCommand) -> None:
        self._loop.call_soon_threadsafe(self.received.put_nowait, received)
        self.do(received)

    async def run(self) -> None:
        await self._group.run(self._work, self.stop)


async def test_each_command_is_done_once_and_garbage_is_skipped(world: World) -> None:
    commands = [command(f"number {number}") for number in range(6)]
    producer = AIOKafkaProducer(bootstrap_servers=world.kafka.bootstrap_servers)
    await producer.start()
    await producer.send_and_wait(world.topic(AGENT_COMMANDS.name), b"garbage", key=b"k")
    await producer.stop()
    async with Publisher(world.producer_settings) as publisher:
        for value in commands:
            await publisher.publish(value, tenant="acme")
        first, second = Worker(world), Worker(world)
        async with asyncio.TaskGroup() as tasks:
            received = second.received = first.received
            for worker in (first, second):
                tasks.create_task(worker.run())
            found = [await received.get() for _ in commands]
            first.stop.set()
            second.stop.set()
    assert {value.tenant for value in found} == {"acme"}
    runs = sorted(
        value.command.run_id for value in found if isinstance(value.command, AgentCommand)
    )
    assert runs == sorted(value.run_id for value in commands)
    assert received.empty()


async def test_a_command_that_has_ended_is_not_done_again(world: World) -> None:
    ended, lost = command(), command()
    async with Publisher(world.producer_settings) as publisher:
        await publisher.publish(event(ended.run_id, AgentStepKind.COMPLETED))
        await publisher.publish(event(lost.run_id, AgentStepKind.ROUTING_STARTED))
        await publisher.publish(ended)
        await publisher.publish(lost)
    worker = Worker(world)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(worker.run())
        received = await worker.received.get()
        worker.stop.set()
    assert received.command == lost
    assert [getattr(known, "kind", "") for known in received.events] == ["routing_started"]
    assert worker.received.empty()


async def test_an_event_cancels_the_command_in_progress(world: World) -> None:
    seen_cancelled = asyncio.Event()
    loop = asyncio.get_running_loop()

    def work_until_cancelled(received: ReceivedCommand) -> None:
        while not received.is_cancelled():
            received.publish(step)
        loop.call_soon_threadsafe(seen_cancelled.set)

    value = command()
    step = event(value.run_id, AgentStepKind.RESPONSE_CHUNK)
    worker = Worker(world, lambda record: getattr(record, "kind", "") == "error")
    worker.do = work_until_cancelled
    async with Publisher(world.producer_settings) as publisher, asyncio.TaskGroup() as tasks:
        await publisher.publish(value)
        tasks.create_task(worker.run())
        await worker.received.get()
        await publisher.publish(event(value.run_id, AgentStepKind.ERROR))
        await seen_cancelled.wait()
        worker.stop.set()
