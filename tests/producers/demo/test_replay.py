import asyncio
from itertools import pairwise

import pytest

from kafka_io.reader import read_all
from producers.demo import replay
from schemas.events import ReturnBatch, TrainingProgress
from schemas.topics import PORTFOLIO_RETURNS, TRAINING_EVENTS
from tests.conftest import World

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(120)]


async def days_of(world: World) -> list[int]:
    batches = await read_all(PORTFOLIO_RETURNS, world.producer_settings)
    return sorted(
        {
            value.event_time_us
            for batch in batches
            if isinstance(batch, ReturnBatch)
            for value in batch.returns
            if value.portfolio_id == "IBM"
        }
    )


async def replay_until(world: World, days: int) -> list[int]:
    """Run the demo until the log has so many days; return the days."""
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(replay.run(world.producer_settings, speed=200, stop=stop))
        while len(found := await days_of(world)) < days:
            pass
        stop.set()
    return found


async def test_a_restarted_demo_continues_after_the_last_day_of_the_log(world: World) -> None:
    first = await replay_until(world, 40)
    second = await replay_until(world, len(await days_of(world)) + 40)
    assert second[: len(first)] == first
    gaps_us = [later - earlier for earlier, later in pairwise(second)]
    assert max(gaps_us) <= 8 * 86_400_000_000  # September 2001 has the longest closure


async def test_an_interrupted_run_is_reported_as_failed(world: World) -> None:
    await replay_until(world, 10)
    events = [
        event
        for event in await read_all(TRAINING_EVENTS, world.producer_settings)
        if isinstance(event, TrainingProgress)
    ]
    assert events[0].status == "started"
    assert (events[-1].status, events[-1].message) == (
        "failed",
        "stopped before its end, with the demo",
    )
