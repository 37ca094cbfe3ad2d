"""What was accepted is found, also while no processor processes it; what was removed is not."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from schemas.codec import encode
from schemas.events import BacktestProgress, JobState, JobStep, TaskStep, TrainingProgress
from schemas.run_ids import new_id
from sse_edge.cache.table_view import TableView
from sse_edge.errors import LogUnavailable
from sse_edge.routes.accepted import (
    AcceptedRuns,
    first_job_state,
    first_task_state,
)
from tests.support.fake_log import FakeLog

pytestmark = pytest.mark.virtual_time

WITHIN_S = 3.0
LOG_MS = 1_700_000_000_000
"""The time of the fake log."""


class Jobs:
    """The jobs of a log in which no processor has written anything yet."""

    def __init__(self, log: FakeLog) -> None:
        self.log = log
        for topic in ("events", "jobs"):
            log.make(topic, 2)
        self.topics_are_known = asyncio.Event()
        self.topics_are_known.set()
        self.table = TableView(log, "jobs", JobState, None, 5.0)
        self.accepted = AcceptedRuns(
            log, "events", self._partitions, BacktestProgress, self.table, first_job_state, 5.0
        )

    async def _partitions(self) -> int:
        await self.topics_are_known.wait()
        return 2

    def where(self, job_id: str) -> int:
        return self.log.partition_of(job_id.encode(), 2)

    def step(self, job_id: str, kind: str) -> int:
        """Write an event of a job."""
        event = BacktestProgress(
            backtest_id=job_id,
            progress=0.0,
            status="started",
            message=f"{kind} {job_id}",
            results={},
            event_time_us=7,
            job=JobStep(kind=kind, symbol="IBM", strategy="rsi", owner="alice"),
        )
        return self.log.append("events", self.where(job_id), job_id.encode(), encode(event))

    def process(self, job_id: str, offset: int) -> None:
        """Write the state of a job up to an offset, as a processor does."""
        state = JobState(
            job_id=job_id,
            status="running",
            progress=0.0,
            message="",
            symbol="IBM",
            strategy="rsi",
            created_us=0,
            updated_us=0,
            partition=self.where(job_id),
            first_offset=0,
            last_offset=offset,
        )
        self.log.append("jobs", self.where(job_id), job_id.encode(), encode(state))

    async def find(self, job_id: str) -> JobState | None:
        return await self.accepted.find(job_id, WITHIN_S)

    def id_in_partition(self, number: int) -> str:
        return next(
            job_id
            for job_id in (new_id(LOG_MS * 1000) for _ in range(1_000))
            if self.where(job_id) == number
        )


@asynccontextmanager
async def jobs() -> AsyncGenerator[Jobs]:
    found = Jobs(FakeLog(seed=2))
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(found.table.run())
        yield found
        running.cancel()


async def test_a_job_that_no_processor_has_processed_is_pending() -> None:
    async with jobs() as there:
        for number in range(30):
            there.step(f"other {number}", "submitted")
        job_id = new_id(LOG_MS * 1000)
        offset = there.step(job_id, "submitted")
        there.step(job_id, "progress")
        found = await there.find(job_id)
        assert found is not None
        assert (found.job_id, found.status, found.owner) == (job_id, "pending", "alice")
        assert (found.partition, found.first_offset) == (there.where(job_id), offset)
        assert found.message == f"submitted {job_id}"


async def test_the_state_of_a_processor_comes_first() -> None:
    async with jobs() as there:
        job_id = new_id(LOG_MS * 1000)
        there.process(job_id, there.step(job_id, "submitted"))
        reads = there.log.reads
        found = await there.find(job_id)
        assert found is not None
        assert found.status == "running"
        assert there.log.reads == reads


async def test_a_state_in_a_partition_that_the_topic_lacks_is_not_of_this_system() -> None:
    async with jobs() as there:
        state = JobState(
            job_id="p", status="running", progress=1.0, message="", symbol="IBM",
            strategy="rsi", created_us=0, updated_us=0, partition=2, first_offset=0,
            last_offset=0,
        )  # fmt: skip
        for job_id in (new_id(LOG_MS * 1000), "p"):
            value = encode(replace(state, job_id=job_id))
            there.log.append("jobs", there.where(job_id), job_id.encode(), value)
            assert await there.find(job_id) is None
        there.step(job_id := new_id(LOG_MS * 1000), "submitted")
        there.log.append("jobs", 0, job_id.encode(), encode(replace(state, job_id=job_id)))
        found = await there.find(job_id)
        assert found is not None
        assert (found.status, found.partition) == ("pending", there.where(job_id))


async def test_a_removed_job_is_not_found() -> None:
    """Neither before a processor has processed the removal, nor after it."""
    async with jobs() as there:
        job_id, later = there.id_in_partition(1), there.id_in_partition(1)
        there.step(job_id, "submitted")
        there.step(job_id, "removed")
        assert await there.find(job_id) is None
    async with jobs() as there:
        there.step(job_id, "submitted")
        there.process(later, there.step(later, "submitted"))
        assert await there.find(job_id) is None


async def test_a_processor_that_goes_past_the_job_while_the_log_is_read_is_waited_for() -> None:
    async with jobs() as there:
        job_id, later = there.id_in_partition(1), there.id_in_partition(1)
        offset = there.step(job_id, "submitted")
        there.process(later, there.step(later, "submitted"))

        async def process() -> None:
            await asyncio.sleep(WITHIN_S + 0.5)
            there.process(job_id, offset)

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(process())
            found = await there.find(job_id)
        assert found is not None
        assert found.status == "running"


@pytest.mark.parametrize("job_id", ["J", "4fcad18f-1bb0-427e-925c-a2b1b2c86328"])
async def test_an_id_that_was_never_given_costs_no_read(job_id: str) -> None:
    async with jobs() as there:
        there.step("other", "submitted")
        assert await there.find("other") is None
        reads = there.log.reads
        assert await there.find(job_id) is None
        assert there.log.reads == reads


async def test_an_id_of_another_time_is_not_found() -> None:
    async with jobs() as there:
        for number in range(100):
            there.step(f"other {number}", "submitted")
        reads = there.log.reads
        assert await there.find(new_id((LOG_MS - 3_600_000) * 1000)) is None
        assert there.log.reads <= reads + 1, "what was written later is not read"
        assert await there.find(new_id((LOG_MS + 3_600_000) * 1000)) is None


async def test_a_log_that_cannot_be_read_is_no_missing_job() -> None:
    async with jobs() as there:
        job_id = new_id(LOG_MS * 1000)
        there.step(job_id, "submitted")
        await there.table.all()
        there.log.is_away = True
        with pytest.raises(LogUnavailable):
            await there.find(job_id)
        there.log.is_away = False
        there.topics_are_known.clear()
        with pytest.raises(LogUnavailable, match="events could not be read in time"):
            await there.find(job_id)


def test_a_task_waits_after_its_first_event() -> None:
    log = FakeLog()
    log.make("events")
    event = TrainingProgress(
        task_id="T",
        progress=0.0,
        status="started",
        message="",
        metrics={},
        event_time_us=0,
        task=TaskStep(stage="PENDING"),
    )
    offset = log.append("events", 0, b"T", encode(event))
    state = first_task_state(log.record("events", 0, offset), event)
    assert (state.subject, state.status, state.ended) == ("T", "PENDING", False)
    assert (state.partition, state.first_offset, state.last_offset) == (0, 0, 0)
