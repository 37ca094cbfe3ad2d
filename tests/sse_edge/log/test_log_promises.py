"""What the edge relies on in a log: the fake log and Kafka pass the same tests."""

import asyncio
import uuid
from collections.abc import AsyncGenerator, Sequence
from typing import Protocol

import pytest
from aiokafka import AIOKafkaProducer
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewPartitions, NewTopic

from schemas.headers import ID
from sse_edge.errors import OffsetOutOfRange
from sse_edge.log.kafka import KafkaLog
from sse_edge.log.protocol import Log, TailReader
from sse_edge.log.record import Partition, Record
from tests.conftest import TestKafka
from tests.support.fake_log import FakeLog

_PATIENCE_S = 30


class Owner(Protocol):
    """A log, with what producers and administrators do to one topic of it."""

    topic: str

    @property
    def log(self) -> Log: ...
    async def append(self, count: int, number: int = 0) -> None: ...
    async def leave_hole(self) -> None: ...
    async def expire(self, offset: int) -> None: ...
    async def recreate(self) -> None: ...
    async def add_partition(self) -> None: ...


class FakeOwner:
    def __init__(self) -> None:
        self.log: FakeLog = FakeLog(slowest_s=0)
        self.topic = "topic"
        self.log.make(self.topic, 2)
        self._appended = 0

    async def append(self, count: int, number: int = 0) -> None:
        for _ in range(count):
            value, event_id = b"%d" % self._appended, b"id-%d" % self._appended
            self.log.append(self.topic, number, b"key", value, event_id)
            self._appended += 1

    async def leave_hole(self) -> None:
        self.log.leave_hole(self.topic, 0, 2)

    async def expire(self, offset: int) -> None:
        self.log.expire(self.topic, 0, offset)

    async def recreate(self) -> None:
        self.log.make(self.topic, 2)

    async def add_partition(self) -> None:
        self.log.add_partition(self.topic)


class KafkaOwner:
    def __init__(self, log: KafkaLog, servers: str) -> None:
        self.log = log
        self.topic = f"promises-{uuid.uuid4().hex[:8]}"
        self._servers = servers
        self._admin = AdminClient({"bootstrap.servers": servers})
        self._appended = 0

    async def append(self, count: int, number: int = 0) -> None:
        producer = AIOKafkaProducer(bootstrap_servers=self._servers)
        await producer.start()
        try:
            for _ in range(count):
                value, event_id = b"%d" % self._appended, b"id-%d" % self._appended
                headers = [(ID, event_id)]
                await producer.send_and_wait(self.topic, value, b"key", number, headers=headers)
                self._appended += 1
        finally:
            await producer.stop()

    async def leave_hole(self) -> None:
        """Abort a transaction: its records and its marker take offsets and are never read."""
        producer = AIOKafkaProducer(
            bootstrap_servers=self._servers, transactional_id=uuid.uuid4().hex
        )
        before = await end_of(self)
        await producer.start()
        try:
            await producer.begin_transaction()
            await producer.send_and_wait(self.topic, b"aborted", b"key", 0)
            await producer.abort_transaction()
        finally:
            await producer.stop()
        # The abort is acknowledged before its marker is in the partition, and moves the end.
        async with asyncio.timeout(30):
            while await end_of(self) == before:
                pass

    async def expire(self, offset: int) -> None:
        wanted = [TopicPartition(self.topic, 0, offset)]
        for future in self._admin.delete_records(wanted).values():
            await asyncio.to_thread(future.result)

    async def make(self) -> None:
        settings = {"message.timestamp.type": "LogAppendTime"}
        new = NewTopic(self.topic, num_partitions=2, replication_factor=1, config=settings)
        for future in self._admin.create_topics([new]).values():
            await asyncio.to_thread(future.result)
        # The broker can hear of the topic from its controller after that.
        await self._until_described(is_there=True)

    async def recreate(self) -> None:
        await self.delete()
        await self._until_described(is_there=False)
        await self.make()

    async def _until_described(self, *, is_there: bool) -> None:
        async with asyncio.timeout(_PATIENCE_S):
            while bool(await self.log.describe([self.topic])) != is_there:  # noqa: ASYNC110  # Kafka notifies nobody
                await asyncio.sleep(0.1)

    async def delete(self) -> None:
        for future in self._admin.delete_topics([self.topic]).values():
            await asyncio.to_thread(future.result)

    async def add_partition(self) -> None:
        for future in self._admin.create_partitions([NewPartitions(self.topic, 3)]).values():
            await asyncio.to_thread(future.result)


