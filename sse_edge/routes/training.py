"""Training tasks: request one, get its status, follow it.

A request writes the event `PENDING` and then a command to Kafka, so that a client that has the
answer can follow the task on any node at once.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from kafka_io.clock import now_us
from schemas.events import (
    MeterType,
    RunStatus,
    StoryState,
    TaskStage,
    TaskStep,
    TrainingCommand,
    TrainingProgress,
)
from schemas.gate import admit_or_none
from schemas.keys import readable_keys
from schemas.run_ids import may_follow, new_id
from sse_edge.caller import Scope
from sse_edge.delivery import control_events
from sse_edge.delivery.node import Node
from sse_edge.delivery.start import FromOffsets
from sse_edge.errors import NoSuchThing, OffsetOutOfRange
from sse_edge.http import openapi
from sse_edge.http.dependencies import (
    AnyCase,
    NodeDep,
    caller_of,
    node_of,
    rows_of,
    tenant_read_by,
)
from sse_edge.http.headers import STREAM_HEADERS
from sse_edge.http.refusals import log_refusal
from sse_edge.http.request_values import asks_for_stream, given_cursor
from sse_edge.http.scopes import require
from sse_edge.http.stream_response import (
    client_id_of,
    event_names,
    in_format,
    open_stream,
    stream_route,
    write,
)
from sse_edge.log.record import Partition
from sse_edge.log.scan import scan
from sse_edge.routes.views import Views, ViewsDep, views_of
from sse_edge.streams.channels import CHANNELS
from sse_edge.streams.dialect import ClientInfo
from sse_edge.streams.dialects.mystocks import training_progress
from sse_edge.streams.dialects.training import status as rendered
from sse_edge.streams.requests import of_entities
from sse_edge.streams.stream import ChannelSelection, Stream

CHANNEL = "trainmodel"

_UNKNOWN_TASK = "unknown_task"
_BATCHES_MAX = 8
"""The most batches that are read for events that a task's state does not have yet."""

_RUNNING_MAX = 20

router = APIRouter(prefix="/trainmodel", tags=["training tasks"])

_TaskId = Annotated[str, Path(description="The id of the task.")]


class TrainingRequest(BaseModel):
    """A forecast of a meter's consumption to train."""

    model_config = ConfigDict(
        use_attribute_docstrings=True,
        json_schema_extra={
            "examples": [{"meter_id": "meter_test_001", "meter_type": "electricity"}]
        },
    )

    meter_id: Annotated[str, Field(min_length=1, max_length=256)]
    """The meter; an unknown name is mapped to one of the packaged meters."""
    meter_type: Annotated[MeterType, AnyCase]
    """The quantity that the meter measures."""


