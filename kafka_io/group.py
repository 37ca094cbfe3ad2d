"""A consumer that reads by offsets of its own, as a member of a group or with given partitions.

A group decides which partitions a member has. The consumer decides where it reads on, since its
offsets are committed in transactions: nothing is fetched from a partition before `start_fetching`.
"""

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, Self

import aiokafka
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener
from aiokafka.errors import KafkaError, OffsetOutOfRangeError

from kafka_io import client
from kafka_io.errors import OffsetLost, Unread
from kafka_io.idle_fetches import wait_longer_when_idle
from kafka_io.log_ends import LogEnds
from kafka_io.reader import ConsumedRecord, as_consumed
from kafka_io.refusals import reason_of
from kafka_io.stuck import StuckPartitions, ends_of
from schemas.topics import TopicPartition

logger = logging.getLogger(__name__)

_FETCHED_MAX = 2_000
_POSITIONS_EVERY_S = 0.2
_REPLACED_MAX = 3
"""The most ids of one member in a minute. A member gets a new id after a pause; two processes with
one name replace each other, and get new ids, every few seconds."""
_REPLACED_WITHIN_S = 60.0
_NO_PARTITION = aiokafka.TopicPartition("none", 0)
"""Fetched in place of an empty list, which aiokafka takes for all partitions."""


class FetchedRecords(NamedTuple):
    """The next records of a partition."""

    records: Sequence[ConsumedRecord]
    next_offset: int
    """The offset after them, and after aborted records and markers behind them."""


class Listener(Protocol):
    """Is notified of the group's decisions."""

    async def revoked(self, partitions: Iterable[TopicPartition]) -> None:
        """Stop what runs on these partitions; they may go to others when this returns."""
        ...

    async def assigned(self, partitions: Iterable[TopicPartition]) -> None:
        """Begin with these partitions, which are all that the member has."""
        ...

    def replaced(self) -> None:
        """End, since another process has this member's name."""
        ...