@pytest.fixture(params=["fake", pytest.param("kafka", marks=pytest.mark.kafka)])
async def owner(request: pytest.FixtureRequest) -> AsyncGenerator[Owner]:
    if request.param == "fake":
        yield FakeOwner()
        return
    kafka: TestKafka = request.getfixturevalue("kafka")
    async with KafkaLog(kafka.bootstrap_servers) as log:
        owner = KafkaOwner(log, kafka.bootstrap_servers)
        await owner.make()
        yield owner
        await owner.delete()


async def read_from(owner: Owner, offset: int, until: int) -> Sequence[Record]:
    records: list[Record] = []
    partition = Partition(owner.topic, 0)
    async with asyncio.timeout(_PATIENCE_S):
        while offset < until:
            batch = await owner.log.read(partition, offset)
            assert batch.next_offset >= offset
            records += batch.records
            offset = batch.next_offset
    return records


async def poll_for_ever(reader: TailReader) -> None:
    while True:
        await reader.poll()


async def end_of(owner: Owner) -> int:
    partition = Partition(owner.topic, 0)
    return (await owner.log.end_offsets([partition]))[partition]


async def test_a_topic_is_described_and_a_missing_one_is_left_out(owner: Owner) -> None:
    topics = await owner.log.describe([owner.topic, f"{owner.topic}-missing"])
    [info] = topics.values()
    assert (info.name, info.partitions, len(info.topic_id)) == (owner.topic, 2, 16)


async def test_a_recreated_topic_has_another_id(owner: Owner) -> None:
    before = (await owner.log.describe([owner.topic]))[owner.topic]
    await owner.recreate()
    after = (await owner.log.describe([owner.topic]))[owner.topic]
    assert before.topic_id != after.topic_id


async def test_an_added_partition_is_described_under_the_same_id(owner: Owner) -> None:
    before = (await owner.log.describe([owner.topic]))[owner.topic]
    await owner.add_partition()
    async with asyncio.timeout(_PATIENCE_S):
        while True:
            after = (await owner.log.describe([owner.topic]))[owner.topic]
            if after.partitions == 3:
                break
            await asyncio.sleep(0.1)
    assert after.topic_id == before.topic_id


async def test_offsets_begin_at_zero_and_count_the_records_of_each_partition(owner: Owner) -> None:
    await owner.append(3)
    first, second = Partition(owner.topic, 0), Partition(owner.topic, 1)
    assert await owner.log.begin_offsets([first, second]) == {first: 0, second: 0}
    assert await owner.log.end_offsets([first, second]) == {first: 3, second: 0}


async def test_records_are_read_in_order_from_any_offset_with_all_that_they_hold(
    owner: Owner,
) -> None:
    await owner.append(30)
    for begin in (0, 7, 29):
        records = await read_from(owner, begin, 30)
        assert [record.offset for record in records] == list(range(begin, 30))
        assert [record.value for record in records] == [b"%d" % n for n in range(begin, 30)]
        assert [record.event_id for record in records] == [b"id-%d" % n for n in range(begin, 30)]
        assert {(record.partition, record.key, record.tenant) for record in records} == {
            (Partition(owner.topic, 0), b"key", b"")
        }


