"""Of many connections at once, as many are served as the limit allows, and others do nothing."""

import asyncio
from contextlib import AsyncExitStack

import httpx
import pytest
from confluent_kafka import Consumer, TopicPartition
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from schemas.topics import AGENT_COMMANDS, CHAT_MESSAGES
from tests.conftest import World
from tests.support.clients import stream

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(120)]

LIMIT = 2
TOO_MANY = 4429


async def served(url: str, held: AsyncExitStack) -> bool:
    """Return whether a WebSocket gets a first message; those that do stay open."""
    websocket = await held.enter_async_context(connect(url))
    try:
        await websocket.recv()
    except ConnectionClosed:
        return websocket.close_code != TOO_MANY
    return True


async def test_a_limit_holds_for_what_comes_at_once_and_before_anything_is_written(
    world: World,
) -> None:
    edge = await world.edge(connections_per_ip_max=LIMIT)
    async with httpx.AsyncClient(timeout=60) as http, AsyncExitStack() as held:
        job = {"symbol": "AAPL"}
        accepted = await http.post(f"{edge.url}/api/backtesting/jobs", json=job)
        job_id = accepted.json()["job_id"]
        url = f"{edge.url.replace('http', 'ws')}/ws/backtest/{job_id}"
        async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
            attempts = [tasks.create_task(served(url, held)) for _ in range(30)]
        assert [attempt.result() for attempt in attempts].count(True) == LIMIT

        for path in ("/chat-stream?user=eve", "/process/stream?message=1%2B1"):
            answer = await http.get(edge.url + path, headers={"Accept": "*/*"})
            assert answer.status_code == 429
            assert answer.json()["reason"] == "too_many_connections"
        await held.aclose()  # the places are free again
        async with (
            stream(edge.url, "/chat-stream", user="bob") as client,
            stream(edge.url, "/api/v1/sse/alerts"),
        ):
            await client.events("join", 1)
            assert await asyncio.to_thread(written, world, CHAT_MESSAGES.name) == 1
        assert await asyncio.to_thread(written, world, AGENT_COMMANDS.name) == 0


def written(world: World, topic: str) -> int:
    """Return how many records a topic of the world has."""
    consumer = Consumer(
        {"bootstrap.servers": world.kafka.bootstrap_servers, "group.id": "of-this-test"}
    )
    name = world.topic(topic)
    try:
        partitions = consumer.list_topics(name, timeout=30).topics[name].partitions
        return sum(
            consumer.get_watermark_offsets(TopicPartition(name, number), timeout=30)[1]
            for number in partitions
        )
    finally:
        consumer.close()
