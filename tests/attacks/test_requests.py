"""Requests that are too large, too slow or too many are ended before anything is known of them."""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, suppress
from unittest.mock import patch

import httpx
import pytest
from websockets.asyncio.client import connect

from sse_edge.http import protocol
from sse_edge.http.protocol import EdgeProtocol
from tests.support.edge_server import EdgeServer, edge_server, until_closed
from tests.support.fake_log import FakeLog

CLOSED = {"jwt_issuer": "https://issuer.example", "jwt_hs256_secret": "s" * 32}

POST = b"POST /send-message HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def problem_of(answer: bytes) -> dict[str, object]:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"content-type: application/problem+json" in head
    problem: dict[str, object] = json.loads(body)
    return problem


@pytest.mark.parametrize("how", ["with a length", "in chunks"])
async def test_a_body_has_at_most_the_bytes_of_its_endpoint(how: str) -> None:
    message = json.dumps({"message": "x" * (300 << 10)}).encode()

    async def pieces() -> AsyncGenerator[bytes]:
        for start in range(0, len(message), 10_000):
            yield message[start : start + 10_000]

    async with edge_server() as edge, httpx.AsyncClient(base_url=edge.url) as http:
        answer = await http.post(
            "/send-message", content=message if how == "with a length" else pieces()
        )
        assert answer.status_code == 413
        assert answer.json()["detail"] == "the body of this request has at most 262144 bytes"
        small = await http.post("/send-message", json={"message": "small"})
        assert small.status_code == 503  # as Kafka is away: the body was read


async def test_a_book_may_have_a_larger_body_and_that_has_a_bound_too() -> None:
    async with edge_server() as edge, httpx.AsyncClient(base_url=edge.url) as http:
        large = await http.put("/api/v1/books/r/b", content=b" " * (1 << 20))
        assert large.status_code == 400  # it was read, and is no book
        answer = await http.put("/api/v1/books/r/b", content=b" " * ((1 << 20) + 1))
        assert answer.status_code == 413
    for length, status in ((b"1048577", 413), (b"9" * 18, 413), (b"9" * 90, 400)):
        async with edge_server() as edge:
            head = POST + b"Content-Length: %b\r\n\r\n" % length
            assert problem_of(await edge.answer(head))["status"] == status


async def test_a_body_without_a_length_ends_at_the_largest_of_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(protocol, "_REST_S", 0.3)
    async with edge_server() as edge:
        reader, writer = await edge.connect()
        writer.write(b"PUT /api/v1/books/r/b HTTP/1.1\r\nHost: localhost\r\n")
        writer.write(b"Transfer-Encoding: chunked\r\n\r\n")
        async with asyncio.timeout(30):  # far longer than the rest of a body may take
            with suppress(ConnectionError):
                while not reader.at_eof():
                    writer.write(b"8000\r\n%b\r\n" % bytes(0x8000))
                    await writer.drain()
        answer = await until_closed(reader)
        assert not answer or status_of(answer) == 413
        writer.close()


async def test_a_slow_body_is_answered_and_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "BODY_S", 0.3)
    async with edge_server() as edge:
        answer = await edge.answer(POST + b'Content-Length: 100\r\n\r\n{"mess')
        assert problem_of(answer)["status"] == 408


async def test_a_body_whose_answer_came_first_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(protocol, "_REST_S", 0.3)
    async with edge_server(**CLOSED) as edge:
        answer = await edge.answer(POST + b'Content-Length: 100\r\n\r\n{"mess')
        assert status_of(answer) == 401
        assert answer.count(b"HTTP/1.1") == 1


