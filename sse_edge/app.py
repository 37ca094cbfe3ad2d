"""Routes, headers, answers: the one door to HTTP.

A stream's response is a plain ASGI application below FastAPI's streaming response: it writes what
its connection hands it, and learns from `receive` when the client has gone.
"""

import asyncio
import gc
import logging
import os
import signal
import uuid
from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Generator,
    Iterator,
    Mapping,
    MutableMapping,
)
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import sdnotify
from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware

from schemas.instants import from_rfc3339
from sse_edge.connection import Connection, Slow, Wishes
from sse_edge.cursor import Cursor
from sse_edge.errors import EdgeError, InvalidParameter, NotAcceptable, Unavailable
from sse_edge.hub import At, End, Hub, Start
from sse_edge.kafka_log import KafkaLog
from sse_edge.meter import Collector
from sse_edge.protocol import EXTENSION, SocketWire
from sse_edge.settings import EdgeSettings
from sse_edge.siblings import Siblings
from sse_edge.stream import CHANNELS, Stream, many_channels, one_channel
from sse_edge.turnstile import Turnstile

log = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

ADDRESS = "TAPEWIRE_ADDRESS"
"""Where this node listens, for whoever started it."""
SIBLINGS = "TAPEWIRE_SIBLINGS"
"""The folder that the processes behind one port share."""

PAGE = Path(__file__).with_name("page")

STREAM_HEADERS = {
    "Connection": "close",
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-cache, no-transform",
    "X-Accel-Buffering": "no",
}

GZIP_HEADERS = {"Content-Encoding": "gzip", "Vary": "Accept-Encoding"}

CLIENT_ID_CHARS_MAX = 256
_COLLECTED = (1_000, 5, 20_000)
"""Python's thresholds for its garbage collector; see `from_environment`."""


