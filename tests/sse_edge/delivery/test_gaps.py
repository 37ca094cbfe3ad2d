import asyncio

import pytest

from sse_edge.delivery.start import FromEdge
from tests.support.edge import ALERTS, Client, Edge, alerts_log, numbers, running_edge, write_alerts
from tests.support.sse import named

pytestmark = pytest.mark.virtual_time


async def resumed_after(edge: Edge, cursor: str) -> tuple[Client, dict[str, object]]:
    client = edge.connect(start=cursor)
    [gap] = await client.until(1, event="gap")
    assert gap.id is None
    return client, gap.inner


async def test_what_retention_has_removed_is_a_gap() -> None:
    log = alerts_log()
    write_alerts(log, *range(10))
    async with running_edge(log) as edge:
        client = edge.connect(start=FromEdge.EARLIEST)
        events = await client.until(10, event="risk_alert")
    log.expire(ALERTS, 0, 6)
    async with running_edge(log) as edge:
        client, gap = await resumed_after(edge, events[2].id or "")
        assert gap == {
            "reason": "expired",
            "partitions": [{"topic": ALERTS, "partition": 0, "from_offset": 3, "to_offset": 6}],
        }
        await client.until(4, event="risk_alert")
        assert numbers(client) == [6, 7, 8, 9]


async def test_a_recreated_topic_is_a_gap_and_is_read_from_its_first_event() -> None:
    log = alerts_log()
    write_alerts(log, *range(5))
    async with running_edge(log) as edge:
        client = edge.connect(start=FromEdge.EARLIEST)
        await client.until(5, event="risk_alert")
        cursor = client.last_id or ""
    log.make(ALERTS)
    write_alerts(log, *range(100, 109))
    async with running_edge(log) as edge:
        client, gap = await resumed_after(edge, cursor)
        assert gap["reason"] == "topic_recreated"
        await client.until(9, event="risk_alert")
        assert numbers(client) == list(range(100, 109))


async def test_a_topic_that_is_recreated_under_a_live_client_is_a_gap() -> None:
    log = alerts_log()
    async with running_edge(log, metadata_s=1) as edge:
        client = edge.connect()
        await client.until(2)
        write_alerts(log, 0, 1)
        await client.until(2, event="risk_alert")
        log.make(ALERTS)
        write_alerts(log, 100)
        [gap] = await client.until(1, event="gap")
        assert gap.inner["reason"] == "topic_recreated"
        await client.until(3, event="risk_alert")
        assert numbers(client) == [0, 1, 100]


async def test_a_cursor_beyond_the_log_is_a_gap() -> None:
    log = alerts_log()
    write_alerts(log, *range(3))
    async with running_edge(log) as edge:
        client = edge.connect(start=FromEdge.EARLIEST)
        await client.until(3, event="risk_alert")
        cursor = client.last_id or ""
    log._topics[ALERTS].partitions[0].end = 1
    del log._topics[ALERTS].partitions[0].records[1:]
    async with running_edge(log) as edge:
        client, gap = await resumed_after(edge, cursor)
        assert gap["reason"] == "future"
        write_alerts(log, 50)
        await client.until(1, event="risk_alert")
        assert numbers(client) == [50]


async def test_a_log_that_lost_its_end_is_a_gap_for_clients_that_had_read_it() -> None:
    log = alerts_log()
    async with running_edge(log, metadata_s=1) as edge:
        client = edge.connect()
        await client.until(2)
        write_alerts(log, *range(10))
        await client.until(10, event="risk_alert")
        log.cut_off(ALERTS, 0, 7)
        write_alerts(log, *range(100, 110))  # the lost offsets, and more
        [gap] = await client.until(1, event="gap")
        assert gap.inner["reason"] == "future"
        assert gap.inner["partitions"][0]["to_offset"] == 7
        seen = client.blocks.index(gap)
        before = len(named(client.blocks[:seen], "risk_alert"))
        await client.until(before + 10, event="risk_alert")
        assert numbers(client)[before:] == list(range(100, 110))


async def test_a_new_leader_that_lost_nothing_is_no_gap() -> None:
    log = alerts_log()
    async with running_edge(log, metadata_s=1) as edge:
        client = edge.connect()
        await client.until(2)
        write_alerts(log, *range(10))
        await client.until(10, event="risk_alert")
        log._topics[ALERTS].partitions[0].epoch += 1
        await asyncio.sleep(5)
        write_alerts(log, 10)
        await client.until(11, event="risk_alert")
        assert numbers(client) == list(range(11))
        assert not named(client.blocks, "gap")


async def test_a_stream_that_is_to_close_on_a_gap_ends_at_one() -> None:
    log = alerts_log()
    write_alerts(log, *range(10))
    async with running_edge(log) as edge:
        client = edge.connect(start=FromEdge.EARLIEST)
        cursor = (await client.until(10, event="risk_alert"))[0].id or ""
        log.expire(ALERTS, 0, 6)
    async with running_edge(log) as edge:
        client = edge.connect(start=cursor, close_on_gap=True)
        await edge.ended(client)
        assert [block.event for block in client.blocks] == ["connected", "gap"]


async def test_holes_in_the_log_are_no_gap() -> None:
    log = alerts_log()
    write_alerts(log, 0)
    log.leave_hole(ALERTS, 0, 7)
    write_alerts(log, 1)
    log.leave_hole(ALERTS, 0, 3)
    async with running_edge(log) as edge:
        client = edge.connect(start=FromEdge.EARLIEST)
        await client.until(2, event="risk_alert")
        log.leave_hole(ALERTS, 0, 2)
        write_alerts(log, 2)
        await client.until(3, event="risk_alert")
        assert numbers(client) == [0, 1, 2]
        assert not named(client.blocks, "gap")
