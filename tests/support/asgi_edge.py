"""The whole edge as an application over a fake log: requests are calls, and sockets are objects.

It has every route and every part that runs behind them, but for Kafka. An error that a part logs
is kept, and so is one that ends it.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, MutableMapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from typing import Any, cast
from urllib.parse import unquote

from fastapi import FastAPI

from kafka_io.publisher import Publisher, RecordMetadata
from kafka_io.tracing import current_traceparent
from schemas.codec import encode
from schemas.events import Event
from schemas.topics import CATALOGUE, Topic, key_of, topic_of
from sse_edge.app import build_api
from sse_edge.cache.tail import Tail
from sse_edge.delivery.fair_queue import FairQueue
from sse_edge.delivery.node import Node
from sse_edge.http.protocol import EXTENSION
from sse_edge.routes.cluster import Cluster
from sse_edge.routes.presence import Presences
from sse_edge.routes.views import Views
from sse_edge.settings import EdgeSettings
from sse_edge.transport import Chunk
from tests.support.fake_log import FakeLog

_TICK_S = 0.05


def log_of_the_catalogue() -> FakeLog:
    """Return a fast log with all topics of the catalogue, all of them empty."""
    log = FakeLog(slowest_s=0.0)
    for topic in CATALOGUE:
        log.make(topic.name, topic.partitions)
    return log


@dataclass
class Answer:
    """What a client got until it left."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


class FakePublisher:
    """Appends to the fake log what the edge writes."""

    def __init__(self, log: FakeLog) -> None:
        self._log = log

    async def publish(
        self,
        event: Event,
        *,
        partition: int | None = None,
        tenant: str | None = None,
        origin: str | None = None,
    ) -> RecordMetadata:
        del tenant, origin
        topic, key = topic_of(event), key_of(event)
        number = await self.partition_for(topic, key or b"") if partition is None else partition
        carried = (current_traceparent() or "").encode()
        offset = self._log.append(
            topic.name, number, key or b"", encode(event), traceparent=carried
        )
        where = self._log.record(topic.name, number, offset)
        return RecordMetadata(topic.name, number, offset, where.timestamp_ms)

    async def partition_for(self, topic: Topic, key: bytes) -> int:
        return self._log.partition_of(key, topic.partitions)

    async def delete(self, topic: Topic, key: bytes) -> None:
        self._log.append(topic.name, await self.partition_for(topic, key), key, None)

    async def flush(self) -> None:
        """All is in the log."""


class _Socket:
    """The socket that a stream takes over."""

    def __init__(self, answer: Answer) -> None:
        self.is_paused = self.is_gone = False
        self.is_taken = False
        self.is_over = asyncio.Event()
        self.leave: Callable[[], object] | None = None
        self._answer = answer

    def begin(self) -> None:
        """The head follows."""

    def take_over(self) -> None:
        self.is_taken = True

    def write(self, chunk: Chunk) -> None:
        self._answer.body += chunk.data

    async def drained(self) -> None:
        """It is never paused."""

    def end(self, within_s: float) -> None:
        del within_s
        self.is_over.set()

    def when_gone(self, call: Callable[[], object] | None) -> None:
        self.leave = call


