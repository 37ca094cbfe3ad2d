"""Finds what a client has requested in the log, where no processor has processed the request yet.

A request writes the first event of a job or task, and answers once Kafka has it. The table of
states has it when a processor has folded that event, which takes long while processors are away.
The ids of jobs and tasks begin with their time (see `schemas.run_ids`). So the log tells where to
look for the first event of an id, and an id that was never given costs no read.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from schemas.events import (
    BacktestProgress,
    JobState,
    JobStatus,
    JobStepKind,
    StoryState,
    TrainingProgress,
)
from schemas.gate import admit_or_none
from schemas.keys import readable_keys
from schemas.run_ids import time_ms_of
from sse_edge.cache.table_view import TableView
from sse_edge.errors import LogUnavailable, OffsetOutOfRange
from sse_edge.log.protocol import Log
from sse_edge.log.record import Partition, Record
from sse_edge.log.scan import scan

_SKEW_MS = 60_000
"""By how much the clocks of an edge and of a broker may differ."""
_SETTLE_S = 1.0
"""How long the state of an event may take to be seen, after that of a later event."""

E = TypeVar("E", bound=BacktestProgress | TrainingProgress)
S = TypeVar("S", bound=JobState | StoryState)


class AcceptedRuns(Generic[E, S]):
    """The jobs or tasks that have a state, or a first event in the log."""

    def __init__(
        self,
        log: Log,
        topic: str,
        partitions: Callable[[], Awaitable[int]],
        kind: type[E],
        states: TableView[S],
        first_state: Callable[[Record, E], S | None],
        patience_s: float,
        home: str | None = None,
    ) -> None:
        """Know nothing; the log is read where the table has no state.

        Args:
            log: where the events are.
            topic: the full name of their topic.
            partitions: returns the number of its partitions.
            kind: the class of its events.
            states: the table of the states that a processor derives from them.
            first_state: returns the state after the first event of a job or task.
            patience_s: how long a caller waits for the log.
            home: the tenant of what callers without a token request.
        """
        self._home = home
        self._log = log
        self._topic = topic
        self._partitions = partitions
        self._kind = kind
        self._states = states
        self._first_state = first_state
        self._patience_s = patience_s

    async def find(self, run_id: str, within_s: float, tenant: str | None = None) -> S | None:
        """Return the state of a job or task; None if there is none, or if it was removed.

        Args:
            run_id: the id of the job or task.
            within_s: how long to wait for a processor to write the state; then the log is read.
            tenant: the tenant of the job or task; "" for none, None for any.

        Raises:
            LogUnavailable: the log could not be read in time.
        """
        listed = await self._states.find(run_id, within_s, tenant)
        time_ms = time_ms_of(run_id)
        if listed is None and time_ms is None:
            return None
        try:
            async with asyncio.timeout(self._patience_s):
                if listed is not None and await self.is_placed(listed):
                    return listed
                state = None if time_ms is None else await self._read(run_id, time_ms, tenant)
        except OffsetOutOfRange:
            return None  # the events expire just now
        except TimeoutError:
            raise LogUnavailable(f"{self._topic} could not be read in time") from None
        if state is not None or listed is not None:
            return state
        # A processor may have written the state while the log was read.
        return await self._states.find(run_id, _SETTLE_S, tenant)

    async def is_placed(self, state: S) -> bool:
        """Return whether the topic has the partition that a state names; else others wrote it."""
        return state.partition < await self._partitions()

    async def _read(self, run_id: str, time_ms: int, tenant: str | None) -> S | None:
        """Return the state after the first event, unless the run was removed."""
        keys = readable_keys(run_id, self._home if tenant is None else tenant)
        count = await self._partitions()
        for number in sorted({self._log.partition_of(key, count) for key in keys}):
            where = Partition(self._topic, number)
            found = await self._read_in(where, keys, time_ms, tenant)
            if found is not None:
                return found
        return None

    async def _read_in(
        self, where: Partition, keys: frozenset[bytes], time_ms: int, tenant: str | None
    ) -> S | None:
        named = None if tenant is None else tenant.encode()
        offset = (await self._log.offsets_at([where], time_ms - _SKEW_MS))[where]
        end = (await self._log.end_offsets([where]))[where]
        first: S | None = None
        async for batch in scan(self._log, where, offset, end):
            offset = batch.next_offset
            for record in batch.records:
                if first is None and record.timestamp_ms > time_ms + _SKEW_MS:
                    return None
                is_ours = record.key in keys and named in (None, record.tenant)
                event = admit_or_none(self._kind, record.value) if is_ours else None
                if event is None:
                    continue
                if _is_removal(event):
                    return None
                if first is None:
                    first = self._first_state(record, event)
                    if first is None or await self._is_processed(record):
                        return None
        if offset < end:
            raise LogUnavailable(f"{where} could not be read to its end")
        return first

    async def _is_processed(self, record: Record) -> bool:
        """Return whether a processor has gone past a record, whose run has no state nevertheless.

        Such a run was removed. The states of other runs tell how far a processor has gone.
        """
        states = await self._states.all()
        partition = record.partition.number
        return any(
            state.partition == partition and state.last_offset > record.offset for state in states
        )


def first_job_state(record: Record, event: BacktestProgress) -> JobState | None:
    """Return the state of a job after its first event; None if the event is not of a job."""
    if event.job is None:
        return None
    return JobState(
        job_id=event.backtest_id,
        owner=event.job.owner,
        status=JobStatus.PENDING,
        progress=0.0,
        message=event.message,
        symbol=event.job.symbol,
        strategy=event.job.strategy,
        created_us=event.event_time_us,
        updated_us=event.event_time_us,
        partition=record.partition.number,
        first_offset=record.offset,
        last_offset=record.offset,
        tenant=_tenant_of(record),
    )


def first_task_state(record: Record, event: TrainingProgress) -> StoryState:
    """Return the state of a task after its first event."""
    return StoryState(
        subject=event.task_id,
        status=event.status if event.task is None else event.task.stage,
        partition=record.partition.number,
        first_offset=record.offset,
        last_offset=record.offset,
        ended=event.ends,
        tenant=_tenant_of(record),
    )


def _tenant_of(record: Record) -> str | None:
    return record.tenant.decode(errors="backslashreplace") or None


def _is_removal(event: BacktestProgress | TrainingProgress) -> bool:
    return (
        isinstance(event, BacktestProgress)
        and event.job is not None
        and event.job.kind == JobStepKind.REMOVED
    )
