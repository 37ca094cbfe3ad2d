"""Opens streams: reads a request's options, and answers with a response that becomes a connection.

An invalid request is refused before the stream begins; later errors are events of the stream.
"""

import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AbstractContextManager, aclosing
from dataclasses import replace
from typing import Any, TypeVar

from fastapi import APIRouter, Request, Response
from opentelemetry.trace import Span
from starlette.requests import HTTPConnection
from starlette.types import Receive, Scope, Send

from kafka_io import tracing
from kafka_io.clock import now_us
from kafka_io.errors import InvalidReport, RecordRefused, Unsent
from kafka_io.publisher import RecordMetadata
from schemas.events import Event
from schemas.instants import to_rfc3339
from schemas.keys import encode_key
from schemas.topics import (
    NOTIFICATION_ROUTES,
    OPERATOR_ACTIONS,
    RISK_ACKS,
    RISK_BOOKS,
    RISK_LIMITS,
    RISK_SCENARIOS,
    Topic,
    topic_of,
)
from sse_edge.caller import Caller, user_of
from sse_edge.compression import GZIP_HEADERS, takes_gzip
from sse_edge.cursor import Cursor
from sse_edge.delivery.admission import Slot
from sse_edge.delivery.connection import Connection
from sse_edge.delivery.node import Node
from sse_edge.delivery.options import ConnectionOptions, SlowClientPolicy
from sse_edge.delivery.start import FromEdge, Start
from sse_edge.errors import InvalidParameter, NotAcceptable, Unavailable, UnavailableReason
from sse_edge.http import openapi
from sse_edge.http.addresses import address_of, host_of
from sse_edge.http.dependencies import (
    authenticator_of,
    caller_of,
    node_of,
    publisher_of,
    rate_limiter_of,
    tenant_read_by,
    tenant_written_by,
)
from sse_edge.http.headers import STREAM_HEADERS
from sse_edge.http.protocol import EXTENSION, SocketTransport
from sse_edge.http.request_values import (
    accepts_stream,
    asks_for_stream,
    given_cursor,
    given_token,
    joined_header,
    parse_start,
)
from sse_edge.http.web_pages import web_page_rules_of
from sse_edge.log.record import Record
from sse_edge.streams.dialects.cloudevents import event_of_edge
from sse_edge.streams.requests import as_cloudevents
from sse_edge.streams.stream import Stream

Endpoint = TypeVar("Endpoint", bound=Callable[..., Awaitable[Response]])

CLIENT_ID_CHARS_MAX = 256
HEARTBEAT_S_MAX = 30
"""A client may ask for heartbeats that are sooner than usual; proxies count on one in 30 s."""

AUDITED = (
    RISK_LIMITS,
    RISK_ACKS,
    RISK_BOOKS,
    RISK_SCENARIOS,
    NOTIFICATION_ROUTES,
    OPERATOR_ACTIONS,
)
"""The topics of changes whose records say from where they were requested."""

SLOT = "slot"
"""The attribute of a request's state with its place for a connection."""
_WRITING = frozenset({"POST", "PUT", "DELETE"})


def stream_route(
    router: APIRouter, path: str, summary: str, responses: dict[int | str, dict[str, Any]]
) -> Callable[[Endpoint], Endpoint]:
    """Serve a stream at a path, by GET and HEAD."""

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
    """Open a stream for a request.

    Args:
        request: the client's request.
        stream: what the connection reads.
        start: where the stream starts without a cursor; None takes the parameter `from`.
        client_id: the client's name; None takes the parameter `client_id`.
        prelude: blocks without ids that follow the opening event.
        when_over: called when the stream has ended.

    Raises:
        EdgeError: a parameter or the cursor is invalid, or the stream cannot be served.
    """
    node = node_of(request)
    refuse_unacceptable(request)
    caller, stream = caller_of(request), in_format(request, as_readable_by(request, stream))
    if _choice(request, "traceparent", ("none", "data")) == "data":
        stream = replace(stream, with_traceparent=True)
    cursor = given_cursor(request)
    if cursor is not None:
        start = node.codec(stream).decode(cursor)
    elif start is None or "from" in request.query_params:
        start = parse_start(request.query_params.get("from", FromEdge.LATEST))
    slow = SlowClientPolicy(_choice(request, "slow", tuple(SlowClientPolicy)))
    if slow is SlowClientPolicy.CONFLATE and not stream.is_latest_value:
        raise InvalidParameter("slow", f"every event of {stream.name} counts; use pause or close")
    options = ConnectionOptions(
        client_id=client_id or client_id_of(request),
        start=start,
        close_on_gap=_choice(request, "on_gap", ("continue", "close")) == "close",
        named_checkpoints=_choice(request, "checkpoint", ("id", "event")) == "event",
        slow=slow,
        gzip=takes_gzip(joined_header(request, "accept-encoding")),
        stays_open_s=node.settings.ended_open_s if stream.dialect.stays_open else 0.0,
        prelude=prelude,
        caller=caller,
        heartbeat_s=_heartbeat_s(request),
        opening=_opening_span(request),
    )
    if request.method == "HEAD":
        return Response(headers=STREAM_HEADERS)
    if isinstance(start, Cursor) and start.ended:
        return Response(status_code=204)  # browsers stop reconnecting
    # A client that reconnects after the end gets 204. It needs no place, so no other stream closes.
    slot = reserve(request)
    reason = node.unavailable_for
    if reason is not None and not asks_for_stream(request):
        raise Unavailable(reason, "streams cannot be served now")
    return StreamResponse(node, stream, options, slot, when_over)


