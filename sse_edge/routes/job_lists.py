"""Lists of jobs as streams: a snapshot, and then what changes in it.

What a client shows depends on what it showed before, so each connection keeps its list, of `limit`
jobs. Who comes back, to any node, begins with a new snapshot, which is behind nothing that a stream
has told: what happened meanwhile is in it.
"""

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf

from fastapi import APIRouter, Request, Response

from kafka_io.clock import now_us
from schemas.events import JobState
from schemas.instants import to_rfc3339
from sse_edge.delivery.node import Node
from sse_edge.errors import Unavailable
from sse_edge.http import openapi
from sse_edge.http.sse_response import SSEResponse
from sse_edge.http.stream_response import (
    STREAM_HEADERS,
    address_of,
    caller_of,
    client_id_of,
    given_cursor,
    refuse_unacceptable,
)
from sse_edge.routes.backtests import JobStatus, Limit, catch_up, mine
from sse_edge.routes.job_list import changes, shown
from sse_edge.routes.views import Views
from sse_edge.streams.channels import CHANNELS
from sse_edge.streams.dialect import ClientInfo
from sse_edge.streams.dialects.backtest import BACKTEST, backtest, job as as_job
from sse_edge.streams.stream import ChannelSelection, Stream

CHANNEL = "backtest_jobs"

_PACE_S = 0.1
"""Changes that come faster are told together."""
_PING_S = 15.0
_ENDED = frozenset({JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED})

router = APIRouter(prefix="/api/sse/backtest", tags=["backtests"])


@dataclass(frozen=True, slots=True)
class Wording:
    """How a list and its changes are called."""

    plural: str
    singular: str
    render: Callable[[JobState], Mapping[str, object]]


_JOBS = Wording("jobs", "job", as_job)
_HISTORY = Wording("backtests", "backtest", backtest)


@router.get(
    "/jobs",
    response_class=Response,
    summary="A list of jobs, live",
    responses=openapi.of("backtest_jobs"),
    openapi_extra=openapi.TOKEN,
)
async def jobs(
    request: Request, status_filter: JobStatus | None = None, limit: Limit = 10
) -> Response:
    """One's own jobs, the newest first: `snapshot`, then what is added, updated and removed."""
    statuses = frozenset() if status_filter is None else frozenset({str(status_filter)})
    return _answer(request, _JOBS, statuses, limit)


@router.get(
    "/history",
    response_class=Response,
    summary="A list of backtests that have ended, live",
    responses=openapi.of("backtest_jobs"),
    openapi_extra=openapi.TOKEN,
)
async def history(request: Request, limit: Limit = 10) -> Response:
    """One's own, the newest first: `snapshot`, then what is added and updated."""
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


def _answer(request: Request, wording: Wording, statuses: frozenset[str], limit: int) -> Response:
    node: Node = request.app.state.node
    refuse_unacceptable(request)
    caller = caller_of(request)
    subject = None if caller is None else caller.subject
    node.refuse_over_limit(address_of(request.scope), subject)
    stream = Stream((ChannelSelection(CHANNELS[CHANNEL]),))
    cursor = given_cursor(request)
    if cursor is not None:
        node.codec(stream).decode(cursor)  # one that is none is refused; any other is passed by now
    if request.method == "HEAD":
        return Response(headers=STREAM_HEADERS)
    session = _ListSession(stream, address_of(request.scope), client_id_of(request), subject)
    content = _told(node, request, session, wording, statuses, limit)
    return SSEResponse(content, ping_interval=_PING_S)


async def _told(
    node: Node,
    request: Request,
    session: _ListSession,
    wording: Wording,
    statuses: frozenset[str],
    limit: int,
) -> AsyncGenerator[Mapping[str, object]]:
    views: Views = request.app.state.views
    retry = round(random.uniform(node.settings.retry_ms, 2 * node.settings.retry_ms))  # noqa: S311
    assert BACKTEST.opening is not None
    name, data = BACKTEST.opening(
        ClientInfo(session.client_id, wording.plural), to_rfc3339(now_us())
    )
    yield {"event": name, "data": data, "retry": retry}
    with node.admitted(session):
        before: Sequence[JobState] | None = None
        version = -1
        while not session.leaving.is_set() and _good_for_s(request) > 0:
            try:
                if before is None:
                    await catch_up(request)
                all_jobs = await mine(request)
            except Unavailable as error:
                yield {"event": "error", "data": {"reason": "no_broker", "message": str(error)}}
                return
            version = views.jobs.version
            after = shown(all_jobs, statuses, limit)
            told_by = node.codec(session.stream).encode(views.jobs.cursor)
            for event, said in _events(wording, before, after):
                yield {"event": event, "data": said, "id": told_by}
            before = after
            changed, leaving = views.jobs.changed_since(version), session.leaving.wait()
            await _either(changed, leaving, within_s=_good_for_s(request))
            await asyncio.sleep(_PACE_S)


def _events(
    wording: Wording, before: Sequence[JobState] | None, after: Sequence[JobState]
) -> Sequence[tuple[str, Mapping[str, object]]]:
    if before is None:
        return [("snapshot", {wording.plural: [wording.render(one) for one in after]})]
    told: list[tuple[str, Mapping[str, object]]] = []
    for change in changes(before, after):
        event = f"{wording.singular}_{change.kind}"
        if change.kind == "removed":
            told.append((event, {"job_id": change.job.job_id}))
        else:
            told.append((event, {wording.singular: wording.render(change.job)}))
    return told


def _good_for_s(request: Request) -> float:
    """How long the caller's token is good."""
    caller = caller_of(request)
    return inf if caller is None else caller.expires_s - time.time()


async def _either(*waits: Coroutine[object, object, object], within_s: float) -> None:
    """Wait for the first of several, or for so long."""
    async with asyncio.TaskGroup() as tasks:
        waiting = [tasks.create_task(one) for one in waits]
        timeout_s = None if within_s == inf else max(0.0, within_s)
        await asyncio.wait(waiting, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        for one in waiting:
            one.cancel()
