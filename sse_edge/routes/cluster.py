"""The cluster of edges: each node writes heartbeats, and any node adds up what all of them serve.

A heartbeat is one small record of the compacted topic `edge.nodes`, keyed by its node. A node that
stops deletes its row; one that dies is no longer counted three intervals after its last heartbeat.

The connections of a tenant are in a record of their own, with the tenant in its key, which the node
writes when they change; those of callers without a tenant are in the heartbeat. So each tenant sees
its own connections, and only a caller without a token, on an open edge, sees those of all.
Ages are measured by the broker's clock, whose time comes with each acknowledgement of a node's own
heartbeat, so no clock of another machine matters.

Heartbeats have a publisher of their own: they never delay what clients write.
"""

import asyncio
import logging
import os
import socket
import uuid
from collections import Counter, defaultdict
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from enum import StrEnum
from typing import Annotated, NamedTuple, cast

from fastapi import Depends
from starlette.requests import HTTPConnection

from kafka_io.clock import now_us
from kafka_io.errors import ProducerError
from kafka_io.publisher import Publisher
from kafka_io.software import software_version
from schemas.events import EdgeChannel, EdgeNode
from schemas.instants import to_rfc3339
from schemas.keys import encode_key
from schemas.topics import EDGE_NODES
from sse_edge.delivery.node import Node
from sse_edge.errors import LogError, LogUnavailable, UnavailableReason
from sse_edge.failure_log import log_failure
from sse_edge.http.sse_response import SENT
from sse_edge.routes.views import Views

logger = logging.getLogger(__name__)

CLIENTS_MAX = 100
"""The most clients of a channel that a heartbeat names."""
MISSED_MAX = 3
"""A node is no longer counted after this many intervals without a heartbeat."""
_SHARE_S = 3_600.0
"""How often a tenant's share is written that does not change: the topic keeps it for a day."""
_STARTING_S = 0.1
"""How often a new node looks whether Kafka answers."""


class NodeStatus(StrEnum):
    """The status of a node in its heartbeat."""

    ACTIVE = "active"
    DRAINING = "draining"
    """The node ends its streams before it stops."""


class Members(NamedTuple):
    """The nodes of a cluster, this one first."""

    nodes: Sequence[EdgeNode]
    note: str | None
    """Why only this node is known; None where the whole cluster is."""


class _Acknowledged(NamedTuple):
    """When the last heartbeat was acknowledged, by two clocks."""

    broker_ms: int
    loop_s: float


class _Share(NamedTuple):
    """A tenant's share in a node, and when it was written, by the loop's clock."""

    share: EdgeNode
    loop_s: float


