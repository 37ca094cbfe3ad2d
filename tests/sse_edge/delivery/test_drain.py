import asyncio

import pytest

from tests.support.edge import alerts_log, numbers, running_edge, write_alerts

pytestmark = pytest.mark.virtual_time


async def test_draining_ends_streams_between_events_spread_over_the_window() -> None:
    log = alerts_log()
    async with running_edge(log, drain_s=10) as edge:
        clients = [edge.connect() for _ in range(40)]
        for client in clients:
            await client.until(2)
        write_alerts(log, *range(3))
        await clients[0].until(3, event="risk_alert")
        began = asyncio.get_running_loop().time()
        edge.node.drain()
        ends = []
        for client in clients:
            await edge.ended(client)
            assert client.reader.is_between_blocks
            last = client.blocks[-1]
            assert last.id is not None
            assert last.retry_ms is not None
            assert numbers(client) == [0, 1, 2]
            ends.append(last.retry_ms)
        assert asyncio.get_running_loop().time() - began <= 10.5
        assert len(set(ends)) > 30


async def test_a_client_that_is_admitted_just_before_the_drain_leaves_with_the_others() -> None:
    log = alerts_log()
    async with running_edge(log, drain_s=1) as edge:
        client = edge.connect()
        await client.until(1)
        edge.node.drain()
        await edge.ended(client)
        assert client.last_id
        assert asyncio.get_running_loop().time() < 2
