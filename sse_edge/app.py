"""The edge as an application: what runs while it does, its routes, and how errors are worded.

Each family of endpoints has a module of its own, with a router; a stream's response is in
`sse_edge.http.stream_response`.
"""

import asyncio
import gc
import logging
import os
import signal
from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Generator,
    Iterator,
)
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from types import FrameType

import sdnotify
from fastapi import Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from fastapi_offline import FastAPIOffline
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware

from kafka_io.publisher import Publisher
from kafka_io.settings import ProducerSettings
from sse_edge.cache.tail import Tail
from sse_edge.delivery.fair_queue import FairQueue
from sse_edge.delivery.node import Node
from sse_edge.errors import (
    EdgeError,
    InvalidParameter,
    Unauthorized,
    Unavailable,
)
from sse_edge.http.auth import Authenticator
from sse_edge.http.rate_limit import RateLimiter
from sse_edge.http.stream_response import (
    Receive,
    Scope,
    Send,
    authenticate,
)
from sse_edge.log.kafka import KafkaLog
from sse_edge.metrics.multiprocess import MultiprocessMetrics
from sse_edge.metrics.node_metrics import Collector
from sse_edge.routes import (
    agents,
    backtest_socket,
    backtests,
    bars,
    books,
    channels,
    chat,
    desk,
    job_lists,
    training,
)
from sse_edge.routes.views import Views
from sse_edge.settings import EdgeSettings

logger = logging.getLogger(__name__)

ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

ADDRESS = "TAPEWIRE_ADDRESS"
"""Where this node listens, for whoever started it."""
SIBLINGS = "TAPEWIRE_SIBLINGS"
"""The folder that the processes behind one port share."""

PAGE = Path(__file__).with_name("page")

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
    fair_queue = FairQueue()
    api = build_api(settings, fair_queue)

    async def one_at_a_time(scope: Scope, receive: Receive, send: Send) -> None:
        # A crowd that comes back at once is let in between events, not before them.
        if scope["type"] == "http":
            await fair_queue.slot()
        await api(scope, receive, send)

    return one_at_a_time


def build_api(settings: EdgeSettings, fair_queue: FairQueue) -> FastAPI:
    """The edge's routes, and what runs behind them."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        async with (
            KafkaLog(settings.bootstrap_servers, readers_max=settings.readers_max) as log,
            Publisher(_as_producer(settings)) as app.state.publisher,
            asyncio.TaskGroup() as tasks,
        ):
            tail = Tail(log, settings)
            views = app.state.views = Views(log, settings, tail)
            node = app.state.node = Node(log, settings, tail, views, fair_queue)
            _say_who_is_served(settings)
            following = tasks.create_task(_run(node, views))
            following.add_done_callback(_stop_without_a_tail)
            if SIBLINGS in os.environ:
                app.state.multiprocess_metrics = MultiprocessMetrics(Path(os.environ[SIBLINGS]))
                node.each_second = lambda: app.state.multiprocess_metrics.publish(_families(node))
            with _drained_first(node, settings.drain_s):
                sdnotify.SystemdNotifier().notify(f"READY=1\nSTATUS={os.environ.get(ADDRESS, '')}")
                yield
            following.remove_done_callback(_stop_without_a_tail)
            following.cancel()

    known = [Depends(authenticate)]
    app = FastAPIOffline(
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
            allow_methods=["GET", "HEAD", "POST", "PUT", "DELETE"],
            allow_headers=[
                "Last-Event-ID",
                "Cache-Control",
                "Authorization",
                "Content-Type",
                "Idempotency-Key",
            ],
        )
    app.state.identity = Authenticator(settings)
    app.state.rate_limiter = RateLimiter(settings.writes_per_minute_max)
    _add_errors(app)
    rooms = (channels, training, job_lists, bars, backtests, chat, agents, desk, books)
    for router in (one.router for one in rooms):
        app.include_router(router, dependencies=known)
    app.include_router(backtest_socket.router)  # it finds out by itself who calls
    _add_health(app)
    app.mount("/assets", StaticFiles(directory=PAGE))

    @app.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(PAGE / "index.html", headers={"Cache-Control": "no-cache"})

    return app


async def _run(node: Node, views: Views) -> None:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(node.run())
        tasks.create_task(views.run())


def _say_who_is_served(settings: EdgeSettings) -> None:
    rules = settings.issues
    if rules is None:
        logger.warning(
            "this edge is open: nobody is asked who they are; it serves %s", settings.host
        )
    elif rules.is_demo:
        logger.warning(
            "this edge is open: tokens of `tapewire token` are known, and none is needed"
        )
    else:
        logger.info("this edge serves those who have a token of %s", rules.issuer)


def _as_producer(settings: EdgeSettings) -> ProducerSettings:
    """How commands that come over HTTP are written."""
    return ProducerSettings(
        bootstrap_servers=settings.bootstrap_servers,
        topic_prefix=settings.topic_prefix,
        source="/sse_edge",
        patience_s=settings.broker_patience_s,
        linger_ms=0,
    )


@contextmanager
def _drained_first(node: Node, drain_s: float) -> Generator[None]:
    """Let streams end at an event's boundary before the server stops.

    Uvicorn alone cuts them. A second signal stops at once.
    """
    loop = asyncio.get_running_loop()

    def handler(stop: Callable[[int, FrameType | None], object]) -> Callable[..., None]:
        def told(sig: int, frame: FrameType | None) -> None:
            if node.draining or not node.connections:
                node.draining = True
                stop(sig, frame)
                return
            loop.call_soon_threadsafe(node.drain)
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
    logger.critical("the tail has ended (%s); this node stops", reason)
    signal.raise_signal(signal.SIGTERM)


def _families(node: Node) -> Iterator[Metric]:
    return node.metrics.families(node.gauges())


def _add_health(app: FastAPI) -> None:
    @app.get("/health/live", tags=["health"], summary="Whether the process answers")
    async def live() -> dict[str, str]:
        return {"status": "live"}

    @app.get("/health/", tags=["health"], summary="As `/health/ready`, for older clients")
    async def health(request: Request) -> Response:
        return _readiness(request.app.state.node)

    @app.get("/metrics", tags=["health"], summary="For Prometheus")
    async def metrics(request: Request) -> Response:
        node: Node = request.app.state.node
        multiprocess_metrics: MultiprocessMetrics | None = getattr(
            request.app.state, "multiprocess_metrics", None
        )
        found = (
            _families(node)
            if multiprocess_metrics is None
            else multiprocess_metrics.with_others(_families(node))
        )
        registry = CollectorRegistry()
        registry.register(Collector(lambda: found))
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    @app.get("/health/ready", tags=["health"], summary="Whether streams can be served")
    async def ready(request: Request) -> Response:
        return _readiness(request.app.state.node)


def _readiness(node: Node) -> Response:
    if node.unavailable_for is not None:
        return _problem(Unavailable(node.unavailable_for, "streams cannot be served now"))
    return JSONResponse({"status": "ready"})


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(EdgeError)
    async def refused(request: Request, error: EdgeError) -> Response:
        node: Node = request.app.state.node
        node.metrics.refused[str(error.status)] += 1
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
    if isinstance(error, Unauthorized):
        headers["WWW-Authenticate"] = "Bearer"
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(error.retry_after_s)
    return JSONResponse(body, error.status, headers, media_type="application/problem+json")
