import asyncio

import pytest

from schemas.codec import encode
from schemas.events import BacktestProgress, JobStep, StoryState
from schemas.topics import BACKTEST_EVENTS, TRAINING_TASKS
from sse_edge.delivery.start import FromEdge
from sse_edge.streams.requests import of_entities, one_channel
from tests.support.edge import TRAINING, progress, running_edge
from tests.support.fake_log import FakeLog
from tests.support.sse import named

pytestmark = pytest.mark.virtual_time


async def test_a_finite_stream_ends_after_its_last_event_and_its_cursor_says_so() -> None:
    log = FakeLog()
    log.make(TRAINING)
    stream = one_channel("training", {"task_id": "t"})
    async with running_edge(log) as edge:
        client = edge.connect(stream, FromEdge.EARLIEST)
        await client.until(2)
        log.append(TRAINING, 0, b"t", progress("t", 50.0))
        log.append(TRAINING, 0, b"u", progress("u", 100.0, "completed"))
        log.append(TRAINING, 0, b"t", progress("t", 100.0, "completed"))
        log.append(TRAINING, 0, b"t", progress("t", 100.0, "completed"))
        await edge.ended(client)
        events = named(client.blocks, "training_progress")
        assert [event.inner["progress"] for event in events] == [50.0, 100.0]
        ids = [event.id or "" for event in events]
        assert [edge.cursor(stream, text).ended for text in ids] == [False, True]


async def test_an_unfiltered_channel_does_not_end_with_one_task() -> None:
    log = FakeLog()
    log.make(TRAINING)
    async with running_edge(log) as edge:
        client = edge.connect(one_channel("training", {}))
        await client.until(2)
        for task in ("t", "u"):
            log.append(TRAINING, 0, task.encode(), progress(task, 100.0, "failed"))
        await client.until(2, event="training_progress")
        assert not client.over


async def test_a_stream_of_several_tasks_ends_after_the_last_event_of_each() -> None:
    log = FakeLog()
    log.make(TRAINING)
    log.make(TRAINING_TASKS.name)
    stream = of_entities("trainmodel", ["t", "u"])
    async with running_edge(log) as edge:
        client = edge.connect(stream, FromEdge.EARLIEST)
        ends = {}
        for task in ("t", "u"):
            ends[task] = log.append(TRAINING, 0, task.encode(), progress(task, 100.0, "completed"))
        await asyncio.sleep(5)
        assert not client.over
        for task, end in ends.items():
            state = StoryState(
                subject=task,
                status="completed",
                partition=0,
                first_offset=end,
                last_offset=end,
                ended=True,
            )
            log.append(TRAINING_TASKS.name, 0, task.encode(), encode(state))
        await edge.ended(client)
        assert [edge.cursor(stream, block.id).ended for block in client.blocks if block.id][-1]


def job_step(kind: str) -> bytes:
    return encode(
        BacktestProgress(
            job=JobStep(kind=kind, symbol="IBM", strategy="rsi"),
            backtest_id="J",
            status="running",
            progress=0.0,
            results={},
            message="",
            event_time_us=0,
        )
    )


def job_log() -> FakeLog:
    log = FakeLog()
    log.make(BACKTEST_EVENTS.name)
    for kind in ("submitted", "completed"):
        log.append(BACKTEST_EVENTS.name, 0, b"J", job_step(kind))
    return log


HEARTBEAT = b":\n"
JOB = of_entities("backtest_job", ["J"])


@pytest.mark.parametrize("options", [{}, {"gzip": True}])
async def test_the_stream_of_a_job_stays_open_with_heartbeats_for_its_time(
    options: dict[str, bool],
) -> None:
    log = job_log()
    async with running_edge(log) as edge:
        began_s = asyncio.get_running_loop().time()
        client = edge.connect(JOB, FromEdge.EARLIEST, stays_open_s=100.0, **options)
        (end,) = await client.until(1, event="completed")
        assert edge.cursor(JOB, end.id or "").ended
        log.append(BACKTEST_EVENTS.name, 0, b"J", job_step("removed"))
        await asyncio.sleep(90)
        assert not client.over
        assert edge.node.gauges().ended == 1
        await edge.ended(client)
        assert asyncio.get_running_loop().time() - began_s == pytest.approx(100, abs=2)
        assert client.blocks[-1] is end
        assert client.writes[-7:].count(HEARTBEAT) == 6
        assert edge.node.gauges().ended == edge.node.connections == 0


async def test_a_live_client_too_stays_after_the_last_event() -> None:
    log = FakeLog()
    log.make(BACKTEST_EVENTS.name)
    async with running_edge(log) as edge:
        client = edge.connect(JOB, stays_open_s=100.0)
        await client.until(2)
        log.append(BACKTEST_EVENTS.name, 0, b"J", job_step("cancelled"))
        await client.until(1, event="cancelled")
        await asyncio.sleep(40)
        assert (client.over, client.writes[-2:]) == (False, [HEARTBEAT] * 2)
        edge.node.drain()
        await edge.ended(client)
        # Its id is the end of the stream, and no other one follows.
        assert edge.cursor(JOB, client.last_id or "").ended


async def test_an_ended_stream_gives_way_to_another_connection() -> None:
    async with running_edge(job_log(), connections_per_ip_max=1) as edge:
        client = edge.connect(JOB, FromEdge.EARLIEST, stays_open_s=100.0)
        await client.until(1, event="completed")
        await asyncio.sleep(1)
        edge.node.refuse_over_limit("here")
        await edge.ended(client)
        other = edge.connect(JOB, FromEdge.EARLIEST)
        await edge.ended(other)
