import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from schemas.codec import encode
from schemas.events import StoryState, StreamRenewal
from schemas.topics import EDGE_RENEWALS, TRAINING_TASKS, Topic
from sse_edge.cache.tail import Tail
from sse_edge.delivery.node import FinalEvent
from sse_edge.routes import views as views_module
from sse_edge.routes.views import Views
from sse_edge.settings import EdgeSettings
from sse_edge.streams.channels import CHANNELS, ChannelTable
from tests.support.fake_log import FakeLog

pytestmark = pytest.mark.virtual_time

TIDE_STATES = Topic("tide.states", StoryState, "subject", None)


@asynccontextmanager
async def running_views(log: FakeLog) -> AsyncGenerator[Views]:
    settings = EdgeSettings()
    views = Views(log, settings, Tail(log, settings))
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(views.run())
        yield views
        running.cancel()


def put_task(
    log: FakeLog, task_id: str, offset: int, *, ended: bool, topic: str = TRAINING_TASKS.name
) -> None:
    state = StoryState(
        subject=task_id,
        status="completed" if ended else "running",
        partition=3,
        first_offset=0,
        last_offset=offset,
        ended=ended,
    )
    log.append(topic, 0, task_id.encode(), encode(state))


async def test_the_final_event_of_a_task_is_known_once_the_task_has_ended() -> None:
    log = FakeLog()
    log.make(TRAINING_TASKS.name)
    put_task(log, "t", 5, ended=False)
    async with running_views(log) as views:
        await views.tasks.all()
        assert views.final_event(TRAINING_TASKS, "t") is None
        assert views.final_event(TRAINING_TASKS, "unknown") is None
        put_task(log, "t", 8, ended=True)
        await views.tasks.changed_since(views.tasks.version)
        assert views.final_event(TRAINING_TASKS, "t") == FinalEvent(partition=3, offset=8)


async def test_the_final_event_is_known_of_each_channel_that_names_states(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    table = ChannelTable()
    table.add(replace(CHANNELS["backtest"], entity_states=TIDE_STATES))
    monkeypatch.setattr(views_module, "CHANNELS", table)
    log = FakeLog()
    log.make(TIDE_STATES.name)
    put_task(log, "Dover", 4, ended=True, topic=TIDE_STATES.name)
    async with running_views(log) as views:
        assert views.final_event(TIDE_STATES, "Dover") is None  # the first use begins the reading
        await views._tables[TIDE_STATES].all()
        assert views.final_event(TIDE_STATES, "Dover") == FinalEvent(partition=3, offset=4)


async def test_a_renewal_is_found_by_its_challenge() -> None:
    log = FakeLog()
    log.make(EDGE_RENEWALS.name)
    async with running_views(log) as views:
        assert views.renewed_until_s("c") is None
        renewal = StreamRenewal(challenge="c", expires_us=7_500_000, event_time_us=0)
        log.append(EDGE_RENEWALS.name, 0, b"c", encode(renewal))
        await views.renewals.find("c", within_s=5)
        assert views.renewed_until_s("c") == 7.5
        assert views.renewed_until_s("another") is None
