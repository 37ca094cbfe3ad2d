"""Lets the protocol's own tests write: PUT, POST and DELETE become events of training tasks.

What they read comes from the edge, and only the content is put back into the form in which it was
written: the edge's streams are JSON, and each message is the envelope of an event. Statuses,
headers, offsets, control events and waits are the edge's own.

A stream is a task. It is closed by a state like the one that a processor writes after a task's
last event: here, closing is no event.
"""

import asyncio
import base64
import json
import re
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from kafka_io.clock import now_us
from kafka_io.publisher import Publisher
from kafka_io.transactions import OutgoingRecord
from schemas.codec import encode
from schemas.events import StoryState, TrainingProgress
from schemas.topics import TRAINING_EVENTS, TRAINING_TASKS

_CHUNK_BYTES = 9 << 10
_BODY_BYTES_MAX = 1 << 20
_NEXT, _CLOSED = "Stream-Next-Offset", "Stream-Closed"
_NOT_COPIED = frozenset({"content-length", "transfer-encoding", "connection", "date", "server"})
_LINE_END = re.compile(rb"\r\n|\r|\n")


@dataclass
class WrittenStream:
    """A stream that the tests have made."""

    content_type: str
    task_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    last_seq: str = ""
    last_offset: int = -1
    partition: int = 0
    is_closed: bool = False
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def is_json(self) -> bool:
        return _plain_type(self.content_type) == "application/json"

    @property
    def is_text(self) -> bool:
        return self.is_json or self.content_type.lower().startswith("text/")


class Adapter:
    """The server that the tests see."""

    def __init__(self, edge_url: str, publisher: Publisher, topic_prefix: str) -> None:
        self._states_topic = topic_prefix + TRAINING_TASKS.name
        self._edge = httpx.AsyncClient(base_url=edge_url, timeout=60)
        self._publisher = publisher
        self._streams: dict[str, WrittenStream] = {}
        self._time_us = now_us()

    async def fill_partitions(self) -> None:
        """Write an event into each partition, so that no stream begins at offset 0."""
        for number in range(TRAINING_EVENTS.partitions):
            await self._publish("filler", "", number)

    async def close(self) -> None:
        await self._edge.aclose()

    async def serve(self, request: Request) -> Response:
        match request.method:
            case "PUT":
                return await self._put(request)
            case "POST":
                return await self._post(request)
            case "DELETE":
                return self._delete(request)
            case "OPTIONS":
                return await self._forward(request, "/ds/training/any", None)
            case _:
                return await self._read(request)

    async def _read(self, request: Request) -> Response:
        stream = self._streams.get(request.url.path)
        if stream is None:
            return _refused(404)
        return await self._forward(request, f"/ds/training/{stream.task_id}", stream)

    # Writing.

    async def _put(self, request: Request) -> Response:
        given = request.headers.get("content-type", "application/octet-stream")
        is_closed = _says_closed(request)
        stream = self._streams.get(request.url.path)
        if stream is not None:
            same = _plain_type(stream.content_type) == _plain_type(given)
            fits = same and stream.is_closed == is_closed
            return await self._written(stream, 200) if fits else _refused(409)
        stream = WrittenStream(given)
        body = await request.body()
        messages = _messages(stream, body)
        if messages is None:
            return _refused(400)
        self._streams[request.url.path] = stream
        async with stream.lock:
            await self._append(stream, messages, closes=is_closed)
            return await self._written(stream, 201, Location=str(request.url))

    async def _post(self, request: Request) -> Response:
        stream = self._streams.get(request.url.path)
        if stream is None:
            return _refused(404)
        body, closes = await request.body(), _says_closed(request)
        async with stream.lock:
            if stream.is_closed:
                is_again = closes and not body
                return await self._written(stream, 204 if is_again else 409)
            refusal = self._refusal(request, stream, body, closes=closes)
            if refusal is not None:
                return _refused(refusal)
            messages = _messages(stream, body) if body else []
            if messages is None or (not messages and not closes):
                return _refused(400)
            await self._append(stream, messages, closes=closes)
            stream.last_seq = request.headers.get("stream-seq", stream.last_seq)
            return await self._written(stream, 204)

    def _refusal(
        self, request: Request, stream: WrittenStream, body: bytes, *, closes: bool
    ) -> int | None:
        if not body:
            return None if closes else 400
        given = request.headers.get("content-type")
        if given is None:
            return 400
        if _plain_type(given) != _plain_type(stream.content_type):
            return 409
        if len(body) > _BODY_BYTES_MAX:
            return 413
        seq = request.headers.get("stream-seq")
        return 409 if seq is not None and seq <= stream.last_seq else None

    def _delete(self, request: Request) -> Response:
        found = self._streams.pop(request.url.path, None)
        return _refused(404) if found is None else Response(status_code=204)

    async def _append(
        self, stream: WrittenStream, messages: Sequence[str], *, closes: bool
    ) -> None:
        """Write, and wait until the edge has read what was written."""
        for message in messages:
            await self._publish(stream.task_id, message, None, stream)
        if closes:
            if stream.last_offset < 0:
                stream.partition = await self._publisher.partition_for(
                    TRAINING_EVENTS, stream.task_id.encode()
                )
                stream.last_offset = 0
            await self._write_state(stream)
            stream.is_closed = True
        async with asyncio.timeout(30):
            while not self._has_read(  # noqa: ASYNC110  # the edge tells no writer what it has read
                stream, await self._head(stream)
            ):
                await asyncio.sleep(0.005)  # the edge tells nobody what it has read

    async def _write_state(self, stream: WrittenStream) -> None:
        """Write that a task has ended, as a processor does."""
        state = StoryState(
            subject=stream.task_id,
            status="completed",
            partition=stream.partition,
            first_offset=0,
            last_offset=stream.last_offset,
            ended=True,
        )
        key = stream.task_id.encode()
        await self._publisher._write(OutgoingRecord(self._states_topic, key, encode(state)))

    def _has_read(self, stream: WrittenStream, head: httpx.Response) -> bool:
        total = int(head.headers[_NEXT].partition("_")[0])
        is_closed = head.headers.get(_CLOSED) == "true"
        return total > stream.last_offset and is_closed == stream.is_closed

    async def _publish(
        self,
        task_id: str,
        message: str,
        partition: int | None,
        stream: WrittenStream | None = None,
    ) -> None:
        self._time_us += 1  # two events with the same content are not the same event
        event = TrainingProgress(
            task_id=task_id,
            progress=0.0,
            status="running",
            message=message,
            metrics={},
            event_time_us=self._time_us,
        )
        where = await self._publisher.publish(event, partition=partition)
        if stream is not None:
            stream.partition, stream.last_offset = where.partition, where.offset

    async def _head(self, stream: WrittenStream) -> httpx.Response:
        answer = await self._edge.head(f"/ds/training/{stream.task_id}")
        answer.raise_for_status()
        return answer

    async def _written(self, stream: WrittenStream, status: int, **more: str) -> Response:
        head = await self._head(stream)
        headers = {"Content-Type": stream.content_type, _NEXT: head.headers[_NEXT], **more}
        headers["X-Content-Type-Options"] = "nosniff"
        if stream.is_closed:
            headers[_CLOSED] = "true"
        return Response(status_code=status, headers=headers)

    # Reading.

    async def _forward(self, request: Request, path: str, stream: WrittenStream | None) -> Response:
        """Return the edge's answer, with its content as it was written."""
        headers = [(name, value) for name, value in request.headers.items() if name != "host"]
        query = request.url.query.encode()
        asked = self._edge.build_request(
            request.method, httpx.URL(path, query=query), headers=headers
        )
        answer = await self._edge.send(asked, stream=True)
        copied = {name: value for name, value in answer.headers.items() if name not in _NOT_COPIED}
        copied.pop("content-encoding", None)
        if stream is None or answer.status_code >= 400:
            body = await answer.aread()
            return Response(body, answer.status_code, copied)
        if copied.get("content-type") == "text/event-stream":
            if not stream.is_text:
                copied["stream-sse-data-encoding"] = "base64"
            return StreamingResponse(_blocks(answer, stream), answer.status_code, copied)
        body = await answer.aread()
        if "content-type" in copied:
            copied["content-type"] = stream.content_type
        if answer.status_code == 200 and request.method == "GET":
            body = _content(stream, json.loads(body))
        return Response(body, answer.status_code, copied)