def from_environment() -> ASGIApp:
    """The edge of this process, as uvicorn starts it."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    # While Kafka is away it says ten times a second what the tail says once.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    # Windows are many objects that live long and form no cycles: looking through all of them again
    # and again took a tenth of the time under load. Nor may one look at new ones be a long one:
    # 50,000 of them took 37 ms in a crowd.
    gc.set_threshold(*_COLLECTED)
    return build_app(EdgeSettings())


def build_app(settings: EdgeSettings) -> ASGIApp:
    """The edge as an ASGI application."""
    turnstile = Turnstile()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        async with (
            KafkaLog(settings.bootstrap_servers, readers_max=settings.readers_max) as log,
            asyncio.TaskGroup() as tasks,
        ):
            hub = app.state.hub = Hub(log, settings, turnstile)
            following = tasks.create_task(hub.run())
            following.add_done_callback(_stop_without_a_tail)
            if SIBLINGS in os.environ:
                app.state.siblings = Siblings(Path(os.environ[SIBLINGS]))
                hub.each_second = lambda: app.state.siblings.publish(_families(hub))
            with _drained_first(hub, settings.drain_s):
                sdnotify.SystemdNotifier().notify(f"READY=1\nSTATUS={os.environ.get(ADDRESS, '')}")
                yield
            following.remove_done_callback(_stop_without_a_tail)
            following.cancel()

    app = FastAPI(
        title="Tapewire edge",
        description="Server-sent events from Kafka, resumable on any node.",
        lifespan=lifespan,
        redirect_slashes=False,
    )
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.cors_origins),
            allow_credentials=True,
            allow_methods=["GET", "HEAD"],
            allow_headers=["Last-Event-ID", "Cache-Control", "Authorization"],
        )
    _add_errors(app)
    _add_streams(app)
    _add_health(app)
    app.mount("/assets", StaticFiles(directory=PAGE))

    @app.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(PAGE / "index.html", headers={"Cache-Control": "no-cache"})

    async def one_at_a_time(scope: Scope, receive: Receive, send: Send) -> None:
        # A crowd that comes back at once is let in between events, not before them.
        if scope["type"] == "http":
            await turnstile.turn()
        await app(scope, receive, send)

    return one_at_a_time


@contextmanager
def _drained_first(hub: Hub, drain_s: float) -> Generator[None]:
    """Let streams end at an event's boundary before the server stops.

    Uvicorn alone cuts them. A second signal stops at once.
    """
    loop = asyncio.get_running_loop()

    def handler(stop: Callable[[int, FrameType | None], object]) -> Callable[..., None]:
        def told(sig: int, frame: FrameType | None) -> None:
            if hub.draining or not hub.connections:
                hub.draining = True
                stop(sig, frame)
                return
            loop.call_soon_threadsafe(hub.drain)
            loop.call_soon_threadsafe(loop.call_later, drain_s + 0.5, stop, sig, frame)

        return told

    before = {}
    for sig in (signal.SIGTERM, signal.SIGINT):
        stop = signal.getsignal(sig)
        if callable(stop):
            before[sig] = stop
            signal.signal(sig, handler(stop))
    try:
        yield
    finally:
        for sig, stop in before.items():
            signal.signal(sig, stop)


def _stop_without_a_tail(tail: asyncio.Task[None]) -> None:
    """A node that does not follow the log would look alive, and tell nobody anything."""
    reason = "cancelled" if tail.cancelled() else repr(tail.exception())
    log.critical("the tail has ended (%s); this node stops", reason)
    signal.raise_signal(signal.SIGTERM)


def _add_streams(app: FastAPI) -> None:
    for name in CHANNELS:
        app.add_api_route(
            f"/api/v1/sse/{name}",
            _channel_endpoint(name),
            methods=["GET", "HEAD"],
            response_class=Response,
            summary=f"The {name} channel",
            tags=["streams"],
            responses=dict(_DOCUMENTED),
        )

    @app.get("/api/v1/sse/status", tags=["streams"], summary="Who is connected")
    async def status(request: Request) -> dict[str, object]:
        hub: Hub = request.app.state.hub
        return {
            "status": "draining" if hub.draining else "active",
            "total_connections": hub.connections,
            "channels": {
                name: {"connection_count": len(clients), "clients": list(clients)}
                for name, clients in hub.clients.items()
            },
        }

    @app.api_route(
        "/api/v1/sse/streams",
        methods=["GET", "HEAD"],
        response_class=Response,
        summary="Several channels in one connection",
        tags=["streams"],
        responses=dict(_DOCUMENTED),
    )
    async def streams(
        request: Request,
        topic: Annotated[list[str] | None, Query(description="`NAME` or `NAME:ENTITY`")] = None,
    ) -> Response:
        return _answer(request, many_channels(topic or (), _event_names(request)))


def _channel_endpoint(name: str) -> Callable[[Request], Awaitable[Response]]:
    async def channel(request: Request) -> Response:
        return _answer(request, one_channel(name, request.query_params, _event_names(request)))

    return channel


def _answer(request: Request, stream: Stream) -> Response:
    """Open a stream, or say why not."""
    hub: Hub = request.app.state.hub
    accepted = request.headers.get("accept", "*/*").lower()
    if not any(kind in accepted for kind in ("text/event-stream", "text/*", "*/*")):
        raise NotAcceptable(f"this is text/event-stream, and Accept is {accepted!r}")
    hub.refuse_over_limit(_address(request.scope))
    cursor = _given_cursor(request)
    start = _start(request) if cursor is None else hub.codec(stream).decode(cursor)
    slow = Slow(_choice(request, "slow", tuple(Slow)))
    if slow is Slow.CONFLATE and not stream.is_latest_value:
        raise InvalidParameter("slow", f"every event of {stream.name} counts; use pause or close")
    wishes = Wishes(
        client_id=_client_id(request),
        start=start,
        close_on_gap=_choice(request, "on_gap", ("continue", "close")) == "close",
        named_checkpoints=_choice(request, "checkpoint", ("id", "event")) == "event",
        slow=slow,
        gzip=_takes_gzip(request.headers.get("accept-encoding", "")),
    )
    if request.method == "HEAD":
        return Response(headers=STREAM_HEADERS)
    if isinstance(start, Cursor) and start.ended:
        return Response(status_code=204)  # on which browsers stop reconnecting
    reason = hub.unavailable_for
    if reason is not None and "text/event-stream" not in accepted:
        raise Unavailable(reason, "streams cannot be served now")
    return StreamResponse(hub, stream, wishes)


class StreamResponse(Response):
    """An ASGI response that becomes a connection.

    It begins as ASGI has it. Then its connection takes over the wire that `sse_edge.protocol` has
    put into the scope, and the request is over.
    """

    def __init__(self, hub: Hub, stream: Stream, wishes: Wishes) -> None:
        super().__init__(headers=STREAM_HEADERS | (GZIP_HEADERS if wishes.gzip else {}))
        # A stream has no length, and the base class has given the empty body one.
        self.raw_headers = [pair for pair in self.raw_headers if pair[0] != b"content-length"]
        self._hub = hub
        self._stream = stream
        self._wishes = wishes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Begin the response, and start its connection."""
        del receive
        wire: SocketWire = scope["extensions"][EXTENSION]
        wire.begin()
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        if wire.is_gone:
            return
        wire.take_over()
        connection = Connection(self._hub, self._stream, self._wishes, wire, _address(scope))
        wire.when_gone(self._hub.serve(connection.run(), wire).cancel)


