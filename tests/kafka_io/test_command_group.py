import asyncio
import uuid
from collections.abc import Callable
from contextlib import suppress

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.structs import OffsetAndMetadata

from kafka_io import command_group
from kafka_io.client import partition_of
from kafka_io.clock import now_us
from kafka_io.command_group import CommandGroup, ReceivedCommand, next_attempt
from kafka_io.publisher import Publisher
from kafka_io.reader import read_all
from kafka_io.software import member_client_id
from kafka_io.topic_admin import TopicAdmin
from schemas.events import AgentCommand, AgentEvent, AgentStepKind, DeadLetter, Record
from schemas.topics import AGENT_COMMANDS, AGENT_EVENTS, DEAD_LETTERS, PARTITIONS
from tests.conftest import World

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(120)]


def command(message: str = "") -> AgentCommand:
    return AgentCommand(run_id=uuid.uuid4().hex, message=message, event_time_us=now_us())


def home_of(run_id: str) -> int:
    return partition_of(run_id.encode(), PARTITIONS)


def command_in(partition: int) -> AgentCommand:
    """Return a command in a partition."""
    return next(value for value in iter(command, None) if home_of(value.run_id) == partition)


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
            admin = TopicAdmin(world.kafka.bootstrap_servers)
            group = f"{world.prefix}tapewire-{AGENT_COMMANDS.name}"
            members = await asyncio.to_thread(admin.describe_members, group)
            first.stop.set()
            second.stop.set()
    assert {member.client_id for member in members} == {member_client_id()}
    assert {value.tenant for value in found} == {"acme"}
    runs = sorted(
        value.command.run_id for value in found if isinstance(value.command, AgentCommand)
    )
    assert runs == sorted(value.run_id for value in commands)
    assert received.empty()
    [letter] = await read_all(DEAD_LETTERS, world.producer_settings)
    assert isinstance(letter, DeadLetter)
    assert (letter.reason, letter.key, letter.value) == ("undecodable", b"k", b"garbage")


async def test_a_command_that_makes_its_work_fail_is_set_aside_and_the_next_is_done(
    world: World,
) -> None:
    def fail_at_the_first(received: ReceivedCommand) -> None:
        assert isinstance(received.command, AgentCommand)
        if received.command.message == "odd":
            raise KeyError("of the work")

    odd = command("odd")
    even = AgentCommand(run_id=odd.run_id, message="even", event_time_us=now_us())
    worker = Worker(world)
    worker.do = fail_at_the_first
    async with Publisher(world.producer_settings) as publisher, asyncio.TaskGroup() as tasks:
        await publisher.publish(odd)
        await publisher.publish(even)
        tasks.create_task(worker.run())
        received = [await worker.received.get() for _ in range(2)]
        worker.stop.set()
    assert [value.command for value in received] == [odd, even]
    [letter] = await read_all(DEAD_LETTERS, world.producer_settings)
    assert isinstance(letter, DeadLetter)
    assert (letter.reason, letter.error) == ("failed", "KeyError: 'of the work'")
    assert letter.key == odd.run_id.encode()


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


async def test_a_command_stays_with_its_worker_when_others_come_and_go(world: World) -> None:
    is_over = asyncio.Event()
    loop = asyncio.get_running_loop()

    def work_until_over(received: ReceivedCommand) -> None:
        while not is_over.is_set():
            received.publish(step)
        received.publish(end)

    value = command()
    step = event(value.run_id, AgentStepKind.RESPONSE_CHUNK)
    end = event(value.run_id, AgentStepKind.COMPLETED)
    busy = Worker(world)
    busy.do = work_until_over
    others: list[ReceivedCommand] = []
    async with Publisher(world.producer_settings) as publisher, asyncio.TaskGroup() as tasks:
        await publisher.publish(value)
        tasks.create_task(busy.run())
        await busy.received.get()
        for _ in range(3):
            # Commands until the newcomer gets one: it has a share of the partitions then.
            newcomer = Worker(world)
            newcomer.do = lambda received: received.publish(
                event(getattr(received.command, "run_id", ""), AgentStepKind.COMPLETED)
            )
            running = tasks.create_task(newcomer.run())
            while newcomer.received.empty():
                await publisher.publish(command())
                with suppress(TimeoutError):
                    async with asyncio.timeout(1):
                        others.append(await newcomer.received.get())
                        break
            newcomer.stop.set()
            await running
        loop.call_soon(is_over.set)
        while not busy.received.empty():
            others.append(busy.received.get_nowait())
        busy.stop.set()
    assert value not in [received.command for received in others]


