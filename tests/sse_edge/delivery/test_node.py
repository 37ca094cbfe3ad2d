import asyncio
from contextlib import AsyncExitStack

import pytest

from sse_edge.delivery.admission import Slot
from sse_edge.errors import TooManyConnections
from sse_edge.streams.requests import one_channel
from sse_edge.streams.stream import Stream
from tests.support.edge import Client, alerts_log, numbers, running_edge, write_alerts

pytestmark = pytest.mark.virtual_time


async def test_a_partition_is_released_a_while_after_its_last_reader() -> None:
    log = alerts_log(partitions=2)
    async with running_edge(log, linger_s=30) as edge:
        client = edge.connect()
        await client.until(2)
        assert len(edge.node.tail.windows) == 2
        await edge.drop(client)
        await asyncio.sleep(20)
        assert len(edge.node.tail.windows) == 2
        await asyncio.sleep(20)
        assert not edge.node.tail.windows
        write_alerts(log, 1)
        again = edge.connect(start=client.last_id or "")
        await again.until(1, event="risk_alert")
        assert numbers(again) == [1]


class ListSession:
    """A session that is no connection, as a list of jobs is."""

    def __init__(self) -> None:
        self.stream: Stream = one_channel("alerts", {})
        self.address = "here"
        self.client_id = "list"
        self.user: str | None = None
        self.slot: Slot | None = None
        self.tenant: str | None = None
        self.has_left = False

    def leave(self) -> None:
        self.has_left = True


async def test_a_session_that_is_no_connection_is_counted_and_leaves_on_a_drain() -> None:
    async with running_edge(alerts_log(), drain_s=1, connections_per_ip_max=1) as edge:
        session = ListSession()
        with edge.node.admitted(session):
            assert edge.node.connections == 1
            assert edge.node.clients()["alerts"] == ["list"]
            assert edge.node.gauges().connections == {("alerts", "mystocks"): 1.0}
            with pytest.raises(TooManyConnections):
                edge.node.refuse_over_limit("here")
            await asyncio.sleep(2)  # a sweep ticks connections only
            edge.node.drain()
            await asyncio.sleep(2)
            assert session.has_left
        assert edge.node.connections == 0
        late = ListSession()
        with edge.node.admitted(late):
            assert late.has_left


async def test_a_connection_that_fails_ends_alone(caplog: pytest.LogCaptureFixture) -> None:
    async def fail() -> None:
        raise ValueError("broken")

    async with running_edge(alerts_log()) as edge:
        client, broken = edge.connect(), Client()
        await client.until(2)
        await edge.node.serve(fail(), broken)
        edge.node.begin(fail())
        await asyncio.sleep(1)
        assert caplog.text.count("ValueError: broken") == 2
        assert not client.over


async def test_a_session_that_fails_is_counted_no_longer() -> None:
    async with running_edge(alerts_log(), connections_per_ip_max=1) as edge:
        with pytest.raises(ValueError, match="failed"), edge.node.admitted(ListSession()):
            raise ValueError("failed")
        assert edge.node.connections == 0
        edge.node.refuse_over_limit("here")


async def test_at_a_limit_the_stream_that_ended_first_gives_way() -> None:
    async with (
        running_edge(alerts_log(), connections_per_ip_max=3) as edge,
        AsyncExitStack() as held,
    ):
        live, first, second = (ListSession() for _ in range(3))
        for session in (live, first, second):
            held.enter_context(edge.node.admitted(session))
        for session in (first, second):
            held.enter_context(edge.node.ended(session))
        assert edge.node.gauges().ended == 2
        edge.node.refuse_over_limit("here")
        assert [session.has_left for session in (live, first, second)] == [False, True, False]
        assert edge.node.connections == 2
        edge.node.refuse_over_limit("here")
        assert not second.has_left
        with edge.node.admitted(ListSession()):
            edge.node.refuse_over_limit("here")
            assert second.has_left
            with edge.node.admitted(ListSession()), pytest.raises(TooManyConnections):
                edge.node.refuse_over_limit("here")
        assert not live.has_left
    assert edge.node.connections == 0
    assert edge.node.sockets.closing == 0


async def test_a_full_node_closes_an_ended_stream_for_each_new_one() -> None:
    async with running_edge(alerts_log()) as edge:
        edge.node.sockets.maximum, edge.node.sockets.open = 64, 49
        session = ListSession()
        with edge.node.admitted(session):
            edge.node.refuse_over_limit("there")
            assert edge.node.refusal == "full"
            with edge.node.ended(session):
                edge.node.refuse_over_limit("there")
                assert session.has_left
                assert edge.node.refusal is None
        assert edge.node.refusal == "full"


async def test_places_are_taken_when_the_limit_is_checked_and_released_once() -> None:
    async with running_edge(alerts_log(), connections_per_ip_max=2) as edge:
        first, second = edge.node.reserve("here"), edge.node.reserve("here")
        with pytest.raises(TooManyConnections):
            edge.node.reserve("here")
        session = ListSession()
        session.slot = first
        with edge.node.admitted(session):  # in its place, and in no other one
            second.release()
            second.release()
            third = edge.node.reserve("here")
            with pytest.raises(TooManyConnections):
                edge.node.reserve("here")
        edge.node.reserve("here")
        first.release()
        with pytest.raises(TooManyConnections):
            edge.node.reserve("here")
        third.release()
        edge.node.reserve("here")
