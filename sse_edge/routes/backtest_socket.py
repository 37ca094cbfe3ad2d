"""The events of a backtest job over a WebSocket, for clients without server-sent events.

Each message is a JSON object: `type` is the event's name, `id` the cursor after it. The token comes
by header, as a subprotocol, by query, or by cookie. Browsers send cookies with the WebSockets of
any page; the module `guard` refuses those of other pages than this server's and the configured.
"""

import asyncio
import json
import uuid
from contextlib import suppress
from typing import Any

from fastapi import APIRouter, WebSocket, WebSocketDisconnect

from sse_edge.caller import Scope
from sse_edge.cursor import Cursor
from sse_edge.delivery.connection import Connection
from sse_edge.delivery.options import ConnectionOptions
from sse_edge.delivery.start import FromOffsets, Start
from sse_edge.errors import (
    EdgeError,
    Forbidden,
    LogError,
    NoSuchThing,
    TooManyConnections,
    Unauthorized,
    Unavailable,
)
from sse_edge.http.addresses import address_of
from sse_edge.http.dependencies import authenticator_of, node_of
from sse_edge.http.problem import logged, unavailable_for
from sse_edge.http.request_values import accepted_subprotocol, given_cursor, given_token
from sse_edge.http.scopes import refuse_without
from sse_edge.http.stream_response import readable_by, reserve
from sse_edge.routes.backtests import CHANNEL, known_to
from sse_edge.routes.views import views_of
from sse_edge.settings import EdgeSettings
from sse_edge.streams.requests import of_entities
from sse_edge.transport import Chunk

_WAITING_MAX = 64
"""The most messages that wait for a slow client; later events wait in the log."""
_CLOSE_CODES: dict[type[Exception], int] = {
    Unauthorized: 4401,
    Forbidden: 4403,
    NoSuchThing: 4404,
    TooManyConnections: 4429,
    Unavailable: 1013,  # try again later
}
_BAD_REQUEST = 4400
_NORMAL = 1000
_REASON_BYTES_MAX = 105
"""The reason of a close has 123 bytes, of which 15 are for the id of the line in the log."""

router = APIRouter()


class SocketMessages:
    """A transport that turns blocks into messages."""

    def __init__(self) -> None:
        self.waiting: asyncio.Queue[str | None] = asyncio.Queue()
        """The next messages; None at the end."""
        self.is_paused = False
        self._drained = asyncio.Event()

    def write(self, chunk: Chunk) -> None:
        """Turn whole blocks into messages."""
        for block in chunk.data.decode().split("\n\n"):
            message = _message(block)
            if message is not None:
                self.waiting.put_nowait(json.dumps(message))
        self.is_paused = self.waiting.qsize() >= _WAITING_MAX

    async def drained(self) -> None:
        """Wait until the client has read enough."""
        while self.is_paused:
            self._drained.clear()
            await self._drained.wait()

    def end(self, within_s: float) -> None:
        """Send no more messages."""
        del within_s
        self.waiting.put_nowait(None)

    async def next(self) -> str | None:
        """Return the next message; None at the end."""
        message = await self.waiting.get()
        self.is_paused = self.waiting.qsize() >= _WAITING_MAX
        if not self.is_paused:
            self._drained.set()
        return message


def _message(block: str) -> dict[str, Any] | None:
    """Return a block as a message; None for a block without data."""
    fields: dict[str, str] = {}
    for line in block.split("\n"):
        name, _, value = line.partition(": ")
        fields[name] = value
    if "data" not in fields:
        return None
    cursor = {"id": fields["id"]} if "id" in fields else {}
    return {"type": fields.get("event", "message"), **json.loads(fields["data"]), **cursor}


@router.websocket("/ws/backtest/{job_id}")
async def follow_job(websocket: WebSocket, job_id: str) -> None:
    """Send the events of a job from its start, and close after its last event."""
    node, views = node_of(websocket), views_of(websocket)
    address = address_of(websocket.scope)
    await websocket.accept(accepted_subprotocol(websocket))
    try:
        caller = await authenticator_of(websocket).caller(_token_of(websocket, node.settings))
        refuse_without(Scope.READ, caller)
        websocket.state.caller = caller
        slot = reserve(websocket)
        state = await known_to(views, caller, job_id)
        stream = readable_by(caller, of_entities(CHANNEL, [job_id]), state.tenant)
        start: Start = FromOffsets({state.partition: state.first_offset})
        cursor = given_cursor(websocket)
        if cursor is not None:
            start = node.codec(stream).decode(cursor)
    except (EdgeError, LogError) as error:
        await _refuse(websocket, unavailable_for(error) if isinstance(error, LogError) else error)
        return
    if isinstance(start, Cursor) and start.ended:
        await _close(websocket)
        return
    transport = SocketMessages()
    options = ConnectionOptions(f"client-{uuid.uuid4().hex[:12]}", start, caller=caller)
    connection = Connection(node, stream, options, transport, address, slot)
    serving = node.serve(connection.run(), transport)
    try:
        async with asyncio.TaskGroup() as tasks:
            leaving = tasks.create_task(_until_gone(websocket))
            leaving.add_done_callback(lambda _: transport.end(0.0))
            while (message := await transport.next()) is not None:
                await websocket.send_text(message)
            leaving.cancel()
        await _close(websocket)
    except* WebSocketDisconnect:
        pass
    finally:
        serving.cancel()


async def _refuse(websocket: WebSocket, error: EdgeError) -> None:
    """Log an error, and close a WebSocket with its code, its text and the id of the line."""
    reason = str(error).encode()[:_REASON_BYTES_MAX].decode(errors="ignore")
    code = _CLOSE_CODES.get(type(error), _BAD_REQUEST)
    await _close(websocket, code, f"{reason} ({logged(websocket, error)})")


async def _close(websocket: WebSocket, code: int = _NORMAL, reason: str | None = None) -> None:
    """Close a WebSocket, unless its client has closed it."""
    with suppress(RuntimeError):
        await websocket.close(code, reason)


def _token_of(websocket: WebSocket, settings: EdgeSettings) -> str | None:
    """Return the token of a handshake; those of other sites' pages have been refused."""
    given = given_token(websocket, settings.token_cookie)
    return None if given is None else given.text


async def _until_gone(websocket: WebSocket) -> None:
    while (await websocket.receive())["type"] != "websocket.disconnect":
        pass