def _families(hub: Hub) -> Iterator[Metric]:
    return hub.meter.families(hub.gauges())


def _add_health(app: FastAPI) -> None:
    @app.get("/health/live", tags=["health"], summary="Whether the process answers")
    async def live() -> dict[str, str]:
        return {"status": "live"}

    @app.get("/metrics", tags=["health"], summary="For Prometheus")
    async def metrics(request: Request) -> Response:
        hub: Hub = request.app.state.hub
        siblings: Siblings | None = getattr(request.app.state, "siblings", None)
        found = _families(hub) if siblings is None else siblings.with_others(_families(hub))
        registry = CollectorRegistry()
        registry.register(Collector(lambda: found))
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    @app.get("/health/ready", tags=["health"], summary="Whether streams can be served")
    async def ready(request: Request) -> Response:
        hub: Hub = request.app.state.hub
        if hub.unavailable_for is not None:
            return _problem(Unavailable(hub.unavailable_for, "streams cannot be served now"))
        return JSONResponse({"status": "ready"})


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(EdgeError)
    async def refused(request: Request, error: EdgeError) -> Response:
        hub: Hub = request.app.state.hub
        hub.meter.refused[str(error.status)] += 1
        return _problem(error)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        return _problem(InvalidParameter(str(first["loc"][-1]), str(first["msg"])))

    @app.exception_handler(HTTPException)
    async def other(_: Request, error: HTTPException) -> Response:
        body = {"type": "about:blank", "title": error.detail, "status": error.status_code}
        return JSONResponse(
            body, error.status_code, error.headers, media_type="application/problem+json"
        )


def _problem(error: EdgeError) -> Response:
    """An error as RFC 9457 words it."""
    body: dict[str, object] = {
        "type": "about:blank",
        "title": error.title,
        "status": error.status,
        "detail": str(error),
    }
    for name in ("parameter", "reason"):
        if hasattr(error, name):
            body[name] = getattr(error, name)
    headers = {}
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(error.retry_after_s)
    return JSONResponse(body, error.status, headers, media_type="application/problem+json")


def _address(scope: Scope) -> str:
    return str((scope.get("client") or ("unknown",))[0])


def _given_cursor(request: Request) -> str | None:
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


def _client_id(request: Request) -> str:
    given = request.query_params.get("client_id")
    if not given:
        return f"client-{uuid.uuid4().hex[:12]}"
    if len(given) > CLIENT_ID_CHARS_MAX:
        raise InvalidParameter(
            "client_id", f"it has {len(given)} characters; at most {CLIENT_ID_CHARS_MAX} are one"
        )
    return given


def _takes_gzip(accepted: str) -> bool:
    """Whether a client takes gzip, by its `Accept-Encoding`."""
    for one in accepted.lower().split(","):
        coding, _, weight = one.partition(";")
        if coding.strip() in ("gzip", "x-gzip", "*"):
            return weight.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False


def _choice(request: Request, parameter: str, allowed: tuple[str, ...]) -> str:
    """A parameter that is one of a few words; the first of them where it is not given."""
    text = request.query_params.get(parameter) or allowed[0]
    if text not in allowed:
        raise InvalidParameter(parameter, f"{text[:60]!r} is none of {', '.join(allowed)}")
    return text


def _event_names(request: Request) -> list[str]:
    names = request.query_params.get("events", "")
    return [name.strip() for name in names.split(",") if name.strip()]


_DOCUMENTED: Mapping[int | str, dict[str, Any]] = {
    200: {
        "description": "Server-sent events. Each event's id is the cursor after it: send it back "
        "as `Last-Event-ID`, to any node, to get everything that follows.",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    },
    204: {"description": "The stream had ended before this cursor."},
    400: {"description": "A parameter or the cursor has no meaning; `detail` says why."},
    406: {"description": "`Accept` excludes `text/event-stream`."},
    429: {"description": "This address holds as many connections as it may."},
    503: {"description": "No broker, or the node is on its way out."},
}