class Cluster:
    """Writes this node's heartbeats, and reads those of the others."""

    def __init__(self, node: Node, views: Views, publisher: Publisher, address: str = "") -> None:
        """Make the member of a cluster; `beating` writes its heartbeats.

        Args:
            node: what the heartbeats are about.
            views: has the table of all heartbeats.
            publisher: writes heartbeats and nothing else.
            address: the URL of this node.
        """
        self._node = node
        self._views = views
        self._publisher = publisher
        self._address = address
        self._node_id = f"edge-{uuid.uuid4().hex[:12]}"
        self._started_us = now_us()
        self._interval_s = node.settings.node_heartbeat_s
        self._topic = node.settings.topic_prefix + EDGE_NODES.name
        self._acknowledged: _Acknowledged | None = None
        self._shares: dict[str, _Share] = {}
        """By tenant, what was written last."""
        self._trouble: str | None = None
        self._has_tried = asyncio.Event()

    @property
    def node_id(self) -> str:
        """The name of this node, which each process has for itself alone."""
        return self._node_id

    @asynccontextmanager
    async def beating(self) -> AsyncGenerator[None]:
        """Write heartbeats while the context lasts, and delete this node's row after it."""
        try:
            async with asyncio.TaskGroup() as tasks:
                beats = tasks.create_task(self._beat_on())
                yield
                beats.cancel()
        finally:
            await self._leave()

    def own(self, tenant: str | None = None) -> EdgeNode:
        """Return what this node serves to a tenant, with the names of all its clients.

        Args:
            tenant: the tenant; "" for callers without one, None for all.
        """
        node, sent = self._node, SENT.of(tenant)
        metrics = node.metrics
        clients_by_channel = node.clients(tenant)
        events = metrics.sent if tenant is None else metrics.sent_to(tenant)
        refused = metrics.refused if tenant is None else {"": metrics.refused_to[tenant]}
        return EdgeNode(
            node_id=self._node_id,
            address=self._address,
            host=socket.gethostname(),
            process_id=os.getpid(),
            version=software_version(),
            status=NodeStatus.DRAINING if node.draining else NodeStatus.ACTIVE,
            started_us=self._started_us,
            interval_s=self._interval_s,
            connections=node.connections_of(tenant),
            responses=sent.open,
            channels=[
                EdgeChannel(name, len(clients), clients)
                for name, clients in clients_by_channel.items()
            ],
            events_sent=events + sent.events,
            errors=sent.errors + sum(refused.values()),
            event_time_us=now_us(),
        )

    async def members(self, tenant: str | None = None) -> Members:
        """Return the nodes that are alive: this one as it is now, the others as they were last.

        Args:
            tenant: the tenant whose connections are counted; "" for callers without one, None for
                all.
        """
        own = self.own(tenant)
        try:
            now_ms = await self._broker_time_ms()
            heartbeats = await self._views.edges.all_with_times("")
            shares = await self._views.edges.all(tenant)
        except LogError as error:
            if tenant is None:
                return Members([own], str(error))
            failure_id = log_failure(UnavailableReason.NO_BROKER, "to count all nodes", error)
            return Members(
                [own], f"the other nodes cannot be counted now; see {failure_id} in the log"
            )
        others = [
            _sum_of(node, [share for share in shares if share.node_id == node.node_id])
            for node, appended_ms in heartbeats
            if node.node_id != own.node_id
            and now_ms - appended_ms <= MISSED_MAX * 1_000 * node.interval_s
        ]
        return Members([own, *sorted(others, key=lambda node: node.started_us)], None)

    async def _broker_time_ms(self) -> float:
        """Return the broker's present time.

        Raises:
            LogUnavailable: it has not acknowledged a heartbeat lately.
        """
        if not self._node.tail.connected:
            raise LogUnavailable("Kafka does not answer")
        try:
            async with asyncio.timeout(self._node.settings.broker_patience_s):
                await self._has_tried.wait()
        except TimeoutError:
            raise LogUnavailable("Kafka has not acknowledged a heartbeat yet") from None
        if self._acknowledged is None:
            raise LogUnavailable(self._trouble or "Kafka has not acknowledged a heartbeat yet")
        age_s = _now_s() - self._acknowledged.loop_s
        if age_s > MISSED_MAX * self._interval_s:
            raise LogUnavailable(f"Kafka has not acknowledged a heartbeat for {age_s:.0f} s")
        return self._acknowledged.broker_ms + age_s * 1_000

    async def _beat_on(self) -> None:
        while True:
            if self._node.tail.connected:
                try:
                    await self._beat()
                except (LogError, ProducerError) as error:
                    if self._trouble is None:
                        logger.warning("this node writes no heartbeats: %s", error)
                    self._trouble = str(error)
                else:
                    self._trouble = None
                self._has_tried.set()
            await asyncio.sleep(self._interval_s if self._has_tried.is_set() else _STARTING_S)

    async def _beat(self) -> None:
        """Write one heartbeat.

        Raises:
            LogError: Kafka does not answer, or has no topic for heartbeats.
            ProducerError: Kafka does not acknowledge.
        """
        if self._acknowledged is None or self._trouble is not None:
            # A producer would wait for a topic that does not exist, or have it made by the broker.
            if not await self._node.log.describe([self._topic]):
                raise LogUnavailable(
                    f"there is no topic {self._topic}, which all nodes write to; "
                    "`tapewire topics create` makes it"
                )
            await self._publisher.flush()  # a heartbeat that was not acknowledged in time
        position = await self._publisher.publish(_shortened(self.own("")))
        self._acknowledged = _Acknowledged(position.timestamp_ms, _now_s())
        for tenant in sorted(self._node.tenants | self._shares.keys()):
            await self._write_share(tenant)

    async def _write_share(self, tenant: str) -> None:
        """Write what this node serves to a tenant, where it has changed or will soon expire."""
        share = _shortened(self.own(tenant))
        known, now_s = self._shares.get(tenant), _now_s()
        if known is None or now_s - known.loop_s >= _SHARE_S or _differs(share, known.share):
            await self._publisher.publish(share, tenant=tenant)
            self._shares[tenant] = _Share(share, now_s)

    async def _leave(self) -> None:
        """Delete this node's row, unless Kafka is away."""
        if self._acknowledged is None or not self._node.tail.connected:
            return
        try:
            for tenant in (None, *self._shares):
                await self._publisher.delete(EDGE_NODES, encode_key(self._node_id, tenant))
        except ProducerError as error:
            logger.info("this node could not leave the cluster: %s", error)