class OffsetConsumer:
    """Fetches partitions from given offsets on. Use it in `async with`."""

    def __init__(self, consumer: AIOKafkaConsumer, name: str) -> None:
        """Use a consumer that is not started yet.

        Args:
            consumer: the consumer.
            name: the group, or where Kafka is, for messages of errors.
        """
        self._consumer = consumer
        self._name = name
        self.stuck = StuckPartitions()
        """The partitions that open transactions hold back."""
        self._positions_s = 0.0
        """When the positions of all partitions were returned last."""
        self._ends = LogEnds(lambda: self.servers)

    async def __aenter__(self) -> Self:
        try:
            await self._consumer.start()
        except BaseException as error:
            await client.stop(self._consumer)
            if isinstance(error, KafkaError | OSError):
                raise Unread(f"{self._name} cannot be read: {reason_of(error)}") from error
            raise
        wait_longer_when_idle(self._consumer)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._ends.close()
        await client.stop(self._consumer)

    @property
    def servers(self) -> str:
        """The addresses of the brokers that Kafka last took for alive; empty if none is known."""
        cluster: Any = self._consumer._client.cluster  # noqa: SLF001  # it is shown nowhere else
        return ",".join(sorted(f"{broker.host}:{broker.port}" for broker in cluster.brokers()))

    @property
    def ends(self) -> Mapping[TopicPartition, int]:
        """The end of each partition for readers of committed records, as of its last fetch."""
        return {
            TopicPartition(topic, number): ends.stable
            for topic, number, ends in ends_of(self._consumer)
        }

    async def fetch(
        self, partitions: Sequence[TopicPartition], within_s: float
    ) -> Mapping[TopicPartition, FetchedRecords]:
        """Return the next records of some partitions, and how far each has been read.

        A member must fetch, if only from no partition: one that does not fetch for five minutes
        leaves the group, and one that cannot continue gets its error here.

        The result also has partitions without records, now and then: they may have been read past
        aborted records and markers of transactions.

        Raises:
            OffsetLost: the log does not have the position of a partition any more.
            Unread: the member cannot continue; another process may have its name.
        """
        assigned = self._consumer.assignment()
        held = [aiokafka.TopicPartition(*where) for where in partitions if where in assigned]
        try:
            found = await self._consumer.getmany(
                *(held or [_NO_PARTITION]),
                timeout_ms=int(within_s * 1000),
                max_records=_FETCHED_MAX,
            )
        except OffsetOutOfRangeError as error:
            lost = {TopicPartition(*where): offset for where, offset in error.args[0].items()}
            raise OffsetLost(
                f"the log does not have the offsets {_shown(lost)}", tuple(lost)
            ) from error
        except KafkaError as error:
            raise Unread(f"{self._name} cannot be read: {reason_of(error)}") from error
        self.stuck.observe(self._consumer)
        now_s = asyncio.get_running_loop().time()
        if not found or now_s >= self._positions_s + _POSITIONS_EVERY_S:
            self._positions_s = now_s
            found = {where: found.get(where, []) for where in held}
        return {
            TopicPartition(*where): FetchedRecords(
                [as_consumed(record) for record in records], await self._consumer.position(where)
            )
            for where, records in found.items()
            if where in self._consumer.assignment()
        }

    async def read_ends(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Return the offset after the last record of each partition, committed or not.

        Raises:
            Unread: Kafka does not answer.
        """
        return await self._ends.read(partitions)

    def start_fetching(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Fetch partitions from these offsets on; those that were lost meanwhile are left out."""
        assigned = self._consumer.assignment()
        for where, offset in offsets.items():
            if where in assigned:
                partition = aiokafka.TopicPartition(*where)
                self._consumer.seek(partition, offset)
                self._consumer.resume(partition)


class GroupConsumer(OffsetConsumer):
    """A member of a group. Use it in `async with`."""

    def __init__(
        self,
        bootstrap_servers: str,
        group: str,
        member: str,
        *,
        session_timeout_s: float,
        client_id: str = "tapewire",
    ) -> None:
        """Make a member that has not joined yet.

        Args:
            bootstrap_servers: Kafka's addresses, `host:port` with commas between.
            group: the group's name.
            member: a name that the member keeps; after a restart it gets its partitions back.
            session_timeout_s: how long the group waits for a silent member.
            client_id: what the group's description says of where the member runs.
        """
        consumer = client.group_consumer(
            bootstrap_servers,
            group,
            member,
            session_timeout_s=session_timeout_s,
            client_id=client_id,
        )
        super().__init__(consumer, f"group {group}")

    async def join(self, topics: Sequence[str], listener: Listener) -> None:
        """Join the group; the listener is notified of what it assigns."""
        self._consumer.subscribe(list(topics), listener=_Adapter(self._consumer, listener))


class AssignedConsumer(OffsetConsumer):
    """Reads given partitions, and is no member of a group. Use it in `async with`."""

    def __init__(self, bootstrap_servers: str, partitions: Sequence[TopicPartition]) -> None:
        """Make a consumer of some partitions.

        Args:
            bootstrap_servers: Kafka's addresses, `host:port` with commas between.
            partitions: the partitions.
        """
        consumer = client.consumer(bootstrap_servers, auto_offset_reset="none")
        super().__init__(consumer, bootstrap_servers)
        self._partitions = partitions

    async def join(self, topics: Sequence[str], listener: Listener) -> None:
        """Notify the listener of the partitions; their topics are known already."""
        del topics
        self._consumer.assign([aiokafka.TopicPartition(*where) for where in self._partitions])
        _hold_back(self._consumer, self._consumer.assignment())
        await listener.assigned(self._partitions)


def _hold_back(consumer: AIOKafkaConsumer, assigned: set[aiokafka.TopicPartition]) -> None:
    """Fetch nothing from new partitions yet."""
    for where in assigned:
        # A position of any kind: else it would be fetched from the committed offset, if any.
        consumer.seek(where, 0)
    if assigned:
        consumer.pause(*assigned)


class _Adapter(ConsumerRebalanceListener):
    """Passes the group's decisions on, and holds every new partition back."""

    def __init__(self, consumer: AIOKafkaConsumer, listener: Listener) -> None:
        self._consumer = consumer
        self._listener = listener
        self._joined_s: dict[str, float] = {}
        """When the group first knew this member under each of the ids that it gave."""

    async def on_partitions_revoked(  # pyright: ignore[reportIncompatibleMethodOverride]  # awaited
        self, revoked: set[aiokafka.TopicPartition]
    ) -> None:
        await self._listener.revoked({TopicPartition(*where) for where in revoked})

    async def on_partitions_assigned(  # pyright: ignore[reportIncompatibleMethodOverride]  # awaited
        self, assigned: set[aiokafka.TopicPartition]
    ) -> None:
        if self._has_twin():
            self._listener.replaced()
            return
        _hold_back(self._consumer, assigned)
        await self._listener.assigned({TopicPartition(*where) for where in assigned})

    def _has_twin(self) -> bool:
        """Whether another process takes this member's place again and again."""
        now_s = asyncio.get_running_loop().time()
        coordinator: Any = self._consumer._coordinator  # noqa: SLF001  # the id is shown nowhere else
        member_id: str = coordinator.member_id
        self._joined_s.setdefault(member_id, now_s)
        recent = [at_s for at_s in self._joined_s.values() if now_s - at_s < _REPLACED_WITHIN_S]
        return len(recent) > _REPLACED_MAX


def _shown(positions: Mapping[TopicPartition, int]) -> str:
    return ", ".join(f"{topic}/{number}: {offset}" for (topic, number), offset in positions.items())
