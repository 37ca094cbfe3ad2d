"""What is no fault of ours leaves no traceback and no warning in the logs of edges and programs."""

import asyncio
import json
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from websockets.asyncio.client import connect

from producers.broadcaster import SSEBroadcaster
from tests.conftest import Started, World
from tests.support.clients import stream

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(120)]

TROUBLE = re.compile(
    r"Traceback|ERROR|CRITICAL|never awaited|was destroyed|Unclosed|never retrieved|Exception"
)
LEFT_EARLY = (
    b"",
    b"GET /api/v1/sse/alerts HTTP/1.1\r\nHost: localhost\r\n",
    b"GET /api/v1/sse/alerts HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n",
    b"GET /api/v1/sse/alerts?from=earliest HTTP/1.0\r\nAccept-Encoding: gzip\r\n\r\n",
    b"GET /api/sse/backtest/jobs HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET /api/sse/backtest/nothing/data HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET /chat-stream?user=a HTTP/1.1\r\nHost: localhost\r\n\r\n",
    (
        b"GET /trainmodel/stream/nothing HTTP/1.1\r\nHost: localhost\r\n"
        b"Accept: text/event-stream\r\n\r\n"
    ),
    b"GET /api/v1/sse/status HTTP/1.1\r\nHost: localhost\r\n\r\n" * 3,
    (
        b"POST /send-message HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b'Content-Length: 100\r\n\r\n{"user":'
    ),
    (
        b"POST /process/stream HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b'Content-Length: 18\r\n\r\n{"message": "1+1"}'
    ),
    (
        b"GET /ws/backtest/nothing HTTP/1.1\r\nHost: localhost\r\n"
        b"Upgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    ),
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS where there is none
    b"nonsense\r\n\r\n",
)


async def leave_early(edge: Started, request: bytes, *, after_s: float) -> None:
    """Send a request, and reset the connection a moment later."""
    parts = urlsplit(edge.url)
    _, writer = await asyncio.open_connection(parts.hostname, parts.port)
    writer.write(request)
    await asyncio.sleep(after_s)
    writer.transport.abort()


def log_of(world: World, started: Started) -> str:
    return (world.folder / f"{started.process.part.name}.log").read_text()


async def test_clients_that_leave_early_and_a_stop_leave_no_trouble_in_the_log(
    world: World,
) -> None:
    edge = await world.edge(drain_s=0.5, log_level="INFO")
    async with SSEBroadcaster(world.producer_settings) as reporter:
        for number in range(50):
            await reporter.send_training_progress(f"t{number}", 1.0, "running")
    for after_s in (0.0, 0.01, 0.3):
        async with asyncio.TaskGroup() as leaving:
            for request in LEFT_EARLY:
                leaving.create_task(leave_early(edge, request, after_s=after_s))
    socket = edge.url.replace("http", "ws") + "/ws/backtest/nothing"
    with suppress(OSError):
        async with connect(socket) as client:
            client.transport.abort()
    async with (
        stream(edge.url, "/api/v1/sse/training", since="earliest") as one,
        stream(edge.url, "/api/sse/backtest/jobs") as two,
    ):
        await one.events("training_progress", 50)
        await two.until(bool)
        async with httpx.AsyncClient(base_url=edge.url, timeout=30) as http:
            assert (await http.get("/health/live")).status_code == 200
        await edge.stop()
    text = log_of(world, edge)
    assert text
    assert [line for line in text.splitlines() if TROUBLE.search(line)] == []


async def test_parts_that_are_stopped_leave_no_trouble_in_their_logs(world: World) -> None:
    async with asyncio.TaskGroup() as starting:
        parts = [
            starting.create_task(part)
            for part in (world.worker(), world.trainer(), world.backtester(), world.orchestrator())
        ]
    async with asyncio.TaskGroup() as stopping:
        for part in parts:
            stopping.create_task(part.result().stop())
    for part in parts:
        text = log_of(world, part.result())
        # A broker that is new makes the topic of its groups first, and says so for a moment.
        lines = [line for line in text.splitlines() if "CoordinatorNotAvailable" not in line]
        assert [line for line in lines if TROUBLE.search(line)] == []


SCRIPT = """\
import asyncio, gc, logging
logging.basicConfig(level=logging.WARNING)
from producers import BlockingBroadcaster, get_sse_broadcaster

async def main():
    await get_sse_broadcaster().send_training_progress("t", 1.0, "running")

asyncio.run(main())
asyncio.run(main())
reporter = BlockingBroadcaster()
reporter.send_training_progress("t", 2.0, "running")
reporter.close()
try:
    reporter.send_training_progress("t", 3.0, "running")
except RuntimeError as error:
    print(error)
BlockingBroadcaster().send_training_progress("t", 4.0, "running")
gc.collect()
"""


async def test_a_program_that_closes_nothing_ends_in_silence(world: World) -> None:
    environment = {
        "KAFKA_BOOTSTRAP_SERVERS": world.kafka.bootstrap_servers,
        "TAPEWIRE_TOPIC_PREFIX": world.prefix,
        "PYTHONWARNINGS": "default",
        "PYTHONPATH": str(Path.cwd()),
    }
    ended = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", SCRIPT],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert json.dumps(ended.stdout).count("closed") == 1
