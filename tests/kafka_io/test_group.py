import asyncio
from collections.abc import Iterable

import pytest

from infra.embedded_broker import free_port
from kafka_io.errors import OffsetLost, Unread
from kafka_io.group import AssignedConsumer, GroupConsumer
from kafka_io.publisher import Publisher
from kafka_io.topic_admin import TopicAdmin
from producers.progress import training_progress
from schemas.topics import TRAINING_EVENTS, TopicPartition
from tests.conftest import World

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(120)]


class Decisions:
    """What a member hears of its group."""

    def __init__(self) -> None:
        self.has_twin = asyncio.Event()
        self.assigned_numbers: asyncio.Queue[set[int]] = asyncio.Queue()

    async def revoked(self, partitions: Iterable[TopicPartition]) -> None:
        pass

    async def assigned(self, partitions: Iterable[TopicPartition]) -> None:
        self.assigned_numbers.put_nowait({number for _, number in partitions})

    def replaced(self) -> None:
        self.has_twin.set()


def member(world: World, name: str, session_timeout_s: float = 10) -> GroupConsumer:
    group = f"{world.prefix}group"
    servers = world.kafka.bootstrap_servers
    return GroupConsumer(servers, group, f"{group}-{name}", session_timeout_s=session_timeout_s)


async def written(world: World, count: int) -> int:
    """Write events of one task; return the number of their partition."""
    async with Publisher(world.producer_settings) as publisher:
        positions = [
            await publisher.publish(training_progress("t", 0, "running", now_us=number))
            for number in range(count)
        ]
    return positions[-1].partition


async def test_nothing_is_fetched_before_its_start_and_then_from_the_given_offset(
    world: World,
) -> None:
    number = await written(world, 10)
    topic = world.topic(TRAINING_EVENTS.name)
    decisions = Decisions()
    async with member(world, "a") as consumer:
        await consumer.join([topic], decisions)
        assert await decisions.assigned_numbers.get() == set(range(6))
        admin = TopicAdmin(world.kafka.bootstrap_servers)
        members = await asyncio.to_thread(admin.members_of, f"{world.prefix}group")
        assert members == [f"{world.prefix}group-a"]
        home = TopicPartition(topic, number)
        assert [batch.records for batch in (await consumer.fetch([home], 0.5)).values()] == [[]]
        consumer.start_fetching({home: 4})
        found: list[int] = []
        while len(found) < 6:
            batches = await consumer.fetch([home], 0.5)
            found += [record.offset for batch in batches.values() for record in batch.records]
        assert found == list(range(4, 10))
        assert (await consumer.fetch([home], 0.5))[home].next_offset == 10


async def test_given_partitions_are_read_without_a_group(world: World) -> None:
    number = await written(world, 10)
    home = TopicPartition(world.topic(TRAINING_EVENTS.name), number)
    decisions = Decisions()
    async with AssignedConsumer(world.kafka.bootstrap_servers, [home]) as consumer:
        await consumer.join([], decisions)
        assert await decisions.assigned_numbers.get() == {number}
        assert [batch.records for batch in (await consumer.fetch([home], 0.5)).values()] == [[]]
        consumer.start_fetching({home: 7})
        found: list[int] = []
        while len(found) < 3:
            batches = await consumer.fetch([home], 0.5)
            found += [record.offset for batch in batches.values() for record in batch.records]
    assert found == [7, 8, 9]


async def test_an_offset_that_the_log_does_not_have_is_an_error_with_its_partition(
    world: World,
) -> None:
    topic = world.topic(TRAINING_EVENTS.name)
    decisions = Decisions()
    async with member(world, "a") as consumer:
        await consumer.join([topic], decisions)
        await decisions.assigned_numbers.get()
        consumer.start_fetching({TopicPartition(topic, 2): 1_000})
        with pytest.raises(OffsetLost, match=r"training\.events/2: 1000") as lost:
            await consumer.fetch([TopicPartition(topic, 2)], 20)
        assert list(lost.value.partitions) == [TopicPartition(topic, 2)]


async def test_members_get_the_same_numbers_of_all_topics(world: World) -> None:
    topics = [world.topic(name) for name in ("training.events", "backtest.events", "risk.acks")]
    first, second = Decisions(), Decisions()
    async with member(world, "a") as a, member(world, "b") as b:
        await a.join(topics, first)
        assert await first.assigned_numbers.get() == set(range(6))
        await b.join(topics, second)
        numbers = await second.assigned_numbers.get(), await first.assigned_numbers.get()
        assert sorted(map(sorted, numbers)) == [[0, 2, 4], [1, 3, 5]]


async def test_of_two_members_of_one_name_one_hears_of_the_other_or_is_refused(
    world: World,
) -> None:
    """And ends, so that the other is left alone."""
    topics = [world.topic(TRAINING_EVENTS.name)]
    first, second = Decisions(), Decisions()
    second.has_twin = first.has_twin

    async def fetch(consumer: GroupConsumer) -> None:
        while True:
            await consumer.fetch([], 0.1)

    async def fetch_until_refused(consumer: GroupConsumer) -> None:
        with pytest.raises(Unread, match=f"group {world.prefix}group cannot be read"):
            await fetch(consumer)

    async with member(world, "same", 3) as a, member(world, "same", 3) as b:
        await a.join(topics, first)
        await first.assigned_numbers.get()
        await b.join(topics, second)
        async with asyncio.TaskGroup() as tasks:
            endings = [
                tasks.create_task(ending)
                for ending in (
                    first.has_twin.wait(),
                    fetch_until_refused(a),
                    fetch_until_refused(b),
                )
            ]
            _, others = await asyncio.wait(endings, return_when=asyncio.FIRST_COMPLETED)
            for ending in others:
                ending.cancel()


async def test_no_broker_is_an_error_with_the_group() -> None:
    consumer = GroupConsumer(f"localhost:{free_port()}", "g", "m", session_timeout_s=10)
    with pytest.raises(Unread, match="group g cannot be read"):
        async with consumer:
            pass
