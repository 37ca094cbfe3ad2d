"""Waits until the table of jobs has what the log has, so that a list is never behind a stream.

A processor folds the events of a job into its state, which takes a moment. A client that received
the end of a job on a stream, from any node, expects it in the list that it requests next.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import NamedTuple

from schemas.events import BacktestProgress, JobState, JobStepKind
from schemas.gate import admit_or_none
from schemas.keys import readable_keys
from sse_edge.cache.table_view import TableView
from sse_edge.errors import OffsetOutOfRange
from sse_edge.log.protocol import Log
from sse_edge.log.record import Partition, Record
from sse_edge.log.scan import scan

logger = logging.getLogger(__name__)

_LOOKED_BACK = 2_000
"""Records of a partition; older ones were processed long ago."""


_JobKey = tuple[str, str]
"""A tenant, empty for none, and the id of its job."""


class _LastEvent(NamedTuple):
    """The last event of a job."""

    offset: int
    is_removal: bool


class LatestJobs:
    """The events of jobs that the log has, and their table may not have."""

    def __init__(
        self,
        source: Log,
        topic: str,
        partitions: Callable[[], Awaitable[int]],
        jobs: TableView[JobState],
    ) -> None:
        """Start without events.

        Args:
            source: the log.
            topic: the full name of the topic of events.
            partitions: returns the number of its partitions.
            jobs: the table of jobs.
        """
        self._log = source
        self._topic = topic
        self._partitions = partitions
        self._jobs = jobs
        self._read_to: dict[Partition, int] = {}
        self._last_events: dict[_JobKey, _LastEvent] = {}
        """By job, the last event that the table may not have."""
        self._one_at_a_time = asyncio.Lock()

    async def catch_up(self, within_s: float, tenant: str | None = None) -> None:
        """Return when the table has what the log had at the call, or after some seconds.

        Args:
            within_s: how long to wait.
            tenant: the tenant whose jobs count; "" for those of none, None for all.

        Raises:
            LogError: Kafka cannot be read.
        """
        async with self._one_at_a_time:
            await self._look()
        awaited = {job: last for job, last in self._last_events.items() if tenant in (None, job[0])}
        try:
            async with asyncio.timeout(within_s):
                while any(self._is_missing(*item) for item in awaited.items()):
                    await self._jobs.changed_since(self._jobs.version)
        except TimeoutError:
            missing = [job[1] for job, last in awaited.items() if self._is_missing(job, last)]
            logger.warning(
                "no processor has processed the events of these jobs: %s", ", ".join(missing)
            )
        for job, last in awaited.items():
            if self._last_events.get(job) == last:
                # Later calls do not wait for it, also if it is missing.
                del self._last_events[job]

    async def _look(self) -> None:
        """Read the events since the last call."""
        partitions = [Partition(self._topic, number) for number in range(await self._partitions())]
        ends = await self._log.end_offsets(partitions)
        unread = [partition for partition in partitions if partition not in self._read_to]
        begins = await self._log.begin_offsets(unread) if unread else {}
        for partition, end in ends.items():
            begin = min(self._read_to.get(partition, begins.get(partition, end)), end)
            self._read_to[partition] = await self._read(
                partition, max(begin, end - _LOOKED_BACK), end
            )

    async def _read(self, partition: Partition, offset: int, end: int) -> int:
        try:
            async for batch in scan(self._log, partition, offset, end):
                self._note(batch.records)
                offset = batch.next_offset
        except OffsetOutOfRange:
            return end  # the events have expired
        return offset

    def _note(self, records: Iterable[Record]) -> None:
        for record in records:
            event = admit_or_none(BacktestProgress, record.value)
            if event is None or event.job is None:
                continue
            tenant = record.tenant.decode(errors="replace")
            if record.key in readable_keys(event.backtest_id, tenant):
                last = _LastEvent(record.offset, event.job.kind == JobStepKind.REMOVED)
                self._last_events[tenant, event.backtest_id] = last

    def _is_missing(self, job: _JobKey, last: _LastEvent) -> bool:
        tenant, job_id = job
        state = self._jobs.last(job_id, tenant)
        if last.is_removal:
            return state is not None
        return state is None or not (state.ended or state.last_offset >= last.offset)
