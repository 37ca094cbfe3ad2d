"""The read side of the Durable Streams protocol: the channels' streams, for clients that speak it.

A stream is a channel, or an entity of a channel. It is read in chunks of JSON, which are pages of
the channel's events (see `sse_edge.delivery.pages`), under the same filters, rights and limits. An
offset holds the cursor after a chunk (see `sse_edge.streams.durable_offsets`).

A stream of one training task closes; the others stay open. That a task has ended is read from its
last event, or from the states that processors derive from the events; no client and no edge can
say so.
"""

import asyncio
import json
import random
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from dataclasses import dataclass
from enum import StrEnum
from hashlib import blake2s
from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from schemas.run_ids import may_follow
from schemas.topics import Topic
from sse_edge.cursor import Cursor
from sse_edge.delivery.node import FinalEvent, Node
from sse_edge.delivery.pages import Page, PageReader, open_pages
from sse_edge.delivery.start import FromEdge, Start
from sse_edge.errors import (
    EventsGone,
    InvalidParameter,
    LogUnavailable,
    NoSuchThing,
    Unavailable,
)
from sse_edge.frame import Text, block
from sse_edge.http import openapi
from sse_edge.http.dependencies import NodeDep, caller_of
from sse_edge.http.session import ResponseSession, open_session
from sse_edge.http.sse_response import SSEResponse
from sse_edge.http.stream_response import Endpoint, as_readable_by, event_names
from sse_edge.routes.events import YEAR_S, fields_of_blocks, is_lasting, matches
from sse_edge.routes.views import Views, ViewsDep
from sse_edge.settings import EdgeSettings
from sse_edge.streams.channels import CHANNELS
from sse_edge.streams.durable_offsets import (
    BEGINNING,
    JITTER_S_MAX,
    NOW,
    offset_of,
    position_in,
    stream_cursor,
)
from sse_edge.streams.requests import one_channel
from sse_edge.streams.stream import Stream

router = APIRouter(prefix="/ds", tags=["replay"])

_NEXT_OFFSET, _CURSOR = "Stream-Next-Offset", "Stream-Cursor"
_UP_TO_DATE, _CLOSED = "Stream-Up-To-Date", "Stream-Closed"
HEADERS = (_NEXT_OFFSET, _CURSOR, _UP_TO_DATE, _CLOSED)
"""The protocol's headers of answers."""
EVENTS_MAX = 1_000
"""The most events of a chunk."""
_SSE_S = 60.0
"""How long an event stream lasts; the protocol wants clients to come back, for caches' sake."""
_JSON = "application/json"


class Live(StrEnum):
    """How a client follows a stream."""

    NO = ""
    LONG_POLL = "long-poll"
    SSE = "sse"


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some messages of a stream, and where they leave the reader."""

    messages: Sequence[bytes]
    """The data of events, as JSON."""
    offset: str
    """The offset after them."""
    is_up_to_date: bool
    is_closed: bool
    """Whether nothing follows, ever."""
    is_lasting: bool = False
    """Whether the same offset gives the same messages for ever."""

    @property
    def headers(self) -> dict[str, str]:
        """The protocol's headers, without the cursor for caches."""
        given = {_NEXT_OFFSET: self.offset}
        if self.is_up_to_date or self.is_closed:
            given[_UP_TO_DATE] = "true"
        if self.is_closed:
            given[_CLOSED] = "true"
        return given


@dataclass(frozen=True, slots=True)
class Closure:
    """Tells whether a stream is closed, from the log and from what processors derive of it."""

    views: Views
    states: Topic
    entity: str
    tenant: str | None

    async def final_event(self) -> FinalEvent | None:
        """Return where the stream's last event is; None while no processor has seen it."""
        return await self.views.ending_of(self.states, self.entity, self.tenant)

    async def wait(self) -> None:
        """Wait until a processor has seen the last event."""
        await self.views.ended(self.states, self.entity, self.tenant)


def closure_of(views: Views, stream: Stream) -> Closure | None:
    """Return what tells whether a stream is closed; None for one that stays open for ever.

    A caller that gets no events of an entity does not learn whether they have ended either.
    """
    states = stream.selections[0].channel.entity_states
    if states is None or not stream.has_end:
        return None
    (entity,) = stream.entities
    if stream.owner is not None and not may_follow(entity, stream.owner):
        return None
    return Closure(views, states, entity, stream.tenant)