class AsgiEdge:
    """An edge, and a way to send it requests."""

    def __init__(self, app: FastAPI) -> None:
        self.app = app
        self.errors: list[str] = []
        """What the parts of the edge have logged as errors."""

    async def request(
        self,
        path: str,
        query: str = "",
        *,
        method: str = "GET",
        content: bytes = b"",
        headers: Sequence[tuple[bytes, bytes]] = ((b"content-type", b"application/json"),),
        stays_s: float = 1.0,
    ) -> Answer:
        """Send a request, and return what came until the answer ended or the client left."""
        answer = Answer()
        socket = _Socket(answer)
        gone = asyncio.Event()
        given = [{"type": "http.request", "body": content, "more_body": False}]

        async def receive() -> MutableMapping[str, Any]:
            if given:
                return given.pop()
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                answer.status = message["status"]
                answer.headers = {k.decode(): v.decode() for k, v in message["headers"]}
            else:
                answer.body += message.get("body", b"")

        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "scheme": "http",
            "method": method,
            **_target(path, query, headers),
            "extensions": {EXTENSION: socket},
        }
        async with asyncio.TaskGroup() as tasks:
            answering = tasks.create_task(self.app(scope, receive, send))
            await asyncio.wait([answering], timeout=stays_s)
            gone.set()
        if socket.is_taken:
            with suppress(TimeoutError):
                async with asyncio.timeout(stays_s):
                    await socket.is_over.wait()
            if socket.leave is not None:
                socket.leave()
        return answer

    async def websocket(
        self,
        path: str,
        query: str = "",
        *,
        headers: Sequence[tuple[bytes, bytes]] = (),
        subprotocols: Sequence[str] = (),
        messages: Sequence[MutableMapping[str, Any]] = (),
        stays_s: float = 1.0,
    ) -> Sequence[MutableMapping[str, Any]]:
        """Open a WebSocket, send messages, and return what came until it ended or the client left.

        Args:
            path: the path.
            query: the query.
            headers: all headers but `host`.
            subprotocols: what the client offers.
            messages: the client's messages, as ASGI has them.
            stays_s: how long the client stays.
        """
        given: list[MutableMapping[str, Any]] = [{"type": "websocket.connect"}, *messages]
        given.reverse()
        found: list[MutableMapping[str, Any]] = []
        gone = asyncio.Event()

        async def receive() -> MutableMapping[str, Any]:
            if given:
                return given.pop()
            await gone.wait()
            return {"type": "websocket.disconnect", "code": 1000}

        async def send(message: MutableMapping[str, Any]) -> None:
            found.append(message)

        scope = {
            "type": "websocket",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "scheme": "ws",
            **_target(path, query, headers),
            "subprotocols": list(subprotocols),
            "extensions": {"websocket.http.response": {}},  # uvicorn's
        }
        async with asyncio.TaskGroup() as tasks:
            answering = tasks.create_task(self.app(scope, receive, send))
            await asyncio.wait([answering], timeout=stays_s)
            gone.set()
        return found


def _target(path: str, query: str, headers: Sequence[tuple[bytes, bytes]]) -> dict[str, Any]:
    return {
        "path": unquote(path),
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "headers": [(b"host", b"localhost"), *headers],
        "client": ("127.0.0.1", 1),
        "server": ("edge", 80),
    }


@asynccontextmanager
async def serving(log: FakeLog, **settings: Any) -> AsyncGenerator[AsgiEdge]:
    """Run an edge on a log."""
    options: dict[str, Any] = {
        "framers": 0,
        "processor_patience_s": 0.5,
        "broker_patience_s": 5.0,
        "writes_per_minute_max": 1_000_000,
    } | settings
    edge_settings = EdgeSettings(**options)
    app = _application(tuple(sorted(options.items())))
    tail = Tail(log, edge_settings)
    views = app.state.views = Views(log, edge_settings, tail)
    node = app.state.node = Node(log, edge_settings, tail, views)
    publisher = app.state.publisher = cast("Publisher", FakePublisher(log))
    app.state.presences = Presences(1.0, lambda: node.draining)
    cluster = app.state.cluster = Cluster(node, views, publisher)
    edge = AsgiEdge(app)
    handler = _Keeping(edge.errors)
    logging.getLogger().addHandler(handler)
    try:
        async with asyncio.TaskGroup() as tasks:
            parts = [tasks.create_task(part.run()) for part in (node, views)]
            await _until(lambda: node.tail.connected)
            async with cluster.beating():
                yield edge
            for part in parts:
                part.cancel()
    finally:
        logging.getLogger().removeHandler(handler)


@cache
def _application(options: tuple[tuple[str, Any], ...]) -> FastAPI:
    """Return the routes, which take some time to build; the parts behind them are each edge's."""
    return build_api(EdgeSettings(**dict(options)), FairQueue())


async def _until(holds: Callable[[], bool]) -> None:
    while not holds():  # noqa: ASYNC110  # what it waits for sets no event
        await asyncio.sleep(_TICK_S)


class _Keeping(logging.Handler):
    """Keeps the errors that are logged."""

    def __init__(self, kept: list[str]) -> None:
        super().__init__(logging.ERROR)
        self._kept = kept
        self.setFormatter(logging.Formatter("%(name)s: %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        self._kept.append(self.format(record))
