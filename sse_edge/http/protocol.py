"""Uvicorn's HTTP protocol, with bounds, deadlines and a direct way to the socket.

Uvicorn has no deadline for reading a request or for writing, and its parser accepts requests of any
size, so slow requests and clients that never read are held for ever. Only the protocol class sees
these bytes, so it bounds them, before anything is known of the caller:

- a head has at most `HEAD_BYTES_MAX` bytes, `HEADERS_MAX` lines and `HEAD_S` seconds;
- a body has at most `BODY_BYTES_MAX` bytes and `BODY_S` seconds; endpoints may allow less;
- what lies between and after the chunks of a body is bounded like a head; trailers are ignored;
- a socket has at most `PIPELINED_MAX` requests, of which one is answered and the others wait;
- a handshake of a WebSocket that the library does not accept is answered, and the socket closed;
- a client that reads nothing while bytes wait for it is disconnected after `STALLED_S` seconds;
- an address holds at most `AddressSockets.maximum` sockets without a stream;
- a process holds at most `SocketBudget.maximum` sockets, and answers 503 to a client beyond them.

A stream writes to its `SocketTransport`, which the request's scope holds under `EXTENSION`. It
writes without a coroutine, so that one loop can serve a thousand live clients. When it has taken
the socket over, the application releases the request: its scope and the frames of its middleware
were two thirds of the cost of an idle connection.
"""

import asyncio
import json
import logging
import socket
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, ClassVar

from uvicorn._types import ASGISendEvent
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.exceptions import InvalidHandshake, InvalidHeader, InvalidMethod, SecurityError
from websockets.http11 import MAX_LINE_LENGTH, Request

from sse_edge.delivery.admission import SocketBudget
from sse_edge.http.address_sockets import AddressSockets
from sse_edge.http.addresses import counted_as
from sse_edge.http.refusals import log_refusal
from sse_edge.transport import Chunk

logger = logging.getLogger(__name__)

EXTENSION = "tapewire.transport"

HEAD_BYTES_MAX = 32 << 10
"""A cursor has at most 2 KiB; the rest is for cookies and proxies. Nginx has the same limit."""
HEADERS_MAX = 100
"""The most lines of a head; browsers and proxies send some 30."""
HEAD_S = 10.0
BODY_BYTES_MAX = 1 << 20
"""The largest body of any endpoint."""
BODY_S = 30.0
"""At 280 kbit/s a body of the largest size comes in time."""
PIPELINED_MAX = 100
"""The most requests of one socket at a time; a browser sends one, and 256 KiB hold 13,000."""
WEBSOCKET_MESSAGE_BYTES_MAX = 4 << 10
"""The largest message from a WebSocket's client; the edge reads none of them."""
STALLED_S = 600.0
"""Far above the pauses of a slow client: this ends connections whose client has disappeared."""

_WAITING_BYTES_MAX = 16 << 10
"""The bytes that may wait for a client before it is paused; one write may exceed them."""
_LINGER_S = 0.5
"""How long a socket stays open after a refusal, for its client to read it while it still sends."""
_REST_S = 5.0
"""How long the rest of a body may take that was answered before it came; nobody waits for it."""
_UNAVAILABLE = 503
_HEAD_TOO_LARGE = f"a request's head has at most {HEAD_BYTES_MAX} bytes"
_TOO_MANY_HEADERS = f"a request has at most {HEADERS_MAX} headers"
_BODY_TOO_LARGE = f"a request's body has at most {BODY_BYTES_MAX} bytes"
_BODY_TOO_SLOW = f"a request's body must come within {BODY_S:.0f} seconds"
_REASONS = {
    408: "body_too_slow",
    413: "body_too_large",
    429: "too_many_connections",
    431: "head_too_large",
    503: "full",
}
"""By status, the code of the reason of a refusal."""
_HAS_BODY = frozenset({b"content-length", b"transfer-encoding"})
_UNSENT_BYTES_MAX = 256 << 10
"""The kernel's buffer of unsent bytes for each client, which else grows to megabytes."""


