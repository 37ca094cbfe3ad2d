"""Nodes that know of each other by heartbeats, on a log in memory and in virtual time."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any, cast

import pytest

from kafka_io.errors import Unsent
from kafka_io.publisher import Publisher, RecordMetadata
from schemas.codec import decode, encode
from schemas.events import EdgeChannel, EdgeNode
from schemas.keys import encode_key
from schemas.topics import EDGE_NODES, Topic
from sse_edge.caller import Caller
from sse_edge.http.stream_response import readable_by
from sse_edge.log.record import Partition
from sse_edge.routes.cluster import CLIENTS_MAX, Cluster, channel_totals, metrics_of, scope
from sse_edge.streams.requests import one_channel
from tests.support.edge import ALERTS, Edge, alert, running_edge
from tests.support.fake_log import FakeLog

pytestmark = pytest.mark.virtual_time

TOPIC = EDGE_NODES.name
AGES_S = 100.0
"""By how much the broker's clock is behind that of the nodes."""


class Heartbeats:
    """A publisher to a fake log, whose clock is the broker's."""

    def __init__(self, log: FakeLog) -> None:
        self._log = log
        self.is_refused = False
        self.written = 0

    async def publish(self, event: EdgeNode, tenant: str | None = None) -> RecordMetadata:
        if self.is_refused:
            raise Unsent("Kafka has not acknowledged", 1)
        self.written += 1
        return self._append(encode_key(event.node_id, tenant), encode(event))

    async def delete(self, topic: Topic, key: bytes) -> RecordMetadata:
        assert topic is EDGE_NODES
        return self._append(key, None)

    async def flush(self) -> None:
        """Have nothing to flush."""

    def _append(self, key: bytes, value: bytes | None) -> RecordMetadata:
        self._log._clock_ms = int((asyncio.get_running_loop().time() + AGES_S) * 1000)
        offset = self._log.append(TOPIC, 0, key, cast("Any", value))
        return RecordMetadata(TOPIC, 0, offset, self._log._clock_ms)


class Member:
    """A node of a cluster."""

    def __init__(self, edge: Edge, cluster: Cluster, heartbeats: Heartbeats) -> None:
        self.edge, self.cluster, self.heartbeats = edge, cluster, heartbeats

    async def total(self, tenant: str | None = None) -> int:
        return sum(node.connections for node in (await self.cluster.members(tenant)).nodes)


@asynccontextmanager
async def member(log: FakeLog, *, leaves: bool = True) -> AsyncGenerator[Member]:
    """Run a node; without `leaves` it is killed at the end."""
    async with running_edge(log, node_heartbeat_s=5.0) as edge:
        heartbeats = Heartbeats(log)
        publisher = cast("Publisher", heartbeats)
        cluster = Cluster(edge.node, edge.node.lookups, publisher, "http://here")  # type: ignore[arg-type]
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(cluster.beating())
            yield Member(edge, cluster, heartbeats)
            if not leaves:
                edge.node.tail.connected = False


def cluster_log(*, has_topic: bool = True) -> FakeLog:
    log = FakeLog()
    log.make(ALERTS)
    if has_topic:
        log.make(TOPIC)
    return log


async def until(member: Member, total: int, tenant: str | None = None) -> float:
    """Wait until a member counts so many connections, and return how long it took."""
    began_s = asyncio.get_running_loop().time()
    async with asyncio.timeout(60):
        while True:
            if await member.total(tenant) == total:
                return asyncio.get_running_loop().time() - began_s
            await asyncio.sleep(0.1)


async def test_each_node_knows_the_connections_of_all() -> None:
    log = cluster_log()
    async with member(log) as one, member(log) as two:
        for node in (one, two, two):
            await node.edge.connect().until(2)
        assert await until(one, 3) <= 6
        assert await until(two, 3) <= 6
        members = await one.cluster.members()
        assert members.nodes[0].node_id == one.cluster.own().node_id
        assert scope(members) == {"scope": "cluster"}
        totals = channel_totals(members.nodes)
        assert totals["alerts"] == {"connection_count": 3, "clients": ["client"] * 3}
        assert totals["training"] == {"connection_count": 0, "clients": []}
        assert metrics_of(members.nodes)["active_connections"] == 3


async def test_a_node_that_stops_is_gone_at_once_and_one_that_dies_after_three_heartbeats() -> None:
    log = cluster_log()
    async with member(log) as watching:
        async with member(log) as stopping:
            await stopping.edge.connect().until(2)
            await until(watching, 1)
        assert await until(watching, 0) <= 1
        async with member(log, leaves=False) as dying:
            await dying.edge.connect().until(2)
            await until(watching, 1)
        assert 9 <= await until(watching, 0) <= 16


async def test_without_the_topic_a_node_knows_itself_and_says_so_until_it_is_created(
    caplog: pytest.LogCaptureFixture,
) -> None:
    log = cluster_log(has_topic=False)
    async with member(log) as lonely:
        await lonely.edge.connect().until(2)
        members = await lonely.cluster.members()
        assert [node.connections for node in members.nodes] == [1]
        shown = scope(members)
        assert shown["scope"] == "node"
        assert "there is no topic edge.nodes" in str(shown["note"])
        await asyncio.sleep(60)
        assert len([line for line in caplog.messages if "writes no heartbeats" in line]) == 1
        log.make(TOPIC)
        await asyncio.sleep(6)
        assert scope(await lonely.cluster.members()) == {"scope": "cluster"}


