"""A publisher reports as sent what Kafka has, however late the acknowledgement comes."""

import asyncio
from random import Random
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
from aiokafka.errors import KafkaConnectionError

from kafka_io import client
from kafka_io.errors import BufferFull, Unsent
from kafka_io.publisher import Publisher
from kafka_io.settings import ProducerSettings
from producers.progress import training_progress
from schemas.codec import encode
from schemas.events import TrainingProgress
from schemas.headers import headers_of

pytestmark = pytest.mark.virtual_time


class Metadata(NamedTuple):
    topic: str
    partition: int
    offset: int
    timestamp: int


class FakeCluster:
    """A log, and producers whose acknowledgements arrive late, or not while it is away."""

    def __init__(self, seed: int = 0) -> None:
        self.dice = Random(seed)
        self.ids: list[bytes] = []
        """The CloudEvents ids of the records, by offset."""
        self.is_away = False
        self.back = asyncio.Event()
        self.slowest_s = 0.5
        self.failures = 0
        """How many of the next records fail."""
        self.stop_s = 0.0
        """How long a producer takes to stop."""

    def partitions_for_topic(self, topic: str) -> set[int]:
        """Return what a producer's metadata say."""
        del topic
        return {0}

    def producer(self, *_: object, **__: object) -> "FakeProducer":
        return FakeProducer(self)


class FakeProducer:
    def __init__(self, cluster: FakeCluster) -> None:
        self._cluster = cluster
        self._tasks: set[asyncio.Task[Any]] = set()
        self.client = SimpleNamespace(cluster=cluster)

    async def start(self) -> None:
        if self._cluster.is_away:
            raise KafkaConnectionError

    async def stop(self) -> None:
        await asyncio.sleep(self._cluster.stop_s)
        for task in self._tasks:
            task.cancel()

    async def send(
        self, topic: str, value: bytes, key: bytes, *, headers: list[tuple[str, bytes]], **_: Any
    ) -> "asyncio.Future[Metadata]":
        del value, key
        loop = asyncio.get_running_loop()
        task = loop.create_task(self._append(topic, dict(headers)["ce_id"]))
        self._tasks.add(task)
        return task

    async def _append(self, topic: str, event_id: bytes) -> Metadata:
        cluster = self._cluster
        await asyncio.sleep(cluster.dice.random() * cluster.slowest_s / 2)
        if cluster.failures:
            cluster.failures -= 1
            raise KafkaConnectionError
        if cluster.is_away:
            await cluster.back.wait()
        offset = len(cluster.ids)
        cluster.ids.append(event_id)
        await asyncio.sleep(cluster.dice.random() * cluster.slowest_s / 2)
        return Metadata(topic, 0, offset, 1_700_000_000_000)


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> FakeCluster:
    made = FakeCluster()
    monkeypatch.setattr(client, "producer", made.producer)
    return made


def progress(number: int) -> TrainingProgress:
    return training_progress("t", 0, "running", f"number {number}", now_us=number)


def publisher_of(patience_s: float = 1.0, **more: Any) -> Publisher:
    return Publisher(ProducerSettings(patience_s=patience_s, **more))


@pytest.mark.usefixtures("cluster")
async def test_a_caller_returns_with_its_own_acknowledgement() -> None:
    """Though it sends the buffer for others, whose acknowledgements come later."""
    publisher = publisher_of(2.0)
    loop = asyncio.get_running_loop()
    async with asyncio.TaskGroup() as tasks:
        first = tasks.create_task(publisher.publish(progress(0)))
        for number in range(1, 200):
            await asyncio.sleep(0.1)  # virtual time: the events come while others are on their way
            tasks.create_task(publisher.publish(progress(number)))
            if number == 30:
                assert first.done()
    assert first.result().offset == 0
    assert loop.time() < 30


@pytest.mark.parametrize("seed", range(20))
async def test_every_answer_is_true(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was reported as sent is in the log there, once; what was not taken is not in it."""
    cluster = FakeCluster(seed)
    monkeypatch.setattr(client, "producer", cluster.producer)
    publisher = publisher_of(1.0, buffer_events_max=8)
    sent: dict[int, int] = {}
    refused: set[int] = set()
    waiting: set[int] = set()

    async def publish(number: int) -> None:
        try:
            sent[number] = (await publisher.publish(progress(number))).offset
        except BufferFull:
            refused.add(number)
        except Unsent:
            waiting.add(number)

    async with asyncio.TaskGroup() as tasks:
        for number in range(60):
            tasks.create_task(publish(number))
            await asyncio.sleep(cluster.dice.random() * 0.2)
            if number == 20:
                cluster.is_away = True
            if number == 40:
                cluster.is_away = False
                cluster.back.set()
    await publisher.close()
    ids = {number: event_id(number) for number in range(60)}
    assert {number: cluster.ids[offset] for number, offset in sent.items()} == {
        number: ids[number] for number in sent
    }
    assert not {ids[number] for number in refused} & set(cluster.ids)
    assert {ids[number] for number in waiting} <= set(cluster.ids)
    assert len(cluster.ids) == len(set(cluster.ids))
    assert refused
    assert waiting


def event_id(number: int) -> bytes:
    event = progress(number)
    return dict(headers_of(event, encode(event), "", recorded_us=0))["ce_id"]


async def test_an_event_that_is_published_again_has_the_same_id(cluster: FakeCluster) -> None:
    publisher = publisher_of()
    first = await publisher.publish(progress(1))
    second = await publisher.publish(progress(1))
    assert cluster.ids[first.offset] == cluster.ids[second.offset]


async def test_an_unsent_event_is_sent_by_the_next_flush(cluster: FakeCluster) -> None:
    publisher = publisher_of()
    cluster.is_away = True
    with pytest.raises(Unsent, match="1 events are unsent"):
        await publisher.publish(progress(1))
    cluster.is_away = False
    cluster.back.set()
    await publisher.flush()
    assert cluster.ids == [event_id(1)]


async def test_a_caller_that_gives_up_while_a_producer_stops_leaves_its_event_to_be_sent(
    cluster: FakeCluster,
) -> None:
    cluster.failures, cluster.stop_s = 1, 5.0
    publisher = publisher_of(1.0)
    with pytest.raises(Unsent):
        await publisher.publish(progress(0))
    cluster.stop_s = 0.0
    await publisher.flush()
    assert (len(cluster.ids), publisher.unsent) == (1, 0)


async def test_an_acknowledgement_in_the_moment_of_the_timeout_counts(
    cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def send(_: FakeProducer, topic: str, *_values: object, **_more: object) -> object:
        loop = asyncio.get_running_loop()  # it comes after as long as the patience
        delivery = loop.create_future()
        loop.call_later(
            1.0, delivery.set_result, Metadata(topic, 0, 7, 0)
        )  # as long as the patience
        return delivery

    assert cluster.ids == []
    monkeypatch.setattr(FakeProducer, "send", send)
    assert (await publisher_of(1.0).publish(progress(1))).offset == 7
