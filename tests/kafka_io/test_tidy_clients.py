import asyncio
import gc
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from math import inf
from typing import Any

import aiokafka
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.conn import AIOKafkaConnection
from aiokafka.errors import KafkaError, ProducerFenced, TopicAuthorizationFailedError
from aiokafka.protocol.metadata import MetadataRequest

from kafka_io import client
from kafka_io.errors import Unread
from kafka_io.group import GroupConsumer
from schemas.topics import TRAINING_EVENTS
from tests.conftest import TestKafka, World

_END_S = 10


@asynccontextmanager
async def nothing_left() -> AsyncGenerator[None]:
    """Check that no task and no unread error is left behind a function."""
    found: list[object] = []
    loop, before = asyncio.get_running_loop(), asyncio.all_tasks()
    loop.set_exception_handler(lambda _, context: found.append(context))
    yield
    if tasks := asyncio.all_tasks() - before:
        _, pending = await asyncio.wait(tasks, timeout=_END_S)
        found += pending
    await asyncio.sleep(0)  # until callbacks of futures have run, which refer to them
    gc.collect()  # asyncio logs an error that nobody has looked at when its future is freed
    assert found == []


async def in_transaction(world: World, name: str) -> AIOKafkaProducer:
    """Start a producer of a transaction that has one record in partition 0."""
    producer = client.transactional_producer(
        world.kafka.bootstrap_servers, world.prefix + name, timeout_s=10
    )
    await producer.start()
    await producer.begin_transaction()
    await producer.send_and_wait(world.topic(TRAINING_EVENTS.name), b"1", b"key", partition=0)
    return producer


async def send_to(world: World, producer: AIOKafkaProducer, *partitions: int) -> None:
    """Send records, and let go of what becomes of them."""
    topic = world.topic(TRAINING_EVENTS.name)
    for partition in partitions:
        record = await producer.send(topic, b"2", b"key", partition=partition)
        record.add_done_callback(lambda done: done.exception())


async def send_offsets(world: World, producer: AIOKafkaProducer) -> None:
    where = aiokafka.TopicPartition(world.topic(TRAINING_EVENTS.name), 0)
    await producer.send_offsets_to_transaction({where: 1}, f"{world.prefix}group")


async def give_up(waiting: Awaitable[object]) -> None:
    """Begin to wait, and stop at once."""
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await waiting


LAST_STEPS: dict[str, Callable[[World, AIOKafkaProducer], Awaitable[None]]] = {
    "records of a partition that it had": lambda world, producer: send_to(world, producer, 0),
    "records of new partitions": lambda world, producer: send_to(world, producer, 1, 2, 3),
    "offsets": send_offsets,
    "offsets, for which nobody waits": lambda world, producer: give_up(
        send_offsets(world, producer)
    ),
    "a commit": lambda _, producer: producer.commit_transaction(),
    "a commit, for which nobody waits": lambda _, producer: give_up(producer.commit_transaction()),
}


@nothing_left()
async def fence(
    world: World,
    name: str,
    step: Callable[[World, AIOKafkaProducer], Awaitable[None]],
    stop_s: float,
) -> None:
    """Fence a producer before its last step, and stop it; at once if `stop_s` is 0."""
    first = await in_transaction(world, name)
    second = await in_transaction(world, name)
    with suppress(ProducerFenced):
        await step(world, first)
    if stop_s == inf:  # its sender ends by itself before, or only its record fails
        sender: Any = first._sender
        await asyncio.wait([sender.sender_task], timeout=1)
    await client.stop(first, within_s=min(stop_s, 30))
    await client.stop(second)


@pytest.mark.kafka
async def test_fenced_producers_leave_nothing_behind(world: World) -> None:
    for last, step in LAST_STEPS.items():
        for stop_s in (inf, 0, 30):
            await fence(world, f"{last}, {stop_s}", step, stop_s)


@pytest.mark.kafka
@pytest.mark.parametrize("is_on_its_way", [False, True])
@nothing_left()
async def test_an_idempotent_producer_whose_sender_fails_leaves_nothing_behind(
    world: World, *, is_on_its_way: bool
) -> None:
    producer = client.producer(world.kafka.bootstrap_servers, linger_ms=0)
    await producer.start()
    topic = world.topic(TRAINING_EVENTS.name)
    await producer.send_and_wait(topic, b"1", b"key", partition=0)
    with pytest.MonkeyPatch.context() as patch:
        if is_on_its_way:
            asked = asyncio.Event()

            async def silence(*_: object, **__: object) -> None:
                asked.set()
                await asyncio.Event().wait()

            patch.setattr(producer.client, "send", silence)
            await send_to(world, producer, 0)
            await asked.wait()
        accumulator: Any = producer._message_accumulator
        drain = accumulator.drain_by_nodes

        def fail_with_records(*arguments: object, **options: object) -> object:
            assert not accumulator._batches
            return drain(*arguments, **options)

        patch.setattr(accumulator, "drain_by_nodes", fail_with_records)
        record = await producer.send(topic, b"2", b"key", partition=1)
        with pytest.raises(KafkaError, match="Unexpected error"):
            await record
        await client.stop(producer)


@nothing_left()
async def test_a_producer_without_transactions_can_fail() -> None:
    producer = client.producer("localhost:1", linger_ms=0)
    manager: Any = producer._txn_manager
    manager.fatal_error(KafkaError())
    assert manager.is_fatal_error()
    await client.stop(producer)


