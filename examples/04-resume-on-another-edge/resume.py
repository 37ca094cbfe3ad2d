"""Reads some alerts from one edge, drops the connection, and continues on another edge.

Usage: resume.py FIRST_EDGE SECOND_EDGE
"""

import asyncio
import json
import sys
from collections.abc import AsyncGenerator

import httpx
from httpx_sse import ServerSentEvent, aconnect_sse


async def alerts(edge: str, last_id: str) -> AsyncGenerator[ServerSentEvent]:
    """Yield the alerts after an id; all of them without one."""
    headers = {"Last-Event-ID": last_id} if last_id else {}
    url = f"{edge}/api/v1/sse/alerts?from=earliest"
    timeout = httpx.Timeout(5.0, read=60.0)
    async with (
        httpx.AsyncClient(timeout=timeout) as http,
        aconnect_sse(http, "GET", url, headers=headers) as source,
    ):
        async for event in source.aiter_sse():
            if event.event == "risk_alert":
                yield event


async def main(first: str, second: str) -> None:
    """Print two alerts of the first edge, and the next three of the second."""
    last_id, wanted = "", {first: 2, second: 3}
    for edge, count in wanted.items():
        stream = alerts(edge, last_id)
        for _ in range(count):
            event = await anext(stream)
            last_id = event.id
            print(edge, json.loads(event.data)["data"]["message"], flush=True)
        await stream.aclose()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2]))
