"""A foreign transaction that stays open holds a partition back, visibly, and loses nothing."""

import asyncio
import re
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import httpx
import pytest
from aiokafka import AIOKafkaProducer

from infra.embedded_broker import free_port
from kafka_io.clock import now_us
from kafka_io.publisher import Publisher, outgoing_record
from producers.progress import training_progress
from schemas.events import StoryState, TrainingProgress
from schemas.topics import TRAINING_TASKS
from tests.conftest import World
from tests.support.clients import stream
from tests.support.straight_run import TopicReader

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]

CHANNEL = "/api/v1/sse/training"


def progress(percent: float) -> TrainingProgress:
    return training_progress(
        "task", percent, "running", f"{percent:g} percent", {}, now_us=now_us()
    )


@asynccontextmanager
async def stranger(world: World) -> AsyncGenerator[AIOKafkaProducer]:
    """A transactional producer that this system does not know."""
    async with AIOKafkaProducer(
        bootstrap_servers=world.kafka.bootstrap_servers, transactional_id=f"{world.prefix}stranger"
    ) as producer:
        yield producer


async def send(producer: AIOKafkaProducer, world: World, percent: float) -> None:
    record = outgoing_record(progress(percent), world.producer_settings)
    await producer.send_and_wait(
        record.topic, record.value, record.key, headers=list(record.headers or ())
    )


async def stuck_s(url: str, until: Callable[[float], bool]) -> float:
    """Return the longest age of the metric when it is as wanted."""
    async with httpx.AsyncClient() as http, asyncio.timeout(30):
        while True:
            text = (await http.get(f"{url}/metrics")).text
            samples = re.findall(
                r'^tapewire_log_stuck_seconds\{.*topic="\S*training.events".*\} (\S+)$',
                text,
                re.MULTILINE,
            )
            age_s = max(map(float, samples), default=0.0)
            if until(age_s):
                return age_s
            await asyncio.sleep(0.1)  # metrics are polled; nothing notifies of a new value


@pytest.mark.parametrize("outcome", ["commit", "abort"])
async def test_an_open_transaction_is_visible_and_delivery_goes_on_after_it(
    world: World, outcome: str
) -> None:
    """In an edge and in a worker; records of others that came meanwhile are delivered too."""
    edge = await world.edge()
    port = free_port()
    await world.worker(metrics_port=port)
    worker_url = f"http://127.0.0.1:{port}"
    async with (
        stranger(world) as producer,
        Publisher(world.producer_settings) as publisher,
        stream(edge.url, CHANNEL, task_id="task") as client,
        TopicReader(world, TRAINING_TASKS.name) as reader,
    ):
        async with httpx.AsyncClient(base_url=edge.url) as http:  # the edge follows tables, too
            assert (await http.get("/api/backtesting/jobs")).status_code == 200
        await publisher.publish(progress(1))
        await client.events("training_progress", 1)
        await producer.begin_transaction()
        await send(producer, world, 2)
        last = await publisher.publish(progress(3))
        assert await stuck_s(edge.url, lambda age_s: age_s > 2) > 2
        assert await stuck_s(worker_url, lambda age_s: age_s > 2) > 2
        assert len(await client.events("training_progress", 1)) == 1, "nothing came meanwhile"
        if outcome == "commit":
            await producer.commit_transaction()
        else:
            await producer.abort_transaction()
        expected = [1.0, 2.0, 3.0] if outcome == "commit" else [1.0, 3.0]
        found = await client.events("training_progress", len(expected))
        assert [block.inner["progress"] for block in found] == expected
        await stuck_s(edge.url, lambda age_s: age_s == 0)
        await stuck_s(worker_url, lambda age_s: age_s == 0)
        await reader.until(
            lambda records: any(
                isinstance(state, StoryState) and state.last_offset == last.offset
                for state in records
            )
        )
