"""Ten streams of async iterators with `SSEResponse`, each an endpoint that shows one thing.

Run them with a whole system: make up ARGS=--examples
or alone: PYTHONPATH=. .venv/bin/uvicorn --app-dir examples/sse-response sse_response_examples:app
Follow one: curl -N localhost:8000/live-counter

In a system they are endpoints of each edge, by the setting TAPEWIRE_ROUTERS.
"""

import asyncio
import os
import random
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from fastapi import APIRouter, FastAPI, HTTPException, Request
from starlette.background import BackgroundTask

from sse_edge.http.sse_response import SSEResponse

Event = dict[str, Any]

ERROR_RATE = 0.05
STREAMS_PER_ADDRESS = 5
TOKEN = os.environ.get("EXAMPLE_TOKEN", "let-me-in")
"""The token of /authenticated-stream, where no issuer has verified another one."""

router = APIRouter(tags=["examples"])


async def paced(count: int, seconds: float) -> AsyncIterator[int]:
    """Yield numbers from 0 on, with a pause after each."""
    for number in range(count):
        yield number
        await asyncio.sleep(seconds)


@router.get("/live-counter", summary="Text, as unnamed events")
async def live_counter() -> SSEResponse:
    """Count to ten, one number a second. A `str` is sent as it is."""

    async def events() -> AsyncIterator[str]:
        async for number in paced(10, seconds=1):
            yield f"Count: {number}"

    return SSEResponse(events())


@router.get("/live-data", summary="JSON values, as unnamed events")
async def live_data() -> SSEResponse:
    """Send twenty readings of a weather station. A value that is no `str` is sent as JSON."""

    async def events() -> AsyncIterator[Event]:
        async for _ in paced(20, seconds=2):
            yield {
                "temperature": round(random.gauss(20, 0.8), 1),
                "humidity": round(random.gauss(50, 2), 1),
                "timestamp": datetime.now(UTC).isoformat(),
            }

    return SSEResponse(events())


@router.get("/structured-events", summary="Named events with ids and a time to reconnect")
async def structured_events() -> SSEResponse:
    """Send a welcome, five steps and an end. A mapping with `data` is a whole event."""
    steps = 5

    async def events() -> AsyncIterator[Event]:
        yield {"event": "welcome", "id": "welcome-1", "data": "Welcome to the stream"}
        async for step in paced(steps, seconds=2):
            yield {
                "event": "status",
                "id": f"status-{step + 1}",
                "retry": 3000,
                "data": {
                    "status": f"Processing step {step + 1}",
                    "progress": 100 * (step + 1) // steps,
                },
            }
        yield {"event": "complete", "id": "final", "data": {"status": "Complete", "progress": 100}}

    return SSEResponse(events())


@router.get("/long-stream", summary="Long silences, with comments that keep the connection alive")
async def long_stream() -> SSEResponse:
    """Send twenty updates, one in ten seconds. A comment follows thirty seconds of silence."""

    async def events() -> AsyncIterator[Event]:
        async for number in paced(20, seconds=10):
            yield {"event": "data", "id": str(number), "data": f"Update {number}"}

    return SSEResponse(events(), ping_interval=30)


class NotNow(Exception):
    """The source has no reading now."""


def reading(number: int) -> Event:
    """Return a reading of a source that sometimes has none."""
    if random.random() < ERROR_RATE:
        raise NotNow("Temporary data unavailable")
    return {"value": number, "status": "ok"}


@router.get("/resilient-stream", summary="Errors that pass, and one that ends the stream")
async def resilient_stream() -> SSEResponse:
    """Send a hundred readings, one a second; an event `error` stands for one that there is not.

    Any other exception ends the stream with an event `fatal_error`, and its text goes to the log.
    """

    async def events() -> AsyncIterator[Event]:
        async for number in paced(100, seconds=1):
            try:
                yield {"event": "data", "id": str(number), "data": reading(number)}
            except NotNow as error:
                yield {"event": "error", "id": f"error-{number}", "data": {"error": str(error)}}

    return SSEResponse(events(), ping_interval=10)


async def pages(count: int, size: int) -> AsyncIterator[Sequence[Event]]:
    """Yield the pages of a data set that is too large for the memory."""
    for first in range(0, count * size, size):
        yield [{"id": str(number), "square": number**2} for number in range(first, first + size)]
        await asyncio.sleep(0)  # other connections have their turn


@router.get("/memory-efficient-stream", summary="A large data set, page by page")
async def memory_efficient_stream() -> SSEResponse:
    """Send ten pages of a hundred items. One page at a time is in memory."""

    async def events() -> AsyncIterator[Event]:
        async for page in pages(10, size=100):
            for item in page:
                yield {"event": "data", "id": item["id"], "data": item}

    return SSEResponse(events())


active_connections: set[str] = set()
"""The ids of the open managed streams; removing one ends its stream."""


@router.get("/managed-stream", summary="A stream that the server can end, with a task afterwards")
async def managed_stream() -> SSEResponse:
    """Send one event a second until the connection's id is removed from `active_connections`."""
    connection_id = uuid4().hex

    async def events() -> AsyncIterator[Event]:
        active_connections.add(connection_id)
        yield {"event": "connected", "id": "connect", "data": {"connection_id": connection_id}}
        number = 0
        while connection_id in active_connections:
            yield {"event": "data", "id": str(number), "data": {"id": number}}
            await asyncio.sleep(1)
            number += 1

    # It runs once, whether the stream has ended or the client has left.
    return SSEResponse(
        events(), background=BackgroundTask(active_connections.discard, connection_id)
    )


open_streams: Counter[str] = Counter()
"""The number of open rate-limited streams by address."""


@router.get("/rate-limited-stream", summary="A bounded number of streams for each address")
async def rate_limited_stream(request: Request) -> SSEResponse:
    """Send a hundred events; an address that holds five such streams gets 429."""
    address = request.client.host if request.client else "unknown"
    if open_streams[address] >= STREAMS_PER_ADDRESS:
        raise HTTPException(429, "Too many connections", {"Retry-After": "30"})
    open_streams[address] += 1

    async def events() -> AsyncIterator[str]:
        async for number in paced(100, seconds=1):
            yield f"Data: {number}"

    async def release() -> None:
        open_streams[address] -= 1
        if not open_streams[address]:
            del open_streams[address]

    return SSEResponse(events(), background=BackgroundTask(release))


@router.get("/authenticated-stream", summary="A stream for callers with a token")
async def authenticated_stream(request: Request) -> SSEResponse:
    """Send protected data, one event a second, to a caller with `Authorization: Bearer TOKEN`."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    is_good = scheme.lower() == "bearer" and secrets.compare_digest(token.encode(), TOKEN.encode())
    if not is_good and getattr(request.state, "caller", None) is None:  # an issuer's, on an edge
        raise HTTPException(401, "Authentication required", {"WWW-Authenticate": "Bearer"})

    async def events() -> AsyncIterator[Event]:
        yield {"event": "auth", "data": "Authenticated stream"}
        async for number in paced(1_000, seconds=1):
            yield {"event": "data", "data": {"protected": number}}

    return SSEResponse(events())


@router.get("/monitored-stream", summary="A stream that /sse-metrics counts")
async def monitored_stream() -> SSEResponse:
    """Send a hundred events. An edge counts its connection, events and failure in /sse-metrics."""

    async def events() -> AsyncIterator[str]:
        async for number in paced(100, seconds=1):
            yield f"Event {number}"

    return SSEResponse(events())


app = FastAPI(title="Examples of SSEResponse")
app.include_router(router)
