"""The bars that a backtest ran on, as a finite stream of chunks, for charts.

An id holds the number of points sent, so a client that reconnects to any node gets the rest. A
stream that is opened before the job has its bars waits for them. Like the stream of a job, it stays
open after its last event, until its client closes it.
"""

import asyncio
import re
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from schemas.events import Bar, BarChunk, Interval, JobState, JobStatus
from schemas.gate import admit_or_none
from schemas.keys import readable_keys
from schemas.topics import BACKTEST_BARS
from sse_edge.delivery.control_events import retry_ms
from sse_edge.delivery.node import Node
from sse_edge.errors import InvalidCursor, InvalidParameter, LogError, LogUnavailable
from sse_edge.frame import FRAME_BYTES_MAX, body
from sse_edge.http import openapi
from sse_edge.http.dependencies import NodeDep
from sse_edge.http.headers import STREAM_HEADERS
from sse_edge.http.request_values import given_cursor
from sse_edge.http.session import ResponseSession, open_session
from sse_edge.http.sse_response import SSEResponse
from sse_edge.http.stream_response import (
    list_in_format,
    refuse_unacceptable,
)
from sse_edge.log.record import Partition
from sse_edge.log.scan import scan
from sse_edge.routes.backtests import CHANNEL, JobId, known
from sse_edge.routes.views import Views, ViewsDep
from sse_edge.streams.requests import of_entities

_PING_S = 15.0
_SETTLE_S = 1.0
_BEFORE_MS = 60_000
"""By how much the log's clock and the submitter's may differ."""
_CURSOR = re.compile(r"p(\d{1,9})")
_COMPLETE = "complete"
_POINTS_MAX = 999_999_999
"""The greatest number that an id has digits for."""
_ROOM_BYTES = 1_024
"""The bytes that a chunk needs besides its points."""

Points = Annotated[int, Query(ge=1, le=_POINTS_MAX, description="The most bars.")]
ChunkSize = Annotated[
    int, Query(ge=1, le=_POINTS_MAX, description="The most bars of a `data_chunk`.")
]

router = APIRouter(tags=["backtests"])


@dataclass(frozen=True, slots=True)
class Selection:
    """The bars that a request asks for."""

    interval: str
    limit: int
    chunk_size: int
    sent: int | None
    """How many of them the client has; None for a client that has not begun."""


@dataclass(frozen=True, slots=True)
class FoundBars:
    """The bars of a job's interval."""

    bars: Sequence[Bar]
    note: str | None = None
    """Why there are none."""


@router.api_route(
    "/api/sse/backtest/{job_id}/data",
    methods=["GET"],
    response_class=Response,
    summary="Stream the bars that a job ran on",
    responses={404: {"description": "There is no such job."}},
    openapi_extra=openapi.LIST_PARAMETERS,
)
async def data(
    request: Request,
    node: NodeDep,
    views: ViewsDep,
    job_id: JobId,
    interval: Annotated[Interval, Query(description="The interval of the bars.")] = Interval.DAY,
    limit: Points = 1_000,
    chunk_size: ChunkSize = 500,
) -> Response:
    """Stream `interval_start`, the newest `limit` bars in `data_chunk`s, and `complete`.

    A chunk has at most `chunk_size` bars, and fewer where they would exceed 64 KiB. An interval
    that the job's symbol does not have is complete with 0 points and a `note`.
    """
    refuse_unacceptable(request)
    if "chunk_size" not in request.query_params:
        chunk_size = min(chunk_size, limit)
    if chunk_size > limit:
        raise InvalidParameter("chunk_size", f"{chunk_size} exceeds limit, which is {limit}")
    cursor = given_cursor(request)
    selection = Selection(interval, limit, chunk_size, _sent_before(cursor))
    job = await known(request, job_id)
    if cursor == _COMPLETE:
        return Response(status_code=204)  # on which browsers stop reconnecting
    if request.method == "HEAD":
        return Response(headers=STREAM_HEADERS)
    session = open_session(request, of_entities(CHANNEL, [job_id]))
    content = list_in_format(request, "bars", events(node, views, session, job, selection))
    return SSEResponse(content, ping_interval=_PING_S, is_session=True)


router.add_api_route(
    "/api/sse/backtest/{job_id}/data", data, methods=["HEAD"], include_in_schema=False
)


def _sent_before(cursor: str | None) -> int | None:
    if cursor is None or cursor == _COMPLETE:
        return None
    found = _CURSOR.fullmatch(cursor)
    if found is None:
        raise InvalidCursor(f"{cursor[:60]!r} is not an id of a stream of bars")
    return int(found[1])


async def events(
    node: Node, views: Views, session: ResponseSession, job: JobState, selection: Selection
) -> AsyncGenerator[Mapping[str, object]]:
    """Yield the events of the stream, then nothing, until the session ends."""
    retry = retry_ms(node.settings)
    with node.admitted(session):
        try:
            found = await _await_bars(node, views, session, job, selection.interval)
        except LogError as error:
            message = "the bars cannot be read now: Kafka does not answer; reconnect a little later"
            yield {"event": "error", "data": session.unreadable(message, error), "retry": retry}
            return
        if found is None:
            return
        for index, event in enumerate(chunks(found, selection)):
            yield event if index else {**event, "retry": retry}
        with node.ended(session):
            await session.wait(within_s=node.settings.ended_open_s)


