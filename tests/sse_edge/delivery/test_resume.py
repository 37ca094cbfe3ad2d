import asyncio

import pytest

from sse_edge.delivery.start import FromEdge
from sse_edge.streams.requests import one_channel
from tests.support.edge import alerts_log, numbers, running_edge, write_alerts

pytestmark = pytest.mark.virtual_time


async def test_every_event_carries_the_cursor_after_it_as_its_last_line() -> None:
    log = alerts_log(partitions=3)
    write_alerts(log, 0, 1, 2)
    async with running_edge(log) as edge:
        client = edge.connect(start=FromEdge.EARLIEST)
        events = await client.until(3, event="risk_alert")
        for block, offset in zip(events, (1, 2, 3), strict=True):
            assert block.raw.split(b"\n")[-1].startswith(b"id: ")
            cursor = edge.cursor(one_channel("alerts", {}), block.id or "")
            assert dict(cursor.topics[0].offsets) == {0: offset, 1: 0, 2: 0}


async def test_a_client_resumes_on_another_node_where_it_stopped() -> None:
    log = alerts_log()
    async with running_edge(log) as edge:
        client = edge.connect()
        await client.until(2)
        write_alerts(log, *range(5))
        events = await client.until(5, event="risk_alert")
        await edge.drop(client)
    write_alerts(log, *range(5, 9))
    for seen, block in enumerate(events, 1):
        async with running_edge(log) as other:
            again = other.connect(start=block.id or "")
            await again.until(9 - seen, event="risk_alert")
            assert numbers(again) == list(range(seen, 9))


async def test_a_client_that_was_lost_before_the_first_event_misses_nothing() -> None:
    log = alerts_log(partitions=2)
    async with running_edge(log) as edge:
        client = edge.connect()
        await client.until(2)
        await edge.drop(client)
        write_alerts(log, 0, 1, partition=1)
        again = edge.connect(start=client.last_id or "")
        await again.until(2, event="risk_alert")
        assert numbers(again) == [0, 1]


async def test_a_client_whose_cursor_is_ahead_of_its_node_waits_for_the_node() -> None:
    log = alerts_log(partitions=2)
    async with running_edge(log) as quick, running_edge(log) as slow:
        behind = slow.connect()
        await behind.until(2)
        client = quick.connect()
        await client.until(2)
        write_alerts(log, 1, 2, partition=1)
        last = (await client.until(2, event="risk_alert"))[-1].id or ""
        again = slow.connect(start=last)
        write_alerts(log, 3, partition=0)
        write_alerts(log, 4, partition=1)
        await again.until(2, event="risk_alert")
        await behind.until(4, event="risk_alert")
        assert sorted(numbers(again)) == [3, 4]
        assert sorted(numbers(behind)) == [1, 2, 3, 4]


async def test_what_a_client_missed_comes_in_the_turn_of_its_request() -> None:
    log = alerts_log()
    async with running_edge(log) as edge, asyncio.TaskGroup() as tasks:
        client = edge.connect()
        await client.until(2)
        write_alerts(log, 0, 1, 2)
        first = (await client.until(3, event="risk_alert"))[0]
        await edge.node.fair_queue.slot()
        crowd = [tasks.create_task(edge.node.fair_queue.slot()) for _ in range(20)]
        again = edge.connect(start=first.id or "")
        await again.until(2, event="risk_alert")
        assert numbers(again) == [1, 2]
        assert sum(waiter.done() for waiter in crowd) <= 1
