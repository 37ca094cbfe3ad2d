"""A node and its clients over a fake log; the network between them is a method call."""

import asyncio
import zlib
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

from schemas.codec import decode, encode
from schemas.events import RiskAlert, TrainingProgress
from schemas.registry import field_names
from sse_edge.cache.tail import Tail
from sse_edge.cursor import Cursor
from sse_edge.delivery.connection import Connection
from sse_edge.delivery.node import Node
from sse_edge.delivery.options import ConnectionOptions
from sse_edge.delivery.start import FromEdge, Start
from sse_edge.routes.views import Views
from sse_edge.settings import EdgeSettings
from sse_edge.streams.requests import one_channel
from sse_edge.streams.stream import Stream
from sse_edge.transport import Chunk
from tests.support.alerts import raised_alert
from tests.support.fake_log import FakeLog
from tests.support.sse import Block, Reader
from tests.support.strangers import encoded

ALERTS = "risk.alerts"
TRAINING = "training.events"


def alert(entity: str, number: int) -> bytes:
    return encode(
        raised_alert(
            f"{entity}/{number}",
            alert_id=f"a{number}",
            message=f"number {number}",
            entity_id=entity,
            event_time_us=number,
        )
    )


def absurd_alert(**fields: object) -> bytes:
    """Return an alert with fields that may be out of their bounds."""
    ordinary = decode(alert("p", 0))
    whole = {name: getattr(ordinary, name) for name in field_names(RiskAlert)}
    return encoded(RiskAlert, whole | fields)


def progress(task: str, percent: float, status: str = "running") -> bytes:
    return encode(
        TrainingProgress(
            task_id=task,
            progress=percent,
            status=status,
            message="",
            metrics={},
            event_time_us=0,
        )
    )


def write_alerts(log: FakeLog, *numbers: int, entity: str = "p", partition: int = 0) -> None:
    """Append an alert for each number."""
    for number in numbers:
        log.append(ALERTS, partition, entity.encode(), alert(entity, number))


class Client:
    """A client and its transport: it reads what is written, or stalls."""

    def __init__(self) -> None:
        self.blocks: list[Block] = []
        self.reader = Reader()
        self.writes: list[bytes] = []
        self.is_paused = False
        self.over = False
        """Whether the node has ended the stream."""
        self._drained = asyncio.Event()
        self._drained.set()
        self._arrived = asyncio.Event()
        self._unzip = zlib.decompressobj(wbits=31)
        self._is_zipped = False
        self._close: Callable[[], object] = lambda: None

    def zipped(self) -> None:
        self._is_zipped = True

    def stall(self) -> None:
        """Read nothing more: the transport is paused after what was written."""
        self.is_paused = True
        self._drained.clear()

    def read_on(self) -> None:
        self.is_paused = False
        self._drained.set()

    def write(self, chunk: Chunk) -> None:
        data = chunk.data
        if self._is_zipped:
            data = self._unzip.decompress(data)
        self.writes.append(data)
        self.blocks += self.reader.feed(data)
        self._arrived.set()

    async def drained(self) -> None:
        await self._drained.wait()

    def end(self, within_s: float) -> None:
        asyncio.get_running_loop().call_later(within_s if self.is_paused else 0, self._close)

    async def until(self, count: int, *, event: str | None = None) -> list[Block]:
        """Wait until `count` blocks have arrived, of an event if one is given; return them."""
        async with asyncio.timeout(300):
            while True:
                found = [block for block in self.blocks if event is None or block.event == event]
                if len(found) >= count:
                    return found
                self._arrived.clear()
                await self._arrived.wait()

    @property
    def last_id(self) -> str | None:
        return next((block.id for block in reversed(self.blocks) if block.id), None)

    @property
    def messages(self) -> list[str]:
        """The messages of the alerts that have arrived."""
        return [block.inner["message"] for block in self.blocks if block.event == "risk_alert"]


def numbers(client: Client) -> list[int]:
    """Return the numbers of the alerts that a client has got."""
    return [int(message.removeprefix("number ")) for message in client.messages]


class Edge:
    """A node, and a way to connect to it."""

    def __init__(self, node: Node, tasks: asyncio.TaskGroup) -> None:
        self.node = node
        self._tasks = tasks
        self._open: dict[Client, asyncio.Task[None]] = {}
        self.connections = 0

    def connect(
        self,
        stream: Stream | None = None,
        start: Start | str = FromEdge.LATEST,
        **options: Any,
    ) -> Client:
        stream = stream or one_channel("alerts", {})
        if isinstance(start, str) and not isinstance(start, FromEdge):
            start = self.node.codec(stream).decode(start)
        asked = ConnectionOptions("client", start, **options)
        client = Client()
        if asked.gzip:
            client.zipped()
        connection = Connection(self.node, stream, asked, client, "here")

        async def run() -> None:
            await connection.run()
            client.over = True
            client._arrived.set()

        self.connections += 1
        task = self._open[client] = self._tasks.create_task(run())
        client._close = task.cancel
        return client

    async def drop(self, client: Client) -> None:
        """Cut a client off, whatever its connection is doing."""
        task = self._open.pop(client)
        task.cancel()
        await asyncio.wait([task])

    async def ended(self, client: Client) -> None:
        """Wait until the node ends a client's stream."""
        async with asyncio.timeout(300):
            await self._open[client]

    def cursor(self, stream: Stream, text: str) -> Cursor:
        return self.node.codec(stream).decode(text)


@asynccontextmanager
async def running_edge(log: FakeLog, **settings: Any) -> AsyncGenerator[Edge]:
    """Run a node; after the context it is gone at once, as by kill -9."""
    options: dict[str, Any] = {"framers": 0} | settings
    edge_settings = EdgeSettings(**options)
    tail = Tail(log, edge_settings)
    views = Views(log, edge_settings, tail)
    node = Node(log, edge_settings, tail, views)
    async with asyncio.TaskGroup() as tasks:
        parts = [tasks.create_task(part.run()) for part in (node, views)]
        edge = Edge(node, tasks)
        yield edge
        for part in parts:
            part.cancel()
        for task in edge._open.values():
            task.cancel()


def alerts_log(partitions: int = 1, seed: int = 0) -> FakeLog:
    log = FakeLog(seed)
    log.make(ALERTS, partitions)
    return log
