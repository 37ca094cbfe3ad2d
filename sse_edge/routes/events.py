"""Replays a channel's events in pages, for clients of plain HTTP.

A page has the events of the channel's stream, with the same filters, rights and cursors. Streams
are for following; pages are for history, for tools that know no server-sent events, and by
long-polling for proxies that break streams.
"""

import asyncio
import json
import time
from collections.abc import Iterator, Mapping
from enum import StrEnum
from hashlib import blake2s
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Path, Query, Request, Response

from sse_edge.cursor import Cursor
from sse_edge.delivery.node import Node
from sse_edge.delivery.pages import Page, PageReader, open_pages
from sse_edge.delivery.start import FromEdge, Start
from sse_edge.errors import (
    EventsGone,
    InvalidParameter,
    NoSuchThing,
    NotAcceptable,
    Unavailable,
)
from sse_edge.http import openapi
from sse_edge.http.dependencies import NodeDep, caller_of
from sse_edge.http.request_values import (
    given_cursor,
    joined_header,
    parse_start,
    parse_time,
    preferred_type,
)
from sse_edge.http.session import ResponseSession, open_session
from sse_edge.http.stream_response import as_readable_by, event_names
from sse_edge.streams.channels import CHANNELS
from sse_edge.streams.requests import as_cloudevents, one_channel
from sse_edge.streams.stream import Stream

router = APIRouter(prefix="/api/v1/events", tags=["replay"])

LIMIT_MAX = 10_000
YEAR_S = 31_536_000
_JSON, _NDJSON = "application/json", "application/x-ndjson"
_CLOUDEVENTS = "application/cloudevents-batch+json"
_NOT_REPEATED = frozenset({"after", "from", "token", "last_event_id", "lastEventId"}) | {
    "Last-Event-ID"
}
"""The parameters that the address of the next page has not: its cursor replaces all but the token,
which belongs in no address."""


class Format(StrEnum):
    """The formats of pages."""

    JSON = "json"
    NDJSON = "ndjson"
    CLOUDEVENTS = "cloudevents"


_FORMATS = {
    _JSON: Format.JSON,
    _NDJSON: Format.NDJSON,
    "application/jsonl": Format.NDJSON,
    "application/ndjson": Format.NDJSON,
    _CLOUDEVENTS: Format.CLOUDEVENTS,
}
"""The formats by the media types that `Accept` may have."""
_MEDIA_TYPES = {
    Format.JSON: _JSON,
    Format.NDJSON: _NDJSON,
    Format.CLOUDEVENTS: _CLOUDEVENTS,
}


class Live(StrEnum):
    """Whether a page without events waits for some."""

    NO = "no"
    LONG_POLL = "long-poll"


class OnGap(StrEnum):
    """The ways to go on where events cannot be delivered any more."""

    CONTINUE = "continue"
    CLOSE = "close"


@router.get(
    "/{channel}",
    response_class=Response,
    summary="Read the events of a channel in pages",
    responses=openapi.OF_PAGES,
    openapi_extra=openapi.PAGE_PARAMETERS,
)
async def events(
    request: Request,
    node: NodeDep,
    channel: Annotated[str, Path(description="The channel, such as `alerts`.")],
    limit: Annotated[int, Query(ge=1, le=LIMIT_MAX, description="The most events.")] = 1_000,
    live: Annotated[
        Live, Query(description="Whether a page without events waits for some.")
    ] = Live.NO,
    on_gap: Annotated[
        OnGap, Query(description="What to do when events cannot be delivered any more.")
    ] = OnGap.CONTINUE,
) -> Response:
    """Send the cursor of a page as `after` to get the next one, or as `Last-Event-ID` to a stream.

    `Link` has the address of the next page while more events follow. A page may be short though
    more follow.
    """
    if channel not in CHANNELS.mystocks:
        there_are = ", ".join(CHANNELS.mystocks)
        raise NoSuchThing(f"{channel[:60]!r} is no channel; there are {there_are}")
    format_, until_ms = _format(request), _until_ms(request)
    stream = one_channel(channel, request.query_params, event_names(request))
    stream = as_readable_by(request, stream)
    stream = as_cloudevents(stream) if format_ is Format.CLOUDEVENTS else stream
    text = request.query_params.get("after") or given_cursor(request)
    start = _start(request, node, stream, text)
    if isinstance(start, Cursor) and start.ended and text is not None:
        page = Page(b"", 0, text, ended=True)
        return _response(request, page, format_, lasts=False)
    session = open_session(request, stream)
    if node.unavailable_for is not None:
        raise Unavailable(node.unavailable_for, "events cannot be read now")
    with node.admitted(session):
        async with open_pages(node, stream, start, until_ms) as reader:
            if request.method == "HEAD":
                page = Page(b"", 0, reader.cursor())
                return _response(request, page, format_, lasts=False)
            page = await _read(request, node, session, reader, limit, live)
            lasts = text is not None and reader.partitions == 1 and is_lasting(stream, page)
    if page.gaps and on_gap is OnGap.CLOSE:
        raise EventsGone(
            "the log has not all events after this cursor any more; with on_gap=continue the page "
            "says which, and goes on with those that it has"
        )
    metrics = node.metrics.of(stream.label, stream.tenant)
    metrics.events += page.events
    metrics.bytes += len(page.data)
    return _response(request, page, format_, lasts=lasts, live=live)