class ChunkReader:
    """Reads successive chunks of one stream."""

    def __init__(
        self, node: Node, stream: Stream, pages: PageReader, given: str, closure: Closure | None
    ) -> None:
        """Read nothing yet.

        Args:
            node: the node.
            stream: the stream.
            pages: reads the stream from the given offset on.
            given: the offset that the client has sent.
            closure: tells whether the stream is closed; None for one that never is.
        """
        self._node = node
        self._stream = stream
        self._pages = pages
        self._closure = closure
        self._is_first = True
        """Whether no chunk was read yet."""
        self._has_final_event = False
        """Whether a processor has seen the last event, which the reader may not have read."""
        self._has_offset = given not in {BEGINNING, NOW}
        self._total = pages.total
        self._offset = given if self._has_offset else self._text()

    async def tail(self) -> Chunk:
        """Return a chunk without messages, at the stream's end."""
        final = await self._final_event()
        if final is not None:
            self._pages.return_to(final.partition, final.offset)
        return Chunk((), self._text(), is_up_to_date=True, is_closed=final is not None)

    async def next(self) -> Chunk:
        """Return the messages after the offset, and move it.

        Raises:
            EventsGone: the log has not all events after the offset any more.
            LogUnavailable: Kafka is away, and there is nothing to return.
        """
        if await self._is_closed() or await self._begins_after_end():
            return Chunk((), self._offset, is_up_to_date=True, is_closed=True)
        page = await self._pages.read(EVENTS_MAX)
        if page.gaps:
            raise EventsGone(
                "the log has not all events after this offset any more; begin again at -1"
            )
        self._move(page)
        is_at_end = not page.has_more or (page.is_full and self._pages.is_at_end)
        is_closed = is_at_end and (page.ended or await self._is_closed())
        messages = [fields[b"data"] for fields in fields_of_blocks(page.data)]
        metrics = self._node.metrics.of(self._stream.label, self._stream.tenant)
        metrics.events += page.events
        metrics.bytes += len(page.data)
        return Chunk(
            messages,
            self._offset,
            is_up_to_date=is_at_end,
            is_closed=is_closed,
            is_lasting=self._has_offset
            and not is_at_end
            and self._pages.partitions == 1
            and is_lasting(self._stream, page),
        )

    async def changed(
        self,
        session: ResponseSession,
        within_s: float,
        *others: Coroutine[object, object, object],
    ) -> None:
        """Wait until there is more to read or the stream is closed, for others, or for a time."""
        waiting = [self._pages.arrived.wait(), *others]
        if self._closure is not None and not self._has_final_event:
            waiting.append(self._closure.wait())
        await session.wait(*waiting, within_s=within_s)

    @property
    def is_replaced(self) -> bool:
        """Whether a topic has changed, so that only another reader reads on."""
        return self._pages.is_replaced

    def _move(self, page: Page) -> None:
        """Take the offset after a page; one without events moves it only from time to time.

        Records of others pass by a stream at its end, and to its clients nothing has changed.
        """
        passed = self._pages.total - self._total
        is_due = passed >= self._node.settings.checkpoint_records
        if page.events or page.has_more or is_due:
            self._total, self._offset = self._pages.total, self._text()

    def _text(self) -> str:
        return offset_of(self._pages.total, self._pages.cursor())

    async def _final_event(self) -> FinalEvent | None:
        """Return where the last event is, if the reader is past it and it is known."""
        final = None if self._closure is None else await self._closure.final_event()
        self._has_final_event = final is not None
        is_past = final is not None and self._pages.is_past(final.partition, final.offset)
        return final if is_past else None

    async def _begins_after_end(self) -> bool:
        """Return whether the client's offset is that of a closed stream.

        No processor may have seen the last event yet, and no window may have it any more.
        """
        is_first, self._is_first = self._is_first, False
        return (
            is_first
            and self._has_offset
            and self._closure is not None
            and await self._pages.is_after_end()
        )

    async def _is_closed(self) -> bool:
        # Until a processor has seen the last event, the windows still have it.
        if self._closure is None:
            return False
        return await self._final_event() is not None or self._pages.has_passed_end


def _stream_route(path: str, summary: str) -> Callable[[Endpoint], Endpoint]:
    """Serve a durable stream at a path, by GET and HEAD."""

    def add(endpoint: Endpoint) -> Endpoint:
        router.add_api_route(
            path,
            endpoint,
            methods=["GET"],
            response_class=Response,
            summary=summary,
            responses=openapi.OF_DURABLE_STREAMS,
            openapi_extra=openapi.DURABLE_STREAM_PARAMETERS,
        )
        router.add_api_route(path, endpoint, methods=["HEAD"], include_in_schema=False)
        return endpoint

    return add


