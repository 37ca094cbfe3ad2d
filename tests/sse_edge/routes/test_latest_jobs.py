"""A poll waits for what streams have said, and no longer."""

import asyncio

import pytest

from schemas.codec import encode
from schemas.events import BacktestProgress, JobState, JobStep
from sse_edge.cache.table_view import TableView
from sse_edge.routes.latest_jobs import LatestJobs
from tests.support.fake_log import FakeLog

pytestmark = pytest.mark.virtual_time

WITHIN_S = 5.0


def step(log: FakeLog, job_id: str, kind: str, tenant: bytes = b"") -> int:
    """Have a job say something."""
    event = BacktestProgress(
        backtest_id=job_id,
        progress=50.0,
        status="running",
        message="",
        results={},
        event_time_us=0,
        job=JobStep(kind=kind, symbol="S", strategy="rsi"),
    )
    return log.append("events", 0, job_id.encode(), encode(event), tenant=tenant)


def follow(log: FakeLog, job_id: str, offset: int, status: str = "running") -> None:
    """Have a processor follow a job up to an offset."""
    state = JobState(
        job_id=job_id,
        status=status,
        progress=50.0,
        message="",
        symbol="S",
        strategy="rsi",
        created_us=0,
        updated_us=0,
        partition=0,
        first_offset=0,
        last_offset=offset,
    )
    log.append("jobs", 0, job_id.encode(), encode(state))


class Node:
    """One that knows of jobs what a log has of them."""

    def __init__(self) -> None:
        self.log = FakeLog(seed=1)
        self.log.make("events")
        self.log.make("jobs")
        self.view = TableView(self.log, "jobs", JobState, None, WITHIN_S)
        self.latest = LatestJobs(self.log, "events", self._partitions, self.view)

    async def _partitions(self) -> int:
        return 1

    async def took_s(self, tenant: str | None = None) -> float:
        """How long a poll waits."""
        began = asyncio.get_running_loop().time()
        await self.view.all()
        await self.latest.catch_up(WITHIN_S, tenant)
        return asyncio.get_running_loop().time() - began


async def test_a_poll_waits_until_a_processor_has_processed_what_was_delivered() -> None:
    node = Node()
    follow(node.log, "old", step(node.log, "old", "completed"), "completed")
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(node.view.run())
        assert await node.took_s() < 0.5
        position = step(node.log, "new", "completed")
        poll = tasks.create_task(node.took_s())
        done, _ = await asyncio.wait([poll], timeout=WITHIN_S / 2)
        assert not done
        follow(node.log, "new", position, "completed")
        assert await poll < WITHIN_S
        state = node.view.last("new")
        assert state is not None
        assert state.status == "completed"
        # What is said after an end is no part of the story, and nobody waits for it.
        step(node.log, "new", "progress")
        assert await node.took_s() < 0.5
        running.cancel()


async def test_a_poll_gives_up_on_what_no_processor_follows_and_waits_for_it_once() -> None:
    node = Node()
    step(node.log, "lost", "progress")
    node.log.append("events", 0, b"key", b"nonsense")
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(node.view.run())
        assert WITHIN_S <= await node.took_s() < WITHIN_S + 1
        assert await node.took_s() < 0.5
        running.cancel()


async def test_a_poll_does_not_wait_for_the_jobs_of_another_tenant() -> None:
    node = Node()
    step(node.log, "lost", "progress", b"acme")
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(node.view.run())
        assert await node.took_s("other") < 0.5
        assert await node.took_s("") < 0.5
        assert await node.took_s("acme") >= WITHIN_S
        running.cancel()