class TrainingAccepted(BaseModel):
    """A task that waits for a trainer."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    task_id: str
    """The id to follow the task by."""
    status: str = "PENDING"
    """The first stage of every task."""
    progress: int = 0
    """In percent."""


@router.post("", dependencies=[require(Scope.WRITE)], include_in_schema=False)
@router.post(
    "/",
    dependencies=[require(Scope.WRITE)],
    summary="Request a training",
    responses={503: {"description": "Kafka is unavailable."}},
)
async def train(request: Request, body: TrainingRequest) -> TrainingAccepted:
    """Write a command for a trainer, and answer once Kafka has it."""
    requested_us = now_us()
    caller = caller_of(request)
    task_id = new_id(requested_us, None if caller is None else caller.owner)
    pending = TrainingProgress(
        task_id=task_id,
        progress=0.0,
        status=RunStatus.STARTED,
        message=f"A forecast of {body.meter_type} meter {body.meter_id} waits for a trainer",
        metrics={},
        event_time_us=requested_us,
        task=TaskStep(stage=TaskStage.PENDING),
    )
    command = TrainingCommand(
        task_id=task_id,
        meter_id=body.meter_id,
        meter_type=body.meter_type,
        event_time_us=requested_us,
    )
    await write(request, pending)
    await write(request, command)
    return TrainingAccepted(task_id=task_id)


@router.get(
    "/status/{task_id}",
    summary="Get the status of a task",
    responses={404: {"description": "There is no such task."}},
)
async def status(
    request: Request, node: NodeDep, views: ViewsDep, task_id: _TaskId
) -> dict[str, object]:
    """Return the last status of a task, as its stream has it."""
    state = await _known(request, views, task_id)
    try:
        last = await _read_on(node, state)
    except OffsetOutOfRange:
        last = None
    if last is None:
        raise _no_such_task(task_id)
    data: dict[str, object] = rendered(last).data
    return data


@router.get("/running", summary="List the training runs that have not ended")
async def running(request: Request, node: NodeDep, views: ViewsDep) -> list[dict[str, object]]:
    """The last 20 that have changed, with the data of the last event `training_progress`."""
    readable = [
        state
        for state in await rows_of(request, views.tasks)
        if _may_follow(request, state.subject)
    ]
    states = await views.running_tasks(readable)
    found = []
    for state in states[-_RUNNING_MAX:]:
        try:
            last = await _read_on(node, state)
        except OffsetOutOfRange:
            continue
        if last is not None and not last.ends:
            found.append(dict(training_progress(last).data))
    return found


@stream_route(router, "/stream/{task_id}", "Follow a task to its end", openapi.of(CHANNEL))
async def one_task(request: Request, task_id: _TaskId) -> Response:
    """Stream the present status, then each step, until the task has succeeded or failed."""
    return await _follow(request, [task_id])


@stream_route(router, "/stream", "Follow several tasks in one connection", openapi.of(CHANNEL))
async def several_tasks(
    request: Request,
    task_id: Annotated[
        list[str] | None, Query(description="A task; repeat it for several.")
    ] = None,
) -> Response:
    """Stream the present status of each task, then each step of any of them."""
    return await _follow(request, task_id or ())


async def _follow(request: Request, task_ids: Sequence[str]) -> Response:
    node = node_of(request)
    views = views_of(request)
    stream = of_entities(CHANNEL, task_ids, event_names(request))
    offsets: dict[int, int] = {}
    if given_cursor(request) is None and node.unavailable_for is None:
        try:
            states = [await _known(request, views, task_id) for task_id in stream.entities]
        except NoSuchThing as error:
            if not asks_for_stream(request):
                raise
            return _unknown(request, stream, error)
        stream = replace(stream, homes=frozenset(state.tenant or "" for state in states))
        for state in states:
            before = offsets.get(state.partition, state.last_offset)
            offsets[state.partition] = min(before, state.last_offset)
    return open_stream(request, stream, FromOffsets(offsets))


def _unknown(request: Request, stream: Stream, error: NoSuchThing) -> Response:
    """Answer with an `error` event: `EventSource` would not show the body of a 404."""
    metrics, stream = node_of(request).metrics, in_format(request, stream)
    metrics.refused[str(error.status)] += 1
    metrics.refused_to[tenant_read_by(request) or ""] += 1
    client = ClientInfo(client_id_of(request), stream.name, stream.entities)
    failure_id = log_refusal(request.scope, error.status, _UNKNOWN_TASK, str(error))
    event = control_events.notice(
        stream.dialect,
        client,
        "error",
        {"reason": _UNKNOWN_TASK, "message": str(error), "id": failure_id},
        retry_ms=control_events.late_retry_ms(),
    )
    return Response(event, headers=STREAM_HEADERS)


async def _known(request: Request, views: Views, task_id: str) -> StoryState:
    """Return the state of a task of the caller.

    Raises:
        NoSuchThing: there is no such task of the caller.
        LogUnavailable: the table or the log of tasks could not be read in time.
    """
    state = await views.find_task(task_id, tenant_read_by(request))
    if state is None or not _may_follow(request, task_id):
        raise _no_such_task(task_id)
    return state


def _may_follow(request: Request, task_id: str) -> bool:
    """Return whether a task of a caller's tenant is of no user, or of the caller."""
    caller = caller_of(request)
    return caller is None or may_follow(task_id, caller.owner)


async def _read_on(node: Node, state: StoryState) -> TrainingProgress | None:
    """Return the last event of a task in the log; its state may be a moment behind.

    Raises:
        LogUnavailable: Kafka cannot be read.
        OffsetOutOfRange: the task's events have expired.
    """
    where = Partition(node.topic_name(ChannelSelection(CHANNELS[CHANNEL])), state.partition)
    end = (await node.log.end_offsets([where]))[where]
    last, batches, keys = None, 0, readable_keys(state.subject, state.tenant)
    tenant = (state.tenant or "").encode()
    async for batch in scan(node.log, where, state.last_offset, end):
        for record in batch.records:
            is_ours = record.key in keys and record.tenant == tenant
            event = admit_or_none(TrainingProgress, record.value) if is_ours else None
            if event is not None:
                last = event
                if event.ends:
                    return last  # a trainer that was presumed dead may have written more
        batches += 1
        if batches == _BATCHES_MAX:
            break
    return last


def _no_such_task(task_id: str) -> NoSuchThing:
    kept_days = (CHANNELS[CHANNEL].topic.retention_ms or 0) // 86_400_000
    return NoSuchThing(
        f"there is no task {task_id[:60]!r}; POST /trainmodel/ requests one, "
        f"and it is kept for {kept_days} days"
    )