def reserve(connection: HTTPConnection) -> Slot:
    """Take a place for the connection of a request, once; before what cannot be undone.

    The module `guard` releases it after the request, unless a connection has it by then.

    Raises:
        TooManyConnections: the address or the user holds as many as it may.
    """
    slot: Slot | None = getattr(connection.state, SLOT, None)
    if slot is None:
        user = user_of(caller_of(connection))
        slot = node_of(connection).reserve(address_of(connection.scope), user)
        setattr(connection.state, SLOT, slot)
    return slot


async def authenticate(request: Request) -> None:
    """Authenticate the caller of a request, once; a dependency of every route with data.

    Raises:
        Unauthorized: the token is missing or invalid.
        Unavailable: the issuer's keys cannot be read.
        TooManyRequests: the caller exceeds its rate of writes.
    """
    if hasattr(request.state, "caller"):  # `sse_edge.http.guard` looks before the body is read
        return
    given = given_token(request, node_of(request).settings.token_cookie)
    token = None if given is None else given.text
    request.state.caller = await authenticator_of(request).caller(token)
    if request.method in _WRITING:
        count_write(request)


def count_write(request: Request) -> None:
    """Count a write of the caller.

    Raises:
        ForeignPage: a page of another origin has sent the request.
        TooManyRequests: the caller exceeds its rate of writes.
    """
    web_page_rules_of(request).refuse_foreign_page(request)
    user = user_of(caller_of(request))
    rate_limiter_of(request).hit(address_of(request.scope) if user is None else f"user {user}")


def refuse_unacceptable(request: Request) -> None:
    """Return if the request accepts a stream.

    Raises:
        NotAcceptable: `Accept` excludes `text/event-stream`.
    """
    if not accepts_stream(request):
        accepted = joined_header(request, "accept")[:200]
        raise NotAcceptable(f"the answer is text/event-stream, which Accept excludes: {accepted!r}")


def as_readable_by(request: Request, stream: Stream) -> Stream:
    """Return a stream of only those records that a request's caller may read."""
    return readable_by(caller_of(request), stream, node_of(request).settings.tenant)


def in_format(request: Request, stream: Stream) -> Stream:
    """Return a stream with its events in the format that a request asks for.

    Raises:
        InvalidParameter: there is no such format.
    """
    return as_cloudevents(stream) if _wants_cloudevents(request) else stream


def list_in_format(
    request: Request, name: str, changes: AsyncGenerator[Mapping[str, object]]
) -> AsyncGenerator[Mapping[str, object]]:
    """Return the events of a list in the format that a request asks for.

    Args:
        request: the request.
        name: the list's name, which becomes part of each event's type.
        changes: yields events with `event` and `data`.

    Raises:
        InvalidParameter: there is no such format.
    """
    return _list_as_cloudevents(name, changes) if _wants_cloudevents(request) else changes


async def _list_as_cloudevents(
    name: str, changes: AsyncGenerator[Mapping[str, object]]
) -> AsyncGenerator[Mapping[str, object]]:
    async with aclosing(changes):
        async for change in changes:
            kind = f"{name}.{change['event']}"
            yield {**change, "data": event_of_edge(kind, change["data"], to_rfc3339(now_us()))}


def _wants_cloudevents(request: Request) -> bool:
    return _choice(request, "format", ("dialect", "cloudevents")) == "cloudevents"


def readable_by(caller: Caller | None, stream: Stream, home: str | None) -> Stream:
    """Return a stream of only those records that a caller may read.

    Args:
        caller: the caller; without one, the stream is of all tenants and users.
        stream: the stream.
        home: the tenant of entities that a caller without a token names.
    """
    if caller is None:
        return stream if home is None or stream.homes else replace(stream, homes=frozenset({home}))
    owner = caller.owner if stream.has_owners else None
    return replace(stream, tenant=caller.tenant or "", owner=owner)


