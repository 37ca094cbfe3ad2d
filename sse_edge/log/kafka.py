"""Kafka as the edge's log.

Partitions are assigned by hand and read by offset, without a consumer group. Four traps of Kafka
and its client libraries shape this module:

- a broker that is cut off from the other brokers takes itself for the leader that it was, and ends
  its partitions where they ended then, so an end counts only with the newest leader epoch;
- an assigned partition that does not exist gives neither an error nor records, so the metadata of
  topics are requested separately;
- aiokafka knows no topic ids, and `kafka_io.topic_admin` does;
- a client can be broken after an error, so each error ends with a new client.
"""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import NamedTuple, Self, TypeVar

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError, OffsetOutOfRangeError

from kafka_io import client
from kafka_io.batch_reader import BatchReader
from kafka_io.batches import Packed
from kafka_io.client import partition_of
from kafka_io.clock import append_time_ms
from kafka_io.counts import COUNTS
from kafka_io.errors import Unread
from kafka_io.refusals import denial_of
from kafka_io.stage_times import Stage
from kafka_io.stuck import StuckPartitions
from kafka_io.topic_admin import PartitionEnd, TopicAdmin
from sse_edge.errors import LogUnavailable, OffsetOutOfRange
from sse_edge.log.conversion import AHEAD_MS, records_of
from sse_edge.log.protocol import NO_TOPIC, TailReader
from sse_edge.log.record import Batch, Partition, Record, TopicInfo

logger = logging.getLogger(__name__)

T = TypeVar("T")

_ANSWER_S = 5.0
_POLL_MS = 200
_READ_MS = 1_000
_READ_RECORDS = 2_000
_UNPACKED_RECORDS = 250
"""How many records are unpacked at a time, which takes one or two milliseconds."""
_READ_BYTES = 1 << 20
_KEPT_S = 1.0
"""How long an idle reader keeps what it has fetched ahead, in seconds."""
_TAIL_BYTES = 1 << 20
_OBSERVED_S = 0.5
_METADATA_MS = 5_000
"""How long a consumer follows a leader before it asks which broker leads now. One that is cut off
from the other brokers answers and has nothing new; aiokafka's default is five minutes."""


_SCHEMA_WAIT_S = 2.0
"""How long a record waits for its schema at a registry that does not answer; clients wait, too."""

_Where = tuple[TopicPartition, int]


class _Idle(NamedTuple):
    consumer: AIOKafkaConsumer
    position: _Where | None
    since_s: float


