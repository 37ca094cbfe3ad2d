"""Pages have the events of the stream, however they are cut, and share its cursors."""

from collections.abc import Sequence

import pytest

from sse_edge.delivery.pages import Page, open_pages
from sse_edge.delivery.start import FromEdge, Start
from sse_edge.errors import LogUnavailable
from sse_edge.streams.requests import one_channel
from sse_edge.streams.stream import Stream
from tests.support.edge import (
    ALERTS,
    TRAINING,
    Edge,
    alert,
    alerts_log,
    numbers,
    progress,
    running_edge,
    write_alerts,
)
from tests.support.fake_log import FakeLog
from tests.support.sse import Block, Reader

pytestmark = pytest.mark.virtual_time

STREAM = one_channel("alerts", {})


async def page_at(
    edge: Edge, start: Start | str, limit: int, stream: Stream = STREAM, until_ms: int | None = None
) -> Page:
    """Read one page with a reader of its own, as a request does."""
    if isinstance(start, str) and not isinstance(start, FromEdge):
        start = edge.cursor(stream, start)
    async with open_pages(edge.node, stream, start, until_ms) as reader:
        return await reader.read(limit)


def blocks_of(page: Page) -> Sequence[Block]:
    return Reader().feed(page.data)


def numbers_of(page: Page) -> list[int]:
    return [
        int(block.inner["message"].removeprefix("number "))
        for block in blocks_of(page)
        if block.event == "risk_alert"
    ]


async def all_pages(edge: Edge, limits: Sequence[int], stream: Stream = STREAM) -> list[Page]:
    pages = [await page_at(edge, FromEdge.EARLIEST, limits[0], stream)]
    while pages[-1].has_more:
        limit = limits[len(pages) % len(limits)]
        pages.append(await page_at(edge, pages[-1].cursor, limit, stream))
    return pages


@pytest.mark.parametrize("window_bytes_max", [1 << 10, 1 << 20])
@pytest.mark.parametrize(
    ("seed", "limits", "partitions"),
    [(0, [1], 1), (1, [7], 2), (2, [3, 40, 1], 3), (3, [19, 2], 2), (4, [60], 3), (5, [30], 1)],
)
async def test_pages_of_any_sizes_have_each_event_of_the_stream_once_and_in_order_of_its_partition(
    seed: int, limits: list[int], partitions: int, window_bytes_max: int
) -> None:
    log = alerts_log(partitions, seed)
    for number in range(60):
        if log.dice.random() < 0.2:
            log.leave_hole(ALERTS, number % partitions)
        write_alerts(log, number, entity=f"p{number % 7}", partition=number % partitions)
    async with running_edge(log, window_bytes_max=window_bytes_max) as edge:
        pages = await all_pages(edge, limits)
        found = [number for page in pages for number in numbers_of(page)]
        write_alerts(log, *range(60, 90))
        start = edge.cursor(STREAM, pages[-1].cursor)
        async with open_pages(edge.node, STREAM, start) as reader:
            while len(found) < 90:
                page = await reader.read(limits[0])
                found += numbers_of(page)
                if not page.has_more and len(found) < 90:
                    await reader.arrived.wait()
    assert sorted(found) == list(range(90))
    for partition in range(partitions):
        of_partition = [n for n in found if n < 60 and n % partitions == partition]
        assert of_partition == sorted(of_partition)


async def test_a_page_of_one_partition_has_the_bytes_of_the_stream() -> None:
    log = alerts_log()
    write_alerts(log, *range(30))
    async with running_edge(log) as edge:
        client = edge.connect(STREAM, FromEdge.EARLIEST)
        of_stream = await client.until(30, event="risk_alert")
        pages = await all_pages(edge, [7])
    of_pages = [block for page in pages for block in blocks_of(page)]
    assert [block.raw for block in of_pages] == [block.raw for block in of_stream]


async def test_a_stream_continues_at_the_cursor_of_a_page_and_a_page_at_that_of_a_stream() -> None:
    log = alerts_log()
    write_alerts(log, *range(10))
    async with running_edge(log) as edge:
        page = await page_at(edge, FromEdge.EARLIEST, 4)
        client = edge.connect(STREAM, page.cursor)
        await client.until(6, event="risk_alert")
        assert client.last_id is not None
        write_alerts(log, 10, 11)
        last = client.last_id
        await client.until(8, event="risk_alert")
        following = await page_at(edge, last, 100)
    assert numbers_of(page) == [0, 1, 2, 3]
    assert numbers(client) == list(range(4, 12))
    assert numbers_of(following) == [10, 11]


async def test_the_last_page_says_that_nothing_follows() -> None:
    log = alerts_log()
    write_alerts(log, 0, 1, 2)
    async with running_edge(log) as edge:
        first = await page_at(edge, FromEdge.EARLIEST, 2)
        last = await page_at(edge, first.cursor, 2)
        assert (first.has_more, first.is_full) == (True, True)
        assert (last.has_more, last.is_full, last.events) == (False, False, 1)