_Channel = Annotated[str, Path(description="The channel, such as `alerts`.")]
_Entity = Annotated[str, Path(description="The entity, such as a portfolio or a training task.")]


@_stream_route("/{channel}", "Read a channel as a durable stream")
async def read_channel(
    request: Request, node: NodeDep, views: ViewsDep, channel: _Channel
) -> Response:
    """Read with `offset`: -1, now, or the `Stream-Next-Offset` of an answer.

    With `live=long-poll` an answer waits for events, and with `live=sse` they are streamed.
    """
    return await _answer(request, node, views, channel)


@_stream_route("/{channel}/{entity:path}", "Read an entity of a channel as a durable stream")
async def read_entity(
    request: Request, node: NodeDep, views: ViewsDep, channel: _Channel, entity: _Entity
) -> Response:
    """As for a channel. The stream of a training task closes after its last event."""
    return await _answer(request, node, views, channel, entity)


async def _answer(
    request: Request, node: Node, views: Views, channel: str, entity: str = ""
) -> Response:
    """Return the answer to a read."""
    _refuse_where_off(node.settings)
    stream = _stream_of(request, channel, entity)
    live, given = _live(request), _offset(request)
    start = _start(request, node, stream, given)
    session = open_session(request, stream)
    if node.unavailable_for is not None:
        raise Unavailable(node.unavailable_for, "streams cannot be read now")
    closure = closure_of(views, stream)
    if live is Live.SSE and request.method == "GET":
        following = _follow(request, node, session, start, given, closure)
        first = await anext(following)
        return SSEResponse(
            _after(first, following), ping_interval=node.settings.ping_s, is_session=True
        )
    with node.admitted(session):
        async with open_pages(node, stream, start) as pages:
            reader = ChunkReader(node, stream, pages, given, closure)
            if request.method == "HEAD":
                return _head(await reader.tail())
            if given == NOW and live is Live.NO:
                return _at_tail(await reader.tail())
            chunk = await _read(request, node, session, reader, live)
    return _response(request, chunk, live)


async def _read(
    request: Request, node: Node, session: ResponseSession, reader: ChunkReader, live: Live
) -> Chunk:
    """Return a chunk; by long-polling an empty one only after a time, and while more may come."""
    clock = asyncio.get_running_loop().time
    deadline_s = clock() + node.settings.ping_s
    chunk = await reader.next()
    while (
        live is Live.LONG_POLL
        and chunk.is_up_to_date
        and not (chunk.messages or chunk.is_closed)
        and session.is_open
        and (left_s := deadline_s - clock()) > 0
    ):
        await reader.changed(session, left_s, session.until_client_gone(request))
        chunk = await reader.next()
    return chunk


async def _follow(
    request: Request,
    node: Node,
    session: ResponseSession,
    start: Start,
    given: str,
    closure: Closure | None,
) -> AsyncGenerator[bytes]:
    """Yield an event `data` and its event `control` at a time, until the stream's time is up.

    Raises:
        EventsGone: the log has not all events after the offset any more.
        LogUnavailable: Kafka is away at the first event.
    """
    clock = asyncio.get_running_loop().time
    ends_s, control = clock() + _SSE_S, None
    with node.admitted(session):
        async with open_pages(node, session.stream, start) as pages:
            reader = ChunkReader(node, session.stream, pages, given, closure)
            while session.is_open and not reader.is_replaced:
                try:
                    chunk = await reader.next()
                except (EventsGone, LogUnavailable):
                    if control is None:
                        raise
                    return  # the client comes back, and gets the error
                before, control = control, _control(chunk)
                if chunk.messages or control != before:
                    # In one piece, so that no client has a message without its offset.
                    yield _data(chunk) + block("control", control | _cache_cursor(request, chunk))
                if chunk.is_closed or clock() >= ends_s:
                    return
                if chunk.is_up_to_date:
                    await reader.changed(session, ends_s - clock())


