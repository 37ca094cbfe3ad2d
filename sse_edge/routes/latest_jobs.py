"""Waits until what is known of jobs is what their topic has: a poll is never behind a stream.

A processor folds a job's events into its state, which takes it a moment. Who has heard on a stream
how a job ended, on whichever node, and then asks for the list, expects to find it there.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import NamedTuple

from schemas.codec import decode_as
from schemas.events import BacktestProgress, JobState
from sse_edge.cache.table_view import TableView
from sse_edge.errors import OffsetOutOfRange
from sse_edge.log.protocol import Log
from sse_edge.log.record import Partition, Record
from sse_edge.log.scan import scan

logger = logging.getLogger(__name__)

_LOOKED_BACK = 2_000
"""Records of a partition. What lies further back was followed long ago."""


class _Told(NamedTuple):
    """The last that a job has said of itself."""

    offset: int
    is_removal: bool


class LatestJobs:
    """What the log has of jobs, and their view does not have yet."""

    def __init__(
        self,
        source: Log,
        topic: str,
        partitions: Callable[[], Awaitable[int]],
        jobs: TableView[JobState],
    ) -> None:
        """Know of nothing yet.

        Args:
            source: what is read.
            topic: the full name of the jobs' events.
            partitions: how many it has.
            jobs: what is known.
        """
        self._log = source
        self._topic = topic
        self._partitions = partitions
        self._jobs = jobs
        self._read_to: dict[Partition, int] = {}
        self._told: dict[str, _Told] = {}
        """By job, of what the view may not have."""
        self._one_at_a_time = asyncio.Lock()

    async def catch_up(self, within_s: float) -> None:
        """Return when the view has what the log had when this was called, or after a while.

        Raises:
            LogError: Kafka cannot be read.
        """
        async with self._one_at_a_time:
            await self._look()
        awaited = dict(self._told)
        try:
            async with asyncio.timeout(within_s):
                while any(self._is_missing(*one) for one in awaited.items()):
                    await self._jobs.changed_since(self._jobs.version)
        except TimeoutError:
            missing = [job_id for job_id, told in awaited.items() if self._is_missing(job_id, told)]
            logger.warning("no processor has followed these jobs: %s", ", ".join(missing))
        for job_id, told in awaited.items():
            if self._told.get(job_id) == told:
                del self._told[job_id]  # nobody waits for it again, whether it came or not

    async def _look(self) -> None:
        """Read what has come since this was done last."""
        homes = [Partition(self._topic, one) for one in range(await self._partitions())]
        ends = await self._log.end_offsets(homes)
        unread = [one for one in homes if one not in self._read_to]
        begins = await self._log.begin_offsets(unread) if unread else {}
        for home, end in ends.items():
            begin = min(self._read_to.get(home, begins.get(home, end)), end)
            self._read_to[home] = await self._read(home, max(begin, end - _LOOKED_BACK), end)

    async def _read(self, home: Partition, offset: int, end: int) -> int:
        try:
            async for batch in scan(self._log, home, offset, end):
                self._note(batch.records)
                offset = batch.next_offset
        except OffsetOutOfRange:
            return end  # it has expired meanwhile
        return offset

    def _note(self, records: Iterable[Record]) -> None:
        for record in records:
            event = decode_as(BacktestProgress, record.value)
            if event is None or event.job is None:
                continue
            if record.key == event.backtest_id.encode():
                told = _Told(record.offset, event.job.kind == "removed")
                self._told[event.backtest_id] = told

    def _is_missing(self, job_id: str, told: _Told) -> bool:
        state = self._jobs.last(job_id)
        if told.is_removal:
            return state is not None
        return state is None or not (state.ended or state.last_offset >= told.offset)
