import asyncio

import pytest

from schemas.codec import encode
from schemas.events import StoryState
from schemas.topics import TRAINING_TASKS
from sse_edge.delivery.start import FromEdge
from sse_edge.streams.requests import of_entities, one_channel
from tests.support.edge import TRAINING, progress, running_edge
from tests.support.fake_log import FakeLog
from tests.support.sse import named

pytestmark = pytest.mark.virtual_time


async def test_a_finite_stream_ends_after_its_last_event_and_its_cursor_says_so() -> None:
    log = FakeLog()
    log.make(TRAINING)
    stream = one_channel("training", {"task_id": "t"})
    async with running_edge(log) as edge:
        client = edge.connect(stream, FromEdge.EARLIEST)
        await client.until(2)
        log.append(TRAINING, 0, b"t", progress("t", 50.0))
        log.append(TRAINING, 0, b"u", progress("u", 100.0, "completed"))
        log.append(TRAINING, 0, b"t", progress("t", 100.0, "completed"))
        log.append(TRAINING, 0, b"t", progress("t", 100.0, "completed"))
        await edge.ended(client)
        events = named(client.blocks, "training_progress")
        assert [event.inner["progress"] for event in events] == [50.0, 100.0]
        ids = [event.id or "" for event in events]
        assert [edge.cursor(stream, text).ended for text in ids] == [False, True]


async def test_an_unfiltered_channel_does_not_end_with_one_task() -> None:
    log = FakeLog()
    log.make(TRAINING)
    async with running_edge(log) as edge:
        client = edge.connect(one_channel("training", {}))
        await client.until(2)
        for task in ("t", "u"):
            log.append(TRAINING, 0, task.encode(), progress(task, 100.0, "failed"))
        await client.until(2, event="training_progress")
        assert not client.over


async def test_a_stream_of_several_tasks_ends_after_the_last_event_of_each() -> None:
    log = FakeLog()
    log.make(TRAINING)
    log.make(TRAINING_TASKS.name)
    stream = of_entities("trainmodel", ["t", "u"])
    async with running_edge(log) as edge:
        client = edge.connect(stream, FromEdge.EARLIEST)
        ends = {}
        for task in ("t", "u"):
            ends[task] = log.append(TRAINING, 0, task.encode(), progress(task, 100.0, "completed"))
        await asyncio.sleep(5)
        assert not client.over
        for task, end in ends.items():
            state = StoryState(
                subject=task,
                status="completed",
                partition=0,
                first_offset=end,
                last_offset=end,
                ended=True,
            )
            log.append(TRAINING_TASKS.name, 0, task.encode(), encode(state))
        await edge.ended(client)
        assert [edge.cursor(stream, block.id).ended for block in client.blocks if block.id][-1]
