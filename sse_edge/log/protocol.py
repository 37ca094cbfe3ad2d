"""The log as the edge needs it: records by partition and offset. Kafka is one; tests have another.

Positions are next offsets. Only committed records are seen. Whatever cannot be answered in time
raises `LogUnavailable`; nothing hangs.
"""

from collections.abc import Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from sse_edge.log.record import Batch, Partition, TopicInfo


class TailReader(Protocol):
    """Follows partitions from given positions on."""

    def assign(self, positions: Mapping[Partition, int]) -> None:
        """Follow these partitions, each from its position, and no others."""
        ...

    async def poll(self) -> Mapping[Partition, Batch]:
        """What has come, or nothing after a short while.

        Raises:
            OffsetOutOfRange: a position is not in the log.
            LogUnavailable: the reader is of no use any more.
        """
        ...


class Log(Protocol):
    """Topics, and what stands in them."""

    async def describe(self, topics: Iterable[str]) -> Mapping[str, TopicInfo]:
        """What the log says of topics; those that do not exist are left out."""
        ...

    async def begin_offsets(self, partitions: Iterable[Partition]) -> Mapping[Partition, int]:
        """The oldest offset of each partition that is still there."""
        ...

    async def end_offsets(self, partitions: Iterable[Partition]) -> Mapping[Partition, int]:
        """The offset that each partition's next record will have."""
        ...

    async def leader_epochs(self, partitions: Iterable[Partition]) -> Mapping[Partition, int]:
        """How many leaders each partition has had; those without one now are left out.

        A log can lose its end only where another leader begins.
        """
        ...

    async def offsets_at(
        self, partitions: Iterable[Partition], timestamp_ms: int
    ) -> Mapping[Partition, int]:
        """The first offset of each partition appended at a time or later; its end if none is."""
        ...

    async def read(self, partition: Partition, offset: int) -> Batch:
        """A bounded number of records from an offset on.

        Raises:
            OffsetOutOfRange: the offset is not in the log.
        """
        ...

    def partition_of(self, key: bytes, partitions: int) -> int:
        """The partition that producers give a key."""
        ...

    def tail(self) -> AbstractAsyncContextManager[TailReader]:
        """A reader of its own for the tail."""
        ...
