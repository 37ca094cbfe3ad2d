"""Uvicorn's HTTP protocol, with bounds, deadlines and a direct way to the socket.

Uvicorn has no deadline for a request's head or for writing, and its parser accepts heads of any
size, so slow heads and clients that never read are held for ever. Only the protocol class sees
these bytes, so it bounds them:

- a head has at most `HEAD_BYTES_MAX` bytes and `HEAD_S` seconds;
- a client that reads nothing while bytes wait for it is disconnected after `STALLED_S` seconds;
- a process holds at most `SocketBudget.maximum` sockets, and answers 503 to a client beyond them.

A stream writes to its `SocketTransport`, which the request's scope holds under `EXTENSION`. It
writes without a coroutine, so that one loop can serve a thousand live clients. When it has taken
the socket over, the application releases the request: its scope and the frames of its middleware
were two thirds of the cost of an idle connection.
"""

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import Any, ClassVar

from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from sse_edge.delivery.admission import SocketBudget
from sse_edge.transport import Chunk

logger = logging.getLogger(__name__)

EXTENSION = "tapewire.transport"

HEAD_BYTES_MAX = 32 << 10
"""A cursor has at most 2 KiB; the rest is for cookies and proxies. Nginx has the same limit."""
HEAD_S = 10.0
STALLED_S = 600.0
"""Far above the pauses of a slow client: this ends connections whose client has disappeared."""

_WAITING_BYTES_MAX = 16 << 10
"""The bytes that may wait for a client before it is paused; one write may exceed them."""
_LINGER_S = 0.5
_UNAVAILABLE = 503
_HEAD_TOO_LARGE = b"a request's head has at most %d bytes\n" % HEAD_BYTES_MAX
_UNSENT_BYTES_MAX = 256 << 10
"""The kernel's buffer of unsent bytes for each client, which else grows to megabytes."""


class SocketTransport:
    """The transport of one request."""

    __slots__ = (
        "_drained",
        "_is_chunked",
        "_on_gone",
        "_protocol",
        "_write",
        "cycle",
        "is_gone",
        "is_paused",
    )

    def __init__(self, protocol: "EdgeProtocol", *, is_chunked: bool) -> None:
        self._protocol = protocol
        self._write = protocol.transport.write
        self._is_chunked = is_chunked
        self._drained: asyncio.Future[None] | None = None
        self._on_gone: Callable[[], object] | None = None
        self.cycle: RequestResponseCycle | None = None
        """Uvicorn's own part in the request, until the socket is taken over."""
        self.is_paused = False
        self.is_gone = False

    def write(self, chunk: Chunk) -> None:
        """Write whole blocks; do nothing if the client has disconnected."""
        if not self.is_gone:
            self._write(chunk.framed if self._is_chunked else chunk.data)

    async def drained(self) -> None:
        """Wait until the transport is not paused."""
        if self.is_paused and not self.is_gone:
            self._drained = asyncio.get_running_loop().create_future()
            try:
                await self._drained
            finally:
                self._drained = None

    def begin(self) -> None:
        """Prepare a response of unknown length, before its head is sent."""
        if not self._is_chunked:  # HTTP/1.0, which uvicorn would send chunks that it cannot read
            assert self.cycle is not None
            self.cycle.chunked_encoding = False

    def take_over(self) -> None:
        """Take the socket over from uvicorn, after the response's head was sent."""
        cycle, self.cycle = self.cycle, None
        assert cycle is not None
        # For uvicorn the response is complete, so it releases the request.
        cycle.response_complete = True
        self._protocol.release_socket()

    def end(self, within_s: float) -> None:
        """End the response, and close the connection at the latest after `within_s`."""
        transport = self._protocol.transport
        if transport.is_closing():
            return
        if self._is_chunked:
            self._write(b"0\r\n\r\n")
        transport.close()
        self._protocol.loop.call_later(within_s, transport.abort)

    def when_gone(self, call: Callable[[], object] | None) -> None:
        """Set the function to call when the client disconnects; None for none."""
        self._on_gone = call

    def set_paused(self, *, is_paused: bool) -> None:
        """Set whether written bytes wait for the client to read."""
        self.is_paused = is_paused
        if not is_paused and self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    def disconnected(self) -> None:
        """Mark the connection as closed, and call the function that waits for it."""
        self.is_gone = True
        self.set_paused(is_paused=False)
        if self._on_gone is not None:
            self._on_gone()


