"""Training tasks over HTTP: ask for one, ask how it stands, follow it.

A task is asked for by a command in Kafka. Its story begins with `PENDING`, written here before the
command, so that whoever has the answer can follow it on any node at once.
"""

import uuid
from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, NamedTuple

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from kafka_io.clock import now_us
from schemas.codec import decode_as
from schemas.events import StoryState, TaskStep, TrainingCommand, TrainingProgress
from sse_edge.delivery.node import Node
from sse_edge.delivery.start import FromOffsets
from sse_edge.errors import LogUnavailable, NoSuchThing, OffsetOutOfRange, Unavailable
from sse_edge.http import openapi
from sse_edge.http.stream_response import (
    event_names,
    given_cursor,
    may_read,
    open_stream,
    stream_route,
    write,
)
from sse_edge.log.record import Partition, Record
from sse_edge.log.scan import scan
from sse_edge.routes.views import Views
from sse_edge.streams.channels import CHANNELS
from sse_edge.streams.dialects.training import status as rendered
from sse_edge.streams.requests import of_entities
from sse_edge.streams.stream import ChannelSelection

CHANNEL = "trainmodel"

_BATCHES_MAX = 8
"""How many batches are read for news of a task that its state does not have, at most."""

router = APIRouter(prefix="/trainmodel", tags=["training tasks"])


class MeterType(StrEnum):
    """What a meter measures."""

    ELECTRICITY = "electricity"
    GAS = "gas"
    WATER = "water"


class Wanted(BaseModel):
    """What is to be trained: a forecast of a meter's consumption."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"meter_id": "meter_test_001", "meter_type": "electricity"}]
        }
    )

    meter_id: Annotated[str, Field(min_length=1, max_length=256)]
    meter_type: MeterType


class Accepted(BaseModel):
    """A task that waits for a trainer."""

    task_id: str
    status: str = "PENDING"
    progress: int = 0


@router.post("/", summary="Ask for a training", responses={503: {"description": "No broker."}})
async def train(request: Request, wanted: Wanted) -> Accepted:
    """Write a command that a trainer takes up; the answer comes when Kafka has it."""
    task_id, requested_us = str(uuid.uuid4()), now_us()
    pending = TrainingProgress(
        task_id=task_id,
        progress=0.0,
        status="started",
        message=f"A forecast of {wanted.meter_type} meter {wanted.meter_id} waits for a trainer",
        metrics={},
        event_time_us=requested_us,
        task=TaskStep(stage="PENDING"),
    )
    command = TrainingCommand(
        task_id=task_id,
        meter_id=wanted.meter_id,
        meter_type=wanted.meter_type,
        event_time_us=requested_us,
    )
    await write(request, pending)
    await write(request, command)
    return Accepted(task_id=task_id)


@router.get(
    "/status/{task_id}",
    summary="How a task stands",
    responses={404: {"description": "There is no such task."}},
)
async def status(request: Request, task_id: str) -> dict[str, object]:
    """The last thing that a task has said of itself, as its stream says it."""
    node: Node = request.app.state.node
    views: Views = request.app.state.views
    state = await _known(views, task_id)
    try:
        last = await _read_on(node, state)
    except LogUnavailable as error:
        raise Unavailable("no_broker", str(error)) from error
    except OffsetOutOfRange:
        last = None
    if last is None or not may_read(request, last.record):
        raise _no_such_task(task_id)
    data: dict[str, object] = rendered(last.event).data
    return data


@stream_route(router, "/stream/{task_id}", "Follow a task to its end", openapi.of(CHANNEL))
async def one_task(request: Request, task_id: str) -> Response:
    """How the task stands now, and then each step, until it has succeeded or failed."""
    return await _follow(request, [task_id])


@stream_route(router, "/stream", "Follow several tasks in one connection", openapi.of(CHANNEL))
async def several_tasks(
    request: Request,
    task_id: Annotated[list[str] | None, Query(description="once for each task")] = None,
) -> Response:
    """How each task stands now, and then each step of any of them."""
    return await _follow(request, task_id or ())


async def _follow(request: Request, task_ids: Sequence[str]) -> Response:
    node: Node = request.app.state.node
    views: Views = request.app.state.views
    stream = of_entities(CHANNEL, task_ids, event_names(request))
    offsets: dict[int, int] = {}
    if given_cursor(request) is None and node.unavailable_for is None:
        for state in [await _known(views, task_id) for task_id in stream.entities]:
            before = offsets.get(state.partition, state.last_offset)
            offsets[state.partition] = min(before, state.last_offset)
    return open_stream(request, stream, FromOffsets(offsets))


class _Last(NamedTuple):
    """The last thing that a task has said of itself."""

    record: Record
    event: TrainingProgress


async def _known(views: Views, task_id: str) -> StoryState:
    try:
        state = await views.tasks.find(task_id, views.settings.processor_patience_s)
    except LogUnavailable as error:
        raise Unavailable("no_broker", str(error)) from error
    if state is None:
        raise _no_such_task(task_id)
    return state


async def _read_on(node: Node, state: StoryState) -> _Last | None:
    """The last event of a story that the log has: what is known of it may be a moment behind.

    Raises:
        LogUnavailable: Kafka cannot be read.
        OffsetOutOfRange: the story has expired.
    """
    where = Partition(node.topic_name(ChannelSelection(CHANNELS[CHANNEL])), state.partition)
    end = (await node.log.end_offsets([where]))[where]
    last, batches, key = None, 0, state.subject.encode()
    async for batch in scan(node.log, where, state.last_offset, end):
        for record in batch.records:
            event = decode_as(TrainingProgress, record.value) if record.key == key else None
            if event is not None:
                last = _Last(record, event)
                if event.ends:
                    return last  # a trainer that was thought dead may have said more
        batches += 1
        if batches == _BATCHES_MAX:
            break
    return last


def _no_such_task(task_id: str) -> NoSuchThing:
    kept_days = (CHANNELS[CHANNEL].topic.retention_ms or 0) // 86_400_000
    return NoSuchThing(
        f"there is no task {task_id[:60]!r}; POST /trainmodel/ makes one, "
        f"and it is kept for {kept_days} days"
    )
