"""The topics of a system are copied to another cluster, where edges and processors go on."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource  # type: ignore[attr-defined]  # re-exported

from cli import rebuild
from infra.errors import PartFailed
from kafka_io.publisher import Publisher
from kafka_io.reader import count_uncommitted, read_all, read_end_offsets, read_table
from producers.broadcaster import SSEBroadcaster
from producers.returns import ReturnsPublisher
from schemas.events import (
    AlertAck,
    PortfolioState,
    Return,
    RiskAlert,
    RiskLimit,
    RiskLimits,
    RiskMeasure,
    StoryState,
)
from schemas.topics import (
    CATALOGUE,
    PORTFOLIO_RETURNS,
    RISK_ACKS,
    RISK_ALERTS,
    RISK_LIMITS,
    RISK_MEASURES,
    RISK_STATE,
    TRAINING_EVENTS,
    TRAINING_TASKS,
    Topic,
)
from tests.conftest import Started, World, open_own_world
from tests.support.clients import stream
from tests.support.sse import named

pytestmark = [pytest.mark.infra, pytest.mark.kafka, pytest.mark.timeout(600)]

DAY_US = 86_400_000_000
PORTFOLIOS = ("calm", "wild", "other")
ALERTS = "/api/v1/sse/alerts"
TRAINING = "/api/v1/sse/training"
WORKER: dict[str, Any] = {"batch_within_s": 0.05, "var_limit": 0.5}


@pytest.fixture
async def old_world(tmp_path: Path) -> AsyncGenerator[World]:
    (tmp_path / "old").mkdir()
    async with open_own_world(tmp_path / "old") as world:
        yield world


@pytest.fixture
async def new_world(tmp_path: Path) -> AsyncGenerator[World]:
    (tmp_path / "new").mkdir()
    async with open_own_world(tmp_path / "new") as world:
        yield world


async def observed(world: World, days: range, size: float) -> None:
    async with Publisher(world.producer_settings) as publisher:
        sender = ReturnsPublisher(publisher)
        for day in days:
            sign = (-1) ** (day * day // 3)
            await sender.send([Return(name, day * DAY_US, sign * size) for name in PORTFOLIOS])


async def limited(world: World, limit: float) -> None:
    async with Publisher(world.producer_settings) as publisher:
        limits = [RiskLimit("var_95", limit, critical_ratio=1.5)]
        await publisher.publish(RiskLimits(portfolio_id="wild", limits=limits, event_time_us=0))


async def measured(world: World, day: int) -> dict[str, tuple[Any, ...]]:
    """Return the measures when all are of a day."""
    async with asyncio.timeout(60):
        while True:
            rows = (await read_table(RISK_MEASURES, world.producer_settings)).values()
            found = [row for row in rows if isinstance(row, RiskMeasure)]
            if [row.as_of_us for row in found] == [day * DAY_US] * len(PORTFOLIOS):
                return {
                    row.portfolio_id: (row.observations, row.var_95, row.es_99, row.utilisation)
                    for row in found
                }


async def alerts_of(world: World) -> list[tuple[str, tuple[Any, ...]]]:
    """Return the id and the content of each transition, in order."""
    found = await read_all(RISK_ALERTS, world.producer_settings)
    return [
        (
            alert.transition_id,
            (alert.entity_id, alert.rule_id, alert.state, alert.severity, alert.event_time_us),
        )
        for alert in found
        if isinstance(alert, RiskAlert)
    ]


async def processed(world: World) -> None:
    topics = [PORTFOLIO_RETURNS, RISK_LIMITS, RISK_ACKS, TRAINING_EVENTS]
    ends = await read_end_offsets(topics, world.producer_settings)
    async with asyncio.timeout(60):
        while await count_uncommitted(ends, "tapewire", world.producer_settings):
            continue


async def trained(world: World, percents: range) -> None:
    async with SSEBroadcaster(world.producer_settings) as reporter:
        for percent in percents:
            await reporter.send_training_progress("t", percent, "running")


def shift(world: World) -> None:
    """Let the first records of the inputs have other offsets than in a copy."""
    producer = Producer({"bootstrap.servers": world.kafka.bootstrap_servers})
    homes = [
        TopicPartition(topic.name, number, 3 + number)
        for topic in (PORTFOLIO_RETURNS, RISK_LIMITS, RISK_ACKS)
        for number in range(topic.partitions)
    ]
    for home in homes:
        for _ in range(home.offset):
            producer.produce(home.topic, b"expired", partition=home.partition)
    assert producer.flush(60) == 0
    delete_before(world, homes)


async def lived(world: World) -> None:
    """Let a system measure, raise alerts, have them acknowledged, and follow a training."""
    await asyncio.to_thread(shift, world)
    worker = await world.worker(**WORKER)
    await trained(world, range(20))
    await observed(world, range(100), 0.03)
    for day, limit in ((100, 0.02), (102, 0.2), (104, 0.025)):
        await limited(world, limit)
        await observed(world, range(day, day + 2), 0.03)
    await measured(world, 105)
    await processed(world)
    opened = (await read_all(RISK_ALERTS, world.producer_settings))[-1]
    assert isinstance(opened, RiskAlert)
    async with Publisher(world.producer_settings) as publisher:
        await publisher.publish(
            AlertAck(alert_id=opened.alert_id, entity_id="wild", by="ann", event_time_us=0)
        )
    await observed(world, range(106, 108), 0.03)
    await measured(world, 107)
    await processed(world)
    await worker.stop()
    # The workers have not read these when the cluster is lost.
    await observed(world, range(108, 110), 0.0001)


async def expire(world: World, topic: Topic) -> None:
    """Delete the first half of a topic, as retention does."""
    ends = await read_end_offsets([topic], world.producer_settings)
    first = [TopicPartition(*where, end // 2) for where, end in ends.items() if end > 1]
    await asyncio.to_thread(delete_before, world, first)


def delete_before(world: World, homes: Sequence[TopicPartition]) -> None:
    admin = AdminClient({"bootstrap.servers": world.kafka.bootstrap_servers})
    for deleted in admin.delete_records(list(homes)).values():
        deleted.result(30)


def stamp(world: World, names: Sequence[str], kind: str) -> None:
    """Let topics keep the times of records (CreateTime), or give them their own."""
    admin = AdminClient({"bootstrap.servers": world.kafka.bootstrap_servers})
    resources = [
        ConfigResource(
            ConfigResource.Type.TOPIC,
            name,
            incremental_configs=[
                ConfigEntry(
                    "message.timestamp.type",
                    kind,
                    incremental_operation=AlterConfigOpType.SET,
                )
            ],
        )
        for name in names
    ]
    for altered in admin.incremental_alter_configs(resources).values():
        altered.result(30)


def copy(old: World, new: World) -> int:
    """Copy all records into the same partitions, in order, with times; return how many."""
    names = [topic.name for topic in CATALOGUE]
    stamp(new, names, "CreateTime")
    consumer = Consumer(
        {
            "bootstrap.servers": old.kafka.bootstrap_servers,
            "group.id": "copy",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "isolation.level": "read_committed",
        }
    )
    producer = Producer(
        {"bootstrap.servers": new.kafka.bootstrap_servers, "enable.idempotence": True}
    )
    homes = [
        TopicPartition(topic.name, number, OFFSET_BEGINNING)
        for topic in CATALOGUE
        for number in range(topic.partitions)
    ]
    consumer.assign(homes)
    ended: set[tuple[str | None, int | None]] = set()
    count = 0
    while len(ended) < len(homes):
        message = consumer.poll(10)
        assert message is not None
        error = message.error()
        if error is not None:
            assert error.code() == KafkaError._PARTITION_EOF, error
            ended.add((message.topic(), message.partition()))
            continue
        topic, number = message.topic(), message.partition()
        assert topic is not None
        assert number is not None
        producer.produce(
            topic,
            message.value(),
            message.key(),
            number,
            timestamp=message.timestamp()[1],
            headers=message.headers(),
        )
        count += 1
        producer.poll(0)
    assert producer.flush(60) == 0
    consumer.close()
    stamp(new, names, "LogAppendTime")
    return count


async def read_as_client(world: World, path: str, name: str, count: int) -> tuple[list[Any], str]:
    edge = await world.edge()
    async with stream(edge.url, path, since="earliest") as client:
        events = (await client.events(name, count))[:count]
    await edge.stop()
    return [event.inner for event in events], events[count // 2].id or ""


async def assert_processors_refuse(world: World) -> None:
    before = await alerts_of(world)
    with pytest.raises(PartFailed):
        await world.worker(**WORKER)
    [log] = [path.read_text() for path in world.folder.glob("worker-*.log")]
    assert "the topics were copied from another cluster" in log
    assert "run `tapewire rebuild NAME`" in log
    assert await alerts_of(world) == before


async def assert_gap_first(
    edge: Started, path: str, cursor: str, name: str, expected: list[Any]
) -> None:
    """Check that a cursor of the other cluster gets a gap, and then all events of the copy."""
    async with stream(edge.url, path, headers={"Last-Event-ID": cursor}) as client:
        found = await client.events(name, len(expected))
        [gap] = named(client.blocks, "gap")
        assert gap.inner["reason"] == "topic_recreated"
        assert client.blocks.index(gap) < client.blocks.index(found[0])
        assert [event.inner for event in found] == expected


async def go_on(world: World) -> dict[str, tuple[Any, ...]]:
    """Let a system go on, and return its measures."""
    await world.worker(**WORKER)
    await measured(world, 109)
    await limited(world, 0.01)
    await observed(world, range(110, 114), 0.05)
    await trained(world, range(20, 22))
    found = await measured(world, 113)
    await processed(world)
    states = await read_table(RISK_STATE, world.producer_settings)
    counts = [state.observations for state in states.values() if isinstance(state, PortfolioState)]
    assert counts == [114] * len(PORTFOLIOS)
    return found


async def test_another_cluster_goes_on_where_the_lost_one_ended(
    old_world: World, new_world: World, account: Callable[[str], None]
) -> None:
    old, new = old_world, new_world
    await lived(old)
    live = await alerts_of(old)
    assert {"raised", "cleared", "acknowledged"} <= {content[2] for _, content in live}
    alerts, alert_cursor = await read_as_client(old, ALERTS, "risk_alert", len(live))
    training, cursor = await read_as_client(old, TRAINING, "training_progress", 20)
    await expire(old, TRAINING_EVENTS)
    count = await asyncio.to_thread(copy, old, new)

    await assert_processors_refuse(new)
    edge = await new.edge()
    await assert_gap_first(edge, ALERTS, alert_cursor, "risk_alert", alerts)
    await assert_gap_first(edge, TRAINING, cursor, "training_progress", training[10:])

    printed: list[str] = []
    terminal = rebuild.Terminal(printed.append)
    env = {"TAPEWIRE_VAR_LIMIT": "0.5"}
    settings = new.producer_settings
    await rebuild.rebuild(settings, "v2", new.folder, terminal, switch=True, env=env)
    assert "alert steps only before            0" in printed
    assert "alert steps only now               0" in printed
    assert printed[-1].startswith("adopted: ")
    assert await alerts_of(new) == live

    # Both clusters go on with the same, and find the same.
    assert await go_on(new) == await go_on(old)
    went_on = await alerts_of(new)
    assert went_on[: len(live)] == live
    # What a change of limits raises from now on has the id of its place in each cluster.
    contents = [content for _, content in went_on]
    assert contents == [content for _, content in await alerts_of(old)]
    assert len(went_on) > len(live)
    assert len({transition for transition, _ in went_on}) == len(went_on)
    tasks = await read_table(TRAINING_TASKS, new.producer_settings)
    [task] = [state for state in tasks.values() if isinstance(state, StoryState)]
    assert (task.first_offset, task.last_offset) == (0, 11)
    account(
        f"{count} records were copied; {len(went_on)} steps of alerts and the measures of "
        f"{len(PORTFOLIOS)} portfolios are those of the lost cluster"
    )
