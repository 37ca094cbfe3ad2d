"""Reads of the log for one connection behind the windows: at most one for each partition.

The reads run beside the connection, so that neither heartbeats nor the other partitions wait.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import NamedTuple

from sse_edge.cache.catch_up import Piece
from sse_edge.delivery.start import Gap


class _Read(NamedTuple):
    offset: int
    task: asyncio.Task[Piece | Gap]


class PartitionReads:
    """The reads of one connection, by the index of the partition."""

    def __init__(
        self,
        tasks: asyncio.TaskGroup,
        read: Callable[[int, int], Coroutine[None, None, Piece | Gap]],
    ) -> None:
        """Start without a read.

        Args:
            tasks: owns the reads.
            read: reads a piece of the partition of an index, from an offset on.
        """
        self._tasks = tasks
        self._read = read
        self._reads: dict[int, _Read] = {}

    def begin(self, index: int, offset: int) -> None:
        """Begin to read a partition from an offset on."""
        task = self._tasks.create_task(self._read(index, offset))
        self._reads[index] = _Read(offset, task)

    def result(self, index: int, offset: int) -> Piece | Gap | None:
        """Return what was read from an offset on; None while the read is under way.

        A read that has not begun, or that began at another offset, begins now.
        """
        read = self._reads.get(index)
        if read is None or read.offset != offset:
            self.begin(index, offset)
            return None
        return self._reads.pop(index).task.result() if read.task.done() else None

    def cancel(self) -> None:
        """Cancel the reads that are under way."""
        for read in self._reads.values():
            read.task.cancel()