async def test_without_kafka_a_node_knows_itself_only() -> None:
    log = cluster_log()
    async with member(log) as one, member(log) as two:
        await two.edge.connect().until(2)
        await until(one, 1)
        one.heartbeats.is_refused = True
        await asyncio.sleep(20)
        assert (
            await one.cluster.members()
        ).note == "Kafka has not acknowledged a heartbeat yet" or (
            "has not acknowledged a heartbeat for" in str((await one.cluster.members()).note)
        )
        one.heartbeats.is_refused = False
        await asyncio.sleep(6)
        assert await one.total() == 1
        log.is_away = True
        await asyncio.sleep(5)
        members = await one.cluster.members()
        assert (len(members.nodes), members.note) == (1, "Kafka does not answer")
        log.is_away = False


async def test_an_idle_node_writes_one_small_record_each_interval() -> None:
    log = cluster_log()
    async with member(log):
        await asyncio.sleep(100.5)
        ends = await log.end_offsets([Partition(TOPIC, 0)])
        assert ends[Partition(TOPIC, 0)] in range(19, 23)
        value = log.record(TOPIC, 0, 3).value
        assert value is not None
        assert len(value) < 200
    end = (await log.end_offsets([Partition(TOPIC, 0)]))[Partition(TOPIC, 0)]
    assert log.record(TOPIC, 0, end - 1).value is None


async def test_a_heartbeat_names_a_bounded_number_of_clients() -> None:
    log = cluster_log()
    async with member(log) as one:
        for _ in range(CLIENTS_MAX + 5):
            await one.edge.connect().until(2)
        await asyncio.sleep(6)
        end = (await log.end_offsets([Partition(TOPIC, 0)]))[Partition(TOPIC, 0)]
        heartbeat = decode(log.record(TOPIC, 0, end - 1).value)
        assert isinstance(heartbeat, EdgeNode)
        (alerts,) = heartbeat.channels
        assert (alerts.connections, len(alerts.clients)) == (CLIENTS_MAX + 5, CLIENTS_MAX)
        own = one.cluster.own()
        assert len(next(channel for channel in own.channels if channel.connections).clients) == 105


def test_totals_add_up_the_channels_of_all_nodes() -> None:
    node = EdgeNode(
        node_id="a",
        address="",
        host="h",
        process_id=1,
        version="",
        status="active",
        started_us=0,
        interval_s=5.0,
        connections=2,
        responses=1,
        channels=[EdgeChannel("alerts", 2, ["x", "y"])],
        events_sent=5,
        errors=1,
        event_time_us=0,
    )
    other = replace(node, node_id="b", channels=[EdgeChannel("alerts", 1, ["z"])])
    assert channel_totals([node, other]) == {
        "alerts": {"connection_count": 3, "clients": ["x", "y", "z"]}
    }
    assert metrics_of([node, other]) == {
        "active_connections": 6,
        "total_events_sent": 10,
        "errors": 2,
    }
    assert decode(encode(node)) == node


def of_tenant(tenant: str | None) -> Caller:
    return Caller("alice", tenant, time.time() + 1e6)


async def test_a_tenant_knows_of_its_own_connections_on_all_nodes_and_of_no_others() -> None:
    log = cluster_log()
    async with member(log) as one, member(log) as two:
        for node, tenant in ((one, "acme"), (two, "acme"), (two, "other"), (two, None)):
            caller = of_tenant(tenant)
            stream = readable_by(caller, one_channel("alerts", {}), None)
            await node.edge.connect(stream, caller=caller).until(2)
        await two.edge.connect().until(2)
        for node in (one, two):
            for asking, count in (("acme", 2), ("other", 1), ("", 2), ("nobody", 0), (None, 5)):
                assert await until(node, count, asking) <= 6
        # Other tests of this process may have sent responses to a tenant of that name.
        before = metrics_of((await one.cluster.members("other")).nodes)
        log.append(ALERTS, 0, encode_key("p", "other"), alert("p", 1))
        await asyncio.sleep(6)  # the next heartbeat
        found = metrics_of((await one.cluster.members("other")).nodes)
        sent = cast("int", before["total_events_sent"])
        assert found == before | {"active_connections": 1, "total_events_sent": sent + 1}
        totals = channel_totals((await one.cluster.members("other")).nodes)
        assert totals["alerts"] == {"connection_count": 1, "clients": ["client"]}


async def test_a_tenants_share_is_written_when_it_changes_and_goes_with_its_node() -> None:
    log = cluster_log()
    async with member(log) as watching:
        async with member(log) as stopping:
            client = stopping.edge.connect(caller=of_tenant("acme"))
            await client.until(2)
            await until(watching, 1, "acme")
            before = stopping.heartbeats.written
            await asyncio.sleep(25)  # five heartbeats of a node whose tenant's share is the same
            assert stopping.heartbeats.written - before == 5
            await stopping.edge.drop(client)
            await until(watching, 0, "acme")
            await stopping.edge.connect(caller=of_tenant("acme")).until(2)
            await until(watching, 1, "acme")
        assert await until(watching, 0, "acme") <= 1
        assert await watching.cluster._views.edges.all("acme") == []