class KafkaLog:
    """Kafka as a `Log`. Use it in `async with`."""

    def __init__(self, bootstrap_servers: str, *, readers_max: int = 4) -> None:
        self._servers = bootstrap_servers
        self._idle: list[_Idle] = []
        self._slots = asyncio.Semaphore(readers_max)
        self._admin = TopicAdmin(bootstrap_servers, timeout_s=_ANSWER_S)
        self._topic_ids: dict[str, bytes] = {}
        self._epochs: dict[tuple[str, int], int] = {}
        """The newest leader epoch seen of each partition, of the topics with these ids."""
        self._tails: set[_KafkaTail] = set()
        self._batches = BatchReader(bootstrap_servers)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        while self._idle:
            await client.stop(self._idle.pop().consumer)
        await self._batches.close()

    async def describe(self, topics: Iterable[str]) -> Mapping[str, TopicInfo]:
        """Return what Kafka knows of topics, without those that do not exist."""
        names = list(topics)
        # Kafka says of a topic without ACLs that it is forbidden, also where there is none.
        options = {"leave_out_forbidden": True} if names == [NO_TOPIC] else {}
        found = await self._ask(lambda admin: admin.describe(names, **options))
        for name, identity in found.items():
            if self._topic_ids.get(name) != identity.topic_id:
                # A topic that is made anew counts its leaders from the beginning.
                self._topic_ids[name] = identity.topic_id
                self._epochs = {at: epoch for at, epoch in self._epochs.items() if at[0] != name}
        return {name: TopicInfo(*identity) for name, identity in found.items()}

    async def begin_offsets(self, partitions: Iterable[Partition]) -> Mapping[Partition, int]:
        """Return the oldest offset of each partition."""
        async with self._consumer() as consumer:
            return _by_partition(await consumer.beginning_offsets(_as_topic_partitions(partitions)))

    async def end_offsets(self, partitions: Iterable[Partition]) -> Mapping[Partition, int]:
        """Return the offset after each partition's last committed record."""
        known = list(partitions)
        ends = await self._ends(known)
        for partition in known:
            if partition not in ends:
                raise LogUnavailable(f"{partition.topic}/{partition.number} has no leader")
        return {partition: ends[partition].offset for partition in known}

    async def leader_epochs(self, partitions: Iterable[Partition]) -> Mapping[Partition, int]:
        """Return the leader epoch of each partition, without those that have no leader."""
        ends = await self._ends(list(partitions))
        return {Partition(*partition): end.leader_epoch for partition, end in ends.items()}

    async def _ends(self, partitions: list[Partition]) -> Mapping[tuple[str, int], PartitionEnd]:
        """Return the ends of partitions that leaders answer for, and no former leaders."""
        found = await self._ask(lambda admin: admin.ends(partitions))
        ends = self._without_former_leaders(found)
        # Without an end as a client would say that knows only dead brokers.
        if partitions and (not ends or len(ends) < len(found)):
            self._renew_admin(self._admin)
            found = await self._ask(lambda admin: admin.ends(partitions))
            ends = self._without_former_leaders(found)
        return ends

    def _without_former_leaders(
        self, ends: Mapping[tuple[str, int], PartitionEnd]
    ) -> Mapping[tuple[str, int], PartitionEnd]:
        current = {
            partition: end
            for partition, end in ends.items()
            if end.leader_epoch >= self._epochs.get(partition, end.leader_epoch)
        }
        self._epochs |= {partition: end.leader_epoch for partition, end in current.items()}
        return current

    async def offsets_at(
        self, partitions: Iterable[Partition], timestamp_ms: int
    ) -> Mapping[Partition, int]:
        """Return the first offset of each partition appended at a time or later, or its end."""
        topic_partitions = _as_topic_partitions(partitions)
        async with self._consumer() as consumer:
            # The ends come first: a record appended in between is of that time or later, too.
            ends = await consumer.end_offsets(topic_partitions)
            found = await consumer.offsets_for_times(
                dict.fromkeys(topic_partitions, max(0, timestamp_ms))
            )
        # offset None: nothing has been appended since
        return _by_partition(
            {
                partition: ends[partition] if at is None else min(at.offset, ends[partition])
                for partition, at in found.items()
            }
        )

    async def read(self, partition: Partition, offset: int) -> Batch:
        """Read a bounded number of records from an offset on."""
        where = TopicPartition(*partition)
        async with self._consumer((where, offset)) as consumer:
            if consumer.assignment() != {where} or await consumer.position(where) != offset:
                consumer.assign([where])
                consumer.seek(where, offset)
            records: list[Record] = []
            wait_ms = _READ_MS
            while len(records) < _READ_RECORDS:
                found = await consumer.getmany(timeout_ms=wait_ms, max_records=_UNPACKED_RECORDS)
                if not found:
                    break
                records += records_of(partition, found[where])
                wait_ms = 0
                await asyncio.sleep(0)
            return Batch(tuple(records), await consumer.position(where))

    async def read_packed(self, partition: Partition, offset: int) -> Packed | None:
        """Read record batches from an offset on as they are; None if they have to be `read`."""
        return await self._batches.read(*partition, offset)

    def partition_of(self, key: bytes, partitions: int) -> int:
        """Return the partition that producers give a key."""
        return partition_of(key, partitions)

    def stuck_s(self) -> Mapping[Partition, float]:
        """Return for how many seconds open transactions have held followed partitions back."""
        return {
            Partition(*where): age_s
            for tail in self._tails
            for where, age_s in tail.stuck.ages_s.items()
        }

    @asynccontextmanager
    async def tail(self) -> AsyncGenerator[TailReader]:
        """Open a reader for the tail."""
        with _translated():
            consumer = await self._started(_TAIL_BYTES)
        tail = _KafkaTail(consumer)
        self._tails.add(tail)
        try:
            yield tail
        finally:
            self._tails.discard(tail)
            await client.stop(consumer)

    async def _ask(self, question: Callable[[TopicAdmin], T]) -> T:
        """Ask the cluster; after a failure ask once more, with a client that knows no broker yet.

        A client goes on asking the controller that it knows, also while that broker is dead.

        Raises:
            LogUnavailable: both clients got no answer.
        """
        admin = self._admin
        try:
            return await asyncio.to_thread(question, admin)
        except Unread as error:
            logger.info("Kafka is asked again through a new client: %s", error)
        self._renew_admin(admin)
        with _translated():
            return await asyncio.to_thread(question, self._admin)

    def _renew_admin(self, failed: TopicAdmin) -> None:
        if self._admin is failed:
            self._admin = TopicAdmin(self._servers, timeout_s=_ANSWER_S)

    @asynccontextmanager
    async def _consumer(self, at: _Where | None = None) -> AsyncGenerator[AIOKafkaConsumer]:
        """Lend a consumer of the pool; after an error it does not return to the pool.

        A consumer that has just stopped at the requested position is preferred, since it has
        fetched the next records already.
        """
        async with self._slots:
            with _translated():
                consumer = await self._one_for(at)
                try:
                    async with asyncio.timeout(_ANSWER_S):
                        yield consumer
                        position = await _where(consumer) if at is not None else None
                except BaseException:
                    await client.stop(consumer)
                    raise
            self._idle.append(_Idle(consumer, position, asyncio.get_running_loop().time()))

    async def _one_for(self, at: _Where | None) -> AIOKafkaConsumer:
        if not self._idle:
            return await self._started(_READ_BYTES)
        now_s = asyncio.get_running_loop().time()
        for number, idle in enumerate(self._idle):
            if at is not None and idle.position == at and now_s - idle.since_s < _KEPT_S:
                return self._idle.pop(number).consumer
        consumer = self._idle.pop(0).consumer
        consumer.unsubscribe()
        return consumer

    async def _started(self, max_partition_fetch_bytes: int) -> AIOKafkaConsumer:
        consumer = client.consumer(
            self._servers,
            auto_offset_reset="none",
            max_partition_fetch_bytes=max_partition_fetch_bytes,
            fetch_max_wait_ms=_POLL_MS,
            metadata_max_age_ms=_METADATA_MS,
            schema_wait_s=_SCHEMA_WAIT_S,
        )
        try:
            async with asyncio.timeout(_ANSWER_S):
                await consumer.start()
        except BaseException:
            await client.stop(consumer)
            raise
        return consumer