@pytest.mark.timeout(60)
async def test_a_worker_that_waits_for_commands_stops_at_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command_group, "_POLL_MS", 1_000_000)
    value = command()
    worker = Worker(world)
    async with Publisher(world.producer_settings) as publisher, asyncio.TaskGroup() as tasks:
        await publisher.publish(value)
        tasks.create_task(worker.run())
        assert (await worker.received.get()).command == value
        worker.stop.set()


async def test_a_command_that_is_handed_over_in_order_says_so(world: World) -> None:
    value = command()
    step = event(value.run_id, AgentStepKind.RESPONSE_CHUNK)

    def work_until_stopped(received: ReceivedCommand) -> None:
        while True:
            received.publish(step)

    found: list[int] = []
    async with Publisher(world.producer_settings) as publisher:
        await publisher.publish(value)
        for _ in range(3):
            worker = Worker(world)
            worker.do = work_until_stopped
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(worker.run())
                found.append((await worker.received.get()).earlier.handovers)
                worker.stop.set()
    assert found == [0, 1, 2]


@pytest.mark.parametrize(
    ("begun", "following"), [([], 1), ([1, 3], 4), ([2**31 - 1], 1), ([2, 2**31 - 1], 3)]
)
async def test_no_attempt_that_others_write_ends_the_count(
    begun: list[int], following: int
) -> None:
    assert next_attempt(begun) == following


async def test_commands_at_offsets_that_were_others_before_the_log_lost_its_end_are_done(
    world: World,
) -> None:
    value = command()
    where = TopicPartition(world.topic(AGENT_COMMANDS.name), home_of(value.run_id))
    consumer = AIOKafkaConsumer(
        bootstrap_servers=world.kafka.bootstrap_servers,
        group_id=f"{world.prefix}tapewire-{AGENT_COMMANDS.name}",
    )
    await consumer.start()
    consumer.assign([where])
    await consumer.commit({where: OffsetAndMetadata(99, "0/1 !4")})
    await consumer.stop()
    worker = Worker(world)
    async with Publisher(world.producer_settings) as publisher, asyncio.TaskGroup() as tasks:
        await publisher.publish(value)
        tasks.create_task(worker.run())
        async with asyncio.timeout(40):
            received = await worker.received.get()
        worker.stop.set()
    assert received.command == value
    assert received.earlier.begun == 0


async def test_a_command_that_has_cost_its_workers_is_given_up_and_then_set_aside(
    world: World,
) -> None:
    values = {lost: command_in(lost) for lost in (0, 3, 4)}
    group = f"{world.prefix}tapewire-{AGENT_COMMANDS.name}"
    async with Publisher(world.producer_settings) as publisher:
        for value in values.values():
            await publisher.publish(value)
    consumer = AIOKafkaConsumer(bootstrap_servers=world.kafka.bootstrap_servers, group_id=group)
    await consumer.start()
    where = {lost: TopicPartition(world.topic(AGENT_COMMANDS.name), lost) for lost in values}
    consumer.assign(list(where.values()))
    await consumer.commit(
        {where[lost]: OffsetAndMetadata(0, f"0/{lost}") for lost in values if lost}
    )
    await consumer.stop()
    worker = Worker(world)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(worker.run())
        received = [await worker.received.get() for _ in range(2)]
        while not (letters := await read_all(DEAD_LETTERS, world.producer_settings)):  # noqa: ASYNC110  # Kafka tells nobody
            await asyncio.sleep(0.2)  # each look reads the topic from its beginning
        worker.stop.set()
    costs = {known.lost_before(1): known.command for known in received}
    assert costs == {lost: values[lost] for lost in (0, 3)}
    [letter] = letters
    assert isinstance(letter, DeadLetter)
    assert (letter.reason, letter.key) == ("failed", values[4].run_id.encode())
    assert letter.error.startswith("4 workers were lost on it")
