"""The log as the edge needs it: records by partition and offset, of Kafka or of a test double.

A position is the offset of the next record. Only committed records are read. A call that gets no
answer in time raises `LogUnavailable`; no call hangs.
"""

from collections.abc import Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from kafka_io.batches import Packed
from sse_edge.log.record import Batch, Partition, TopicInfo

NO_TOPIC = "tapewire.nothing"
"""A name that no topic has: its description shows whether the log answers."""


class TailReader(Protocol):
    """Reads new records of partitions, from given positions on."""

    def assign(self, positions: Mapping[Partition, int]) -> None:
        """Follow these partitions only, each from its position."""
        ...

    async def poll(self) -> Mapping[Partition, Batch]:
        """Return the records that arrived, or nothing after a short wait.

        Raises:
            OffsetOutOfRange: a position is not in the log.
            LogUnavailable: the reader is broken.
        """
        ...


class Log(Protocol):
    """Topics and their records."""

    async def describe(self, topics: Iterable[str]) -> Mapping[str, TopicInfo]:
        """Return what the log knows of topics, without those that do not exist."""
        ...

    async def begin_offsets(self, partitions: Iterable[Partition]) -> Mapping[Partition, int]:
        """Return the oldest offset of each partition."""
        ...

    async def end_offsets(self, partitions: Iterable[Partition]) -> Mapping[Partition, int]:
        """Return the offset that each partition's next record will have."""
        ...

    async def leader_epochs(self, partitions: Iterable[Partition]) -> Mapping[Partition, int]:
        """Return the leader epoch of each partition, without those that have no leader.

        A log can lose its end only when another leader begins.
        """
        ...

    async def offsets_at(
        self, partitions: Iterable[Partition], timestamp_ms: int
    ) -> Mapping[Partition, int]:
        """Return the first offset of each partition appended at a time or later, or its end."""
        ...

    async def read(self, partition: Partition, offset: int) -> Batch:
        """Read a bounded number of records from an offset on.

        Raises:
            OffsetOutOfRange: the offset is not in the log.
        """
        ...

    async def read_packed(self, partition: Partition, offset: int) -> Packed | None:
        """Read record batches from an offset on as they are; None if they have to be `read`.

        It does not wait for records, and raises nothing that `read` will raise.
        """
        ...

    def partition_of(self, key: bytes, partitions: int) -> int:
        """Return the partition that producers give a key."""
        ...

    def stuck_s(self) -> Mapping[Partition, float]:
        """Return for how many seconds open transactions have held followed partitions back."""
        ...

    def tail(self) -> AbstractAsyncContextManager[TailReader]:
        """Open a reader for the tail."""
        ...
