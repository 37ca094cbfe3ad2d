"""Checks every request before its endpoint sees it, the cheap checks first.

A request that writes shows its token before its body is read, and a body is bounded by its
endpoint's limit. FastAPI alone would read the whole body first, from anybody.
"""

from collections.abc import Sequence

from fastapi import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sse_edge.errors import BodyTooLarge, EdgeError
from sse_edge.http.dependencies import node_of
from sse_edge.http.problem import EdgeHTTPException, problem
from sse_edge.http.protocol import BODY_BYTES_MAX
from sse_edge.http.stream_response import authenticate

BODY_BYTES = 256 << 10
"""The largest body of most endpoints: a question, a job, a portfolio's limits."""
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


class Guard:
    """An ASGI middleware around the application's routes."""

    def __init__(self, app: ASGIApp, *, large_bodies: Sequence[str] = ()) -> None:
        """Guard an application.

        Args:
            app: the application.
            large_bodies: the beginnings of paths whose bodies may be as large as any.
        """
        self._app = app
        self._large_bodies = tuple(large_bodies)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, WebSocket or lifespan."""
        if scope["type"] != "http" or scope["method"] in _SAFE:
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        most = BODY_BYTES_MAX if scope["path"].startswith(self._large_bodies) else BODY_BYTES
        try:
            if int(request.headers.get("content-length") or 0) > most:
                raise BodyTooLarge(most)
            await authenticate(request)
        except EdgeError as error:
            node_of(request).metrics.refused[str(error.status)] += 1
            await problem(error)(scope, receive, send)
            return
        await self._app(scope, _bounded(receive, most), send)


def _bounded(receive: Receive, most: int) -> Receive:
    """Return a function that receives a body of at most so many bytes."""
    received = 0

    async def bounded() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > most:
            raise EdgeHTTPException(BodyTooLarge(most))
        return message

    return bounded
