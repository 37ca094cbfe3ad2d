"""Asks for the ends of partitions, by a connection that nothing else waits on.

Kafka answers the requests of a connection in their order, and holds the answer to a fetch back
until there are records. So a consumer's own connection would answer late.

An end is after all records, also after those of open transactions. Nobody can read these yet, but
they have their times in the log: what depends on the order of times must wait for them.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence

import aiokafka
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError

from kafka_io import client
from kafka_io.errors import Unread
from kafka_io.refusals import reason_of
from schemas.topics import TopicPartition

_STOP_S = 1.0


class LogEnds:
    """Asks for the ends of partitions; connects at the first question."""

    def __init__(self, servers: Callable[[], str]) -> None:
        """Connect to nobody yet.

        Args:
            servers: returns the addresses of brokers, `host:port` with commas between.
        """
        self._servers = servers
        self._consumer: AIOKafkaConsumer | None = None
        self._asking = asyncio.Lock()
        self._asked = 0
        """How often ends were asked for."""
        self._wanted: set[TopicPartition] = set()
        """The partitions to ask for next."""
        self._ends: dict[TopicPartition, tuple[int, int]] = {}
        """The last known ends, each with the number of the request that it answers."""

    async def read(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Return the offset after the last record of each partition, committed or not.

        Callers that come while an answer is awaited share the next request.

        Raises:
            Unread: Kafka does not answer.
        """
        self._wanted |= set(partitions)
        asked = self._asked
        async with self._asking:
            if any(self._ends.get(where, (0, 0))[1] <= asked for where in partitions):
                await self._ask({*partitions, *self._wanted})
        return {where: self._ends[where][0] for where in partitions}

    async def close(self) -> None:
        """Disconnect; the next question connects again."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await client.stop(consumer, within_s=_STOP_S)

    async def _ask(self, partitions: Iterable[TopicPartition]) -> None:
        self._wanted = set()
        self._asked += 1
        asked = self._asked
        wanted = [aiokafka.TopicPartition(*where) for where in partitions]
        try:
            if self._consumer is None:
                self._consumer = client.consumer(
                    self._servers(), isolation_level="read_uncommitted"
                )
                await self._consumer.start()
            found = await self._consumer.end_offsets(wanted)
        except BaseException as error:
            # Also when the caller is cancelled: the broker that was asked may have lost its
            # leadership, and a new connection begins with the brokers that are alive.
            await self.close()
            if isinstance(error, KafkaError | OSError):
                raise Unread(f"the ends of logs cannot be read: {reason_of(error)}") from error
            raise
        self._ends |= {TopicPartition(*where): (end, asked) for where, end in found.items()}
