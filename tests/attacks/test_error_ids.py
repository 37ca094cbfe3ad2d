"""Errors say a reason and an id, and the log says the rest under that id, at a bounded rate."""

import asyncio
import json
import logging
import re

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from sse_edge import failure_log
from sse_edge.errors import LogUnavailable
from sse_edge.failure_log import LINES_MAX, LineBudget
from sse_edge.http import protocol
from tests.support.edge_server import edge_server
from tests.support.fake_log import FakeLog
from tests.support.tenants_log import TenantsLog

HEAD = b"POST /send-message HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
STREAMS = (
    "/api/v1/sse/alerts",
    "/api/v1/sse/streams?topic=alerts",
    "/api/sse/backtest/jobs",
    "/api/sse/backtest/history",
    "/api/sse/backtest/J",
    "/api/sse/backtest/J/data",
    "/trainmodel/stream/T",
    "/chat-stream",
    "/user-specific-stream/alice",
    "/process/stream?message=1",
)
_ID = re.compile(r'"id":"([0-9a-f]{12})"')


class BrokenLog(TenantsLog):
    """A log that can be followed, and not read: as with a topic without a leader."""

    async def end_offsets(self, *_: object) -> dict[object, int]:  # type: ignore[override]
        raise LogUnavailable("the topic secret-prefix.x of broker-7:9092 has no leader")


@pytest.fixture(autouse=True)
def no_lines_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave this second's lines to each test, though another has just caused a flood."""
    monkeypatch.setattr(failure_log, "_budget", LineBudget("refusals"))


