"""The edge as an application: the parts that run behind it, its middleware and its routers.

Each family of endpoints is one module of `sse_edge.routes`.
"""

import asyncio
import gc
import logging
import os
import signal
import sys
from collections.abc import (
    AsyncGenerator,
    Callable,
    Generator,
    Mapping,
)
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import cast

from fastapi import Depends, FastAPI
from fastapi.telemetry import TelemetryConfig
from fastapi_offline import FastAPIOffline
from starlette.types import ASGIApp

from kafka_io.errors import InvalidSetting, ProducerError, Unread
from kafka_io.log_lines import configure_logging
from kafka_io.publisher import Publisher
from kafka_io.readiness import notify_ready
from kafka_io.settings import ProducerSettings
from kafka_io.topic_admin import TopicAdmin
from kafka_io.topic_checks import find_differences
from kafka_io.tracing import configure_tracing, stop_tracing
from schemas.topics import CATALOGUE
from sse_edge.cache.tail import Tail
from sse_edge.caller import Scope
from sse_edge.delivery.fair_queue import FairQueue
from sse_edge.delivery.node import Node
from sse_edge.errors import UnknownRouter
from sse_edge.http import openapi, tls
from sse_edge.http.auth import Authenticator
from sse_edge.http.cors import EdgeCors
from sse_edge.http.descriptors import raise_limit
from sse_edge.http.guard import Guard
from sse_edge.http.log_privacy import hide_tokens
from sse_edge.http.management import DOCS_PATHS, METRICS_PATH
from sse_edge.http.problem import add_exception_handlers
from sse_edge.http.protocol import EdgeProtocol
from sse_edge.http.rate_limit import RateLimiter
from sse_edge.http.running_requests import RunningRequests
from sse_edge.http.scopes import require_to_read
from sse_edge.http.stream_routes import StreamRoutes
from sse_edge.http.web_pages import LOCAL_PAGES, WebPageRules
from sse_edge.log.kafka import KafkaLog
from sse_edge.metrics.multiprocess import MultiprocessMetrics
from sse_edge.routes import (
    agents,
    alerts,
    audit,
    backtest_socket,
    backtests,
    bars,
    books,
    channels,
    chat,
    connections,
    cursors,
    durable_streams,
    events,
    health,
    job_lists,
    limits,
    measures,
    notifications,
    page,
    scenarios,
    training,
)
from sse_edge.routes.added import added_routers
from sse_edge.routes.cluster import Cluster
from sse_edge.routes.presence import Presences
from sse_edge.routes.views import Views
from sse_edge.settings import EdgeSettings

logger = logging.getLogger(__name__)

SHUTDOWN_S = 2
"""How long the server waits for requests in progress when it stops."""

ADDRESS = "TAPEWIRE_ADDRESS"
"""The environment variable with this node's address, for the process that started it."""
SIBLINGS = "TAPEWIRE_SIBLINGS"
"""The environment variable with the folder that the processes behind one port share."""

_TOPICS_S = 10.0
"""How many seconds Kafka has for the settings of all topics, and the pause before asking again."""

_FIRST_ANSWER_S = 2.0
"""How many seconds a node that starts waits for Kafka's first answer before it says it is ready."""

_HEARTBEAT_PATIENCE_S = 5.0
"""How many seconds a heartbeat waits for Kafka at most, and so a node that stops."""

_AWAY_RETRIES = 2.5
"""How long a client of a room may be away, in times of the least wait to reconnect: it is jittered
up to twice that wait."""

_NO_SPANS: TelemetryConfig = {
    "tracing": False,
    "metrics": False,
    "logs": False,
    "auto_configure": False,
}
"""FastAPI's own spans have the query of each request, tokens included, and call every stream an
incomplete response. The edge has its own."""

_COLLECTED = (1_000, 5, 20_000)
"""The thresholds of Python's garbage collector; see `from_environment`."""


def from_environment() -> ASGIApp:
    """Return the edge of this process, as uvicorn starts it."""
    settings = EdgeSettings()
    configure_logging(settings.log_level, settings.log_format)
    hide_tokens()
    # While Kafka is away, aiokafka logs ten times a second what the tail logs once.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    # Windows are many long-lived objects without cycles. Full collections took a tenth of the time
    # under load, and a collection of 50,000 new objects stalled the loop for 37 ms.
    gc.set_threshold(*_COLLECTED)
    EdgeProtocol.budget.maximum = raise_limit()
    EdgeProtocol.addresses.bound(settings.connections_per_ip_max, settings.trusted_proxies)
    try:
        configure_tracing("edge")
        return build_app(settings)
    except InvalidSetting as error:
        sys.exit(f"a setting is invalid: {error}")
    except UnknownRouter as error:
        sys.exit(f"TAPEWIRE_ROUTERS: {error}")


