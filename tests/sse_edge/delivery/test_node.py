import asyncio

import pytest

from tests.support.edge import (
    alerts_log,
    edge,
    numbers,
    write_alerts,
)

pytestmark = pytest.mark.virtual_time


async def test_a_partition_is_released_a_while_after_its_last_reader() -> None:
    log = alerts_log(partitions=2)
    async with edge(log, linger_s=30) as node:
        client = node.connect()
        await client.until(2)
        assert len(node.node.tail.windows) == 2
        await node.drop(client)
        await asyncio.sleep(20)
        assert len(node.node.tail.windows) == 2
        await asyncio.sleep(20)
        assert not node.node.tail.windows
        write_alerts(log, 1)
        again = node.connect(start=client.last_id or "")
        await again.until(1, event="risk_alert")
        assert numbers(again) == [1]
