"""An edge is killed, a client goes on elsewhere: nothing lost, nothing twice, in order by key."""

import asyncio
import signal
from collections import defaultdict

import httpx
import pytest

from producers.broadcaster import SSEBroadcaster
from tests.conftest import World
from tests.support.clients import StreamClient, stream
from tests.support.sse import Block

pytestmark = pytest.mark.kafka

TRAINING = "/api/v1/sse/training"


def by_task(blocks: list[Block]) -> dict[str, list[float]]:
    found: defaultdict[str, list[float]] = defaultdict(list)
    for block in blocks:
        if block.event == "training_progress":
            found[block.inner["task_id"]].append(block.inner["progress"])
    return dict(found)


async def read_until_cut(client: StreamClient) -> None:
    """What comes until the connection breaks; the rest of a cut block is thrown away."""
    try:
        await client.to_end()
    except httpx.TransportError:
        return


async def test_an_edge_is_killed_in_mid_stream_and_the_client_resumes_on_another(
    world: World,
) -> None:
    first, second = await world.edge(), await world.edge()
    tasks = [f"task-{number}" for number in range(5)]
    blocks: list[Block] = []
    half, killed = asyncio.Event(), asyncio.Event()

    async def produce() -> None:
        async with SSEBroadcaster(world.producer_settings) as reporter:
            for percent in range(100):
                async with asyncio.TaskGroup() as sends:
                    for task in tasks:
                        sends.create_task(reporter.send_training_progress(task, percent, "running"))
                if percent == 50:
                    half.set()
                    await killed.wait()

    async def consume() -> None:
        async with stream(first.url, TRAINING) as client:
            await client.until(lambda blocks: len(blocks) >= 2)
            started.set()
            await read_until_cut(client)
            blocks.extend(client.blocks)
        last = client.last_id
        async with stream(second.url, TRAINING, headers={"Last-Event-ID": last}) as client:
            await client.until(lambda more: sum(map(len, by_task(blocks + more).values())) >= 500)
            blocks.extend(client.blocks)

    started = asyncio.Event()
    async with asyncio.TaskGroup() as both:
        both.create_task(consume())
        await started.wait()
        both.create_task(produce())
        await half.wait()
        await first.kill()
        killed.set()

    assert by_task(blocks) == {task: list(range(100)) for task in tasks}
    assert not [block for block in blocks if block.event == "gap"]


async def test_an_edge_that_starts_later_serves_what_was_written_before(world: World) -> None:
    early = await world.edge()
    async with (
        stream(early.url, TRAINING) as client,
        SSEBroadcaster(world.producer_settings) as reporter,
    ):
        await client.until(lambda blocks: len(blocks) >= 2)
        for percent in range(100):
            await reporter.send_training_progress("t", percent, "running")
        events = await client.events("training_progress", 10)
    await early.stop()
    late = await world.edge()
    cursor = events[9].id or ""
    async with stream(late.url, TRAINING, headers={"Last-Event-ID": cursor}) as client:
        rest = await client.events("training_progress", 90)
    assert [block.inner["progress"] for block in rest] == list(range(10, 100))


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGKILL])
async def test_the_broker_restarts_and_the_client_keeps_its_connection(
    world: World, sig: signal.Signals
) -> None:
    if not world.kafka.can_restart:
        pytest.skip("this broker is not ours to restart")
    edge = await world.edge(ping_s=1)
    async with stream(edge.url, TRAINING) as client:
        await client.until(lambda blocks: len(blocks) >= 2)
        async with SSEBroadcaster(world.producer_settings) as reporter:
            await reporter.send_training_progress("t", 1, "running")
            await client.events("training_progress", 1)
            await asyncio.to_thread(world.kafka.stop, sig)
            seen = len(client.blocks)
            await client.until(lambda blocks: len(blocks) > seen)
            assert client.blocks[-1].event == "ping"
            await asyncio.to_thread(world.kafka.start)
            for percent in (2, 3):
                await reporter.send_training_progress("t", percent, "running")
        events = await client.events("training_progress", 3)
    assert [block.inner["progress"] for block in events] == [1, 2, 3]


async def test_a_drain_ends_streams_between_events_and_nothing_is_lost(world: World) -> None:
    first, second = await world.edge(drain_s=0.5), await world.edge()
    async with SSEBroadcaster(world.producer_settings) as reporter:
        async with stream(first.url, TRAINING) as client:
            await client.until(lambda blocks: len(blocks) >= 2)
            await reporter.send_training_progress("t", 1, "running")
            await client.events("training_progress", 1)
            await first.stop()
            await client.to_end()
            assert client.reader.is_between_blocks
            assert client.blocks[-1].retry_ms is not None
        await reporter.send_training_progress("t", 2, "running")
    headers = {"Last-Event-ID": client.last_id}
    async with stream(second.url, TRAINING, headers=headers) as again:
        [event] = await again.events("training_progress", 1)
        assert event.inner["progress"] == 2.0
