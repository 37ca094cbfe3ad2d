"""A record that Kafka will never take is refused alone: no other record waits for it."""

import asyncio
from collections import defaultdict
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
from aiokafka.errors import (
    BrokerResponseError,
    InvalidTimestampError,
    MessageSizeTooLargeError,
    OutOfOrderSequenceNumber,
    PolicyViolationError,
    RecordListTooLargeError,
    TopicAuthorizationFailedError,
    UnknownError,
    kafka_errors,
)

from kafka_io import client
from kafka_io.errors import RecordRefused, Unsent
from kafka_io.publisher import Publisher
from kafka_io.settings import ProducerSettings
from kafka_io.transactions import OutgoingRecord
from schemas.topics import RISK_MEASURES

pytestmark = pytest.mark.virtual_time

BATCH_S = 0.01


class Metadata(NamedTuple):
    topic: str
    partition: int
    offset: int
    timestamp: int


class Cluster:
    """Topics, and a broker that takes or refuses a whole batch of a partition."""

    def __init__(self) -> None:
        self.topics = {"t": 2, "u": 1}
        self.unauthorized_topics: set[str] = set()
        self.log: defaultdict[tuple[str, int], list[bytes]] = defaultdict(list)
        self.errors: dict[bytes, type[BrokerResponseError]] = {}
        """What the broker answers to a batch that has the record with this value."""
        self.batches: list[list[bytes]] = []
        self.producers = 0
        self.batch_s = BATCH_S

    def partitions_for_topic(self, topic: str) -> set[int] | None:
        return set(range(self.topics[topic])) if topic in self.topics else None

    def producer(self, *_: object, **__: object) -> "Producer":
        self.producers += 1
        return Producer(self)