class EdgeProtocol(HttpToolsProtocol):
    """One connection from a client."""

    budget: ClassVar[SocketBudget] = SocketBudget()
    """Counts the connections of this process."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._transports: list[SocketTransport] = []
        """The transports of the request in progress and of the pipelined requests after it."""
        self._head_bytes = 0
        self._reads_head = True
        self._ignores_input = False
        """Whether all further bytes from the client are ignored."""
        self._head_limit: asyncio.TimerHandle | None = None
        self._stall_limit: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn names its own class
        """Set the socket's limits, and the deadline of the first head."""
        super().connection_made(transport)
        self.budget.open += 1
        if self.budget.open > self.budget.maximum:
            self._refuse_for_lack_of_room()
            return
        transport.set_write_buffer_limits(high=_WAITING_BYTES_MAX)
        sock = transport.get_extra_info("socket")
        if sock is not None and hasattr(socket, "TCP_NOTSENT_LOWAT"):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT_BYTES_MAX)
        self._head_limit = self.loop.call_later(HEAD_S, transport.abort)

    def data_received(self, data: bytes) -> None:
        """Parse bytes, and bound the size of a request's head."""
        if self._ignores_input:
            return
        if self._reads_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._reads_head and self._head_bytes > HEAD_BYTES_MAX:
            self._refuse(431, _HEAD_TOO_LARGE)

    def on_message_begin(self) -> None:
        """Set the deadline of a request's head."""
        super().on_message_begin()
        self._reads_head = True
        if self._head_limit is None:
            self._head_limit = self.loop.call_later(HEAD_S, self.transport.abort)

    def on_headers_complete(self) -> None:
        """Start the application, with a transport in the request's scope."""
        self._reads_head = False
        self._head_bytes = 0
        self._head_limit = _stopped(self._head_limit)
        size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        if size > HEAD_BYTES_MAX:
            self._refuse(431, _HEAD_TOO_LARGE)
            return
        parser: Any = self.parser
        transport = SocketTransport(self, is_chunked=parser.get_http_version() != "1.0")
        transport.is_paused = self.flow.write_paused
        self._transports.append(transport)
        extensions: dict[Any, Any] = {EXTENSION: transport}
        self.scope["extensions"] = extensions
        super().on_headers_complete()
        transport.cycle = self.cycle

    def on_body(self, body: bytes) -> None:
        """Receive a piece of a request's body."""
        if not self._ignores_input:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """End a request."""
        if not self._ignores_input:
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """Continue with the next pipelined request."""
        if self._transports:
            del self._transports[0]
        super().on_response_complete()

    def pause_writing(self) -> None:
        """Pause the transports, and set the deadline for the client to read."""
        super().pause_writing()
        self._stall_limit = self.loop.call_later(STALLED_S, self.transport.abort)
        for transport in self._transports:
            transport.set_paused(is_paused=True)

    def resume_writing(self) -> None:
        """Resume the transports."""
        super().resume_writing()
        self._stall_limit = _stopped(self._stall_limit)
        for transport in self._transports:
            transport.set_paused(is_paused=False)

    def connection_lost(self, exc: Exception | None) -> None:
        """Release everything that waits for the client."""
        self._head_limit = _stopped(self._head_limit)
        self._stall_limit = _stopped(self._stall_limit)
        self.budget.open -= 1
        super().connection_lost(exc)
        for transport in self._transports:
            transport.disconnected()
        self._transports.clear()

    def release_socket(self) -> None:
        """Leave the socket to the transport of the request in progress."""
        self._ignores_input = True
        self._unset_keepalive_if_required()
        self.flow.resume_reading()  # else a disconnect would not be noticed
        del self._transports[1:]
        self.pipeline.clear()
        self.cycle = self.scope = self.headers = self.parser = None  # type: ignore[assignment]  # frees memory

    def _refuse_for_lack_of_room(self) -> None:
        self.budget.refused += 1
        if self.budget.refused.bit_count() == 1:  # the 1st, 2nd, 4th, 8th ...
            logger.error(
                "%d connections were refused: this process holds %d, and its limit of open files "
                "(ulimit -n) allows no more",
                *(self.budget.refused, self.budget.maximum),
            )
        self._refuse(503, b"this node has no room for another connection; try again\n")

    def _refuse(self, status: int, body: bytes) -> None:
        """Respond with an error to a request that was not read, and ignore all further bytes."""
        self._ignores_input = True
        self.transport.write(
            STATUS_LINE[status]
            + b"content-type: text/plain; charset=utf-8\r\nconnection: close\r\n"
            + b"retry-after: 2\r\n" * (status == _UNAVAILABLE)
            + b"content-length: %d\r\n\r\n%b" % (len(body), body)
        )
        # Closed while the client sends, the socket would be reset before the client reads this.
        self.loop.call_later(_LINGER_S, self.transport.close)


def _stopped(timer: asyncio.TimerHandle | None) -> asyncio.TimerHandle | None:
    if timer is not None:
        timer.cancel()
    return None
