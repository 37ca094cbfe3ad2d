"""`SSEResponse` serves an async iterator as server-sent events, for endpoints of your own.

    @app.get("/counter")
    async def counter():
        async def count():
            for number in range(10):
                yield {"data": number, "event": "count", "id": str(number)}
                await asyncio.sleep(1)

        return SSEResponse(count(), ping_interval=30)

The events are as durable as the iterator. For ids that any node can resume, write to a topic and
add a channel.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.background import BackgroundTask
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from sse_edge.caller import Caller, tenant_of
from sse_edge.compression import GZIP_HEADERS, Gzip, takes_gzip
from sse_edge.errors import EdgeError
from sse_edge.failure_log import new_failure_id
from sse_edge.frame import Text, body
from sse_edge.http.headers import SSE_HEADERS

logger = logging.getLogger(__name__)

_FIELDS = frozenset({"data", "event", "id", "retry"})


@dataclass(slots=True)
class Sent:
    """Counts of the responses of this process."""

    open: int = 0
    """The open responses, without those that a node counts."""
    events: int = 0
    errors: int = 0


class SentByTenant:
    """Counts of the responses of this process, by the tenant of their callers."""

    def __init__(self) -> None:
        self._by_tenant: defaultdict[str, Sent] = defaultdict(Sent)

    def of(self, tenant: str | None) -> Sent:
        """Return the counts of a tenant; "" for callers without one, None for all together."""
        if tenant is not None:
            return self._by_tenant[tenant]
        found = tuple(self._by_tenant.values())
        return Sent(
            sum(sent.open for sent in found),
            sum(sent.events for sent in found),
            sum(sent.errors for sent in found),
        )


SENT = SentByTenant()


class SSEResponse(Response):
    """Sends what an async iterator yields, until it ends or the client disconnects."""

    def __init__(
        self,
        content: AsyncIterator[Any],
        *,
        ping_interval: float | None = None,
        background: BackgroundTask | None = None,
        headers: Mapping[str, str] | None = None,
        is_session: bool = False,
    ) -> None:
        """Stream an iterator.

        Args:
            content: yields a `str`, sent as plain text; a mapping with `data` and optionally
                `event`, `id` and `retry` (milliseconds); the bytes of whole blocks; or any other
                value that JSON can hold.
                It is closed when the client disconnects.
            ping_interval: seconds of silence after which a comment keeps the connection alive.
            background: runs once after the stream has ended, for any reason.
            headers: additional headers.
            is_session: whether a node counts the response as one of its open streams.
        """
        super().__init__(headers={**SSE_HEADERS, **(headers or {})})
        self.raw_headers = [pair for pair in self.raw_headers if pair[0] != b"content-length"]
        self._content = content
        self._ping_s = ping_interval
        self._after = background
        self._counted = 0 if is_session else 1
        self._sent = SENT.of("")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the response."""
        accepted = Headers(scope=scope).getlist("accept-encoding")
        gzip = Gzip() if takes_gzip(",".join(accepted)) else None
        if gzip is not None:
            self.headers.update(GZIP_HEADERS)
        caller: Caller | None = scope.get("state", {}).get("caller")
        self._sent = SENT.of(tenant_of(caller) or "")
        self._sent.open += self._counted
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            async with asyncio.TaskGroup() as tasks:
                streaming = tasks.create_task(self._stream(_Body(send, gzip)))
                leaving = tasks.create_task(_until_gone(receive))
                streaming.add_done_callback(lambda _: leaving.cancel())
                leaving.add_done_callback(lambda _: streaming.cancel())
        finally:
            self._sent.open -= self._counted
            if self._after is not None:
                await self._after()

    async def _stream(self, out: "_Body") -> None:
        try:
            try:
                await self._send_events(out)
            except Exception:
                self._sent.errors += 1
                failure_id = new_failure_id()
                logger.exception("the iterator of a stream failed (%s); it ends", failure_id)
                message = "the stream has failed on the server"
                error = {"error": message, "reason": EdgeError.reason, "id": failure_id}
                await out.write(body("fatal_error", error) + b"\n")
            await out.end()
        finally:
            close = getattr(self._content, "aclose", None)
            if close is not None:
                await close()

    async def _send_events(self, out: "_Body") -> None:
        async with asyncio.TaskGroup() as tasks:
            while True:
                coming = tasks.create_task(_next(self._content))
                while not (await asyncio.wait({coming}, timeout=self._ping_s))[0]:
                    await out.write(b": ping\n")
                found = coming.result()
                if not found:
                    return
                await out.write(event_block(found[0]))
                self._sent.events += 1


class _Body:
    """The response body, compressed if the client accepts gzip."""

    def __init__(self, send: Send, gzip: Gzip | None) -> None:
        self._send = send
        self._gzip = gzip

    async def write(self, data: bytes) -> None:
        """Send a whole block."""
        if self._gzip is not None:
            data = self._gzip.encode(data)
            self._gzip.rest()  # the next block may be long in coming
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def end(self) -> None:
        """End the body."""
        rest = b"" if self._gzip is None else self._gzip.end()
        await self._send({"type": "http.response.body", "body": rest})


def event_block(value: Any) -> bytes:
    """Return a yielded value as a block; blocks stay as they are.

    Raises:
        ValueError: an event's name or id has a line break.
        TypeError: JSON cannot hold the value.
    """
    if isinstance(value, bytes):
        return value
    if not (isinstance(value, Mapping) and "data" in value and value.keys() <= _FIELDS):
        return body(None, _data(value)) + b"\n"
    name, event_id, retry = (value.get(field) for field in ("event", "id", "retry"))
    for field, text in (("event", name), ("id", event_id)):
        if text is not None and any(character in str(text) for character in "\r\n\0"):
            raise ValueError(f"{field} is {text!r}; it must not have a line break")
    unfinished = body(
        None if name is None else str(name),
        _data(value["data"]),
        retry_ms=None if retry is None else int(retry),
    )
    return unfinished + (b"\n" if event_id is None else f"id: {event_id}\n\n".encode())


def _data(value: Any) -> Any:
    return Text(value) if isinstance(value, str) else value


async def _next(content: AsyncIterator[Any]) -> tuple[Any, ...]:
    try:
        return (await anext(content),)
    except StopAsyncIteration:
        return ()


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
