"""Live lists of jobs: a snapshot, then its changes.

A change depends on what the client shows, so each connection keeps its list of `limit` jobs. A
client that reconnects to any node starts with a new snapshot, which has every event that a stream
has delivered.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf

from fastapi import APIRouter, Request, Response

from kafka_io.clock import now_us
from schemas.events import JobState, JobStatus
from schemas.instants import to_rfc3339
from sse_edge.delivery.control_events import retry_ms
from sse_edge.delivery.node import Node
from sse_edge.errors import LogError
from sse_edge.http import openapi
from sse_edge.http.dependencies import caller_of, node_of
from sse_edge.http.headers import STREAM_HEADERS
from sse_edge.http.sse_response import SSEResponse
from sse_edge.http.stream_response import (
    address_of,
    client_id_of,
    given_cursor,
    refuse_unacceptable,
)
from sse_edge.routes.backtests import Limit, catch_up, jobs_of_caller
from sse_edge.routes.job_list import changes, shown
from sse_edge.routes.views import views_of
from sse_edge.streams.channels import CHANNELS
from sse_edge.streams.dialect import ClientInfo
from sse_edge.streams.dialects.backtest import BACKTEST, backtest, job as as_job
from sse_edge.streams.stream import ChannelSelection, Stream

CHANNEL = "backtest_jobs"

_PACE_S = 0.1
"""Faster changes are sent together."""
_PING_S = 15.0
_ENDED = frozenset({JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED})

router = APIRouter(prefix="/api/sse/backtest", tags=["backtests"])


@dataclass(frozen=True, slots=True)
class ListKind:
    """The names of a list's events, and how it renders a job."""

    plural: str
    singular: str
    render: Callable[[JobState], Mapping[str, object]]


_JOBS = ListKind("jobs", "job", as_job)
_HISTORY = ListKind("backtests", "backtest", backtest)


@router.get(
    "/jobs",
    response_class=Response,
    summary="Follow the list of jobs",
    responses=openapi.of("backtest_jobs"),
    openapi_extra=openapi.TOKEN,
)
async def jobs(
    request: Request, status_filter: JobStatus | None = None, limit: Limit = 10
) -> Response:
    """Stream the caller's jobs, newest first: `snapshot`, then jobs added, updated and removed."""
    statuses = frozenset() if status_filter is None else frozenset({str(status_filter)})
    return _answer(request, _JOBS, statuses, limit)


@router.get(
    "/history",
    response_class=Response,
    summary="Follow the list of ended backtests",
    responses=openapi.of("backtest_jobs"),
    openapi_extra=openapi.TOKEN,
)
async def history(request: Request, limit: Limit = 10) -> Response:
    """Stream the caller's ended backtests, newest first: `snapshot`, then what is added."""
    return _answer(request, _HISTORY, frozenset(map(str, _ENDED)), limit)


for _path, _endpoint in (("/jobs", jobs), ("/history", history)):
    router.add_api_route(_path, _endpoint, methods=["HEAD"], include_in_schema=False)


@dataclass(eq=False)
class _ListSession:
    """An open list: the node counts it, and lets it leave when the node drains."""

    stream: Stream
    address: str
    client_id: str
    subject: str | None
    leaving: asyncio.Event = field(default_factory=asyncio.Event)

    def leave(self) -> None:
        """End the stream."""
        self.leaving.set()


def _answer(request: Request, kind: ListKind, statuses: frozenset[str], limit: int) -> Response:
    node = node_of(request)
    refuse_unacceptable(request)
    caller = caller_of(request)
    subject = None if caller is None else caller.subject
    node.refuse_over_limit(address_of(request.scope), subject)
    stream = Stream((ChannelSelection(CHANNELS[CHANNEL]),))
    cursor = given_cursor(request)
    if cursor is not None:
        node.codec(stream).decode(
            cursor
        )  # refuse an invalid cursor; the snapshot is newer than any other
    if request.method == "HEAD":
        return Response(headers=STREAM_HEADERS)
    session = _ListSession(stream, address_of(request.scope), client_id_of(request), subject)
    content = _changes(node, request, session, kind, statuses, limit)
    return SSEResponse(content, ping_interval=_PING_S)


async def _changes(
    node: Node,
    request: Request,
    session: _ListSession,
    kind: ListKind,
    statuses: frozenset[str],
    limit: int,
) -> AsyncGenerator[Mapping[str, object]]:
    views = views_of(request)
    retry = retry_ms(node.settings)
    assert BACKTEST.opening is not None
    name, data = BACKTEST.opening(ClientInfo(session.client_id, kind.plural), to_rfc3339(now_us()))
    yield {"event": name, "data": data, "retry": retry}
    with node.admitted(session):
        before: Sequence[JobState] | None = None
        version = -1
        while not session.leaving.is_set() and _valid_for_s(request) > 0:
            try:
                if before is None:
                    await catch_up(request)
                all_jobs = await jobs_of_caller(request)
            except LogError as error:
                yield {"event": "error", "data": {"reason": "no_broker", "message": str(error)}}
                return
            version = views.jobs.version
            after = shown(all_jobs, statuses, limit)
            cursor = node.codec(session.stream).encode(views.jobs.cursor)
            for event, data in _events(kind, before, after):
                yield {"event": event, "data": data, "id": cursor}
            before = after
            changed, leaving = views.jobs.changed_since(version), session.leaving.wait()
            await _either(changed, leaving, within_s=_valid_for_s(request))
            await asyncio.sleep(_PACE_S)


def _events(
    kind: ListKind, before: Sequence[JobState] | None, after: Sequence[JobState]
) -> Sequence[tuple[str, Mapping[str, object]]]:
    if before is None:
        return [("snapshot", {kind.plural: [kind.render(job) for job in after]})]
    events: list[tuple[str, Mapping[str, object]]] = []
    for change in changes(before, after):
        event = f"{kind.singular}_{change.kind}"
        if change.kind == "removed":
            events.append((event, {"job_id": change.job.job_id}))
        else:
            events.append((event, {kind.singular: kind.render(change.job)}))
    return events


def _valid_for_s(request: Request) -> float:
    """Return for how many seconds the caller's token is valid."""
    caller = caller_of(request)
    return inf if caller is None else caller.expires_s - time.time()


async def _either(*waits: Coroutine[object, object, object], within_s: float) -> None:
    """Wait for the first of several coroutines, or for a time."""
    async with asyncio.TaskGroup() as tasks:
        waiting = [tasks.create_task(wait) for wait in waits]
        timeout_s = None if within_s == inf else max(0.0, within_s)
        await asyncio.wait(waiting, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        for task in waiting:
            task.cancel()