async def test_a_token_is_looked_at_before_the_body_is_read() -> None:
    async with edge_server(**CLOSED) as edge:
        reader, writer = await edge.connect()
        writer.write(POST + b"Expect: 100-continue\r\nContent-Length: 100\r\n\r\n")
        async with asyncio.timeout(10):
            head = await reader.readuntil(b"\r\n\r\n")
        assert status_of(head) == 401  # no `100 Continue` has asked for the body
        # The rest comes nevertheless, and the socket serves the next request.
        writer.write(bytes(100) + b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        async with asyncio.timeout(10):
            assert b"HTTP/1.1 200" in await reader.readuntil(b'{"status":"live"}')
        writer.close()


async def test_a_head_has_a_bounded_number_of_headers() -> None:
    async with edge_server() as edge:
        lines = b"".join(b"X-%d: 1\r\n" % number for number in range(101))
        answer = await edge.answer(b"GET / HTTP/1.1\r\nHost: localhost\r\n" + lines + b"\r\n")
        assert problem_of(answer)["detail"] == "a request has at most 100 headers"


@pytest.mark.parametrize(
    "flood",
    [b"0\r\nX-Trailer: " + b"x" * 800_000, b"1;extension=" + b"x" * 800_000],
    ids=["trailers", "extensions of chunks"],
)
async def test_what_follows_the_chunks_of_a_body_is_bounded(flood: bytes) -> None:
    async with edge_server() as edge:
        reader, writer = await edge.connect()
        writer.write(POST + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n")
        writer.write(flood)
        answer = await until_closed(reader)
        assert not answer or status_of(answer) == 431
        writer.close()


async def test_trailers_are_no_headers() -> None:
    async with edge_server(**CLOSED) as edge:
        trailer = b"2\r\n{}\r\n0\r\nAuthorization: Bearer x\r\n\r\n"
        reader, writer = await edge.connect()
        writer.write(POST + b"Transfer-Encoding: chunked\r\n\r\n" + trailer)
        async with asyncio.timeout(10):
            answer = await reader.readuntil(b"}")
        assert status_of(answer) == 401
        assert b"a token is required" in answer
        writer.close()


async def open_sockets(edge: EdgeServer, count: int, first: bytes, stack: AsyncExitStack) -> int:
    """Open sockets, send the beginning of a request on each, and count those that stay open."""
    readers = []
    for _ in range(count):
        reader, writer = await edge.connect()
        stack.callback(writer.close)
        writer.write(first)
        readers.append(reader)
    async with asyncio.TaskGroup() as tasks:
        ended = [tasks.create_task(_is_closed(reader)) for reader in readers]
    return sum(not task.result() for task in ended)


async def _is_closed(reader: asyncio.StreamReader) -> bool:
    """Return whether a socket is closed soon; the edge closes what it closes within a second."""
    try:
        async with asyncio.timeout(2):
            await reader.read()
    except TimeoutError:
        return False
    except ConnectionResetError:
        pass
    return True


async def test_an_address_holds_only_so_many_idle_sockets_and_still_gets_in() -> None:
    async with edge_server(connections_per_ip_max=2) as edge, AsyncExitStack() as stack:
        assert await open_sockets(edge, 300, b"", stack) <= 64
        async with httpx.AsyncClient(base_url=edge.url) as http:
            assert (await http.get("/health/live")).status_code == 200


async def test_an_address_holds_only_so_many_sockets_with_unfinished_bodies() -> None:
    async with edge_server(connections_per_ip_max=2) as edge, AsyncExitStack() as stack:
        begun = POST + b"Content-Length: 100\r\n\r\n"
        assert await open_sockets(edge, 100, begun, stack) <= 64
        answer = await edge.answer(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert problem_of(answer)["status"] == 429


async def test_a_websocket_is_counted_until_it_is_closed() -> None:
    open_before = EdgeProtocol.budget.open
    async with edge_server(connections_per_ip_max=3) as edge:
        for _ in range(10):
            async with connect(f"ws://127.0.0.1:{edge.port}/ws/backtest/nothing") as websocket:
                await websocket.wait_closed()
    assert EdgeProtocol.budget.open == open_before


async def test_an_idle_socket_is_not_kept_open_by_line_breaks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(protocol, "HEAD_S", 0.3)
    async with edge_server() as edge:
        reader, writer = await edge.connect()
        writer.write(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        async with asyncio.timeout(10):
            await reader.readuntil(b'{"status":"live"}')
        writer.write(b"\r\n")
        assert await until_closed(reader) == b""
        writer.close()


async def test_a_socket_holds_few_requests_and_an_ordinary_pipeline_is_answered() -> None:
    # 256 KiB have room for 13,000 of these, each of which would wait with its own objects.
    most = 0

    def noted(self: EdgeProtocol) -> None:
        nonlocal most
        complete(self)
        most = max(most, len(self._transports))

    complete = EdgeProtocol.on_headers_complete
    async with edge_server(log=FakeLog(slowest_s=0)) as edge:
        with patch.object(EdgeProtocol, "on_headers_complete", noted):
            answer = await edge.answer(b"GET /x HTTP/1.1\r\n\r\n" * 20_000)
        assert answer.count(b"HTTP/1.1 404") <= protocol.PIPELINED_MAX
        assert most == protocol.PIPELINED_MAX
        pipeline = b"GET /x HTTP/1.1\r\n\r\n" * 9 + b"GET /x HTTP/1.0\r\n\r\n"
        assert (await edge.answer(pipeline)).count(b"HTTP/1.1 404") == 10


async def test_a_websocket_whose_client_leaves_at_once_is_no_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with edge_server(log=FakeLog(slowest_s=0)) as edge:
        for _ in range(3):
            async with connect(f"{edge.url.replace('http', 'ws')}/ws/backtest/x") as socket:
                socket.transport.abort()
    assert [
        record for record in caplog.records if record.name == "uvicorn.error" and record.exc_info
    ] == []
