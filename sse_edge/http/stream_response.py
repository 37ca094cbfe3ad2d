"""Opening a stream: what a request asks for, and the response that becomes a connection.

What is wrong with a request is said before the stream begins; what happens later, inside it.
"""

import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import replace
from typing import Any, TypeVar

from fastapi import APIRouter, Request, Response

from kafka_io.errors import Unsent
from kafka_io.publisher import Publisher, RecordMetadata
from schemas.events import Event
from schemas.instants import from_rfc3339
from schemas.topics import Topic
from sse_edge.caller import Caller
from sse_edge.compression import GZIP_HEADERS, takes_gzip
from sse_edge.cursor import Cursor
from sse_edge.delivery.connection import Connection
from sse_edge.delivery.node import Node
from sse_edge.delivery.options import ConnectionOptions, SlowClientPolicy
from sse_edge.delivery.start import FromEdge, FromTime, Start
from sse_edge.errors import InvalidParameter, NotAcceptable, Unavailable
from sse_edge.http import openapi
from sse_edge.http.auth import Authenticator
from sse_edge.http.protocol import EXTENSION, SocketTransport
from sse_edge.http.rate_limit import RateLimiter
from sse_edge.log.record import Record
from sse_edge.streams.stream import Stream

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

STREAM_HEADERS = {
    "Connection": "close",
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-cache, no-transform",
    "X-Accel-Buffering": "no",
}

Endpoint = TypeVar("Endpoint", bound=Callable[..., Awaitable[Response]])

CLIENT_ID_CHARS_MAX = 256

_WRITING = frozenset({"POST", "PUT", "DELETE"})


def stream_route(
    router: APIRouter, path: str, summary: str, responses: dict[int | str, dict[str, Any]]
) -> Callable[[Endpoint], Endpoint]:
    """Serve a stream at a path: GET, as it is described, and HEAD."""

    def add(endpoint: Endpoint) -> Endpoint:
        router.add_api_route(
            path,
            endpoint,
            methods=["GET"],
            response_class=Response,
            summary=summary,
            responses=responses,
            openapi_extra=openapi.PARAMETERS,
        )
        router.add_api_route(
            path, endpoint, methods=["HEAD"], response_class=Response, include_in_schema=False
        )
        return endpoint

    return add


def open_stream(
    request: Request,
    stream: Stream,
    start: Start | None = None,
    *,
    client_id: str | None = None,
    prelude: bytes = b"",
    when_over: Callable[[], object] | None = None,
) -> Response:
    """Open a stream, or say why not.

    Args:
        request: the client's.
        stream: what it is to read.
        start: where it begins without a cursor; None for where the request says.
        client_id: what to call the client; None for what it calls itself.
        prelude: blocks without ids that come after the opening event.
        when_over: is called when the stream has ended.

    Raises:
        EdgeError: a parameter or the cursor has no meaning, or the stream cannot be had.
    """
    node: Node = request.app.state.node
    accepted = refuse_unacceptable(request)
    caller, stream = caller_of(request), as_readable_by(request, stream)
    node.refuse_over_limit(address_of(request.scope), None if caller is None else caller.subject)
    cursor = given_cursor(request)
    if cursor is not None:
        start = node.codec(stream).decode(cursor)
    elif start is None or "from" in request.query_params:
        start = _start(request)
    slow = SlowClientPolicy(_choice(request, "slow", tuple(SlowClientPolicy)))
    if slow is SlowClientPolicy.CONFLATE and not stream.is_latest_value:
        raise InvalidParameter("slow", f"every event of {stream.name} counts; use pause or close")
    options = ConnectionOptions(
        client_id=client_id or client_id_of(request),
        start=start,
        close_on_gap=_choice(request, "on_gap", ("continue", "close")) == "close",
        named_checkpoints=_choice(request, "checkpoint", ("id", "event")) == "event",
        slow=slow,
        gzip=takes_gzip(request.headers.get("accept-encoding", "")),
        prelude=prelude,
        caller=caller,
    )
    if request.method == "HEAD":
        return Response(headers=STREAM_HEADERS)
    if isinstance(start, Cursor) and start.ended:
        return Response(status_code=204)  # on which browsers stop reconnecting
    reason = node.unavailable_for
    if reason is not None and "text/event-stream" not in accepted:
        raise Unavailable(reason, "streams cannot be served now")
    return StreamResponse(node, stream, options, when_over)


async def authenticate(request: Request) -> None:
    """Find out who calls; a dependency of every route that serves anything of anybody's.

    Raises:
        Unauthorized: nobody is known, and somebody has to be.
        Unavailable: it cannot be found out now.
        TooManyRequests: the caller has written as often as it may.
    """
    identity: Authenticator = request.app.state.identity
    scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
    given = (
        bearer.strip() if scheme.lower() == "bearer" else "",
        request.query_params.get("token", ""),
        request.cookies.get(request.app.state.node.settings.token_cookie, ""),
    )
    token = next((one for one in given if one), None)
    request.state.caller = await identity.caller(token)
    if request.method in _WRITING:
        count_write(request)


def count_write(request: Request) -> None:
    """Count that a caller has something written.

    Raises:
        TooManyRequests: it has as often as it may.
    """
    rate_limiter: RateLimiter = request.app.state.rate_limiter
    caller = caller_of(request)
    rate_limiter.spend(address_of(request.scope) if caller is None else f"sub {caller.subject}")