class _Held:
    """The first bytes of a stream, to be sent together: uvicorn writes its head here."""

    __slots__ = ("_send", "_size", "pieces")

    def __init__(self, send: Callable[[], None]) -> None:
        self.pieces: list[bytes] = []
        self._send = send
        self._size = 0

    def write(self, data: bytes) -> None:
        """Keep bytes; send them all if they are many."""
        self.pieces.append(data)
        self._size += len(data)
        if self._size > _WAITING_BYTES_MAX:
            self._send()


class SocketTransport:
    """The transport of one request."""

    __slots__ = (
        "_drained",
        "_held",
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
        self._write: Callable[[bytes], None] = protocol.transport.write
        self._is_chunked = is_chunked
        self._drained: asyncio.Future[None] | None = None
        self._held: _Held | None = None
        """The first bytes, which wait for the end of the loop's next turn; None once sent."""
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
        """Prepare a response of unknown length, before its head is written."""
        assert self.cycle is not None
        if not self._is_chunked:  # HTTP/1.0, which uvicorn would send chunks that it cannot read
            self.cycle.chunked_encoding = False
        self._held = _Held(self._send_held)
        self.cycle.transport = self._held  # type: ignore[assignment]  # it writes the head only

    def take_over(self) -> None:
        """Take the socket over from uvicorn, after the response's head was written.

        The head is sent with what the connection writes in its first turn of the loop, which is the
        next one: each write costs as much as a tenth of a request. What takes longer is not waited
        for.
        """
        cycle, self.cycle = self.cycle, None
        assert cycle is not None
        # For uvicorn the response is complete, so it releases the request.
        cycle.response_complete = True
        self._protocol.release_socket()
        if self._held is not None:
            self._write = self._held.write
            loop = self._protocol.loop
            loop.call_soon(loop.call_soon, self._send_held)

    def end(self, within_s: float) -> None:
        """End the response, and close the connection at the latest after `within_s`."""
        transport = self._protocol.transport
        if transport.is_closing():
            return
        self._send_held()
        if self._is_chunked:
            self._write(b"0\r\n\r\n")
        transport.close()
        self._protocol.loop.call_later(within_s, transport.abort)

    def _send_held(self) -> None:
        held, self._held = self._held, None
        if held is not None:
            self._write = self._protocol.transport.write
            if not self.is_gone:
                self._write(b"".join(held.pieces))

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
    addresses: ClassVar[AddressSockets] = AddressSockets()
    """Counts the connections of each address that serve no stream."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._transports: list[SocketTransport] = []
        """The transports of the request in progress and of the pipelined requests after it."""
        self._address = ""
        """The address or network by which the client's sockets are counted."""
        self._head_bytes = 0
        """The bytes of a head; in a body, those since its last piece, such as of trailers."""
        self._body_bytes = 0
        self._reads_head = True
        self._reads_body = False
        self._ignores_input = False
        """Whether all further bytes from the client are ignored."""
        self._head_limit: asyncio.TimerHandle | None = None
        self._body_limit: asyncio.TimerHandle | None = None
        self._stall_limit: asyncio.TimerHandle | None = None

    @property
    def is_idle(self) -> bool:
        """Whether no request is in progress."""
        return not (self._transports or self._reads_body)

    def close_idle(self) -> None:
        """Close the socket at once, since its address has too many."""
        self.transport.abort()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn names its own class
        """Set the socket's limits, and the deadline of the first head."""
        super().connection_made(transport)
        self.budget.open += 1
        if self.budget.open > self.budget.maximum:
            self._refuse_for_lack_of_room()
            return
        host = self.client[0] if self.client else ""
        self._address = counted_as(host)
        if not self.addresses.is_proxy(host) and not self.addresses.add(self._address, self):
            self._refuse(429, "this address has too many open connections; close some, or wait")
            return
        transport.set_write_buffer_limits(high=_WAITING_BYTES_MAX)
        sock = transport.get_extra_info("socket")
        if sock is not None and hasattr(socket, "TCP_NOTSENT_LOWAT"):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT_BYTES_MAX)
        self._head_limit = self.loop.call_later(HEAD_S, transport.abort)

    def data_received(self, data: bytes) -> None:
        """Parse bytes, and bound what belongs to a head, or to no piece of a body."""
        if self._ignores_input:
            return
        if self._reads_head or self._reads_body:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._ignores_input:
            return
        if (self._reads_head or self._reads_body) and self._head_bytes > HEAD_BYTES_MAX:
            self._refuse_rest(431, _HEAD_TOO_LARGE)
        elif self.is_idle and self._head_limit is None and self.timeout_keep_alive_task is None:
            # Uvicorn has ended the deadline of an idle socket, and no request has begun.
            self._head_limit = self.loop.call_later(HEAD_S, self.transport.abort)

    def on_message_begin(self) -> None:
        """Set the deadline of a request's head."""
        super().on_message_begin()
        self._reads_head = True
        if self._head_limit is None:
            self._head_limit = self.loop.call_later(HEAD_S, self.transport.abort)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; trailers, which follow a body, are ignored."""
        if self._reads_head and len(self.headers) <= HEADERS_MAX:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Start the application, with a transport in the request's scope."""
        self._reads_head = False
        self._head_bytes = self._body_bytes = 0
        self._head_limit = _stopped(self._head_limit)
        if self._ignores_input or self._refuses_head():
            return
        if len(self._transports) >= PIPELINED_MAX:
            # An answer would have its turn only after those to the earlier requests.
            self._ignores_input = True
            self.transport.abort()
            return
        self._reads_body = any(name in _HAS_BODY for name, _ in self.headers)
        if self._reads_body:
            self._body_limit = self.loop.call_later(BODY_S, self._end_slow_body)
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
        if self._ignores_input:
            return
        self._head_bytes = 0
        self._body_bytes += len(body)
        if self._body_bytes > BODY_BYTES_MAX:
            self._refuse_rest(413, _BODY_TOO_LARGE)
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """End a request."""
        self._reads_body = False
        self._body_limit = _stopped(self._body_limit)
        if not self._ignores_input:
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """Continue with the next pipelined request."""
        if self._transports:
            del self._transports[0]
        self.addresses.used(self._address, self)
        super().on_response_complete()
        if self._reads_body and not self._transports:
            _stopped(self._body_limit)
            self._body_limit = self.loop.call_later(_REST_S, self.transport.abort)

    def handle_websocket_upgrade(self) -> None:
        """Leave the socket to a WebSocket, which counts until it is closed."""
        self._body_limit = _stopped(self._body_limit)
        super().handle_websocket_upgrade()
        websocket = self.transport.get_protocol()
        if isinstance(websocket, EdgeWebSocketProtocol):
            websocket.when_lost = self._count_no_longer
            if websocket.fault is not None:
                websocket.ignore_input()
                self._refuse(*_refusal_of(websocket.fault))

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
        self._body_limit = _stopped(self._body_limit)
        self._stall_limit = _stopped(self._stall_limit)
        self._count_no_longer()
        super().connection_lost(exc)
        for transport in self._transports:
            transport.disconnected()
        self._transports.clear()

    def release_socket(self) -> None:
        """Leave the socket to the transport of the request in progress."""
        self._ignores_input = True
        self._unset_keepalive_if_required()
        self._body_limit = _stopped(self._body_limit)
        self.addresses.remove(self._address, self)
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
        self._refuse(503, "this node has no room for another connection; try again")

    def send_400_response(self, msg: str) -> None:
        """Respond to bytes that are no HTTP."""
        self._refuse_rest(400, msg)

    def _refuses_head(self) -> bool:
        """Respond to a head that exceeds a limit, and return whether it does."""
        size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        length = next((value for name, value in self.headers if name == b"content-length"), b"0")
        if size > HEAD_BYTES_MAX:
            self._refuse_rest(431, _HEAD_TOO_LARGE)
        elif len(self.headers) > HEADERS_MAX:
            self._refuse_rest(431, _TOO_MANY_HEADERS)
        elif len(length) > len(str(BODY_BYTES_MAX)) or int(length or b"0") > BODY_BYTES_MAX:
            self._refuse_rest(413, _BODY_TOO_LARGE)
        return self._ignores_input

    def _end_slow_body(self) -> None:
        self._refuse_rest(408, _BODY_TOO_SLOW)

    def _refuse_rest(self, status: int, detail: str) -> None:
        """Respond to a request that exceeds a limit; close the socket where it cannot be answered.

        It can be answered if no answer to it has begun, and no earlier request waits for one.
        """
        in_progress = len(self._transports)
        if in_progress != self._reads_body or (in_progress and self.cycle.response_started):
            self._ignores_input = True
            self.transport.abort()
            return
        if in_progress:
            self.cycle.disconnected = True  # the application gets no more of it, and sends nothing
            self.cycle.message_event.set()
        self._refuse(status, detail)

    def _refuse(self, status: int, detail: str) -> None:
        """Respond with an error to a request that was not read, and ignore all further bytes."""
        self._ignores_input = True
        self._head_limit = _stopped(self._head_limit)
        self._body_limit = _stopped(self._body_limit)
        title = HTTPStatus(status).phrase
        reason = _REASONS.get(status, "malformed")
        problem: dict[str, object] = {"type": "about:blank", "title": title, "status": status}
        scope: dict[str, Any] = dict(self.scope or {})  # without a path while the head is read
        scope["client"] = self.client
        problem |= {"detail": detail, "reason": reason}
        problem["id"] = log_refusal(scope, status, reason, detail)
        body = json.dumps(problem).encode()
        self.transport.write(
            STATUS_LINE[status]
            + b"content-type: application/problem+json\r\nconnection: close\r\n"
            + b"retry-after: 2\r\n" * (status in (HTTPStatus.TOO_MANY_REQUESTS, _UNAVAILABLE))
            + b"content-length: %d\r\n\r\n%b" % (len(body), body)
        )
        # Closed while the client sends, the socket would be reset before the client reads this.
        self.loop.call_later(_LINGER_S, self.transport.close)

    def _count_no_longer(self) -> None:
        self.budget.open -= 1
        self.addresses.remove(self._address, self)


