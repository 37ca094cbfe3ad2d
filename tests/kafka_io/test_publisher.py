import asyncio
import signal
from collections import defaultdict
from dataclasses import replace
from math import nan

import pytest
from aiokafka import AIOKafkaConsumer, ConsumerRecord
from opentelemetry.trace import NonRecordingSpan, SpanContext, use_span

from kafka_io.errors import BufferFull, InvalidReport, RecordRefused, Unsent
from kafka_io.publisher import Publisher
from kafka_io.reader import read_newest, read_table
from kafka_io.settings import ProducerSettings
from kafka_io.transactions import OutgoingRecord
from producers.broadcaster import BlockingBroadcaster, SSEBroadcaster
from producers.progress import training_progress, user_update
from producers.returns import BATCH_RETURNS_MAX, ReturnsPublisher
from schemas.codec import decode
from schemas.events import EdgeNode, Return, ReturnBatch, TrainingProgress
from schemas.topics import EDGE_NODES, PORTFOLIO_RETURNS, RISK_MEASURES
from tests.conftest import World
from tests.support.topic_config import configure

pytestmark = pytest.mark.kafka

NODE = EdgeNode(
    node_id="a",
    address="",
    host="",
    process_id=1,
    version="",
    status="active",
    started_us=0,
    interval_s=5.0,
    connections=0,
    responses=0,
    channels=(),
    events_sent=0,
    errors=0,
    event_time_us=0,
)


async def everything(world: World, topic: str, count: int) -> list[ConsumerRecord[bytes, bytes]]:
    """All records of a topic, once there are at least `count`."""
    found: list[ConsumerRecord[bytes, bytes]] = []
    async with (
        AIOKafkaConsumer(
            world.topic(topic),
            bootstrap_servers=world.kafka.bootstrap_servers,
            auto_offset_reset="earliest",
        ) as consumer,
        asyncio.timeout(30),
    ):
        more = True
        while more or len(found) < count:
            more = False
            for records in (await consumer.getmany(timeout_ms=500)).values():
                found += records
                more = True
    return found


def progress(task: str, percent: float) -> TrainingProgress:
    return training_progress(task, percent, "running", now_us=int(percent * 1000))


def numbered(number: int) -> TrainingProgress:
    return training_progress("a", 0, "running", now_us=number)


async def test_events_are_keyed_described_and_in_order(world: World) -> None:
    async with Publisher(world.producer_settings) as publisher, asyncio.TaskGroup() as tasks:
        for task in ("a", "b", "c"):

            async def report(task: str = task) -> None:
                for percent in range(50):
                    await publisher.publish(progress(task, percent))

            tasks.create_task(report())
    seen: defaultdict[bytes, list[float]] = defaultdict(list)
    partitions = defaultdict(set)
    for record in await everything(world, "training.events", 150):
        assert record.key is not None
        event = decode(record.value)
        assert isinstance(event, TrainingProgress)
        seen[record.key].append(event.progress)
        partitions[record.key].add(record.partition)
        headers = dict(record.headers)
        assert headers["ce_type"] == b"tapewire.TrainingProgress"
        assert headers["ce_subject"] == record.key
    assert seen == {task: list(range(50)) for task in (b"a", b"b", b"c")}
    assert all(len(partition) == 1 for partition in partitions.values())


async def test_an_event_carries_its_writers_trace(world: World) -> None:
    span = NonRecordingSpan(SpanContext(0xABC, 0xDEF, is_remote=False))
    async with Publisher(world.producer_settings) as publisher:
        with use_span(span):
            await publisher.publish(progress("traced", 1))
        await publisher.publish(progress("untraced", 2))
    headers = {
        item.key: dict(item.headers) for item in await everything(world, "training.events", 2)
    }
    trace = b"00-00000000000000000000000000000abc-0000000000000def-00"
    assert headers[b"traced"]["traceparent"] == trace
    assert "traceparent" not in headers[b"untraced"]


