"""The log of returns loses its end, and grows beyond it before anybody looks."""

import asyncio
import os
import signal

import pytest

from kafka_io.client import partition_of
from kafka_io.publisher import Publisher
from producers.returns import ReturnsPublisher
from schemas.events import Record, Return, RiskMeasure
from schemas.topics import PARTITIONS, PORTFOLIO_RETURNS
from tests.conftest import World
from tests.support.clients import stream
from tests.support.straight_run import TopicReader

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(240), pytest.mark.usefixtures("tidy_logs")]

PORTFOLIO = "p"
BEFORE, AFTER = 40, 100


async def send(world: World, times: range) -> None:
    async with Publisher(world.producer_settings) as publisher:
        sender = ReturnsPublisher(publisher)
        for at in times:
            await sender.send([Return(PORTFOLIO, at, 0.01 * (-1) ** at)])


def has_measured(observations: int, records: list[Record]) -> bool:
    return any(
        isinstance(record, RiskMeasure) and record.observations == observations
        for record in records
    )


@pytest.mark.parametrize("meanwhile", ["running", "stopped"])
async def test_returns_with_the_offsets_of_lost_ones_are_measured_and_the_loss_is_reported(
    own_world: World, meanwhile: str
) -> None:
    world = own_world
    worker = await world.worker(batch_within_s=0.05)
    edge = await world.edge()
    async with (
        TopicReader(world, "risk.measures") as reader,
        stream(edge.url, "/api/v1/sse/measures") as client,
    ):
        await client.until(lambda blocks: len(blocks) >= 2)
        await send(world, range(BEFORE))
        await reader.until(lambda records: has_measured(BEFORE, records))
        if meanwhile == "stopped":
            await worker.kill()
        world.kafka.stop(signal.SIGKILL)
        number = partition_of(PORTFOLIO.encode(), PARTITIONS)
        [segment] = world.folder.glob(f"kafka/log/{PORTFOLIO_RETURNS.name}-{number}/*0.log")
        os.truncate(segment, segment.stat().st_size // 2)
        await asyncio.to_thread(world.kafka.start)
        await send(world, range(BEFORE, BEFORE + AFTER))
        if meanwhile == "stopped":
            await world.worker(batch_within_s=0.05)
        await reader.until(lambda records: has_measured(BEFORE + AFTER, records))
        [gap] = await client.events("gap", 1)
        assert gap.inner["reason"] == "future"
        [missing] = gap.inner["partitions"]
        assert (missing["topic"], missing["partition"]) == (PORTFOLIO_RETURNS.name, number)
        assert 0 < missing["to_offset"] < BEFORE <= missing["from_offset"]
