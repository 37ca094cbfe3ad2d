"""Live lists of jobs: a snapshot, then its changes.

A change depends on what the client shows, so each connection keeps its list of `limit` jobs. A
client that reconnects to any node starts with a new snapshot, which has every event that a stream
has delivered.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass

from fastapi import APIRouter, Request, Response

from kafka_io.clock import now_us
from schemas.events import JobState, JobStatus
from schemas.instants import to_rfc3339
from sse_edge.delivery.control_events import retry_ms
from sse_edge.delivery.node import Node
from sse_edge.errors import LogError
from sse_edge.frame import FRAME_BYTES_MAX, body
from sse_edge.http import openapi
from sse_edge.http.dependencies import node_of
from sse_edge.http.headers import STREAM_HEADERS
from sse_edge.http.request_values import given_cursor
from sse_edge.http.session import ResponseSession, open_session
from sse_edge.http.sse_response import SSEResponse
from sse_edge.http.stream_response import list_in_format, refuse_unacceptable
from sse_edge.routes.backtests import Limit, StatusFilter, catch_up, jobs_of_caller
from sse_edge.routes.job_list import changes, shown
from sse_edge.routes.views import views_of
from sse_edge.streams.channels import CHANNELS
from sse_edge.streams.dialect import ClientInfo
from sse_edge.streams.dialects.backtest import BACKTEST, backtest, fitting, job as as_job
from sse_edge.streams.stream import ChannelSelection, Stream

CHANNEL = "backtest_jobs"

_PACE_S = 0.1
"""Faster changes are sent together."""
_PING_S = 15.0
_ROOM_BYTES = 1_024
"""The bytes that a snapshot needs besides its jobs, most of them for its id."""
_ENDED = frozenset({JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED})

router = APIRouter(prefix="/api/sse/backtest", tags=["backtests"])


@dataclass(frozen=True, slots=True)
class ListKind:
    """The names of a list's events, and how it renders a job."""

    plural: str
    singular: str
    as_data: Callable[[JobState], Mapping[str, object]]

    def render(self, job: JobState) -> Mapping[str, object]:
        """Render a job, so that it fits in an event."""
        return fitting(self.as_data(job))


JOBS = ListKind("jobs", "job", as_job)
HISTORY = ListKind("backtests", "backtest", backtest)


@router.get(
    "/jobs",
    response_class=Response,
    summary="Follow the list of jobs",
    responses=openapi.of("backtest_jobs"),
    openapi_extra=openapi.LIST_PARAMETERS,
)
async def jobs(request: Request, status_filter: StatusFilter = None, limit: Limit = 10) -> Response:
    """Stream the caller's jobs, newest first: `snapshot`, then jobs added, updated and removed."""
    statuses = frozenset() if status_filter is None else frozenset({str(status_filter)})
    return _answer(request, JOBS, statuses, limit)


@router.get(
    "/history",
    response_class=Response,
    summary="Follow the list of ended backtests",
    responses=openapi.of("backtest_jobs"),
    openapi_extra=openapi.LIST_PARAMETERS,
)
async def history(request: Request, limit: Limit = 10) -> Response:
    """Stream the caller's ended backtests, newest first: `snapshot`, then what is added."""
    return _answer(request, HISTORY, frozenset(map(str, _ENDED)), limit)


for _path, _endpoint in (("/jobs", jobs), ("/history", history)):
    router.add_api_route(_path, _endpoint, methods=["HEAD"], include_in_schema=False)


def _answer(request: Request, kind: ListKind, statuses: frozenset[str], limit: int) -> Response:
    node = node_of(request)
    refuse_unacceptable(request)
    stream = Stream((ChannelSelection(CHANNELS[CHANNEL]),))
    session = open_session(request, stream)
    cursor = given_cursor(request)
    if cursor is not None:
        node.codec(stream).decode(
            cursor
        )  # refuse an invalid cursor; the snapshot is newer than any other
    if request.method == "HEAD":
        return Response(headers=STREAM_HEADERS)
    content = list_in_format(
        request, kind.plural, _changes(node, request, session, kind, statuses, limit)
    )
    return SSEResponse(content, ping_interval=_PING_S, is_session=True)


async def _changes(
    node: Node,
    request: Request,
    session: ResponseSession,
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
        while session.is_open:
            try:
                if before is None:
                    await catch_up(request)
                all_jobs = await jobs_of_caller(request)
            except LogError as error:
                message = (
                    "the list cannot be read now: Kafka does not answer; reconnect a little later"
                )
                yield {"event": "error", "data": session.unreadable(message, error)}
                return
            version = views.jobs.version
            after = shown(all_jobs, statuses, limit)
            cursor = node.codec(session.stream).encode(views.jobs.cursor)
            for event, data in _events(kind, before, after):
                yield {"event": event, "data": data, "id": cursor}
            before = after
            await session.wait(views.jobs.changed_since(version))
            await asyncio.sleep(_PACE_S)


def _events(
    kind: ListKind, before: Sequence[JobState] | None, after: Sequence[JobState]
) -> Sequence[tuple[str, Mapping[str, object]]]:
    if before is None:
        return first_events(kind, after)
    events: list[tuple[str, Mapping[str, object]]] = []
    for change in changes(before, after):
        event = f"{kind.singular}_{change.kind}"
        if change.kind == "removed":
            events.append((event, {"job_id": change.job.job_id}))
        else:
            events.append((event, {kind.singular: kind.render(change.job)}))
    return events


def first_events(
    kind: ListKind, newest_first: Sequence[JobState]
) -> Sequence[tuple[str, Mapping[str, object]]]:
    """Return a snapshot of the oldest jobs that fit in an event, then the others, as additions.

    Clients replace their list by each snapshot, and put each added job on top.
    """
    jobs = [kind.render(job) for job in newest_first]
    size, fitting = _ROOM_BYTES, 0
    for job in reversed(jobs):
        size += len(body(None, job))
        if size > FRAME_BYTES_MAX:
            break
        fitting += 1
    rest, oldest = jobs[: len(jobs) - fitting], jobs[len(jobs) - fitting :]
    snapshot = ("snapshot", {kind.plural: oldest})
    return [snapshot, *((f"{kind.singular}_added", {kind.singular: job}) for job in rest[::-1])]
