"""A whole edge in the process of a test, without Kafka: for what is decided before the log is."""

import asyncio
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any
from unittest.mock import patch

import uvicorn

from sse_edge.app import build_app
from sse_edge.http.address_sockets import AddressSockets
from sse_edge.http.protocol import EdgeProtocol
from sse_edge.http.server import server_options
from sse_edge.settings import EdgeSettings

NOWHERE = "localhost:1"


class EdgeServer:
    """A running edge."""

    def __init__(self, port: int, scheme: str = "http") -> None:
        self.port = port
        self.url = f"{scheme}://127.0.0.1:{port}"

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


@asynccontextmanager
async def edge_server(**settings: Any) -> AsyncGenerator[EdgeServer]:
    """Serve an edge whose Kafka is away."""
    options: dict[str, Any] = {
        "bootstrap_servers": NOWHERE,
        "framers": 0,
        "broker_patience_s": 0.2,
        "processor_patience_s": 0.2,
    }
    edge = EdgeSettings(**(options | settings))
    server = uvicorn.Server(uvicorn.Config(build_app(edge), **server_options(edge)))
    config = server.config
    addresses = AddressSockets()
    addresses.bound(edge.connections_per_ip_max, edge.trusted_proxies)
    with (
        patch.object(EdgeProtocol, "addresses", addresses),
        patch("sse_edge.app._TOPICS_S", 0.2),  # a thread that asks for topics is waited for
        socket.create_server(("127.0.0.1", 0)) as listening,
    ):
        config.load()
        server.lifespan = config.lifespan_class(config)
        await server.startup(sockets=[listening])
        try:
            yield EdgeServer(listening.getsockname()[1], "https" if config.is_ssl else "http")
        finally:
            await server.shutdown(sockets=[listening])