class Producer:
    """Sends what came within a moment as one batch, in sequence, as an idempotent producer does."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.client = SimpleNamespace(
            cluster=cluster, _topics=set(), force_metadata_update=self._metadata
        )
        self._open: dict[tuple[str, int], list[tuple[bytes, asyncio.Future[Metadata]]]] = {}
        self._broken: set[tuple[str, int]] = set()
        """The partitions where a batch was refused, so that the next one is out of sequence."""

    async def _metadata(self) -> None:
        await asyncio.sleep(BATCH_S)

    async def start(self) -> None:
        return None

    async def stop(self) -> None:
        for batch in self._open.values():
            for _, delivery in batch:
                delivery.cancel()
        self._open.clear()

    async def send(
        self, topic: str, value: bytes, key: bytes, *, partition: int | None, **_: Any
    ) -> "asyncio.Future[Metadata]":
        if partition is None:
            partition = client.partition_of(key, self._cluster.topics[topic])
        if len(value) > 1_000:
            raise MessageSizeTooLargeError
        where = topic, partition
        loop = asyncio.get_running_loop()
        if where not in self._open:
            self._open[where] = []
            loop.call_later(self._cluster.batch_s, self._deliver, where)
        delivery: asyncio.Future[Metadata] = loop.create_future()
        self._open[where].append((value, delivery))
        return delivery

    def _deliver(self, where: tuple[str, int]) -> None:
        batch = self._open.pop(where, [])
        if where[0] not in self._cluster.topics:
            self._open[where] = batch  # it is sent again and again
            return
        self._cluster.batches.append([value for value, _ in batch])
        found = [self._cluster.errors[value] for value, _ in batch if value in self._cluster.errors]
        error = OutOfOrderSequenceNumber if where in self._broken else next(iter(found), None)
        if error is not None:
            self._broken.add(where)
        for value, delivery in batch:
            if delivery.done():
                continue
            if error is None:
                log = self._cluster.log[where]
                log.append(value)
                delivery.set_result(Metadata(*where, len(log) - 1, 1_700_000_000_000))
            else:
                delivery.set_exception(error())


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    made = Cluster()
    monkeypatch.setattr(client, "producer", made.producer)
    return made


def publisher(patience_s: float = 30.0) -> Publisher:
    return Publisher(ProducerSettings(patience_s=patience_s))


def record(
    number: int, topic: str = "t", partition: int | None = 0, size: int = 10
) -> OutgoingRecord:
    return OutgoingRecord(topic, b"k", f"{topic} {number}".encode().ljust(size), partition)


async def publish_all(made: Publisher, *records: OutgoingRecord) -> dict[bytes, float]:
    """Publish records at once; when each was settled, negative for a refusal."""
    now_s, settled = asyncio.get_running_loop().time, dict[bytes, float]()
    began_s = now_s()

    async def publish(sent: OutgoingRecord) -> None:
        value = sent.value or b""
        try:
            await made._write(sent)
        except RecordRefused:
            settled[value] = -(now_s() - began_s) or -0.001
        else:
            settled[value] = now_s() - began_s

    async with asyncio.TaskGroup() as tasks:
        for sent in records:
            tasks.create_task(publish(sent))
    return settled


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (MessageSizeTooLargeError, "larger than the topic's max.message.bytes"),
        (RecordListTooLargeError, "larger than a segment"),
        (TopicAuthorizationFailedError, "lacks an ACL: WRITE on the topic"),
        (InvalidTimestampError, "further from the broker's clock"),
        (PolicyViolationError, "a policy of the cluster"),
        (kafka_errors[87], "without a key in a compacted topic"),
        (UnknownError, "UnknownError"),
    ],
)
async def test_a_refused_record_leaves_the_buffer_and_those_of_its_batch_are_written(
    cluster: Cluster, error: type[BrokerResponseError], why: str
) -> None:
    made = publisher()
    records = [record(number) for number in range(10)]
    bad = records[3].value or b""
    cluster.errors[bad] = error
    settled = await publish_all(made, *records)
    assert [value for value, at_s in settled.items() if at_s < 0] == [bad]
    assert max(map(abs, settled.values())) < 3
    assert cluster.log["t", 0] == [sent.value for sent in records if sent.value != bad]
    assert made.unsent == 0
    with pytest.raises(RecordRefused, match=f"does not take a record of 11 bytes for t: .*{why}"):
        await made._write(records[3])
    await made.close()


async def test_records_of_other_partitions_do_not_wait_for_a_suspect(cluster: Cluster) -> None:
    made = publisher()
    cluster.errors[record(0).value or b""] = MessageSizeTooLargeError
    others = [record(number, "u") for number in range(50)]
    settled = await publish_all(made, *(record(number) for number in range(20)), *others)
    assert max(settled[other.value or b""] for other in others) < 1
    assert cluster.log["u", 0] == [other.value for other in others]


async def test_many_bad_records_leave_the_good_ones_in_order(cluster: Cluster) -> None:
    made = publisher()
    records = [record(number) for number in range(60)]
    for number in range(0, 60, 7):
        cluster.errors[records[number].value or b""] = MessageSizeTooLargeError
    settled = await publish_all(made, *records)
    good = [sent.value for number, sent in enumerate(records) if number % 7]
    assert cluster.log["t", 0] == good
    assert len(settled) == 60


async def test_a_good_record_is_not_refused_for_a_bad_one_that_comes_later(
    cluster: Cluster,
) -> None:
    made = publisher()
    bad, good, also_bad = record(0), record(1), record(2)
    for sent in (bad, also_bad):
        cluster.errors[sent.value or b""] = MessageSizeTooLargeError
    async with asyncio.TaskGroup() as tasks:
        first = tasks.create_task(publish_all(made, bad, good))
        await asyncio.sleep(1.5 * BATCH_S)  # virtual: Kafka has refused both, and the bad one waits
        last = tasks.create_task(publish_all(made, also_bad))
    assert [at_s > 0 for at_s in first.result().values()] == [False, True]
    assert [at_s > 0 for at_s in last.result().values()] == [False]
    assert cluster.log["t", 0] == [good.value]


async def test_a_record_that_the_client_library_refuses_blocks_no_other(cluster: Cluster) -> None:
    made = publisher()
    settled = await publish_all(made, record(0, size=2_000), record(1))
    assert [at_s > 0 for at_s in settled.values()].count(False) == 1
    assert cluster.log["t", 0] == [record(1).value]
    assert cluster.producers == 1


@pytest.mark.parametrize("absent", [record(0, "gone"), record(0, "t", partition=9)])
@pytest.mark.usefixtures("cluster")
async def test_a_topic_or_partition_that_does_not_exist_is_named(absent: OutgoingRecord) -> None:
    made = publisher()
    settled = await publish_all(made, absent, *(record(number, "u") for number in range(5)))
    assert -client.MISSING_S - 1 < settled.pop(absent.value or b"") <= -client.MISSING_S
    assert max(settled.values()) < 1
    with pytest.raises(RecordRefused, match=r"there is no topic gone|t has 2 partitions, and no"):
        await made._write(absent)


async def test_a_topic_that_is_made_a_moment_later_is_no_missing_one(cluster: Cluster) -> None:
    made = publisher()
    asyncio.get_running_loop().call_later(3, cluster.topics.setdefault, "late", 1)
    settled = await publish_all(made, record(0, "late"), record(1, "late"))
    assert all(3 <= at_s < 4 for at_s in settled.values())
    assert cluster.log["late", 0] == [record(0, "late").value, record(1, "late").value]


async def test_a_forbidden_topic_is_refused_at_once(cluster: Cluster) -> None:
    made = publisher()
    cluster.unauthorized_topics.add("secret")
    with pytest.raises(RecordRefused, match="lacks an ACL: WRITE on the topic secret"):
        await made._write(record(0, "secret"))
    assert asyncio.get_running_loop().time() < 1


async def test_a_topic_that_is_deleted_meanwhile_blocks_no_other(cluster: Cluster) -> None:
    made = publisher()
    await made._write(record(0, "u"))
    del cluster.topics["u"]
    settled = await publish_all(made, record(1, "u"), *(record(number) for number in range(5)))
    assert -2 * client.MISSING_S < settled.pop(record(1, "u").value or b"") < 0
    assert max(settled.values()) < 1


async def test_a_refusal_that_no_caller_waits_for_is_an_error_of_the_next_flush(
    cluster: Cluster,
) -> None:
    made = publisher(patience_s=1.0)
    cluster.batch_s = 0.7
    cluster.errors[record(0).value or b""] = MessageSizeTooLargeError
    with pytest.raises(Unsent, match="1 events are unsent"):
        await made._write(record(0))
    with pytest.raises(RecordRefused, match="1 of the events were not written; the first: Kafka"):
        await made.flush()
    assert made.unsent == 0
    await made.close()


async def test_a_partition_of_a_topic_that_does_not_exist_is_refused(cluster: Cluster) -> None:
    made = publisher()
    with pytest.raises(RecordRefused, match=r"there is no topic risk\.measures"):
        await made.partition_for(RISK_MEASURES, b"k")
    assert asyncio.get_running_loop().time() < 2 * client.MISSING_S
    assert not cluster.batches
