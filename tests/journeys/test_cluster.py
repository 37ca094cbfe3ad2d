"""Any edge counts the streams of all edges, by the heartbeats that they write to Kafka."""

import asyncio
from typing import Any

import httpx
import pytest
from confluent_kafka.admin import AdminClient

from kafka_io.reader import read_table
from schemas.events import EdgeNode
from schemas.topics import EDGE_NODES
from tests.conftest import Started, World
from tests.support.clients import stream

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(120)]

ALERTS = "/api/v1/sse/alerts"
INTERVAL_S = 0.5


async def get(edge: Started, path: str) -> Any:
    async with httpx.AsyncClient(base_url=edge.url, timeout=30) as http:
        return (await http.get(path)).raise_for_status().json()


async def total_is(edge: Started, total: int) -> Any:
    """Wait until an edge counts so many connections in the cluster; return its status."""
    async with asyncio.timeout(30):
        while True:
            status = await get(edge, "/api/v1/sse/status")
            if status["total_connections"] == total:
                return status
            await asyncio.sleep(INTERVAL_S / 5)


async def test_each_edge_counts_the_whole_cluster_and_itself_under_node(world: World) -> None:
    one, two, three = [await world.edge(node_heartbeat_s=INTERVAL_S) for _ in range(3)]
    async with (
        stream(one.url, ALERTS, client_id="a") as first,
        stream(two.url, ALERTS, client_id="b") as second,
        stream(three.url, "/api/v1/sse/training", client_id="c") as third,
    ):
        for client in (first, second, third):
            await client.until(lambda blocks: len(blocks) >= 2)
        status = await total_is(one, 3)
        assert status["scope"] == "cluster"
        assert status["status"] == "active"
        alerts = status["channels"]["alerts"]
        assert (alerts["connection_count"], sorted(alerts["clients"])) == (2, ["a", "b"])
        assert status["channels"]["training"] == {"connection_count": 1, "clients": ["c"]}
        assert status["channels"]["backtest"] == {"connection_count": 0, "clients": []}
        assert status["node"]["total_connections"] == 1
        assert status["node"]["channels"]["alerts"] == {"connection_count": 1, "clients": ["a"]}
        assert {node["address"] for node in status["nodes"]} == {one.url, two.url, three.url}
        await total_is(two, 3)  # each edge hears of the others by itself
        metrics = await get(two, "/sse-metrics")
        assert (metrics["active_connections"], metrics["node"]["active_connections"]) == (3, 1)

        await two.kill()  # as by kill -9: its row stays, and gets too old
        assert len((await total_is(one, 2))["nodes"]) == 2
        await three.stop()  # it says goodbye
        assert len((await total_is(one, 1))["nodes"]) == 1
        rows = await read_table(EDGE_NODES, world.producer_settings)
        left = {row.address for row in rows.values() if isinstance(row, EdgeNode)}
        assert left == {one.url, two.url}


async def test_an_edge_without_the_topic_counts_itself_and_says_so(world: World) -> None:
    admin = AdminClient({"bootstrap.servers": world.kafka.bootstrap_servers})
    for answer in admin.delete_topics([world.topic(EDGE_NODES.name)]).values():
        await asyncio.to_thread(answer.result)
    edge = await world.edge(node_heartbeat_s=INTERVAL_S)
    async with stream(edge.url, ALERTS) as client:
        await client.until(lambda blocks: len(blocks) >= 2)
        status = await get(edge, "/api/v1/sse/status")
        assert (status["scope"], status["total_connections"]) == ("node", 1)
        assert f"there is no topic {world.topic(EDGE_NODES.name)}" in status["note"]
        metrics = await get(edge, "/sse-metrics")
        assert (metrics["scope"], metrics["active_connections"]) == ("node", 1)
    assert edge.process.log_path.read_text().count("this node writes no heartbeats: ") == 1