async def test_a_send_says_where_the_event_stands(world: World) -> None:
    async with Publisher(world.producer_settings) as publisher:
        first = await publisher.publish(progress("a", 1))
        second = await publisher.publish(progress("a", 2))
    assert first.partition == second.partition
    assert (first.offset, second.offset) == (0, 1)
    assert first.topic == world.topic("training.events")


async def test_when_kafka_is_away_it_says_how_many_events_are_unsent() -> None:
    settings = ProducerSettings(
        bootstrap_servers="localhost:1", patience_s=0.5, buffer_events_max=2
    )
    publisher = Publisher(settings)
    with pytest.raises(Unsent, match=r"has not acknowledged within 0\.5 s: 1 events are unsent"):
        await publisher.publish(progress("a", 1))
    with pytest.raises(Unsent) as second:
        await publisher.publish(progress("a", 2))
    assert second.value.unsent == publisher.unsent == 2
    with pytest.raises(BufferFull, match="one more was not taken") as full:
        await publisher.publish(progress("a", 3))
    assert full.value.unsent == 2
    with pytest.raises(Unsent, match="2 events are unsent"):
        await publisher.close()


async def test_a_broker_restart_loses_nothing_and_keeps_the_order(world: World) -> None:
    if not world.kafka.can_restart:
        pytest.skip("this broker is not ours to restart")
    async with Publisher(world.producer_settings) as publisher:
        await publisher.publish(numbered(0))

        under_way, is_back = asyncio.Event(), asyncio.Event()
        sent = 1

        async def report() -> None:
            nonlocal sent
            while sent < 40 or not is_back.is_set():
                await publisher.publish(numbered(sent))
                sent += 1
                if sent == 10:
                    under_way.set()

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(report())
            await under_way.wait()
            await asyncio.to_thread(world.kafka.stop, signal.SIGTERM)
            await asyncio.to_thread(world.kafka.start)
            is_back.set()
    by_id: dict[bytes, int] = {}
    for record in await everything(world, "training.events", sent):
        event = decode(record.value)
        assert isinstance(event, TrainingProgress)
        by_id.setdefault(dict(record.headers)["ce_id"], event.event_time_us)
    assert list(by_id.values()) == list(range(sent))


async def test_an_event_that_does_not_fit_is_refused_before_it_is_sent(world: World) -> None:
    async with Publisher(world.producer_settings) as publisher:
        too_large = TrainingProgress(
            task_id="t",
            progress=0,
            status="running",
            message="x" * (1 << 20),
            metrics={},
            event_time_us=0,
        )
        with pytest.raises(InvalidReport, match=r"message is .*: it must have at most 16384"):
            await publisher.publish(too_large)
        assert publisher.unsent == 0


async def test_a_record_that_is_too_large_for_its_topic_keeps_no_other_waiting(
    world: World,
) -> None:
    await configure(world, {"training.events": {"max.message.bytes": "2000"}})
    small = [numbered(number) for number in range(100)]
    large = replace(numbered(1_000), message="x" * 3_000)
    async with Publisher(world.producer_settings) as publisher:

        async def publish_large() -> None:
            with pytest.raises(RecordRefused, match=r"max\.message\.bytes"):
                await publisher.publish(large)

        async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
            for event in (*small[:50], None, *small[50:]):
                call = publish_large() if event is None else publisher.publish(event)
                tasks.create_task(call)
        assert publisher.unsent == 0
    found = [decode(record.value) for record in await everything(world, "training.events", 100)]
    assert {event.event_time_us for event in found if isinstance(event, TrainingProgress)} == set(
        range(100)
    )


async def test_what_kafka_never_takes_is_refused_with_a_sentence(world: World) -> None:
    too_early = {"message.timestamp.type": "CreateTime", "message.timestamp.before.max.ms": "0"}
    await configure(world, {"user.updates": too_early})
    missing = world.producer_settings.model_copy(update={"topic_prefix": "nobody."})
    async with Publisher(world.producer_settings) as publisher:
        with pytest.raises(RecordRefused, match="without a key in a compacted topic"):
            await publisher._write(OutgoingRecord(world.topic(EDGE_NODES.name), None, b"x", 0))
        with pytest.raises(RecordRefused, match="has 6 partitions, and no partition 60"):
            await publisher.publish(numbered(0), partition=60)
        with pytest.raises(RecordRefused, match="further from the broker's clock"):
            await publisher.publish(user_update("u", "x", now_us=0))
        await publisher.publish(numbered(1))
    async with Publisher(missing) as publisher:
        with pytest.raises(RecordRefused, match=r"there is no topic nobody\.training\.events"):
            await publisher.publish(numbered(2))


