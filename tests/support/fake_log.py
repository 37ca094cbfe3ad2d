"""A log in memory that keeps Kafka's promises (see `test_log_promises`), with seeded delays.

It has retention, holes as compaction and aborted transactions leave them, recreated topics, added
partitions, lost ends, partitions without a leader, former leaders, and outages. A seed has its
delays.
"""

import asyncio
import zlib
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random

from kafka_io.batches import Packed
from sse_edge.errors import LogUnavailable, OffsetOutOfRange
from sse_edge.log.record import Batch, Partition, Record, TopicInfo, tenant_of_key

_POLL_S = 0.05
_POLLED_MAX = 50


@dataclass
class _Partition:
    records: list[Record] = field(default_factory=list)
    begin: int = 0
    end: int = 0
    epoch: int = 0


@dataclass
class _Topic:
    topic_id: bytes
    partitions: list[_Partition]


class FakeLog:
    def __init__(self, seed: int = 0, slowest_s: float = 0.02) -> None:
        self.dice = Random(seed)
        self.slowest_s = slowest_s
        self.is_away = False
        self.has_no_controller = False
        """Whether questions about topics and leaders get no answer, though records are read."""
        self.leaderless: set[Partition] = set()
        self.former_ends: dict[Partition, int] = {}
        """Where partitions end for the present tail, which asks brokers that led them before."""
        self.reads = 0
        self.read_max = 20
        """How many records one read returns at most."""
        self._topics: dict[str, _Topic] = {}
        self._clock_ms = 1_700_000_000_000

    # The side of producers and administrators.

    def make(self, topic: str, partitions: int = 1) -> None:
        made = [_Partition() for _ in range(partitions)]
        self._topics[topic] = _Topic(self.dice.randbytes(16), made)

    def add_partition(self, topic: str) -> None:
        self._topics[topic].partitions.append(_Partition())

    def append(
        self,
        topic: str,
        number: int,
        key: bytes,
        value: bytes | None,
        event_id: bytes | None = None,
        tenant: bytes = b"",
        origin: bytes = b"",
        traceparent: bytes = b"",
    ) -> int:
        partition = self._topics[topic].partitions[number]
        self._clock_ms += 1
        offset = partition.end
        where = Partition(topic, number)
        tenant = tenant or tenant_of_key(key)
        partition.records.append(
            Record(where, offset, self._clock_ms, key, value, event_id, tenant, origin, traceparent)
        )
        partition.end = offset + 1
        return offset

    def count(self, topic: str) -> int:
        """Return the number of a topic's partitions."""
        return len(self._topics[topic].partitions)

    def record(self, topic: str, number: int, offset: int) -> Record:
        """Return the record at an offset."""
        records = self._topics[topic].partitions[number].records
        return next(record for record in records if record.offset == offset)

    def records_of(self, topic: str) -> list[Record]:
        """Return all records of a topic, partition by partition."""
        return [
            record for partition in self._topics[topic].partitions for record in partition.records
        ]

    def leave_hole(self, topic: str, number: int, size: int = 1) -> None:
        self._topics[topic].partitions[number].end += size

    def expire(self, topic: str, number: int, until: int) -> None:
        partition = self._topics[topic].partitions[number]
        partition.begin = max(partition.begin, min(until, partition.end))
        partition.records = [
            record for record in partition.records if record.offset >= partition.begin
        ]

    def cut_off(self, topic: str, number: int, offset: int) -> None:
        """Lose the end, as an unclean restart does; its offsets are assigned again."""
        partition = self._topics[topic].partitions[number]
        partition.records = [record for record in partition.records if record.offset < offset]
        partition.end = min(partition.end, offset)
        partition.epoch += 1

    # The side of the edge: the protocol `Log`.

    async def describe(self, topics: Iterable[str]) -> Mapping[str, TopicInfo]:
        await self._asked()
        return {
            name: TopicInfo(name, topic.topic_id, len(topic.partitions))
            for name, topic in self._topics.items()
            if name in set(topics)
        }

    async def begin_offsets(self, partitions: Iterable[Partition]) -> Mapping[Partition, int]:
        partitions = list(partitions)
        await self._slow(*partitions)
        return {partition: self._at(partition).begin for partition in partitions}

    async def end_offsets(self, partitions: Iterable[Partition]) -> Mapping[Partition, int]:
        partitions = list(partitions)
        await self._slow(*partitions)
        return {partition: self._at(partition).end for partition in partitions}

    async def leader_epochs(self, partitions: Iterable[Partition]) -> Mapping[Partition, int]:
        await self._asked()
        return {
            partition: self._at(partition).epoch
            for partition in partitions
            if partition not in self.leaderless
        }

    async def offsets_at(
        self, partitions: Iterable[Partition], timestamp_ms: int
    ) -> Mapping[Partition, int]:
        await self._slow()
        return {
            partition: next(
                (r.offset for r in self._at(partition).records if r.timestamp_ms >= timestamp_ms),
                self._at(partition).end,
            )
            for partition in partitions
        }

    async def read(self, partition: Partition, offset: int) -> Batch:
        self.reads += 1
        await self._slow(partition)
        return self._batch(partition, offset, self.dice.randint(1, self.read_max))

    async def read_packed(self, partition: Partition, offset: int) -> Packed | None:
        """Leave every read to `read`: this log has no batches."""
        del partition, offset
        return None

    def stuck_s(self) -> Mapping[Partition, float]:
        return {}

    def partition_of(self, key: bytes, partitions: int) -> int:
        return zlib.crc32(key) % partitions

    @asynccontextmanager
    async def tail(self) -> AsyncGenerator["_FakeTail"]:
        await self._slow()
        self.former_ends.clear()
        yield _FakeTail(self)

    async def _slow(self, *partitions: Partition) -> None:
        await asyncio.sleep(self.dice.uniform(0, self.slowest_s))
        if self.is_away or self.leaderless.intersection(partitions):
            raise LogUnavailable("the fake log is away")

    async def _asked(self) -> None:
        await self._slow()
        if self.has_no_controller:
            raise LogUnavailable("the fake controller is away")

    def _at(self, partition: Partition) -> _Partition:
        partitions = self._topics[partition.topic].partitions
        if not 0 <= partition.number < len(partitions):
            raise LogUnavailable(f"{partition} has no leader")  # as Kafka says of any other, too
        return partitions[partition.number]

    def _batch(self, partition: Partition, offset: int, count: int) -> Batch:
        log = self._at(partition)
        if offset < 0:
            raise ValueError(f"{offset} is negative")  # as aiokafka says
        if not log.begin <= offset <= log.end:
            raise OffsetOutOfRange(f"{offset} is not in {log.begin}..{log.end}")
        left = [record for record in log.records if record.offset >= offset]
        found = tuple(left[:count])
        return Batch(found, log.end if len(left) <= count else found[-1].offset + 1)


class _FakeTail:
    def __init__(self, log: FakeLog) -> None:
        self._log = log
        self._positions: dict[Partition, int] = {}

    def assign(self, positions: Mapping[Partition, int]) -> None:
        self._positions = dict(positions)

    async def poll(self) -> Mapping[Partition, Batch]:
        await self._log._slow()
        found = {}
        for partition, position in self._positions.items():
            if partition in self._log.leaderless:
                continue
            if (end := self._log.former_ends.get(partition, position)) < position:
                raise OffsetOutOfRange(f"{position} is after {end}")
            batch = self._log._batch(partition, position, self._log.dice.randint(1, _POLLED_MAX))
            if batch.next_offset > position:
                found[partition] = batch
                self._positions[partition] = batch.next_offset
        if not found:
            await asyncio.sleep(_POLL_S)
        return found


def log_of(count: int) -> FakeLog:
    """Return a log whose topic `t` has a partition with `count` records."""
    log = FakeLog(seed=4)
    log.make("t")
    append(log, count)
    return log


def append(log: FakeLog, count: int, key: bytes = b"k") -> None:
    """Append records to partition 0 of the topic `t`."""
    for _ in range(count):
        log.append("t", 0, key, b"")
