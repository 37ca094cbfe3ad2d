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
from tests.support.sse import named

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(300), pytest.mark.usefixtures("tidy_logs")]

TRAINING = "/api/v1/sse/training"
PROGRESS = "training_progress"
EDGES = 3


@pytest.fixture
async def three_brokers(tmp_path: Path) -> AsyncGenerator[tuple[Cluster, World]]:
    with cluster(tmp_path) as made:
        async with AsyncExitStack() as stack:
            await asyncio.to_thread(
                provision, made.bootstrap_servers, topics=[TRAINING_EVENTS, RISK_ALERTS]
            )
            yield made, World(TestKafka(made.bootstrap_servers), "", tmp_path, stack)


async def test_edges_deliver_and_accept_whichever_broker_is_dead(
    three_brokers: tuple[Cluster, World],
) -> None:
    made, world = three_brokers
    edges = [await world.edge(metadata_s=1) for _ in range(EDGES)]
    async with AsyncExitStack() as stack:
        reporter = await stack.enter_async_context(SSEBroadcaster(world.producer_settings))
        clients = [await stack.enter_async_context(stream(edge.url, TRAINING)) for edge in edges]
        for client in clients:
            await client.until(lambda blocks: len(blocks) >= 2)
        for count, dead in enumerate(made.brokers, 1):
            dead.stop(signal.SIGKILL)
            await reporter.send_training_progress(f"dead {count}", count, "running")
            async with asyncio.timeout(30):  # some seconds, where nothing else runs
                for client in clients:
                    await client.events(PROGRESS, count)
            for edge in edges:
                await answers(edge.url)
                await replays(edge.url, count)
            await asyncio.to_thread(dead.start)
            await asyncio.to_thread(made.wait)
        for client in clients:
            numbers = [block.inner["progress"] for block in named(client.blocks, PROGRESS)]
            assert numbers == [1, 2, 3]
            assert not named(client.blocks, "gap")


async def answers(url: str) -> None:
    """Wait until an edge is ready."""
    async with httpx.AsyncClient(base_url=url) as http, asyncio.timeout(30):
        while (await http.get("/health/ready")).status_code != httpx.codes.OK:
            pass


async def replays(url: str, count: int) -> None:
    """Read events from the first on; reconnect, as browsers do, while a partition has no leader."""
    async with asyncio.timeout(30):
        while True:
            async with stream(url, TRAINING, since="earliest") as late:
                while not late.ended:
                    if len(named(late.blocks, PROGRESS)) >= count:
                        return
                    await late.more()
                assert late.blocks[-1].inner["reason"] == "no_broker", late.blocks[-1]