class _KafkaTail:
    """A consumer that follows the partitions assigned to it."""

    def __init__(self, consumer: AIOKafkaConsumer) -> None:
        self.stuck = StuckPartitions()
        """The partitions that open transactions hold back."""
        self._consumer = consumer
        self._observed_s = 0.0

    def assign(self, positions: Mapping[Partition, int]) -> None:
        self._consumer.assign(_as_topic_partitions(positions))
        for partition, offset in positions.items():
            self._consumer.seek(TopicPartition(*partition), offset)

    async def poll(self) -> Mapping[Partition, Batch]:
        with _translated():
            found = await self._consumer.getmany(timeout_ms=_POLL_MS)
            self._observe()
            _sample(found)
            if not found:
                # Aborted transactions and control records move positions without a record.
                found = {where: [] for where in self._consumer.assignment()}
            batches = {}
            for where, records in found.items():
                partition = Partition(where.topic, where.partition)
                read = tuple(records_of(partition, records))
                batches[partition] = Batch(read, await self._consumer.position(where))
            return batches

    def _observe(self) -> None:
        now_s = asyncio.get_running_loop().time()
        if now_s - self._observed_s > _OBSERVED_S:  # a busy tail polls a thousand times a second
            self._observed_s = now_s
            self.stuck.observe(self._consumer)


def _sample(found: Mapping[TopicPartition, list[ConsumerRecord[bytes, bytes]]]) -> None:
    """Note how long one of the records that were read has taken until here."""
    for records in found.values():
        for record in records:
            now_s = time.time()
            appended_s = append_time_ms(record.timestamp, int(now_s * 1000) + AHEAD_MS) / 1000
            COUNTS.stages.observe_record(Stage.LOG_TO_EDGE, appended_s, record.headers, now_s)
            return


async def _where(consumer: AIOKafkaConsumer) -> _Where | None:
    """Return the partition and offset that a consumer of one partition reads next."""
    assigned = tuple(consumer.assignment())
    return (assigned[0], await consumer.position(assigned[0])) if len(assigned) == 1 else None


class _translated:  # noqa: N801  # used like a function
    """Raises Kafka's errors as the log's."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        match error:
            case OffsetOutOfRangeError():
                raise OffsetOutOfRange(str(error)) from error
            case Unread():
                raise LogUnavailable(str(error)) from error
            case KafkaError() if (denial := denial_of(error)) is not None:
                raise LogUnavailable(denial) from error
            case KafkaError() | OSError():  # a TimeoutError is an OSError
                raise LogUnavailable(f"{type(error).__name__}: {error}") from error
            case _:
                return


def _as_topic_partitions(partitions: Iterable[Partition]) -> list[TopicPartition]:
    return [TopicPartition(*partition) for partition in partitions]


def _by_partition(offsets: Mapping[TopicPartition, int]) -> dict[Partition, int]:
    return {Partition(where.topic, where.partition): offset for where, offset in offsets.items()}
