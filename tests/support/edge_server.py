"""A whole edge in the process of a test: without Kafka, or over the log in memory."""

import asyncio
import socket
from collections.abc import AsyncGenerator, Generator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from typing import Any
from unittest.mock import patch

import uvicorn

from sse_edge.app import build_app
from sse_edge.http.address_sockets import AddressSockets
from sse_edge.http.protocol import EdgeProtocol
from sse_edge.http.server import server_options
from sse_edge.settings import EdgeSettings
from tests.support.fake_log import FakeLog
from tests.support.fake_publisher import FakePublisher

NOWHERE = "localhost:1"


class EdgeServer:
    """A running edge."""

    def __init__(
        self,
        port: int,
        scheme: str = "http",
        publisher: FakePublisher | None = None,
        management_port: int | None = None,
    ) -> None:
        self.port = port
        self.publisher = publisher
        self.url = f"{scheme}://127.0.0.1:{port}"
        self.management_url = f"{scheme}://127.0.0.1:{management_port}"

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open a socket to the edge."""
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def answer(self, request: bytes) -> bytes:
        """Send bytes, and return all that the edge answers until it closes the socket."""
        reader, writer = await self.connect()
        writer.write(request)
        try:
            return await until_closed(reader)
        finally:
            writer.close()


async def until_closed(reader: asyncio.StreamReader) -> bytes:
    """Return what comes until the edge closes a socket."""
    found = b""
    async with asyncio.timeout(30):
        try:
            while piece := await reader.read(1 << 16):
                found += piece
        except ConnectionResetError:
            pass
    return found


@contextmanager
def _over(log: FakeLog | None, publisher: FakePublisher | None) -> Generator[None]:
    """Let edges read and write a log in memory while the context lasts, if there is one."""
    if log is None or publisher is None:
        yield
        return

    @asynccontextmanager
    async def in_memory(*_: object, **__: object) -> AsyncGenerator[FakeLog]:
        yield log

    with (
        patch("sse_edge.app.KafkaLog", in_memory),
        patch("sse_edge.app.Publisher", lambda _, **__: publisher),
    ):
        yield


@asynccontextmanager
async def edge_server(**settings: Any) -> AsyncGenerator[EdgeServer]:
    """Serve an edge over a log in memory, the setting `log`, or an edge whose Kafka is away."""
    log: FakeLog | None = settings.pop("log", None)
    publisher = None if log is None else FakePublisher(log)
    options: dict[str, Any] = {
        "bootstrap_servers": NOWHERE,
        "framers": 0,
        "broker_patience_s": 0.2,
        "processor_patience_s": 0.2,
    }
    edge = EdgeSettings(**(options | settings))
    listening = [_listening()]
    if edge.management_port is not None:
        listening.append(_listening())
        edge = edge.model_copy(update={"management_port": listening[1].getsockname()[1]})
    server = uvicorn.Server(uvicorn.Config(build_app(edge), **server_options(edge)))
    config = server.config
    addresses = AddressSockets()
    addresses.bound(edge.connections_per_ip_max, edge.trusted_proxies)
    with (
        _over(log, publisher),
        patch.object(EdgeProtocol, "addresses", addresses),
        patch("sse_edge.app._TOPICS_S", 0.2),  # a thread that asks for topics is waited for
        ExitStack() as sockets,
    ):
        for bound in listening:
            sockets.enter_context(bound)
        config.load()
        server.lifespan = config.lifespan_class(config)
        await server.startup(sockets=listening)
        try:
            scheme = "https" if config.is_ssl else "http"
            port = listening[0].getsockname()[1]
            yield EdgeServer(port, scheme, publisher, edge.management_port)
        finally:
            await server.shutdown(sockets=listening)


def _listening() -> socket.socket:
    # A socket that names its protocol answers at once: asyncio sets TCP_NODELAY only there.
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    bound.bind(("127.0.0.1", 0))
    bound.listen()
    return bound
