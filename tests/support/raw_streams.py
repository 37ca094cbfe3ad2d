"""A client of a stream, socket by socket: from any address of loopback, with or without TLS."""

import asyncio
import ssl
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from tests.support.sse import Block, Reader


class RawStream:
    """An open response."""

    def __init__(self, reader: asyncio.StreamReader, head: bytes) -> None:
        self._reader = reader
        self._blocks = Reader()
        lines = head.decode("latin-1").split("\r\n")
        self.status = int(lines[0].split(" ")[1])
        self.headers = {
            name.lower(): value.strip()
            for name, _, value in (line.partition(":") for line in lines[1:])
        }
        self.head_s = time.monotonic()
        self.blocks: list[Block] = []
        self.raw = b""
        self.is_over = False

    async def more(self) -> bytes:
        """Read one piece; empty at the end, also where the stream is cut. No piece is after it."""
        assert not self.is_over, f"{self.status}: {self.raw[-500:]!r}"
        try:
            piece = await self._piece()
        except (OSError, asyncio.IncompleteReadError, ValueError):
            piece = b""
        self.is_over = not piece
        self.raw += piece
        if "content-encoding" not in self.headers:
            self.blocks += self._blocks.feed(piece)
        return piece

    async def events(self, name: str, count: int) -> list[Block]:
        """Read until there are so many events of a name."""
        while len(found := [block for block in self.blocks if block.event == name]) < count:
            await self.more()
        return found

    async def _piece(self) -> bytes:
        if self.headers.get("transfer-encoding") != "chunked":
            length = int(self.headers.get("content-length", 1 << 16))
            return await self._reader.read(max(0, length - len(self.raw)))
        size = int((await self._reader.readuntil(b"\r\n")).strip(), 16)
        return (await self._reader.readexactly(size + 2))[:-2]


@asynccontextmanager
async def raw_stream(
    url: str,
    *,
    source: str = "127.0.0.1",
    headers: Mapping[str, str] | None = None,
    tls: ssl.SSLContext | None = None,
) -> AsyncGenerator[RawStream]:
    """Send a GET from an address, and read the head of the response."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(
        parts.hostname,
        parts.port,
        local_addr=(source, 0),
        ssl=tls if parts.scheme == "https" else None,
        limit=1 << 20,
    )
    given = {"Host": "localhost", "Accept": "text/event-stream"} | dict(headers or {})
    lines = "".join(f"{name}: {value}\r\n" for name, value in given.items())
    path = f"{parts.path}?{parts.query}" if parts.query else parts.path
    writer.write(f"GET {path} HTTP/1.1\r\n{lines}\r\n".encode())
    try:
        yield RawStream(reader, await reader.readuntil(b"\r\n\r\n"))
    finally:
        writer.transport.abort()