def build_app(settings: EdgeSettings) -> ASGIApp:
    """Return the edge as an ASGI application."""
    fair_queue = FairQueue()
    api = build_api(settings, fair_queue)
    api.state.requests = RunningRequests(api, fair_queue)
    return cast("RunningRequests", api.state.requests)


def build_api(settings: EdgeSettings, fair_queue: FairQueue) -> FastAPI:
    """Return the FastAPI application: routes, and the parts that run behind them."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        async with (
            KafkaLog(settings.bootstrap_servers, readers_max=settings.readers_max) as log,
            _publisher(settings, settings.broker_patience_s) as app.state.publisher,
            _publisher(
                settings,
                min(settings.broker_patience_s, _HEARTBEAT_PATIENCE_S),
                is_traced=False,  # heartbeats would bury the traces of events
            ) as heartbeats,
            app.state.authenticator.running(),
            asyncio.TaskGroup() as tasks,
        ):
            tail = Tail(log, settings)
            views = app.state.views = Views(log, settings, tail)
            node = app.state.node = Node(log, settings, tail, views, fair_queue)
            node.sockets, node.metrics.key_set = (
                EdgeProtocol.budget,
                app.state.authenticator.key_set,
            )
            app.state.presences = Presences(
                _AWAY_RETRIES * settings.retry_ms / 1000, lambda: node.draining
            )
            address = os.environ.get(ADDRESS, "")
            cluster = app.state.cluster = Cluster(node, views, heartbeats, address)
            _log_who_is_served(settings)
            following = tasks.create_task(_run(node, views))
            following.add_done_callback(_stop_with_the_tail)
            checking = tasks.create_task(_run_beside(settings))
            if SIBLINGS in os.environ:
                app.state.multiprocess_metrics = MultiprocessMetrics(Path(os.environ[SIBLINGS]))
                node.each_second = lambda: app.state.multiprocess_metrics.publish(node.families())
            async with cluster.beating():
                requests: RunningRequests | None = getattr(app.state, "requests", None)
                with _draining_first(node, settings.drain_s, requests):
                    # A client that comes at once is served. Without Kafka the node starts, too.
                    with suppress(TimeoutError):
                        async with asyncio.timeout(_FIRST_ANSWER_S):
                            await tail.has_asked.wait()
                    notify_ready(address)
                    yield
            following.remove_done_callback(_stop_with_the_tail)
            following.cancel()
            checking.cancel()
        await asyncio.to_thread(stop_tracing)

    app = FastAPIOffline(
        title="Tapewire edge",
        description="Server-sent events from Kafka, resumable on any node.",
        lifespan=lifespan,
        redirect_slashes=False,
        telemetry=_NO_SPANS,
        responses=openapi.PROBLEMS,
    )
    _add_middleware(app, settings)
    app.state.notice = settings.notice
    app.state.has_docs = settings.management_port is None
    app.state.authenticator = Authenticator(settings)
    app.state.web_page_rules = WebPageRules(settings)
    app.state.rate_limiter = RateLimiter(settings.writes_per_minute_max)
    add_exception_handlers(app)
    _add_routes(app, settings)
    return app


def _add_middleware(app: FastAPI, settings: EdgeSettings) -> None:
    """Guard all routes, and let the pages of some origins read the answers, also refusals.

    The middleware that is added first is the innermost.
    """
    app.add_middleware(StreamRoutes, routes=channels.plain_streams(), check=require_to_read)
    app.add_middleware(
        Guard,
        large_bodies=(books.router.prefix, scenarios.router.prefix),
        needing_token=_needing_token(settings),
        management_port=settings.management_port,
    )
    local_pages = LOCAL_PAGES if settings.is_open and settings.cors_origins is None else None
    if settings.cors_origins or local_pages:
        app.add_middleware(
            EdgeCors,
            allow_origins=list(settings.cors_origins or ()),
            allow_origin_regex=local_pages,
            allow_credentials=True,
            allow_methods=["GET", "HEAD", "POST", "PUT", "DELETE"],
            allow_headers=[
                "Last-Event-ID",
                "Cache-Control",
                "Authorization",
                "Content-Type",
                "Idempotency-Key",
                "If-None-Match",
                *settings.cors_headers,
            ],
            expose_headers=["ETag", "Last-Event-ID", "Link", *durable_streams.HEADERS],
        )


def _add_routes(app: FastAPI, settings: EdgeSettings) -> None:
    """Add the routes of the edge, and those of `TAPEWIRE_ROUTERS`."""
    for module in (
        channels,
        connections,
        training,
        job_lists,
        bars,
        backtests,
        chat,
        agents,
        limits,
        alerts,
        audit,
        measures,
        books,
        scenarios,
        notifications,
        cursors,
        events,
        durable_streams,
    ):
        app.include_router(module.router, dependencies=[Depends(require_to_read)])
    for router in added_routers(settings.routers):
        app.include_router(router, dependencies=[Depends(require_to_read)])
    app.include_router(
        backtest_socket.router
    )  # it authenticates by itself, and answers with close codes
    app.include_router(health.router)
    app.include_router(page.router)
    app.mount("/assets", page.Assets())


def _needing_token(settings: EdgeSettings) -> Mapping[str, Scope | None]:
    """Return the paths without data that need a token, each with its scope if it needs one."""
    found: dict[str, Scope | None] = {}
    if settings.metrics_token:
        found[METRICS_PATH] = Scope.ADMIN
    if settings.docs_token:
        found |= dict.fromkeys(DOCS_PATHS)
    return found


async def _run(node: Node, views: Views) -> None:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(node.run())
        tasks.create_task(views.run())


async def _run_beside(settings: EdgeSettings) -> None:
    """Do what the edge needs no answer from."""
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_warn_of_topics(settings))
        if settings.tls_cert is not None:
            tasks.create_task(tls.follow_files(settings.tls_cert, settings.tls_key))


async def _warn_of_topics(settings: EdgeSettings) -> None:
    """Log, when Kafka answers first, which topics somebody has made otherwise than the catalogue.

    An edge shows what there is, so it starts nonetheless.
    """
    admin = TopicAdmin(settings.bootstrap_servers, timeout_s=_TOPICS_S)
    topics = {settings.topic_prefix + topic.name: (topic, topic.partitions) for topic in CATALOGUE}
    found = None
    while found is None:
        try:
            found = await asyncio.to_thread(admin.found, list(topics), leave_out_forbidden=True)
        except Unread:
            await asyncio.sleep(_TOPICS_S)
    for difference in find_differences(settings.bootstrap_servers, topics, found):
        for line in str(difference).splitlines():
            logger.warning("%s", line)


def _log_who_is_served(settings: EdgeSettings) -> None:
    rules = settings.issues
    if rules is None:
        logger.warning("this edge is open: it serves %s without authentication", settings.host)
    elif rules.is_demo:
        logger.warning(
            "this edge is open: it needs no token, accepts those of `tapewire token`, "
            "and ignores others"
        )
    else:
        logger.info("this edge serves callers with a token of %s", rules.issuer)
    if settings.management_port is not None:
        logger.info(
            "metrics and documentation are at %s:%d",
            *(settings.management_host, settings.management_port),
        )
    if settings.is_clear:
        logger.warning(
            "tokens travel unencrypted beyond this machine: set TAPEWIRE_TLS_CERT, or let a proxy "
            "speak TLS and name it in TAPEWIRE_TRUSTED_PROXIES"
        )


@asynccontextmanager
async def _publisher(
    settings: EdgeSettings, patience_s: float, *, is_traced: bool = True
) -> AsyncGenerator[Publisher]:
    """Open a publisher, which keeps no node from stopping.

    Args:
        settings: where Kafka is.
        patience_s: how long a call waits for Kafka, and so a node that stops.
        is_traced: whether events get spans, where this process is traced.
    """
    publisher = Publisher(
        ProducerSettings(
            bootstrap_servers=settings.bootstrap_servers,
            topic_prefix=settings.topic_prefix,
            source="/sse_edge",
            tenant=None,  # a request says which, and a token without a tenant writes none
            patience_s=patience_s,
            linger_ms=0,
        ),
        is_traced=is_traced,
    )
    try:
        yield publisher
    finally:
        try:
            await publisher.close()
        except ProducerError as error:
            logger.warning("this node stops, and has not written all its events: %s", error)


@contextmanager
def _draining_first(
    node: Node, drain_s: float, requests: RunningRequests | None
) -> Generator[None]:
    """End streams between events, and then other requests, before the server stops.

    Uvicorn alone would cut them. A second signal stops the server at once.
    """
    loop = asyncio.get_running_loop()

    def handler(stop: Callable[[int, FrameType | None], object]) -> Callable[..., None]:
        def end(sig: int, frame: FrameType | None) -> None:
            stop(sig, frame)
            if requests is not None:
                loop.call_soon_threadsafe(loop.call_later, SHUTDOWN_S / 2, requests.stop)

        def drain_first(sig: int, frame: FrameType | None) -> None:
            if node.draining or not node.connections:
                node.draining = True
                end(sig, frame)
                return
            loop.call_soon_threadsafe(node.drain)
            loop.call_soon_threadsafe(loop.call_later, drain_s + 0.5, end, sig, frame)

        return drain_first

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


def _stop_with_the_tail(tail: asyncio.Task[None]) -> None:
    """Stop the process: without its tail a node would look alive and deliver nothing."""
    reason = "cancelled" if tail.cancelled() else repr(tail.exception())
    logger.critical("the tail ended (%s); this node stops", reason)
    signal.raise_signal(signal.SIGTERM)
