"""Opening a stream: what a request asks for, and the response that becomes a connection.

What is wrong with a request is said before the stream begins; what happens later, inside it.
"""

import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import replace
from typing import Any, TypeVar

from fastapi import APIRouter, Request, Response

from producers.errors import Unsent
from kafka_io.publisher import Position, Publisher
from schemas.events import Event
from schemas.instants import from_rfc3339
from schemas.topics import Topic
from sse_edge.http import openapi as described
from sse_edge.compression import GZIP_HEADERS, takes_gzip
from sse_edge.delivery.connection import Connection, Slow, Wishes
from sse_edge.cursor import Cursor
from sse_edge.errors import InvalidParameter, NotAcceptable, Unavailable
from sse_edge.delivery.node import At, End, Hub, Start
from sse_edge.http.auth import Caller, Identity
from sse_edge.http.protocol import EXTENSION, SocketWire
from sse_edge.http.rate_limit import Quota
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
    routes: APIRouter, path: str, summary: str, responses: dict[int | str, dict[str, Any]]
) -> Callable[[Endpoint], Endpoint]:
    """Serve a stream at a path: GET, as it is described, and HEAD."""

    def add(endpoint: Endpoint) -> Endpoint:
        routes.add_api_route(
            path,
            endpoint,
            methods=["GET"],
            response_class=Response,
            summary=summary,
            responses=responses,
            openapi_extra=described.PARAMETERS,
        )
        routes.add_api_route(
            path, endpoint, methods=["HEAD"], response_class=Response, include_in_schema=False
        )
        return endpoint

    return add


def answer(
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
    hub: Hub = request.app.state.hub
    accepted = refuse_unacceptable(request)
    caller, stream = caller_of(request), as_readable_by(request, stream)
    hub.refuse_over_limit(address_of(request.scope), None if caller is None else caller.subject)
    cursor = given_cursor(request)
    if cursor is not None:
        start = hub.codec(stream).decode(cursor)
    elif start is None or "from" in request.query_params:
        start = _start(request)
    slow = Slow(_choice(request, "slow", tuple(Slow)))
    if slow is Slow.CONFLATE and not stream.is_latest_value:
        raise InvalidParameter("slow", f"every event of {stream.name} counts; use pause or close")
    wishes = Wishes(
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
    reason = hub.unavailable_for
    if reason is not None and "text/event-stream" not in accepted:
        raise Unavailable(reason, "streams cannot be served now")
    return StreamResponse(hub, stream, wishes, when_over)


async def identified(request: Request) -> None:
    """Find out who calls; a dependency of every route that serves anything of anybody's.

    Raises:
        Unauthorized: nobody is known, and somebody has to be.
        Unavailable: it cannot be found out now.
        TooManyRequests: the caller has written as often as it may.
    """
    identity: Identity = request.app.state.identity
    scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
    given = (
        bearer.strip() if scheme.lower() == "bearer" else "",
        request.query_params.get("token", ""),
        request.cookies.get(request.app.state.hub.settings.token_cookie, ""),
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
    quota: Quota = request.app.state.quota
    caller = caller_of(request)
    quota.spend(address_of(request.scope) if caller is None else f"sub {caller.subject}")


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


async def write(request: Request, event: Event, home: tuple[Topic, str] | None = None) -> Position:
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

    It begins as ASGI has it. Then its connection takes over the wire that `sse_edge.http.protocol` has
    put into the scope, and the request is over.
    """

    def __init__(
        self,
        hub: Hub,
        stream: Stream,
        wishes: Wishes,
        when_over: Callable[[], object] | None = None,
    ) -> None:
        super().__init__(headers=STREAM_HEADERS | (GZIP_HEADERS if wishes.gzip else {}))
        # A stream has no length, and the base class has given the empty body one.
        self.raw_headers = [pair for pair in self.raw_headers if pair[0] != b"content-length"]
        self._hub = hub
        self._stream = stream
        self._wishes = wishes
        self._when_over = when_over

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Begin the response, and start its connection."""
        del receive
        wire: SocketWire = scope["extensions"][EXTENSION]
        wire.begin()
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        if wire.is_gone:
            if self._when_over is not None:
                self._when_over()
            return
        wire.take_over()
        connection = Connection(self._hub, self._stream, self._wishes, wire, address_of(scope))
        serving = self._hub.serve(connection.run(), wire)
        wire.when_gone(serving.cancel)
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
    text = request.query_params.get("from", End.LATEST)
    if text in tuple(End):
        return End(text)
    try:
        # A plus sign that was not percent-encoded arrives as a space.
        return At(from_rfc3339(text.replace(" ", "+")) // 1000)
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
