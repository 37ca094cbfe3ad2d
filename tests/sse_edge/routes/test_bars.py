"""The stream of a job's bars: it waits for them, sends them in chunks, and stays open."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

import pytest

from schemas.codec import encode
from schemas.events import Bar, BarChunk, JobState
from schemas.topics import BACKTEST_BARS, BACKTEST_JOBS
from sse_edge.frame import FRAME_BYTES_MAX
from sse_edge.http.session import ResponseSession
from sse_edge.http.sse_response import event_block
from sse_edge.routes.bars import FoundBars, Selection, chunks, events
from sse_edge.routes.views import Views
from sse_edge.streams.requests import of_entities
from tests.support.edge import Edge, running_edge
from tests.support.fake_log import FakeLog

pytestmark = pytest.mark.virtual_time

CREATED_US = 1_700_000_000_000_000


def bar(number: int) -> Bar:
    return Bar(time=f"t{number}", open=1.0, high=2.0, low=0.5, close=float(number), volume=1e6 / 3)


def select(**options: Any) -> Selection:
    defaults: dict[str, Any] = {"interval": "day", "limit": 5, "chunk_size": 2, "sent": None}
    return Selection(**defaults | options)


def job(status: str, message: str = "") -> JobState:
    return JobState(
        job_id="J",
        status=status,
        progress=0.0,
        message=message,
        symbol="IBM",
        strategy="rsi",
        created_us=CREATED_US,
        updated_us=CREATED_US,
        partition=0,
        first_offset=0,
        last_offset=0,
    )


def write_job(log: FakeLog, status: str, message: str = "") -> None:
    log.append(BACKTEST_JOBS.name, 0, b"J", encode(job(status, message)))


def write_bars(log: FakeLog, first: int, count: int, total: int, interval: str = "day") -> None:
    chunk = BarChunk(
        job_id="J",
        interval=interval,
        first=first,
        total=total,
        bars=[bar(number) for number in range(first, first + count)],
        event_time_us=0,
    )
    log.append(BACKTEST_BARS.name, 0, b"J", encode(chunk))


def job_log() -> FakeLog:
    log = FakeLog(seed=3)
    log.make(BACKTEST_BARS.name)
    log.make(BACKTEST_JOBS.name)
    write_job(log, "pending")
    return log


class Chart:
    """A client of the stream."""

    def __init__(self, edge: Edge, **options: Any) -> None:
        self.session = ResponseSession(of_entities("backtest_job", ["J"]), "here", "chart")
        views = edge.node.lookups
        assert isinstance(views, Views)
        self._views = views
        self.stream: AsyncGenerator[Mapping[str, Any]] = events(
            edge.node, views, self.session, job("pending"), select(**options)
        )

    async def until_complete(self) -> list[Mapping[str, Any]]:
        await self._views.jobs.find("J", 5)
        found = []
        async with asyncio.timeout(300):
            async for event in self.stream:
                found.append(event)
                if event["event"] == "complete":
                    break
        return found


def test_the_newest_bars_come_in_chunks_with_ids_that_count_them() -> None:
    found = list(chunks(FoundBars([bar(number) for number in range(9)]), select()))
    assert [event["id"] for event in found] == ["p0", "p2", "p4", "p5", "complete"]
    assert found[0]["data"] == {"interval": "day", "total_points": 5}
    points = [point for event in found[1:4] for point in event["data"]["data_points"]]  # type: ignore[index]
    assert [point["close"] for point in points] == [4.0, 5.0, 6.0, 7.0, 8.0]
    assert found[-1]["data"] == {"total_points": 5}


def test_a_client_that_comes_back_gets_the_rest_and_no_start() -> None:
    bars = FoundBars([bar(number) for number in range(5)])
    assert [event["id"] for event in chunks(bars, select(sent=4))] == ["p5", "complete"]
    assert [event["id"] for event in chunks(bars, select(sent=5))] == ["complete"]


def test_a_chunk_has_fewer_bars_where_they_would_exceed_an_event() -> None:
    count = 20_000
    bars = FoundBars([bar(number) for number in range(count)])
    found = list(chunks(bars, select(limit=count, chunk_size=count)))
    sizes = [len(event_block(event)) for event in found]
    assert FRAME_BYTES_MAX // 2 < max(sizes) <= FRAME_BYTES_MAX
    assert found[-2]["data"]["points_sent"] == count  # type: ignore[index]


async def test_a_stream_that_is_opened_at_once_waits_for_the_bars() -> None:
    log = job_log()
    async with running_edge(log) as edge:
        chart = Chart(edge)
        loading = asyncio.get_running_loop().create_task(chart.until_complete())
        await asyncio.sleep(20)
        assert edge.node.connections == 1
        write_bars(log, 0, 2, 3)
        write_bars(log, 2, 1, 3)
        await asyncio.sleep(5)
        assert not loading.done()
        write_job(log, "running")
        found = await loading
        assert [event["event"] for event in found] == [
            "interval_start", "data_chunk", "data_chunk", "complete",
        ]  # fmt: skip
        assert "retry" in found[0]
        await chart.stream.aclose()
        assert edge.node.connections == 0


@pytest.mark.parametrize(
    ("status", "interval", "note"),
    [
        ("running", "minute", "this job has no minute bars; it has: day"),
        ("failed", "day", "the job has failed without bars: no such stock"),
    ],
)
async def test_an_interval_that_cannot_be_had_is_complete_and_has_a_note(
    status: str, interval: str, note: str
) -> None:
    log = job_log()
    if interval != "day":
        write_bars(log, 0, 1, 1)
    write_job(log, status, "no such stock")
    async with running_edge(log) as edge:
        start, complete = await Chart(edge, interval=interval).until_complete()
    assert start["data"] == {"interval": interval, "total_points": 0}
    assert (complete["event"], complete["data"]) == ("complete", {"total_points": 0, "note": note})


async def test_bars_that_another_transaction_hides_for_a_moment_are_found() -> None:
    log = job_log()
    write_job(log, "running")
    async with running_edge(log) as edge:
        loading = asyncio.get_running_loop().create_task(Chart(edge).until_complete())
        await asyncio.sleep(0.5)
        write_bars(log, 0, 1, 1)
        assert (await loading)[-1]["data"] == {"total_points": 1}


async def test_a_job_that_is_removed_before_it_had_bars_ends_the_wait() -> None:
    log = job_log()
    async with running_edge(log) as edge:
        loading = asyncio.get_running_loop().create_task(Chart(edge).until_complete())
        await asyncio.sleep(5)
        log.append(BACKTEST_JOBS.name, 0, b"J", None)
        _, complete = await loading
    assert complete["data"]["note"] == "the job was removed before it had bars"


async def test_a_job_that_no_processor_has_processed_yet_is_waited_for() -> None:
    log = FakeLog(seed=3)
    for topic in (BACKTEST_BARS, BACKTEST_JOBS):
        log.make(topic.name)
    async with running_edge(log) as edge:
        loading = asyncio.get_running_loop().create_task(Chart(edge).until_complete())
        await asyncio.sleep(20)
        assert not loading.done()
        write_bars(log, 0, 1, 1)
        write_job(log, "running")
        assert (await loading)[-1]["data"] == {"total_points": 1}


async def test_the_stream_stays_open_for_its_time_then_ends() -> None:
    log = job_log()
    write_bars(log, 0, 1, 1)
    async with running_edge(log, ended_open_s=100) as edge:
        chart = Chart(edge)
        await chart.until_complete()
        began_s = asyncio.get_running_loop().time()
        with pytest.raises(StopAsyncIteration):
            await anext(chart.stream)
        assert asyncio.get_running_loop().time() - began_s == pytest.approx(100, abs=1)


async def test_an_ended_stream_of_bars_gives_way_and_leaves_on_a_drain() -> None:
    log = job_log()
    write_bars(log, 0, 1, 1)
    async with running_edge(log, connections_per_ip_max=2) as edge:
        first, second = Chart(edge), Chart(edge)
        for chart in (first, second):
            await chart.until_complete()
        async with asyncio.TaskGroup() as tasks:
            ends = [tasks.create_task(_rest(chart)) for chart in (first, second)]
            await asyncio.sleep(1)
            edge.node.refuse_over_limit("here")
            await asyncio.sleep(1)
            assert [end.done() for end in ends] == [True, False]
            edge.node.drain()


async def test_without_kafka_the_stream_ends_with_an_error() -> None:
    log = job_log()
    async with running_edge(log) as edge:
        chart = Chart(edge)
        await chart._views.jobs.find("J", 5)
        log.is_away = True
        async with aclosing(chart.stream) as stream:
            (error,) = [event async for event in stream]
    assert error["event"] == "error"
    assert isinstance(error["data"], dict)
    assert error["data"]["message"].startswith("the bars cannot be read now: ")
    assert error["data"].keys() == {"reason", "message", "id"}


async def _rest(chart: Chart) -> None:
    async for _ in chart.stream:
        pass