class EdgeWebSocketProtocol(WebSocketsSansIOProtocol):
    """A connection that has become a WebSocket."""

    when_lost: Callable[[], None] | None = None
    """Called when the connection is closed."""
    _refusal: Exception | None = None
    _ignores_input = False

    @property
    def fault(self) -> Exception | None:
        """Why the handshake was not accepted; None if it was. Nothing was sent then."""
        return self._refusal or self.conn.handshake_exc

    def handle_connect(self, event: Request) -> None:
        """Start the application, if the handshake is valid."""
        try:
            self.conn.process_request(event)
        except InvalidHandshake as error:  # the base class would answer with a text
            self._refusal = error
        else:
            super().handle_connect(event)

    def data_received(self, data: bytes) -> None:
        """Receive what the client sends, unless its handshake was refused."""
        if not self._ignores_input:
            super().data_received(data)

    async def send(self, message: ASGISendEvent) -> None:
        """Send a message of the application."""
        await super().send(message)
        if message["type"] == "websocket.http.response.body":
            self.handshake_complete = True  # else the server logs that nothing was answered

    def ignore_input(self) -> None:
        """Ignore all further bytes from the client, and send nothing."""
        self._ignores_input = True
        self.handshake_complete = self.close_sent = True

    def connection_lost(self, exc: Exception | None) -> None:
        """Count the connection no longer."""
        super().connection_lost(exc)
        if self.when_lost is not None:
            self.when_lost()


def _refusal_of(fault: Exception) -> tuple[int, str]:
    """Return the status and the text for a handshake with a fault, without what may be a token."""
    match fault:
        case SecurityError():
            return 431, f"each line of a WebSocket's head has at most {MAX_LINE_LENGTH} bytes"
        case InvalidMethod():
            return 400, "a WebSocket is opened by GET"
        case InvalidHeader():
            state = "is missing" if fault.value is None else "is invalid"
            return 400, f"no WebSocket was opened: the header {fault.name} {state}"
        case _:
            return 400, "no WebSocket was opened: the request has a body, or an odd head"


def _stopped(timer: asyncio.TimerHandle | None) -> asyncio.TimerHandle | None:
    if timer is not None:
        timer.cancel()
    return None
