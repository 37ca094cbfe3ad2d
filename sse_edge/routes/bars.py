"""The bars that a backtest ran on, as a finite stream of chunks, for charts.

An id holds the number of points sent, so a client that reconnects to any node gets the rest.
"""

import re
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import asdict

from fastapi import APIRouter, Request, Response

from schemas.codec import decode_as
from schemas.events import Bar, BarChunk, Interval, JobState
from schemas.keys import encode_key
from schemas.topics import BACKTEST_BARS
from sse_edge.delivery.control_events import retry_ms
from sse_edge.delivery.node import Node
from sse_edge.errors import InvalidCursor, InvalidParameter, LogError
from sse_edge.http import openapi
from sse_edge.http.dependencies import NodeDep
from sse_edge.http.headers import STREAM_HEADERS
from sse_edge.http.sse_response import SSEResponse
from sse_edge.http.stream_response import given_cursor, refuse_unacceptable
from sse_edge.log.record import Partition
from sse_edge.log.scan import scan
from sse_edge.routes.backtests import Limit, known

_PING_S = 15.0
_BEFORE_MS = 60_000
"""By how much the log's clock and the submitter's may differ."""
_CURSOR = re.compile(r"p(\d{1,9})")
_COMPLETE = "complete"

router = APIRouter(tags=["backtests"])


@router.api_route(
    "/api/sse/backtest/{job_id}/data",
    methods=["GET"],
    response_class=Response,
    summary="Stream the bars that a job ran on",
    responses={404: {"description": "There is no such job."}},
    openapi_extra=openapi.TOKEN,
)
async def data(
    request: Request,
    node: NodeDep,
    job_id: str,
    interval: Interval = Interval.DAY,
    limit: Limit = 1_000,
    chunk_size: Limit = 500,
) -> Response:
    """Stream `interval_start`, the newest `limit` bars in `data_chunk`s, and `complete`."""
    refuse_unacceptable(request)
    if "chunk_size" not in request.query_params:
        chunk_size = min(chunk_size, limit)
    if chunk_size > limit:
        raise InvalidParameter("chunk_size", f"{chunk_size} exceeds limit, which is {limit}")
    cursor = given_cursor(request)
    sent = _sent_before(cursor)
    state = await known(request, job_id)
    if cursor == _COMPLETE:
        return Response(status_code=204)  # on which browsers stop reconnecting
    if request.method == "HEAD":
        return Response(headers=STREAM_HEADERS)
    try:
        found = await _bars(node, state)
    except LogError as error:
        content = _error(f"the bars cannot be read now: {error}")
        return SSEResponse(content, ping_interval=_PING_S)
    bars = found.get(interval, ())[-limit:]
    if not bars:
        has = ", ".join(sorted(found)) or "none yet"
        content = _error(f"this job has no {interval} bars; it has: {has}")
    else:
        content = _chunks(node, interval, bars, chunk_size, sent)
    return SSEResponse(content, ping_interval=_PING_S)


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


async def _chunks(
    node: Node, interval: str, bars: Sequence[Bar], chunk_size: int, sent: int | None
) -> AsyncGenerator[Mapping[str, object]]:
    """Yield the bars after the first `sent`; None for a client that has not begun."""
    opening = {"retry": retry_ms(node.settings)}
    total = len(bars)
    if sent is None:
        # A client that reconnects does not get it again: on it, clients drop the bars they have.
        sent = 0
        started = {"interval": interval, "total_points": total}
        yield {"event": "interval_start", "data": started, "id": "p0", **opening}
        opening = {}
    while sent < total:
        chunk = bars[sent : sent + chunk_size]
        sent += len(chunk)
        points = [asdict(bar) for bar in chunk]
        data = {"data_points": points, "points_sent": sent, "total_points": total}
        yield {"event": "data_chunk", "data": data, "id": f"p{sent}", **opening}
        opening = {}
    yield {"event": "complete", "data": {"total_points": total}, "id": _COMPLETE, **opening}


async def _error(message: str) -> AsyncGenerator[Mapping[str, object]]:
    yield {"event": "error", "data": {"message": message}}


async def _bars(node: Node, state: JobState) -> Mapping[str, Sequence[Bar]]:
    """Return the bars of a job by interval, without intervals that are incomplete.

    Raises:
        LogError: Kafka cannot be read.
    """
    name = node.settings.topic_prefix + BACKTEST_BARS.name
    topic = (await node.tail.topic(name)).info
    key = encode_key(state.job_id)
    where = Partition(name, node.log.partition_of(key, topic.partitions))
    since_ms = state.created_us // 1000 - _BEFORE_MS
    offset = (await node.log.offsets_at([where], since_ms))[where]
    end = (await node.log.end_offsets([where]))[where]
    chunks: dict[str, dict[int, BarChunk]] = {}
    async for batch in scan(node.log, where, offset, end):
        for record in batch.records:
            chunk = decode_as(BarChunk, record.value) if record.key == key else None
            if chunk is not None:
                chunks.setdefault(chunk.interval, {})[chunk.first] = chunk
    found = {}
    for interval, by_first in chunks.items():
        bars = [bar for first in sorted(by_first) for bar in by_first[first].bars]
        if len(bars) == next(iter(by_first.values())).total:
            found[interval] = bars
    return found
