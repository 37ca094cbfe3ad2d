"""Checks every request before its endpoint sees it, the cheap checks first.

Requests for other hosts, and what pages of others write, are refused: see the module `web_pages`. A
request that writes shows its token before its body is read, and a body is bounded by its endpoint's
limit. FastAPI alone would read the whole body first, from anybody.
"""

from collections.abc import Mapping, Sequence

from fastapi import Request, Response, WebSocket, WebSocketDisconnect
from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sse_edge.caller import Scope as TokenScope
from sse_edge.delivery.admission import Slot
from sse_edge.errors import BodyTooLarge, EdgeError, NoSuchThing
from sse_edge.http.dependencies import caller_of
from sse_edge.http.management import METRICS_PATH, refuse_on_other_port
from sse_edge.http.problem import EdgeHTTPException, answer_of
from sse_edge.http.protocol import BODY_BYTES_MAX
from sse_edge.http.scopes import refuse_without
from sse_edge.http.stream_response import SLOT, authenticate
from sse_edge.http.web_pages import web_page_rules_of

BODY_BYTES = 256 << 10
"""The largest body of most endpoints: a question, a job, a portfolio's limits."""
_ANY_HOST = ("/health", METRICS_PATH)
"""The beginnings of paths that probes ask for by the address of a container; they tell no data."""
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_SHOWN_CHARS = 80


class Guard:
    """An ASGI middleware around the application's routes."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        large_bodies: Sequence[str] = (),
        needing_token: Mapping[str, TokenScope | None] | None = None,
        management_port: int | None = None,
    ) -> None:
        """Guard an application.

        Args:
            app: the application.
            large_bodies: the beginnings of paths whose bodies may be as large as any.
            needing_token: paths whose routes look for no token and yet need one, each with the
                scope that the token must have.
            management_port: the port of metrics and documentation; None if the main port serves
                them.
        """
        self._app = app
        self._needing_token = needing_token or {}
        self._management_port = management_port
        self._large_bodies = tuple(large_bodies)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, WebSocket or lifespan."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        try:
            await self._serve(scope, receive, send)
        except WebSocketDisconnect:
            pass  # its client has left, and no endpoint waits for it
        finally:
            slot: Slot | None = scope.get("state", {}).pop(SLOT, None)
            if slot is not None:
                slot.release()

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        connection = HTTPConnection(scope)
        writes = scope["type"] == "http" and scope["method"] not in _SAFE
        most = BODY_BYTES_MAX if scope["path"].startswith(self._large_bodies) else BODY_BYTES
        try:
            await self._check(connection, most if writes else None)
        except EdgeError as error:
            await _answer(answer_of(connection, error), scope, receive, send)
            return
        if scope["type"] == "http":
            send = _with_headers(connection, send)
        else:
            send = _with_denial(connection, receive, send)
        await self._app(scope, _bounded(receive, most) if writes else receive, send)

    async def _check(self, connection: HTTPConnection, most: int | None) -> None:
        """Return if a request may reach its endpoint.

        Args:
            connection: the request or WebSocket.
            most: the most bytes of its body; None if it does not write.

        Raises:
            EdgeError: it may not.
        """
        scope = connection.scope
        rules = web_page_rules_of(connection)
        if not scope["path"].startswith(_ANY_HOST):
            rules.refuse_foreign_host(connection)
        refuse_on_other_port(scope, self._management_port)
        if most is not None or scope["type"] == "websocket":
            rules.refuse_foreign_page(connection)
        if most is not None and int(connection.headers.get("content-length") or 0) > most:
            raise BodyTooLarge(most)
        if most is not None or scope["path"] in self._needing_token:
            await authenticate(Request(scope))
            needed = self._needing_token.get(scope["path"])
            if needed is not None:
                refuse_without(needed, caller_of(connection))


async def _answer(response: Response, scope: Scope, receive: Receive, send: Send) -> None:
    """Send a response, also in place of accepting a WebSocket."""
    if scope["type"] == "websocket":
        await WebSocket(scope, receive, send).send_denial_response(response)
    else:
        await response(scope, receive, _with_headers(HTTPConnection(scope), send))


def _with_denial(connection: HTTPConnection, receive: Receive, send: Send) -> Send:
    """Return a function that sends messages of a WebSocket; one that no route takes gets a 404.

    Starlette closes it before it is opened, which clients see as a 403 without a reason.
    """

    async def with_denial(message: Message) -> None:
        if message["type"] == "websocket.close" and "endpoint" not in connection.scope:
            error = NoSuchThing(f"no WebSocket is at {connection.scope['path'][:_SHOWN_CHARS]!r}")
            await _answer(answer_of(connection, error), connection.scope, receive, send)
        else:
            await send(message)

    return with_denial


def _with_headers(connection: HTTPConnection, send: Send) -> Send:
    """Return a function that sends a response with the headers that browsers are protected by."""

    async def with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(raw=[*message["headers"]])
            headers.setdefault("X-Content-Type-Options", "nosniff")
            if headers.get("content-type", "").startswith("text/html"):
                headers.setdefault("Content-Security-Policy", "frame-ancestors 'none'")
                headers.setdefault("Referrer-Policy", "no-referrer")
            if caller_of(connection) is not None:
                headers.setdefault("Cache-Control", "no-store")
            message = {**message, "headers": headers.raw}
        await send(message)

    return with_headers


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
