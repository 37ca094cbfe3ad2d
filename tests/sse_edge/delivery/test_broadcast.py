import pytest

from sse_edge.delivery.start import FromEdge
from tests.support.edge import (
    alerts_log,
    edge,
    numbers,
    write_alerts,
)

pytestmark = pytest.mark.virtual_time


async def test_caught_up_clients_share_their_bytes() -> None:
    log = alerts_log(partitions=2)
    async with edge(log) as node:
        clients = [node.connect() for _ in range(20)]
        for client in clients:
            await client.until(2)
        write_alerts(log, *range(10))
        for client in clients:
            await client.until(10, event="risk_alert")
        assert log.reads == 0
        assert len({tuple(block.raw for block in client.blocks[1:]) for client in clients}) == 1


async def test_clients_that_accept_gzip_share_it_and_read_the_same() -> None:
    log = alerts_log()
    async with edge(log) as node:
        early, plain = node.connect(gzip=True), node.connect()
        await early.until(2)
        write_alerts(log, *range(20))
        await early.until(20, event="risk_alert")
        late = node.connect(start=FromEdge.EARLIEST, gzip=True)
        await late.until(20, event="risk_alert")
        write_alerts(log, *range(20, 40))
        for client in (early, late, plain):
            await client.until(2)
        await early.until(2, event="ping")
        write_alerts(log, *range(40, 50))
        await late.until(50, event="risk_alert")
        await early.until(50, event="risk_alert")
        await plain.until(50, event="risk_alert")
        assert numbers(early) == numbers(late) == numbers(plain) == list(range(50))
        node.node.drain()
        for client in (early, late):
            await node.ended(client)
            assert client._unzip.eof  # with a CRC that is right