def chunks(found: FoundBars, selection: Selection) -> Iterator[Mapping[str, object]]:
    """Yield the events that carry the newest bars, after those that the client has."""
    bars, sent = found.bars[-selection.limit :], selection.sent
    total = len(bars)
    if sent is None:
        # A client that reconnects does not get it again: on it, clients drop the bars they have.
        sent = 0
        started = {"interval": selection.interval, "total_points": total}
        yield {"event": "interval_start", "data": started, "id": "p0"}
    while sent < total:
        points = _fitting([asdict(bar) for bar in bars[sent : sent + selection.chunk_size]])
        sent += len(points)
        chunk = {"data_points": points, "points_sent": sent, "total_points": total}
        yield {"event": "data_chunk", "data": chunk, "id": f"p{sent}"}
    note = {} if found.note is None else {"note": found.note}
    yield {"event": "complete", "data": {"total_points": total, **note}, "id": _COMPLETE}


def _fitting(points: Sequence[Mapping[str, object]]) -> Sequence[Mapping[str, object]]:
    """Return the first points, as many as fit in an event."""
    size = _ROOM_BYTES
    for count, point in enumerate(points):
        size += len(body(None, point))
        if size > FRAME_BYTES_MAX and count:
            return points[:count]
    return points


async def _await_bars(
    node: Node, views: Views, session: ResponseSession, job: JobState, interval: str
) -> FoundBars | None:
    """Return the bars of an interval once the job has them, or has none; None on a drain.

    Raises:
        LogError: Kafka cannot be read.
    """
    last_read: JobState | None = None
    is_listed = is_settled = False
    while session.is_open:
        version = views.jobs.version
        present = views.jobs.last(job.job_id, job.tenant or "")
        if present is None and is_listed:
            return FoundBars((), "the job was removed before it had bars")
        is_listed = present is not None
        present = present or job  # no processor has processed it yet
        if present != last_read:
            found = await _bars(node, present)
            if interval in found:
                return FoundBars(found[interval])
            # A worker writes all bars of a job before it reports a step. Committed records can be
            # read a moment later, where another job's transaction is before them.
            if present.ended or is_settled:
                return FoundBars((), _why_none(present, interval, found))
            if present.status != JobStatus.PENDING:
                is_settled = True
                await session.wait(within_s=_SETTLE_S)
                continue
            last_read = present
        await session.wait(views.jobs.changed_since(version))
    return None


def _why_none(state: JobState, interval: str, found: Mapping[str, object]) -> str:
    if not found and state.ended:
        return f"the job has {state.status} without bars: {state.message}"
    has = ", ".join(each for each in Interval if each in found) or "none"
    return f"this job has no {interval} bars; it has: {has}"


async def _bars(node: Node, state: JobState) -> Mapping[str, Sequence[Bar]]:
    """Return the bars of a job by interval, without intervals that are incomplete.

    Raises:
        LogError: Kafka cannot be read.
    """
    name = node.settings.topic_prefix + BACKTEST_BARS.name
    try:
        async with asyncio.timeout(node.settings.broker_patience_s):
            topic = (await node.tail.topic(name)).info
    except TimeoutError:
        raise LogUnavailable("Kafka does not answer") from None
    keys = readable_keys(state.job_id, state.tenant)
    numbers = {node.log.partition_of(key, topic.partitions) for key in keys}
    by_interval: dict[str, dict[int, BarChunk]] = {}
    for number in sorted(numbers):
        async for chunk in _chunks(node, Partition(name, number), state, keys):
            by_interval.setdefault(chunk.interval, {})[chunk.first] = chunk
    found = {}
    for interval, by_first in by_interval.items():
        bars = [bar for first in sorted(by_first) for bar in by_first[first].bars]
        if len(bars) == next(iter(by_first.values())).total:
            found[interval] = bars
    return found


async def _chunks(
    node: Node, where: Partition, state: JobState, keys: frozenset[bytes]
) -> AsyncGenerator[BarChunk]:
    """Yield the chunks of a job's bars in a partition.

    Raises:
        LogError: Kafka cannot be read.
    """
    tenant = (state.tenant or "").encode()
    since_ms = state.created_us // 1000 - _BEFORE_MS
    offset = (await node.log.offsets_at([where], since_ms))[where]
    end = (await node.log.end_offsets([where]))[where]
    async for batch in scan(node.log, where, offset, end):
        offset = batch.next_offset
        for record in batch.records:
            is_ours = record.key in keys and record.tenant == tenant
            chunk = admit_or_none(BarChunk, record.value) if is_ours else None
            if chunk is not None:
                yield chunk
    if offset < end:
        raise LogUnavailable(f"{where} could not be read to its end")
