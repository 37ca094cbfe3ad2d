"""One of three brokers is dead: every edge goes on with the other two."""

import asyncio
import signal
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest

from infra.topics import provision
from producers.broadcaster import SSEBroadcaster
from schemas.topics import RISK_ALERTS, TRAINING_EVENTS
from tests.conftest import TestKafka, World
from tests.faults.cluster import Cluster, cluster
from tests.support.clients import stream

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(300)]

TRAINING = "/api/v1/sse/training"
EDGES = 3


@pytest.fixture
async def three_brokers(tmp_path: Path) -> AsyncGenerator[tuple[Cluster, World]]:
    async with cluster(tmp_path) as made, AsyncExitStack() as stack:
        await asyncio.to_thread(
            provision, made.bootstrap_servers, topics=[TRAINING_EVENTS, RISK_ALERTS]
        )
        yield made, World(TestKafka(made.bootstrap_servers), "", tmp_path, stack)


async def test_edges_deliver_and_accept_while_the_controller_is_dead(
    three_brokers: tuple[Cluster, World],
) -> None:
    made, world = three_brokers
    edges = [await world.edge(metadata_s=1) for _ in range(EDGES)]
    async with AsyncExitStack() as stack:
        reporter = await stack.enter_async_context(SSEBroadcaster(world.producer_settings))
        clients = [await stack.enter_async_context(stream(edge.url, TRAINING)) for edge in edges]
        await reporter.send_training_progress("before", 1, "running")
        for client in clients:
            await client.events("training_progress", 1)
        dead = made.brokers[made.controller()]
        dead.stop(signal.SIGKILL)
        await reporter.send_training_progress("during", 2, "running")
        async with asyncio.timeout(15):
            for client in clients:
                await client.events("training_progress", 2)
        for edge in edges:
            await answers(edge.url)
            async with stream(edge.url, TRAINING, since="earliest") as late:
                events = await late.events("training_progress", 2)
            assert {event.inner["task_id"] for event in events} == {"before", "during"}
        await asyncio.to_thread(dead.start)
        await reporter.send_training_progress("after", 3, "running")
        for client in clients:
            await client.events("training_progress", 3)
            assert not client.ended


async def answers(url: str) -> None:
    """Wait until an edge is ready, 15 seconds at most."""
    async with httpx.AsyncClient(base_url=url) as http, asyncio.timeout(15):
        while (await http.get("/ready")).status_code != httpx.codes.OK:
            pass
