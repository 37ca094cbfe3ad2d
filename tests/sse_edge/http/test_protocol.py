"""The protocol, on a real socket, under an application that streams until it is told to stop."""

import asyncio
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from sse_edge.http import protocol
from sse_edge.http.protocol import EXTENSION, EdgeProtocol, SocketTransport
from sse_edge.transport import Chunk


class App:
    """Answers `/stream` by a wire that is taken over, everything else with a few bytes."""

    def __init__(self) -> None:
        self.wires: asyncio.Queue[SocketTransport] = asyncio.Queue()
        self.requests = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        del receive
        assert scope["type"] == "http"
        self.requests += 1
        if scope["path"] == "/stream":
            transport: SocketTransport = scope["extensions"][EXTENSION]
            transport.begin()
            await send({"type": "http.response.start", "status": 200, "headers": []})
            transport.take_over()
            if scope["query_string"]:
                transport.write(Chunk(b"data: 1\n\n"))
                transport.write(Chunk(b"data: 2\n\n"))
            await self.wires.put(transport)
            return
        headers = [(b"content-length", b"5")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"hello"})


@asynccontextmanager
async def serving() -> AsyncGenerator[tuple[App, int]]:
    app = App()
    config = uvicorn.Config(app, http=EdgeProtocol, lifespan="off", log_config=None)
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        config.load()
        server.lifespan = config.lifespan_class(config)
        await server.startup(sockets=[listening])
        try:
            yield app, listening.getsockname()[1]
        finally:
            await server.shutdown(sockets=[listening])


async def connect(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", port)


async def ended(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(10):
        try:
            return await reader.read()
        except ConnectionResetError:
            return b"reset"


@pytest.mark.parametrize("pieces", [1, 40])
async def test_a_head_that_is_too_large_is_refused(pieces: int) -> None:
    async with serving() as (app, port):
        reader, writer = await connect(port)
        head = b"GET / HTTP/1.1\r\nHost: a\r\nX-Long: " + b"x" * 40_000
        size = len(head) // pieces + 1
        for start in range(0, len(head), size):
            writer.write(head[start : start + size])
            await writer.drain()
        writer.write(b"\r\n\r\n")
        answer = await ended(reader)
        assert answer.startswith(b"HTTP/1.1 431 ")
        assert b"at most 32768 bytes" in answer
        assert app.requests == 0
        writer.close()


async def test_a_head_that_does_not_come_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(protocol, "HEAD_S", 0.2)
    async with serving() as (app, port):
        silent, one = await connect(port)
        slow, other = await connect(port)
        other.write(b"GET / HTTP/1.1\r\nHost")
        assert await ended(silent) == b""
        assert await ended(slow) == b""
        assert app.requests == 0
        one.close()
        other.close()


async def test_requests_follow_each_other_on_one_connection() -> None:
    async with serving() as (app, port):
        reader, writer = await connect(port)
        for _ in range(3):
            writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            async with asyncio.timeout(10):
                answer = await reader.readuntil(b"hello")
            assert answer.startswith(b"HTTP/1.1 200 ")
        assert app.requests == 3
        writer.close()


async def test_a_stream_has_its_socket_for_itself() -> None:
    async with serving() as (app, port):
        reader, writer = await connect(port)
        more = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
        writer.write(b"GET /stream HTTP/1.1\r\nHost: a\r\n\r\n" + more * 50)
        transport = await app.wires.get()
        transport.write(Chunk(b"data: 1\n\n"))
        async with asyncio.timeout(10):
            answer = await reader.readuntil(b"data: 1\n\n\r\n")
        assert b"transfer-encoding: chunked" in answer
        assert answer.endswith(b"\r\n\r\n9\r\ndata: 1\n\n\r\n")
        transport.end(5)
        assert await ended(reader) == b"0\r\n\r\n"
        assert app.requests == 1
        writer.close()


async def test_the_head_and_what_is_written_at_once_are_sent_together() -> None:
    async with serving() as (app, port):
        reader, writer = await connect(port)
        writer.write(b"GET /stream?at-once HTTP/1.1\r\nHost: a\r\n\r\n")
        async with asyncio.timeout(10):
            answer = await reader.read(1 << 16)
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert answer.endswith(b"\r\n\r\n9\r\ndata: 1\n\n\r\n9\r\ndata: 2\n\n\r\n")
        (await app.wires.get()).end(5)
        assert await ended(reader) == b"0\r\n\r\n"
        writer.close()


async def test_the_head_does_not_wait_for_what_is_written_later() -> None:
    async with serving() as (app, port):
        reader, writer = await connect(port)
        writer.write(b"GET /stream HTTP/1.1\r\nHost: a\r\n\r\n")
        async with asyncio.timeout(10):
            head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        (await app.wires.get()).end(5)
        assert await ended(reader) == b"0\r\n\r\n"
        writer.close()


async def test_a_client_of_http_1_0_gets_no_chunks() -> None:
    async with serving() as (app, port):
        reader, writer = await connect(port)
        writer.write(b"GET /stream HTTP/1.0\r\n\r\n")
        transport = await app.wires.get()
        transport.write(Chunk(b"data: 1\n\n"))
        transport.end(5)
        head, _, body = (await ended(reader)).partition(b"\r\n\r\n")
        assert b"chunked" not in head
        assert body == b"data: 1\n\n"
        writer.close()


async def test_a_wire_says_when_it_is_full_and_when_the_client_has_gone() -> None:
    async with serving() as (app, port):
        reader, writer = await connect(port)
        writer.write(b"GET /stream HTTP/1.1\r\nHost: a\r\n\r\n")
        transport = await app.wires.get()
        gone = asyncio.Event()
        transport.when_gone(gone.set)
        while not transport.is_paused:
            transport.write(Chunk(bytes(1 << 20)))
        async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
            room = tasks.create_task(transport.drained())
            while not room.done():
                await reader.read(1 << 16)
        assert not transport.is_paused
        writer.transport.abort()
        async with asyncio.timeout(10):
            await gone.wait()
        assert transport.is_gone
        transport.write(Chunk(b"nobody reads this"))


async def test_a_client_that_never_reads_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "STALLED_S", 0.2)
    async with serving() as (app, port):
        _, writer = await connect(port)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(b"GET /stream HTTP/1.1\r\nHost: a\r\n\r\n")
        transport = await app.wires.get()
        gone = asyncio.Event()
        transport.when_gone(gone.set)
        while not transport.is_paused:
            transport.write(Chunk(bytes(1 << 20)))
        async with asyncio.timeout(10):
            await gone.wait()
        writer.close()