async def write(
    request: Request,
    event: Event,
    home: tuple[Topic, str] | None = None,
    *,
    partition: int | None = None,
) -> RecordMetadata:
    """Write an event of the caller's tenant, and return its position once Kafka has it.

    Args:
        request: the caller's request.
        event: the event.
        home: a topic and an id whose partition the event shares; None for the event's own.
        partition: the partition; None for that of the home, or of the event.

    Raises:
        ForeignPage: a page of another origin has sent the request.
        InvalidParameter: the event is too large, or does not fit its schema.
        Unavailable: Kafka does not acknowledge it in time, or will never take it.
    """
    web_page_rules_of(request).refuse_foreign_page(request)  # also where GET writes
    publisher, tenant = publisher_of(request), tenant_written_by(request)
    try:
        if home is not None:
            topic, entity_id = home
            partition = await publisher.partition_for(topic, encode_key(entity_id, tenant))
        origin = host_of(request.scope) if topic_of(event) in AUDITED else None
        with tracing.continued(request.headers.get(tracing.TRACEPARENT)):
            return await publisher.publish(
                event, partition=partition, tenant=tenant or "", origin=origin
            )
    except InvalidReport as error:
        raise InvalidParameter("body", str(error)) from error
    except RecordRefused as error:
        raise Unavailable(UnavailableReason.REFUSED, str(error)) from error
    except Unsent as error:
        message = f"Kafka has not acknowledged it in time ({error.unsent} events are unsent)"
        raise Unavailable(UnavailableReason.NO_BROKER, message) from error


def may_read(request: Request, record: Record) -> bool:
    """Return whether the caller's tenant may read a record."""
    tenant = tenant_read_by(request)
    return tenant is None or record.tenant == tenant.encode()


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
        slot: Slot,
        when_over: Callable[[], object] | None = None,
    ) -> None:
        super().__init__(headers=STREAM_HEADERS | (GZIP_HEADERS if options.gzip else {}))
        # The base class has set the length of an empty body; a stream has none.
        self.raw_headers = [pair for pair in self.raw_headers if pair[0] != b"content-length"]
        self._node = node
        self._stream = stream
        self._options = options
        self._slot = slot
        self._when_over = when_over

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Begin the response and start its connection."""
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
            self._node, self._stream, self._options, transport, address_of(scope), self._slot
        )
        scope["state"].pop(SLOT, None)  # it is the connection's from now on
        serving = self._node.serve(connection.run(), transport)
        transport.when_gone(serving.cancel)
        slot = self._slot
        serving.add_done_callback(lambda _: slot.release())
        if self._when_over is not None:
            over = self._when_over
            serving.add_done_callback(lambda _: over())


def _opening_span(request: Request) -> AbstractContextManager[Span | None]:
    """Return the span in which a stream opens: a child of the request's caller, if it names one."""
    route = request.scope.get("route")
    return tracing.serving(
        request.method, getattr(route, "path", ""), request.headers.get(tracing.TRACEPARENT)
    )


def _heartbeat_s(request: Request) -> float | None:
    """Return how soon the client wants a heartbeat; None for the dialect's own time."""
    text = request.query_params.get("heartbeat")
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= HEARTBEAT_S_MAX):
        raise InvalidParameter(
            "heartbeat", f"{text[:60]!r} is no whole number of seconds from 1 to {HEARTBEAT_S_MAX}"
        )
    return float(text)


def client_id_of(request: Request) -> str:
    """Return the client's name for itself, or a new one.

    Raises:
        InvalidParameter: the name is too long.
    """
    given = request.query_params.get("client_id")
    if not given:
        return f"client-{secrets.token_hex(6)}"
    if len(given) > CLIENT_ID_CHARS_MAX:
        raise InvalidParameter(
            "client_id",
            f"it has {len(given)} characters; at most {CLIENT_ID_CHARS_MAX} are allowed",
        )
    return given


def _choice(request: Request, parameter: str, allowed: tuple[str, ...]) -> str:
    """Return a parameter with a few allowed values; the first of them is the default."""
    text = request.query_params.get(parameter) or allowed[0]
    if text not in allowed:
        raise InvalidParameter(parameter, f"{text[:60]!r} is not one of {', '.join(allowed)}")
    return text


def event_names(request: Request) -> list[str]:
    """Return the event names of the `events=` filter."""
    names = ",".join(request.query_params.getlist("events"))
    return [name.strip() for name in names.split(",") if name.strip()]