async def test_a_read_at_the_end_brings_nothing_and_moves_nowhere(owner: Owner) -> None:
    await owner.append(2)
    batch = await owner.log.read(Partition(owner.topic, 0), 2)
    assert (batch.records, batch.next_offset) == ((), 2)


async def test_an_offset_beyond_the_end_is_out_of_range(owner: Owner) -> None:
    await owner.append(2)
    with pytest.raises(OffsetOutOfRange):
        await owner.log.read(Partition(owner.topic, 0), 5)


async def test_an_expired_offset_is_out_of_range_and_the_begin_is_after_it(owner: Owner) -> None:
    await owner.append(6)
    await owner.expire(4)
    partition = Partition(owner.topic, 0)
    assert await owner.log.begin_offsets([partition]) == {partition: 4}
    with pytest.raises(OffsetOutOfRange):
        await owner.log.read(partition, 3)
    assert [record.offset for record in await read_from(owner, 4, 6)] == [4, 5]


async def test_a_hole_has_no_record_and_a_read_passes_it(owner: Owner) -> None:
    await owner.append(2)
    await owner.leave_hole()
    hole_end = await end_of(owner)
    assert hole_end > 2
    assert [record.offset for record in await read_from(owner, 0, hole_end)] == [0, 1]
    await owner.append(1)
    end = await end_of(owner)
    assert [record.offset for record in await read_from(owner, 0, end)] == [0, 1, hole_end]


async def test_a_time_is_found_as_the_first_record_of_that_time_or_later(owner: Owner) -> None:
    await owner.append(5)
    partition = Partition(owner.topic, 0)
    records = await read_from(owner, 0, 5)
    for wanted in records:
        first = next(r.offset for r in records if r.timestamp_ms >= wanted.timestamp_ms)
        found = await owner.log.offsets_at([partition], wanted.timestamp_ms)
        assert found == {partition: first}
    later_ms = records[-1].timestamp_ms + 3_600_000
    assert await owner.log.offsets_at([partition], later_ms) == {partition: 5}


async def test_a_partition_with_a_leader_has_an_epoch_that_stays(owner: Owner) -> None:
    partition = Partition(owner.topic, 0)
    await owner.log.end_offsets([partition])
    before = await owner.log.leader_epochs([partition])
    assert before[partition] >= 0
    await owner.append(1)
    assert await owner.log.leader_epochs([partition]) == before


async def test_a_key_has_one_partition_of_those_there_are(owner: Owner) -> None:
    for key in (b"", b"a", b"some longer key"):
        assert owner.log.partition_of(key, 1) == 0
        assert owner.log.partition_of(key, 6) == owner.log.partition_of(key, 6) < 6


async def test_a_tail_follows_its_positions_and_nothing_else(owner: Owner) -> None:
    await owner.append(5)
    await owner.append(2, number=1)
    first, second = Partition(owner.topic, 0), Partition(owner.topic, 1)
    seen: dict[Partition, list[int]] = {first: [], second: []}
    async with owner.log.tail() as reader, asyncio.timeout(_PATIENCE_S):
        reader.assign({first: 3})
        while seen[first] != [3, 4]:
            for partition, batch in (await reader.poll()).items():
                seen[partition] += [record.offset for record in batch.records]
        assert seen[second] == []
        await owner.append(1)
        while seen[first] != [3, 4, 5]:
            for partition, batch in (await reader.poll()).items():
                seen[partition] += [record.offset for record in batch.records]
        reader.assign({second: 0})
        while seen[second] != [0, 1]:
            for partition, batch in (await reader.poll()).items():
                seen[partition] += [record.offset for record in batch.records]
    assert seen[first] == [3, 4, 5]


async def test_a_tail_beyond_the_log_is_out_of_range(owner: Owner) -> None:
    await owner.append(2)
    async with owner.log.tail() as reader, asyncio.timeout(_PATIENCE_S):
        reader.assign({Partition(owner.topic, 0): 9})
        with pytest.raises(OffsetOutOfRange):
            await poll_for_ever(reader)