@nothing_left()
async def test_an_error_after_another_leaves_nothing_behind() -> None:
    producer = client.transactional_producer("localhost:1", "id", timeout_s=10)
    manager: Any = producer._txn_manager
    manager.set_pid_and_epoch(1, 1)
    manager.begin_transaction()
    manager.error_transaction(TopicAuthorizationFailedError("topic"))
    manager.fatal_error(ProducerFenced())
    await client.stop(producer)


@nothing_left()
async def test_a_batch_that_has_failed_on_its_way_is_not_sent_again() -> None:
    producer = client.producer("localhost:1", linger_ms=0)
    accumulator: Any = producer._message_accumulator
    where = aiokafka.TopicPartition("topic", 0)
    record = await accumulator.add_message(where, b"key", b"value", 1)
    accumulator._txn_manager.set_pid_and_epoch(1, 1)
    batch = accumulator._pop_batch(where)
    accumulator.fail_all(KafkaError())
    with pytest.raises(KafkaError):
        await record
    accumulator.reenqueue(batch)
    assert not accumulator._batches
    await client.stop(producer)


class Silent:
    """Takes a group's decisions, and does nothing."""

    async def revoked(self, partitions: object) -> None: ...

    async def assigned(self, partitions: object) -> None: ...

    def replaced(self) -> None: ...


@nothing_left()
async def hurry_consumer(world: World, stop_s: float) -> None:
    """Stop a consumer in less time than it needs."""
    consumer = client.consumer(world.kafka.bootstrap_servers, auto_offset_reset="earliest")
    await consumer.start()
    consumer.assign([aiokafka.TopicPartition(world.topic(TRAINING_EVENTS.name), 0)])
    await consumer.getmany(timeout_ms=300)
    await client.stop(consumer, within_s=stop_s)


@nothing_left()
async def hurry_member(world: World, stop_s: float, fetch_s: float) -> None:
    """Stop a member of a group in less time than it needs."""
    servers, group = world.kafka.bootstrap_servers, f"{world.prefix}{stop_s}-{fetch_s}"
    async with GroupConsumer(servers, group, "member", session_timeout_s=10) as member:
        await member.join([world.topic(TRAINING_EVENTS.name)], Silent())
        await member.fetch([], fetch_s)
        await client.stop(member._consumer, within_s=stop_s)


@pytest.mark.kafka
async def test_consumers_that_are_not_given_the_time_to_stop_leave_nothing_behind(
    world: World,
) -> None:
    for stop_s in (0, 0.01):
        await hurry_consumer(world, stop_s)
        for fetch_s in (0.05, 2.0):
            await hurry_member(world, stop_s, fetch_s)


@nothing_left()
async def fail_to_fetch(world: World) -> None:
    """Stop a consumer whose task of fetching has failed."""
    consumer = client.consumer(world.kafka.bootstrap_servers, auto_offset_reset="earliest")
    await consumer.start()
    fetcher: Any = consumer._fetcher
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fetcher, "_get_actions_per_node", lambda *_: 1 / 0)
        consumer.assign([aiokafka.TopicPartition(world.topic(TRAINING_EVENTS.name), 0)])
        await asyncio.wait([fetcher._fetch_task])
    await client.stop(consumer)


@nothing_left()
async def fail_as_member(world: World, part: str) -> None:
    """Stop a member of a group that has failed in some part of its coordination."""
    servers = world.kafka.bootstrap_servers

    async def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    async with GroupConsumer(servers, world.prefix + part, "m", session_timeout_s=1) as member:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(member._consumer._coordinator, part, fail)
            await member.join([world.topic(TRAINING_EVENTS.name)], Silent())
            with suppress(Unread, ZeroDivisionError):
                async with asyncio.timeout(_END_S):
                    while True:
                        await member.fetch([], 0.1)


@pytest.mark.kafka
async def test_consumers_that_fail_by_themselves_leave_nothing_behind(world: World) -> None:
    await fail_to_fetch(world)
    for part in ("ensure_coordinator_known", "_do_heartbeat"):
        await fail_as_member(world, part)


@nothing_left()
async def interrupt_start(made: AIOKafkaConsumer | AIOKafkaProducer, asked: asyncio.Event) -> None:
    """Stop a client that waits for metadata while it starts."""
    asked.clear()
    async with asyncio.TaskGroup() as tasks:
        starting = tasks.create_task(made.start())  # type: ignore[no-untyped-call]
        await asked.wait()
        starting.cancel()
    await client.stop(made)


@pytest.mark.kafka
async def test_clients_whose_start_is_interrupted_leave_nothing_behind(
    kafka: TestKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    servers, asked = kafka.bootstrap_servers, asyncio.Event()
    send: Any = AIOKafkaConnection.send

    async def silence() -> None:
        asked.set()
        await asyncio.Event().wait()

    def send_unless_metadata(this: object, request: object, **options: object) -> object:
        return silence() if isinstance(request, MetadataRequest) else send(this, request, **options)

    monkeypatch.setattr(AIOKafkaConnection, "send", send_unless_metadata)
    await interrupt_start(client.consumer(servers), asked)
    await interrupt_start(client.producer(servers, linger_ms=0), asked)