def _sum_of(node: EdgeNode, shares: Sequence[EdgeNode]) -> EdgeNode:
    """Return a node with the connections and counts of some tenants together."""
    return replace(
        node,
        connections=sum(share.connections for share in shares),
        responses=sum(share.responses for share in shares),
        channels=[channel for share in shares for channel in share.channels],
        events_sent=sum(share.events_sent for share in shares),
        errors=sum(share.errors for share in shares),
    )


def _differs(share: EdgeNode, known: EdgeNode) -> bool:
    return replace(share, event_time_us=0) != replace(known, event_time_us=0)


def channel_totals(nodes: Iterable[EdgeNode]) -> dict[str, dict[str, object]]:
    """Return the number of connections of each channel on some nodes, and their clients."""
    counts: Counter[str] = Counter()
    clients: defaultdict[str, list[str]] = defaultdict(list)
    for node in nodes:
        for channel in node.channels:
            counts[channel.name] += channel.connections
            clients[channel.name] += channel.clients
    return {
        name: {"connection_count": counts[name], "clients": names}
        for name, names in clients.items()
    }


def summary(node: EdgeNode) -> dict[str, object]:
    """Return a node as a list of nodes shows it."""
    return {
        "node_id": node.node_id,
        "address": node.address,
        "host": node.host,
        "process_id": node.process_id,
        "version": node.version,
        "status": node.status,
        "total_connections": node.connections,
        "started_at": to_rfc3339(node.started_us),
        "seen_at": to_rfc3339(node.event_time_us),
    }


def metrics_of(nodes: Iterable[EdgeNode]) -> dict[str, object]:
    """Return the open streams, events sent and errors of some nodes together."""
    known = tuple(nodes)
    return {
        "active_connections": sum(node.connections + node.responses for node in known),
        "total_events_sent": sum(node.events_sent for node in known),
        "errors": sum(node.errors for node in known),
    }


def scope(members: Members) -> dict[str, object]:
    """Return whether figures are of the whole cluster; if not, why."""
    if members.note is None:
        return {"scope": "cluster"}
    return {"scope": "node", "note": f"only this node is counted: {members.note}"}


def cluster_of(connection: HTTPConnection) -> Cluster:
    """Return this node's member of the cluster."""
    return cast("Cluster", connection.app.state.cluster)


ClusterDep = Annotated[Cluster, Depends(cluster_of)]


def _shortened(node: EdgeNode) -> EdgeNode:
    """Return a heartbeat that stays small however many clients there are."""
    channels = [
        channel._replace(clients=channel.clients[:CLIENTS_MAX])
        for channel in node.channels
        if channel.connections
    ]
    return replace(node, channels=channels)


def _now_s() -> float:
    return asyncio.get_running_loop().time()
