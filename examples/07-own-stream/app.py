"""Serves an async iterator as server-sent events, in an application of your own.

Run: PYTHONPATH=. .venv/bin/uvicorn --app-dir examples/07-own-stream app:app
Follow: curl -N localhost:8000/countdown/5
"""

import asyncio
from collections.abc import AsyncIterator

from fastapi import FastAPI

from sse_edge.http.sse_response import SSEResponse

app = FastAPI()


async def count_down(start: int) -> AsyncIterator[dict[str, object]]:
    """Yield one event a tenth of a second, and a last one."""
    for number in range(start, 0, -1):
        yield {"event": "tick", "id": str(number), "data": {"remaining": number}}
        await asyncio.sleep(0.1)
    yield {"event": "liftoff", "data": "0"}


@app.get("/countdown/{start}")
async def countdown(start: int) -> SSEResponse:
    """Stream a countdown, with a ping comment after 15 s of silence."""
    return SSEResponse(count_down(start), ping_interval=15.0)