router.add_api_route("/{channel}", events, methods=["HEAD"], include_in_schema=False)


async def _read(
    request: Request,
    node: Node,
    session: ResponseSession,
    reader: PageReader,
    limit: int,
    live: Live,
) -> Page:
    """Return a page; by long-polling an empty one only after a time, and while more may come."""
    clock = asyncio.get_running_loop().time
    deadline_s = clock() + node.settings.ping_s
    page = await reader.read(limit)
    while (
        live is Live.LONG_POLL
        and not (page.data or page.has_more or page.ended)
        and session.is_open
        and (left_s := deadline_s - clock()) > 0
    ):
        gone = session.until_client_gone(request)
        await session.wait(reader.arrived.wait(), gone, within_s=left_s)
        page = await reader.read(limit)
    return page


def is_lasting(stream: Stream, page: Page) -> bool:
    """Whether a page that one partition has is the same for ever: a full one of one entity."""
    is_compacted = any(choice.channel.topic.compacted for choice in stream.selections)
    is_of_one = len(stream.entities) == 1
    return page.is_full and is_of_one and not is_compacted and not page.gaps


def _start(request: Request, node: Node, stream: Stream, cursor: str | None) -> Start:
    if cursor is not None:
        return node.codec(stream).decode(cursor)
    usual = FromEdge.LATEST if request.method == "HEAD" else FromEdge.EARLIEST
    return parse_start(request.query_params.get("from") or usual)


def _until_ms(request: Request) -> int | None:
    """Return the end of the pages; None for none, or for one that has not come."""
    text = request.query_params.get("until")
    if not text:
        return None
    until_ms = max(0, parse_time(text, "until"))
    return until_ms if until_ms <= time.time() * 1000 else None


def _format(request: Request) -> Format:
    given = request.query_params.get("format")
    if given:
        if given not in tuple(Format):
            raise InvalidParameter("format", f"{given[:60]!r} is not one of {', '.join(Format)}")
        return Format(given)
    preferred = preferred_type(request, *_FORMATS)
    if preferred is None:
        accepted = joined_header(request, "accept")[:200]
        raise NotAcceptable(f"a page is {_JSON} or {_NDJSON}, which Accept excludes: {accepted!r}")
    return _FORMATS[preferred]


def _response(
    request: Request,
    page: Page,
    format_: Format,
    *,
    lasts: bool,
    live: Live = Live.NO,
) -> Response:
    body = _BODIES[format_](page)
    scope = "public" if caller_of(request) is None else "private"
    kept = f"max-age={YEAR_S}, immutable" if lasts else "no-cache"
    headers = {
        "Last-Event-ID": page.cursor,
        "Cache-Control": f"{scope}, {kept}",
        "Vary": "Accept, Authorization, Cookie, Last-Event-ID",
    }
    if page.has_more or (live is Live.LONG_POLL and not page.ended):
        others = [
            (name, value)
            for name, value in request.query_params.multi_items()
            if name not in _NOT_REPEATED
        ]
        query = urlencode([*others, ("after", page.cursor)])
        headers["Link"] = f'<{request.url.path}?{query}>; rel="next"'
    media_type = _MEDIA_TYPES[format_]
    if request.method == "HEAD":
        head = Response(headers=headers, media_type=media_type)
        del head.headers["Content-Length"]  # it would have to be the page's
        return head
    headers["ETag"] = f'"{blake2s(body, digest_size=16).hexdigest()}"'
    if matches(request, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    return Response(body, headers=headers, media_type=media_type)


def matches(request: Request, tag: str) -> bool:
    """Return whether the client has the page with a tag."""
    known = [item.strip() for item in joined_header(request, "if-none-match").split(",")]
    return "*" in known or tag in {item.removeprefix("W/") for item in known}


def _json_page(page: Page) -> bytes:
    members = {"cursor": page.cursor, "has_more": page.has_more, "ended": page.ended}
    rest = json.dumps(members, separators=(",", ":")).encode()
    return b'{"events":[%b],%b' % (b",".join(_items(page.data)), rest[1:])


def _lines(page: Page) -> bytes:
    return b"".join(item + b"\n" for item in _items(page.data))


def _cloudevents(page: Page) -> bytes:
    """Return CloudEvents as a batch; each has its cursor, but for gaps, which have none."""
    events = (
        b'%b,"cursor":"%b"}' % (fields[b"data"][:-1], fields[b"id"])
        if b"id" in fields
        else fields[b"data"]
        for fields in fields_of_blocks(page.data)
    )
    return b"[%b]" % b",".join(events)


_BODIES = {
    Format.JSON: _json_page,
    Format.NDJSON: _lines,
    Format.CLOUDEVENTS: _cloudevents,
}


def fields_of_blocks(blocks: bytes) -> Iterator[Mapping[bytes, bytes]]:
    """Yield the fields of each block, by their names."""
    for block in blocks.split(b"\n\n")[:-1]:
        yield dict(line.split(b": ", 1) for line in block.split(b"\n"))


def _items(blocks: bytes) -> Iterator[bytes]:
    """Yield the events of blocks as JSON; without an id, where the block has none."""
    for fields in fields_of_blocks(blocks):
        members = [
            b'"%b":%b' % (name, json.dumps(fields[name].decode()).encode())
            for name in (b"id", b"event")
            if name in fields
        ]
        yield b"{%b}" % b",".join([*members, b'"data":%b' % fields[b"data"]])