async def test_a_page_of_an_entity_has_its_events_only() -> None:
    log = alerts_log()
    for number in range(20):
        write_alerts(log, number, entity="pq"[number % 2])
    stream = one_channel("alerts", {"entity_id": "q"})
    async with running_edge(log) as edge:
        pages = await all_pages(edge, [3], stream)
    assert [number for page in pages for number in numbers_of(page)] == list(range(1, 20, 2))


async def test_pages_end_before_a_time() -> None:
    log = alerts_log()
    write_alerts(log, *range(10))
    until_ms = log.record(ALERTS, 0, 6).timestamp_ms
    async with running_edge(log) as edge:
        page = await page_at(edge, FromEdge.EARLIEST, 100, until_ms=until_ms)
    assert numbers_of(page) == list(range(6))
    assert not page.has_more


async def test_the_last_event_of_an_entity_ends_the_pages() -> None:
    log = FakeLog()
    log.make(TRAINING)
    log.make("training.tasks")
    log.append(TRAINING, 0, b"T", progress("T", 50.0))
    log.append(TRAINING, 0, b"T", progress("T", 100.0, "completed"))
    stream = one_channel("training", {"task_id": "T"})
    async with running_edge(log) as edge:
        page = await page_at(edge, FromEdge.EARLIEST, 100, stream)
        assert (page.events, page.ended, page.has_more) == (2, True, False)
        assert edge.cursor(stream, page.cursor).ended


async def test_events_that_have_expired_are_a_gap_before_the_rest() -> None:
    log = alerts_log()
    write_alerts(log, *range(10))
    async with running_edge(log) as edge:
        first = await page_at(edge, FromEdge.EARLIEST, 2)
    log.expire(ALERTS, 0, 5)
    async with running_edge(log) as edge:
        page = await page_at(edge, first.cursor, 100)
    gap, *_ = blocks_of(page)
    assert (gap.event, gap.id, gap.inner["reason"]) == ("gap", None, "expired")
    assert numbers_of(page) == [5, 6, 7, 8, 9]
    assert page.gaps


async def test_a_topic_made_anew_is_a_gap_and_read_from_its_beginning() -> None:
    log = alerts_log()
    write_alerts(log, 0, 1)
    async with running_edge(log) as edge:
        first = await page_at(edge, FromEdge.EARLIEST, 1)
        log.make(ALERTS)
        write_alerts(log, 2, 3)
        await edge.node.tail.check_now()
        page = await page_at(edge, first.cursor, 100)
    assert blocks_of(page)[0].inner["reason"] == "topic_recreated"
    assert numbers_of(page) == [2, 3]


async def test_a_reader_at_the_end_is_notified_of_new_records() -> None:
    log = alerts_log()
    async with running_edge(log) as edge, open_pages(edge.node, STREAM, FromEdge.LATEST) as reader:
        empty = await reader.read(10)
        write_alerts(log, 0)
        await reader.arrived.wait()
        page = await reader.read(10)
    assert (empty.events, numbers_of(page)) == (0, [0])


async def test_without_kafka_there_is_no_page() -> None:
    log = alerts_log()
    log.append(ALERTS, 0, b"p", alert("p", 0))
    async with running_edge(log, broker_patience_s=1.0) as edge:
        await page_at(edge, FromEdge.LATEST, 1)
        log.is_away = True
        with pytest.raises(LogUnavailable):
            await page_at(edge, FromEdge.EARLIEST, 1)


async def test_a_reader_knows_how_far_it_is_and_returns_to_a_record() -> None:
    log = alerts_log()
    write_alerts(log, *range(5))
    async with running_edge(log) as edge, open_pages(edge.node, STREAM, FromEdge.LATEST) as reader:
        assert (reader.total, reader.is_at_end, reader.is_replaced) == (5, True, False)
        assert reader.is_past(0, 4)
        assert not reader.is_past(0, 5)
        assert not reader.is_past(1, 0)
        reader.return_to(0, 2)
        assert (reader.position, reader.is_at_end) == ((3,), False)
        reader.return_to(0, 4)
        assert reader.position == (3,)
        assert numbers_of(await reader.read(9)) == [3, 4]


def ended_task() -> FakeLog:
    log = FakeLog()
    log.make(TRAINING)
    log.append(TRAINING, 0, b"T", progress("T", 50.0))
    log.append(TRAINING, 0, b"T", progress("T", 100.0, "completed"))
    return log


async def test_a_reader_knows_whether_it_is_right_after_the_last_event() -> None:
    stream = one_channel("training", {"task_id": "T"})
    found = []
    async with (
        running_edge(ended_task()) as edge,
        open_pages(edge.node, stream, FromEdge.EARLIEST) as reader,
    ):
        for _ in range(2):
            found.append(await reader.is_after_end())
            await reader.read(1)
        found.append(await reader.is_after_end())
        assert not reader.has_passed_end
    assert found == [False, False, True]


async def test_a_reader_finds_the_last_event_in_the_windows() -> None:
    stream = one_channel("training", {"task_id": "T"})
    log = ended_task()
    async with running_edge(log) as edge, open_pages(edge.node, stream, FromEdge.LATEST) as reader:
        assert not reader.has_passed_end
        log.append(TRAINING, 0, b"T", progress("T", 100.0, "completed"))
        await reader.arrived.wait()
        await reader.read(1)
        assert reader.has_passed_end
        assert await reader.is_after_end()
