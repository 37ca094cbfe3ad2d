import asyncio

import pytest

from sse_edge.errors import TooManyConnections
from sse_edge.streams.stream import Stream, one_channel
from tests.support.edge import (
    Client,
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


class ListSession:
    """A session that is no connection, as a list of jobs is."""

    def __init__(self) -> None:
        self.stream: Stream = one_channel("alerts", {})
        self.address = "here"
        self.client_id = "list"
        self.subject: str | None = None
        self.has_left = False

    def leave(self) -> None:
        self.has_left = True


async def test_a_session_that_is_no_connection_is_counted_and_leaves_on_a_drain() -> None:
    async with edge(alerts_log(), drain_s=1, connections_per_ip_max=1) as node:
        session = ListSession()
        with node.node.admitted(session):
            assert node.node.connections == 1
            assert node.node.clients["alerts"] == ["list"]
            assert node.node.gauges().connections == {("alerts", "mystocks"): 1.0}
            with pytest.raises(TooManyConnections):
                node.node.refuse_over_limit("here")
            await asyncio.sleep(2)  # a sweep ticks connections only
            node.node.drain()
            await asyncio.sleep(2)
            assert session.has_left
        assert node.node.connections == 0
        late = ListSession()
        with node.node.admitted(late):
            assert late.has_left


async def test_a_connection_that_fails_ends_alone(caplog: pytest.LogCaptureFixture) -> None:
    async def fail() -> None:
        raise ValueError("broken")

    async with edge(alerts_log()) as node:
        client, broken = node.connect(), Client()
        await client.until(2)
        await node.node.serve(fail(), broken)
        node.node.begin(fail())
        await asyncio.sleep(1)
        assert caplog.text.count("ValueError: broken") == 2
        assert not client.over


async def test_a_session_that_fails_is_counted_no_longer() -> None:
    async with edge(alerts_log(), connections_per_ip_max=1) as node:
        with pytest.raises(ValueError, match="failed"), node.node.admitted(ListSession()):
            raise ValueError("failed")
        assert node.node.connections == 0
        node.node.refuse_over_limit("here")
