"""The requests in progress, which the server answers before it stops.

Uvicorn cancels what still runs when it stops, and logs each as an error of the application, also
where a client left long ago, or waits for a processor that is away. So requests are ended a moment
earlier: with 503, with a close code, or as what they have sent so far.
"""

import asyncio
import json
from contextlib import suppress

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sse_edge.delivery.fair_queue import FairQueue
from sse_edge.http.refusals import log_refusal

_PROBLEM = {"type": "about:blank", "title": "Unavailable", "status": 503, "reason": "draining"}
_SERVICE_RESTART = 1012


class RunningRequests:
    """An ASGI application around the edge's own."""

    def __init__(self, app: ASGIApp, fair_queue: FairQueue) -> None:
        """Serve an application.

        Args:
            app: the application.
            fair_queue: lets live events be served while many clients reconnect at once.
        """
        self._app = app
        self._fair_queue = fair_queue
        self._tasks: set[asyncio.Task[object]] = set()
        self._is_stopping = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, WebSocket or lifespan."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        sent: list[str] = []

        async def noting(message: Message) -> None:
            sent.append(message["type"])
            await send(message)

        try:
            if scope["type"] == "http":
                await self._fair_queue.slot()
            await self._app(scope, receive, noting)
        except asyncio.CancelledError:
            if not self._is_stopping:
                raise
            with suppress(Exception):  # the client may have left
                await _end(scope, send, is_started=bool(sent))
        finally:
            self._tasks.discard(task)

    def stop(self) -> None:
        """End all requests in progress."""
        self._is_stopping = True
        for task in tuple(self._tasks):
            task.cancel()


async def _end(scope: Scope, send: Send, *, is_started: bool) -> None:
    """Send the rest of an answer."""
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": _SERVICE_RESTART})
        return
    if not is_started:
        headers = [(b"content-type", b"application/problem+json"), (b"retry-after", b"2")]
        await send({"type": "http.response.start", "status": 503, "headers": headers})
    body = b""
    if not is_started:
        failure_id = log_refusal(scope, 503, "draining", "the node stops")
        body = json.dumps(_PROBLEM | {"id": failure_id}, separators=(",", ":")).encode()
    await send({"type": "http.response.body", "body": body, "more_body": False})