def caller_of(request: Request) -> Caller | None:
    """Who calls, once `identified` has found out."""
    caller: Caller | None = getattr(request.state, "caller", None)
    return caller


def refuse_unacceptable(request: Request) -> str:
    """See whether the caller takes a stream; what it takes.

    Raises:
        NotAcceptable: it does not.
    """
    accepted = request.headers.get("accept", "*/*").lower()
    if not any(kind in accepted for kind in ("text/event-stream", "text/*", "*/*")):
        raise NotAcceptable(f"this is text/event-stream, and Accept is {accepted!r}")
    return accepted


def as_readable_by(request: Request, stream: Stream) -> Stream:
    """A stream, of the caller's tenant's records only."""
    caller = caller_of(request)
    return stream if caller is None else replace(stream, tenant=caller.tenant or "")


def tenant_of(request: Request) -> str | None:
    """Whose what the caller writes is."""
    caller = caller_of(request)
    return None if caller is None else caller.tenant


async def write(
    request: Request, event: Event, home: tuple[Topic, str] | None = None
) -> RecordMetadata:
    """Write an event of the caller's tenant; where it stands, once Kafka has it.

    Args:
        request: who writes it.
        event: what has happened.
        home: the topic and the key beside which it is to lie, where these are not its own.

    Raises:
        Unavailable: Kafka does not take it in time.
    """
    publisher: Publisher = request.app.state.publisher
    try:
        partition = None
        if home is not None:
            topic, key = home
            partition = await publisher.partition_for(topic, key.encode())
        return await publisher.publish(event, partition=partition, tenant=tenant_of(request))
    except Unsent as error:
        raise Unavailable("no_broker", str(error)) from error


def may_read(request: Request, record: Record) -> bool:
    """Whether a record is the caller's to read, as its tenant goes."""
    caller = caller_of(request)
    return caller is None or record.tenant == (caller.tenant or "").encode()


class StreamResponse(Response):
    """An ASGI response that becomes a connection.

    It starts as an ASGI response. Then its connection takes over the transport that
    `sse_edge.http.protocol` has put into the scope, and the request is over.
    """

    def __init__(
        self,
        node: Node,
        stream: Stream,
        options: ConnectionOptions,
        when_over: Callable[[], object] | None = None,
    ) -> None:
        super().__init__(headers=STREAM_HEADERS | (GZIP_HEADERS if options.gzip else {}))
        # A stream has no length, and the base class has given the empty body one.
        self.raw_headers = [pair for pair in self.raw_headers if pair[0] != b"content-length"]
        self._node = node
        self._stream = stream
        self._options = options
        self._when_over = when_over

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Begin the response, and start its connection."""
        del receive
        transport: SocketTransport = scope["extensions"][EXTENSION]
        transport.begin()
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        if transport.is_gone:
            if self._when_over is not None:
                self._when_over()
            return
        transport.take_over()
        connection = Connection(
            self._node, self._stream, self._options, transport, address_of(scope)
        )
        serving = self._node.serve(connection.run(), transport)
        transport.when_gone(serving.cancel)
        if self._when_over is not None:
            over = self._when_over
            serving.add_done_callback(lambda _: over())


def address_of(scope: Scope) -> str:
    """Where the caller's connection comes from."""
    return str((scope.get("client") or ("unknown",))[0])


def given_cursor(request: Request) -> str | None:
    """The client's cursor: the header before the parameter, the last of several, empty is none."""
    given = (*request.query_params.getlist("last_event_id"),)[-1:]
    headers = request.headers.getlist("last-event-id")
    return next((text for text in (*headers[-1:], *given) if text), None)


def _start(request: Request) -> Start:
    text = request.query_params.get("from", FromEdge.LATEST)
    if text in tuple(FromEdge):
        return FromEdge(text)
    try:
        # A plus sign that was not percent-encoded arrives as a space.
        return FromTime(from_rfc3339(text.replace(" ", "+")) // 1000)
    except (ValueError, OverflowError) as error:
        raise InvalidParameter(
            "from",
            f"{text[:60]!r} is neither earliest nor latest nor an RFC 3339 time "
            "such as 2026-01-31T09:30:00Z",
        ) from error


def client_id_of(request: Request) -> str:
    """What the caller calls itself, or a name that is made for it.

    Raises:
        InvalidParameter: it is too long.
    """
    given = request.query_params.get("client_id")
    if not given:
        return f"client-{uuid.uuid4().hex[:12]}"
    if len(given) > CLIENT_ID_CHARS_MAX:
        raise InvalidParameter(
            "client_id", f"it has {len(given)} characters; at most {CLIENT_ID_CHARS_MAX} are one"
        )
    return given


def _choice(request: Request, parameter: str, allowed: tuple[str, ...]) -> str:
    """A parameter that is one of a few words; the first of them where it is not given."""
    text = request.query_params.get(parameter) or allowed[0]
    if text not in allowed:
        raise InvalidParameter(parameter, f"{text[:60]!r} is none of {', '.join(allowed)}")
    return text


def event_names(request: Request) -> list[str]:
    """The `events=` filter: names with commas between."""
    names = request.query_params.get("events", "")
    return [name.strip() for name in names.split(",") if name.strip()]