async def _after(first: bytes, rest: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    """Yield an item, and then those of a generator, which is closed in any case."""
    try:
        yield first
        async for item in rest:
            yield item
    finally:
        await rest.aclose()


def _control(chunk: Chunk) -> dict[str, object]:
    control: dict[str, object] = {"streamNextOffset": chunk.offset}
    if chunk.is_up_to_date:
        control["upToDate"] = True
    if chunk.is_closed:
        control["streamClosed"] = True
    return control


def _data(chunk: Chunk) -> bytes:
    text = _array(chunk.messages, b"\n").decode()
    return block("data", Text(text)) if chunk.messages else b""


def _cache_cursor(request: Request, chunk: Chunk) -> dict[str, object]:
    return {} if chunk.is_closed else {"streamCursor": _new_cursor(request)}


def _refuse_where_off(settings: EdgeSettings) -> None:
    """Return if durable streams are served.

    Raises:
        NoSuchThing: they are not; the message says by which setting they would be.
    """
    if settings.serves_durable_streams:
        return
    if settings.ds is None:
        raise NoSuchThing(
            "durable streams are not served where cursors are encrypted: their offsets can be "
            "sorted, and so they show how much is written; TAPEWIRE_DS=on serves them nonetheless"
        )
    raise NoSuchThing("durable streams are not served; TAPEWIRE_DS=on serves them")


def _stream_of(request: Request, channel: str, entity: str) -> Stream:
    """Return the stream of a path, of only those records that the caller may read."""
    if channel not in CHANNELS.mystocks:
        there_are = ", ".join(CHANNELS.mystocks)
        raise NoSuchThing(f"{channel[:60]!r} is no channel; there are {there_are}")
    query = dict(request.query_params)
    if entity:
        query[CHANNELS[channel].entity_parameters[0]] = entity
    return as_readable_by(request, one_channel(channel, query, event_names(request)))


def _live(request: Request) -> Live:
    text = request.query_params.get("live", "")
    if text not in tuple(Live):
        raise InvalidParameter("live", f"{text[:60]!r} is neither long-poll nor sse")
    live = Live(text)
    if live is not Live.NO and "offset" not in request.query_params:
        raise InvalidParameter("offset", f"live={live} needs an offset: -1, now, or an answer's")
    return live


def _offset(request: Request) -> str:
    given = request.query_params.getlist("offset") or [BEGINNING]
    if len(given) > 1:
        raise InvalidParameter("offset", f"{len(given)} are given; a request has one")
    return given[0]


def _start(request: Request, node: Node, stream: Stream, given: str) -> Start:
    if given == NOW or request.method == "HEAD":
        return FromEdge.LATEST
    return FromEdge.EARLIEST if given == BEGINNING else _cursor_in(node, stream, given)


def _cursor_in(node: Node, stream: Stream, given: str) -> Cursor:
    return position_in(given, node.codec(stream))


def _new_cursor(request: Request) -> str:
    jitter_s = random.randint(1, JITTER_S_MAX)  # noqa: S311  # spreads load only
    return stream_cursor(time.time(), request.query_params.get("cursor", ""), jitter_s)


def _array(messages: Sequence[bytes], separator: bytes = b"") -> bytes:
    joined = (b"," + separator).join(messages)
    return b"[%b%b%b]" % (separator, joined, separator) if messages else b"[]"


_ALWAYS = {
    "Cross-Origin-Resource-Policy": "same-origin",
    "Vary": "Authorization, Cookie",
}


def _head(chunk: Chunk) -> Response:
    answer = Response(
        headers={**_ALWAYS, **chunk.headers, "Cache-Control": "no-store"}, media_type=_JSON
    )
    del answer.headers["Content-Length"]  # it would have to be that of a chunk
    return answer


def _at_tail(chunk: Chunk) -> Response:
    headers = {**_ALWAYS, **chunk.headers, "Cache-Control": "no-store"}
    return Response(_array(()), headers=headers, media_type=_JSON)


def _response(request: Request, chunk: Chunk, live: Live) -> Response:
    headers = {**_ALWAYS, **chunk.headers}
    if live is Live.LONG_POLL and not chunk.is_closed:
        headers[_CURSOR] = _new_cursor(request)
    if live is Live.LONG_POLL and chunk.is_up_to_date and not chunk.messages:
        return Response(status_code=204, headers={**headers, "Cache-Control": "no-store"})
    scope = "public" if caller_of(request) is None else "private"
    lasts = f"max-age={YEAR_S}, immutable" if chunk.is_lasting else "no-cache"
    headers["Cache-Control"] = f"{scope}, {lasts}"
    body = _array(chunk.messages)
    if request.query_params.get("offset") != NOW:
        digest = blake2s(body + json.dumps(chunk.is_up_to_date).encode(), digest_size=16)
        closed = ":c" if chunk.is_closed else ""
        headers["ETag"] = f'"{digest.hexdigest()}{closed}"'
        if matches(request, headers["ETag"]):
            return Response(status_code=304, headers=headers)
    return Response(body, headers=headers, media_type=_JSON)