@pytest.mark.parametrize(
    ("request_line", "status", "reason"),
    [
        (b"\x16\x03\x01 no HTTP\r\n\r\n", 400, "malformed"),
        (HEAD + b"X: " + b"x" * 40_000 + b"\r\n\r\n", 431, "head_too_large"),
        (HEAD + b"X: y\r\n" * 200 + b"\r\n", 431, "head_too_large"),
        (HEAD + b"Content-Length: 99999999\r\n\r\n", 413, "body_too_large"),
        (HEAD + b"Content-Length: 9\r\n\r\n{", 408, "body_too_slow"),
    ],
)
async def test_what_is_refused_before_the_application_has_an_id_in_the_log(
    request_line: bytes,
    status: int,
    reason: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(protocol, "BODY_S", 0.2)
    async with edge_server(log=FakeLog(slowest_s=0)) as edge:
        caplog.set_level(logging.INFO)
        head, _, body = (await edge.answer(request_line)).partition(b"\r\n\r\n")
    problem = json.loads(body)
    assert head.startswith(f"HTTP/1.1 {status}".encode())
    assert (problem["status"], problem["reason"]) == (status, reason)
    assert len(re.findall(f"refused {problem['id']}: {reason} {status}", caplog.text)) == 1


HANDSHAKE = b"Host: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
KEY = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
VERSION = b"Sec-WebSocket-Version: 13\r\n"
SOCKET = b"GET /ws/backtest/J HTTP/1.1\r\n" + HANDSHAKE
PREFLIGHT = b"OPTIONS /send-message HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"


@pytest.mark.parametrize(
    ("request_bytes", "status", "reason", "text"),
    [
        (SOCKET + VERSION, 400, "malformed", "the header Sec-WebSocket-Key is missing"),
        (SOCKET + KEY, 400, "malformed", "the header Sec-WebSocket-Version is missing"),
        (
            SOCKET + KEY + VERSION + b"Sec-WebSocket-Protocol: bearer; s3cret\r\n",
            *(400, "malformed", "the header Sec-WebSocket-Protocol is invalid"),
        ),
        (
            SOCKET + KEY + b"Sec-WebSocket-Version: 8\r\n",
            *(400, "malformed", "the header Sec-WebSocket-Version is invalid"),
        ),
        (SOCKET.replace(b"GET", b"POST") + KEY + VERSION, 400, "malformed", "opened by GET"),
        (SOCKET + KEY + VERSION + b"Content-Length: 3\r\n", 400, "malformed", "has a body"),
        (SOCKET + KEY + VERSION + b"Transfer-Encoding: chunked\r\n", 400, "malformed", "a body"),
        (
            SOCKET + KEY + VERSION + b"Cookie: " + b"s3cret" * 2_000 + b"\r\n",
            *(431, "head_too_large", "at most 8192 bytes"),
        ),
        (
            SOCKET.replace(b"/J", b"/J?token=" + b"s3cret" * 2_000) + KEY + VERSION,
            *(431, "head_too_large", "at most 8192 bytes"),
        ),
        (
            SOCKET.replace(b"/ws/backtest/J", b"/nowhere?token=s3cret") + KEY + VERSION,
            *(404, "not_found", "no WebSocket is at '/nowhere'"),
        ),
        (
            PREFLIGHT + b"Origin: https://x.example\r\nAccess-Control-Request-Method: POST\r\n",
            *(400, "preflight_refused", "its origin is not allowed"),
        ),
        (
            PREFLIGHT + b"Origin: http://localhost:1\r\nAccess-Control-Request-Method: PATCH\r\n",
            *(400, "preflight_refused", "its method is not allowed"),
        ),
    ],
)
async def test_a_handshake_or_preflight_that_is_refused_has_an_id_in_the_log_and_is_closed(
    request_bytes: bytes, status: int, reason: str, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with edge_server(log=FakeLog(slowest_s=0)) as edge:
        caplog.set_level(logging.INFO)
        answer = await edge.answer(request_bytes + b"\r\n")  # until the edge closes the socket
    head, _, body = answer.partition(b"\r\n\r\n")
    problem = json.loads(body)
    assert head.startswith(f"HTTP/1.1 {status}".encode())
    assert (problem["status"], problem["reason"]) == (status, reason)
    assert text in problem["detail"]
    assert len(re.findall(f"refused {problem['id']}: {reason} {status}", caplog.text)) == 1
    logged = [record for record in caplog.records if record.name.startswith("sse_edge")]
    assert not any("s3cret" in record.getMessage() for record in logged)
    assert "s3cret" not in body.decode()
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_a_flood_of_what_is_no_http_writes_few_lines(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with edge_server(log=FakeLog(slowest_s=0), connections_per_ip_max=1_000) as edge:
        caplog.set_level(logging.INFO)
        began_s = asyncio.get_running_loop().time()
        async with asyncio.TaskGroup() as tasks:
            for _ in range(200):
                tasks.create_task(edge.answer(b"\0\r\n\r\n"))
        seconds = int(asyncio.get_running_loop().time() - began_s) + 2
    assert 0 < caplog.text.count(": malformed 400") <= LINES_MAX * seconds


async def test_error_events_hide_what_only_the_operator_needs(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    faults = {}
    async with (
        edge_server(log=BrokenLog()) as edge,
        httpx.AsyncClient(base_url=edge.url, timeout=30) as http,
    ):
        for path in STREAMS:
            text = await _until_error(http, path)
            ids = _ID.findall(text)
            is_logged = bool(ids) and f"refused {ids[-1]}: no_broker" in caplog.text
            if not is_logged or re.search("secret-prefix|broker-7|leader", text):
                faults[path] = text
    assert faults == {}
    assert "secret-prefix.x of broker-7:9092 has no leader" in caplog.text


async def test_a_websocket_is_closed_with_the_id_and_without_names_of_topics(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    async with (
        edge_server(log=BrokenLog()) as edge,
        connect(f"{edge.url.replace('http', 'ws')}/ws/backtest/J") as socket,
    ):
        with pytest.raises(ConnectionClosed) as closed:
            await socket.recv()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1013
    found = re.fullmatch(r"Kafka cannot be read now \((\w{12})\)", closed.value.rcvd.reason)
    assert found is not None
    assert f"refused {found[1]}: no_broker 503 to WEBSOCKET /ws/backtest/J" in caplog.text


async def _until_error(http: httpx.AsyncClient, path: str) -> str:
    text = ""
    headers = {"Accept": "text/event-stream"}
    async with http.stream("GET", path, headers=headers) as answer:
        try:
            async with asyncio.timeout(2):
                async for piece in answer.aiter_text():
                    text += piece
                    if '"id":"' in text:
                        break
        except TimeoutError:
            pass
    return text