async def _blocks(answer: httpx.Response, stream: WrittenStream) -> AsyncIterator[bytes]:
    rest = b""
    try:
        async for piece in answer.aiter_bytes():
            *whole, rest = (rest + piece).split(b"\n\n")
            yield b"".join(_block(stream, block) for block in whole)
    finally:
        await answer.aclose()


def _block(stream: WrittenStream, block: bytes) -> bytes:
    lines = block.split(b"\n")
    if b"event: data" not in lines:
        return block + b"\n\n"
    data = b"\n".join(line[6:] for line in lines if line.startswith(b"data: "))
    content = _content(stream, json.loads(data))
    if not stream.is_text:
        content = base64.b64encode(content)
    parts = _LINE_END.split(content)
    return b"event: data\n%b\n\n" % b"\n".join(b"data:" + part for part in parts)


def _content(stream: WrittenStream, envelopes: list[dict[str, dict[str, str]]]) -> bytes:
    """Return the messages of envelopes as they were written."""
    texts = [envelope["data"]["message"] for envelope in envelopes]
    if stream.is_json:
        return f"[{','.join(texts)}]".encode()
    return b"".join(map(base64.b64decode, texts))


def _messages(stream: WrittenStream, body: bytes) -> list[str] | None:
    """Return a body as messages, of which each is an event; None if it is no JSON."""
    if not stream.is_json:
        return [
            base64.b64encode(body[first : first + _CHUNK_BYTES]).decode()
            for first in range(0, len(body), _CHUNK_BYTES)
        ]
    if not body:
        return []
    try:
        value = json.loads(body)
    except ValueError:
        return None
    return [json.dumps(item) for item in (value if isinstance(value, list) else [value])]


def _plain_type(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def _says_closed(request: Request) -> bool:
    return request.headers.get("stream-closed", "").lower() == "true"


def _refused(status: int) -> Response:
    return Response(status_code=status, headers={"X-Content-Type-Options": "nosniff"})


@asynccontextmanager
async def serving(edge_url: str, publisher: Publisher, topic_prefix: str) -> AsyncGenerator[str]:
    """Serve an adapter of an edge while the context lasts; yield its address."""
    adapter = Adapter(edge_url, publisher, topic_prefix)
    await adapter.fill_partitions()
    methods = ["GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS"]
    app = Starlette(routes=[Route("/{path:path}", adapter.serve, methods=methods)])
    config = uvicorn.Config(app, port=0, log_config=None, timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    try:
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(server.serve())
            while not server.started:  # noqa: ASYNC110  # uvicorn has no event for it
                await asyncio.sleep(0.01)  # uvicorn has no event for its start
            port = server.servers[0].sockets[0].getsockname()[1]
            try:
                yield f"http://127.0.0.1:{port}"
            finally:
                server.should_exit = True
                await running
    finally:
        await adapter.close()
