"""A process near the end of its resources refuses clearly, and goes on."""

import asyncio
import sys
import uuid
from contextlib import AsyncExitStack

import httpx
import pytest

from infra.supervisor import Part, Process
from tests.conftest import Started, World
from tests.support.clients import stream

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(120)]

TRAINING = "/api/v1/sse/training"
OPEN_FILES = 192
SOCKETS = OPEN_FILES - 128


async def edge_with_few_files(world: World) -> Started:
    command = f"ulimit -n {OPEN_FILES}; exec {sys.executable} -m sse_edge"
    env = {
        "KAFKA_BOOTSTRAP_SERVERS": world.kafka.bootstrap_servers,
        "TAPEWIRE_TOPIC_PREFIX": world.prefix,
        "TAPEWIRE_PORT": "0",
        "TAPEWIRE_CONNECTIONS_PER_IP_MAX": "1000",
    }
    part = Part(f"edge-{uuid.uuid4().hex[:6]}", ("sh", "-c", command), env)
    process = Process(part, world.folder / f"{part.name}.log")
    started = Started(process, await process.start())
    world.stack.push_async_callback(started.stop)
    return started


async def test_an_edge_at_its_limit_of_open_files_refuses_and_keeps_its_streams(
    world: World,
) -> None:
    edge = await edge_with_few_files(world)
    async with AsyncExitStack() as held, AsyncExitStack() as sockets:
        clients = []
        while True:
            client = await held.enter_async_context(stream(edge.url, TRAINING))
            await client.more()
            if client.blocks and client.blocks[-1].event == "error":
                break
            clients.append(client)
        assert SOCKETS - 20 <= len(clients) < SOCKETS
        # A stream is answered in its own language, so that a browser comes back.
        assert client.response.status_code == 200
        assert client.blocks[-1].inner["reason"] == "full"
        assert client.blocks[-1].retry_ms is not None
        # Short requests have sockets that streams do not take.
        async with httpx.AsyncClient(base_url=edge.url) as http:
            assert (await http.get("/health/live")).status_code == 200
            assert (await http.get("/health/ready")).status_code == 503
        # Beyond them a client gets an answer as well, and the streams live on.
        port = int(edge.url.rsplit(":", 1)[1])
        connections = [await asyncio.open_connection("127.0.0.1", port) for _ in range(SOCKETS)]
        for _, writer in connections:
            sockets.push_async_callback(asyncio.to_thread, writer.close)
        reader, writer = connections[-1]
        writer.write(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 503")
        for client in clients:
            assert not client.ended
    async with httpx.AsyncClient(base_url=edge.url) as http, asyncio.timeout(30):
        while (await http.get("/health/ready")).status_code != 200:
            pass
        metrics = (await http.get("/metrics")).text
    [refused] = [
        line for line in metrics.splitlines() if line.startswith("tapewire_sockets_refused_total ")
    ]
    assert float(refused.split()[1]) > 0
    log = edge.process.log_path.read_text()
    assert "limit of open files (ulimit -n) allows no more" in log
    async with stream(edge.url, TRAINING) as again:
        await again.more()
        assert again.blocks[0].event != "error"