async def test_returns_travel_in_batches_by_the_portfolios_partition(world: World) -> None:
    returns = [
        Return(portfolio_id=f"p{at % 7}", event_time_us=at, value=nan if at == 3 else at / 1000)
        for at in range(1_500)
    ]
    async with Publisher(world.producer_settings) as publisher:
        await ReturnsPublisher(publisher).send(returns)
        with pytest.raises(InvalidReport, match="portfolio_id has 0 characters"):
            await ReturnsPublisher(publisher).send(
                [Return(portfolio_id="", event_time_us=0, value=0.0)]
            )
        with pytest.raises(
            InvalidReport, match=r"time of the ReturnBatch is 17\d+; it must be micro"
        ):
            await ReturnsPublisher(publisher).send([Return("p", 1_700_000_000_000_000_000, 0.0)])
        expected = {
            f"p{at}": await publisher.partition_for(RISK_MEASURES, b"p%d" % at) for at in range(7)
        }
    found: defaultdict[str, list[int]] = defaultdict(list)
    for record in await everything(world, "portfolio.returns", 8):
        batch = decode(record.value)
        assert isinstance(batch, ReturnBatch)
        assert len(batch.returns) <= BATCH_RETURNS_MAX
        for observation in batch.returns:
            assert record.partition == expected[observation.portfolio_id]
            found[observation.portfolio_id].append(observation.event_time_us)
    assert found == {f"p{at}": list(range(at, 1_500, 7)) for at in range(7)}


async def test_a_row_is_deleted_from_a_compacted_topic(world: World) -> None:
    async with Publisher(world.producer_settings) as publisher:
        await publisher.publish(NODE)
        written = await publisher.publish(replace(NODE, node_id="b"))
        deleted = await publisher.delete(EDGE_NODES, b"a")
        assert deleted.offset == written.offset + 1
        assert deleted.timestamp_ms >= written.timestamp_ms > 1_600_000_000_000
    assert set(await read_table(EDGE_NODES, world.producer_settings)) == {b"b"}


async def test_the_newest_records_say_where_a_producer_stopped(world: World) -> None:
    assert await read_newest(PORTFOLIO_RETURNS, world.producer_settings) == []
    async with Publisher(world.producer_settings) as publisher:
        sender = ReturnsPublisher(publisher)
        for at in range(3):
            await sender.send([Return(portfolio_id="p", event_time_us=at, value=0.0)])
    [last] = await read_newest(PORTFOLIO_RETURNS, world.producer_settings)
    assert isinstance(last, ReturnBatch)
    assert last.event_time_us == 2


async def test_a_plain_loop_reports_without_asyncio(world: World) -> None:
    def train() -> None:
        with BlockingBroadcaster(world.producer_settings) as reporter:
            for percent in (0, 50, 100):
                reporter.send_training_progress("t", percent, "running", "", {"loss": 1 / 2})
            with pytest.raises(InvalidReport, match="progress is 101"):
                reporter.send_training_progress("t", 101, "running")

    await asyncio.to_thread(train)
    events = [decode(item.value) for item in await everything(world, "training.events", 3)]
    assert [event.progress for event in events if isinstance(event, TrainingProgress)] == [
        0,
        50,
        100,
    ]


def test_a_broadcaster_serves_one_event_loop_after_another(kafka: object, world: World) -> None:
    broadcaster = SSEBroadcaster(world.producer_settings)

    async def report(percent: float) -> int:
        position = await broadcaster.send_training_progress("t", percent, "running")
        await broadcaster.close()
        return position.offset

    assert kafka
    assert [asyncio.run(report(1)), asyncio.run(report(2))] == [0, 1]
