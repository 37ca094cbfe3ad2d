"""Requests that still run when the server stops are answered, and are no errors."""

import asyncio
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from sse_edge.delivery.fair_queue import FairQueue
from sse_edge.http.running_requests import RunningRequests

pytestmark = pytest.mark.virtual_time


async def receive() -> Message:
    return {}


async def served(kind: str, *first: Message, is_gone: bool = False) -> list[Message]:
    """What a client gets from a server that stops in the middle of an answer."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        if is_gone:
            raise RuntimeError("the client has left")
        sent.append(message)

    async def waiting(scope: Scope, receive: Receive, send: Send) -> None:
        del scope, receive
        for message in first:
            await send(message)
        await asyncio.Event().wait()

    requests = RunningRequests(waiting, FairQueue())
    asyncio.get_running_loop().call_later(5, requests.stop)
    await requests({"type": kind}, receive, send)
    assert asyncio.get_running_loop().time() == 5
    return sent


async def test_a_request_that_waits_gets_503() -> None:
    start, body = await served("http")
    assert (start["status"], dict(start["headers"])[b"retry-after"]) == (503, b"2")
    assert b'"reason":"draining"' in body["body"]


async def test_a_response_that_has_begun_ends_as_it_is() -> None:
    first: dict[str, Any] = {"type": "http.response.start", "status": 200, "headers": []}
    end = {"type": "http.response.body", "body": b"", "more_body": False}
    assert await served("http", first) == [first, end]


async def test_a_websocket_is_closed_for_a_restart() -> None:
    assert await served("websocket") == [{"type": "websocket.close", "code": 1012}]


async def test_a_client_that_has_left_is_no_error() -> None:
    assert await served("http", is_gone=True) == []


async def test_a_cancelled_request_is_cancelled_while_the_server_runs() -> None:
    requests = RunningRequests(lambda *_: asyncio.Event().wait(), FairQueue())  # type: ignore[arg-type]
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await requests({"type": "http"}, receive, receive)  # type: ignore[arg-type]
    requests.stop()
