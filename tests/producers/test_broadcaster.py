import asyncio
import inspect

import pytest

from kafka_io.errors import InvalidReport, Unsent
from kafka_io.reader import read_all
from kafka_io.settings import ProducerSettings
from producers import get_sse_broadcaster
from producers.broadcaster import BlockingBroadcaster, SSEBroadcaster
from schemas.events import TrainingProgress
from schemas.topics import TRAINING_EVENTS
from tests.conftest import World

NOWHERE = ProducerSettings(bootstrap_servers="localhost:1", patience_s=0.2)


def test_a_process_has_one_broadcaster() -> None:
    assert get_sse_broadcaster() is get_sse_broadcaster()


def test_blocking_calls_have_the_signatures_of_the_async_ones() -> None:
    for name, method in inspect.getmembers(SSEBroadcaster, inspect.iscoroutinefunction):
        if not name.startswith("send_"):
            continue
        assert inspect.signature(getattr(BlockingBroadcaster, name)) == inspect.signature(method)


async def test_a_wrong_argument_is_refused_before_kafka_is_needed() -> None:
    async with SSEBroadcaster(NOWHERE) as broadcaster:
        with pytest.raises(InvalidReport, match="progress is 101"):
            await broadcaster.send_training_progress("t", 101, "running")


def test_an_event_that_kafka_does_not_take_is_reported_as_unsent() -> None:
    reporter = BlockingBroadcaster(NOWHERE)
    with pytest.raises(Unsent):
        reporter.send_training_progress("t", 1, "running")
    with pytest.raises(Unsent):
        reporter.close()


@pytest.mark.kafka
async def test_threads_and_loops_share_a_blocking_broadcaster(world: World) -> None:
    def report(reporter: BlockingBroadcaster) -> None:
        with reporter:
            reporter.send_training_progress("a", 1, "started")

            async def in_another_loop() -> None:
                await asyncio.to_thread(reporter.send_training_progress, "b", 2, "running")

            asyncio.run(in_another_loop())

    await asyncio.to_thread(report, BlockingBroadcaster(world.producer_settings))
    events = await read_all(TRAINING_EVENTS, world.producer_settings)
    found = {event.task_id for event in events if isinstance(event, TrainingProgress)}
    assert found == {"a", "b"}
