"""Messages to agents: asked over HTTP, answered by a worker, followed in the log.

A run has a name, and its cursors begin with it: a browser that comes back has the same URL and its
last id, so the id says which run it was, and nothing is run twice. The name says whose run it is,
too: whoever else has got hold of an id cannot read the answer with it.
"""

import asyncio
import hashlib
import secrets
import time
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request, Response
from pydantic import BaseModel, Field

from kafka_io.clock import now_us
from schemas.events import AgentCommand
from sse_edge.caller import NAME_BYTES, OWNED_ID_CHARS, is_owned, owned_id
from sse_edge.delivery.node import Node
from sse_edge.delivery.start import FromOffsets, FromTime, Start
from sse_edge.errors import Forbidden, InvalidCursor, LogError, Unavailable
from sse_edge.http import openapi
from sse_edge.http.stream_response import (
    as_readable_by,
    caller_of,
    count_write,
    event_names,
    given_cursor,
    open_stream,
    stream_route,
    write,
)
from sse_edge.log.record import Partition
from sse_edge.streams.requests import of_entities

CHANNEL = "agent"

_RETRIED_WITHIN_MS = 600_000
"""Within so long a request is looked for in the log that came with the same key before."""

_Message = Annotated[str, Query(min_length=1, max_length=10_000)]
_Key = Annotated[str | None, Query(min_length=1, max_length=256)]
_KeyHeader = Annotated[str | None, Header(min_length=1, max_length=256)]

router = APIRouter(prefix="/process", tags=["agents"])


class Question(BaseModel):
    """What an agent is to answer."""

    message: Annotated[str, Field(min_length=1, max_length=10_000)]


@router.post(
    "/stream",
    response_class=Response,
    summary="Ask an agent",
    responses=openapi.of(CHANNEL),
    openapi_extra=openapi.PARAMETERS,
)
async def ask(request: Request, question: Question, idempotency_key: _KeyHeader = None) -> Response:
    """The answer, step by step. With an `Idempotency-Key`, a repeated request joins the first."""
    return await _run(request, question.message, idempotency_key)


@stream_route(router, "/stream", "Ask an agent, from a browser's EventSource", openapi.of(CHANNEL))
async def ask_by_get(request: Request, message: _Message, idempotency_key: _Key = None) -> Response:
    """The answer, step by step. Coming back with the last id goes on where it stopped."""
    return await _run(request, message, idempotency_key)


async def _run(request: Request, message: str, key: str | None) -> Response:
    node: Node = request.app.state.node
    cursor = given_cursor(request)
    if request.method == "HEAD":
        return open_stream(request, of_entities(CHANNEL, ["-"], event_names(request)))
    if cursor is not None:
        if len(cursor) <= OWNED_ID_CHARS:
            raise InvalidCursor(f"the cursor {cursor!r} is too short to name a run")
        return _resumed(request, cursor[:OWNED_ID_CHARS], cursor)
    if request.method == "GET":
        count_write(request)
    name = secrets.token_bytes(NAME_BYTES) if key is None else _name_of(key, message)
    run_id = owned_id(name, caller_of(request))
    stream = of_entities(CHANNEL, [run_id], event_names(request))
    if node.unavailable_for is not None:
        return open_stream(request, stream)
    try:
        async with asyncio.timeout(node.settings.broker_patience_s):
            start = await _begun(node, run_id, is_new=key is None)
            # A worker that finds the run ended does nothing.
            await write(
                request, AgentCommand(run_id=run_id, message=message, event_time_us=now_us())
            )
    except (LogError, TimeoutError) as error:
        raise Unavailable("no_broker", f"the message could not be handed on: {error}") from error
    return open_stream(request, stream, start)


def _resumed(request: Request, run_id: str, cursor: str) -> Response:
    node: Node = request.app.state.node
    stream = of_entities(CHANNEL, [run_id], event_names(request))
    node.codec(as_readable_by(request, stream)).decode(cursor)  # a broken one is nobody's
    if not is_owned(run_id, caller_of(request)):
        raise Forbidden("the cursor is of somebody else's run")
    return open_stream(request, stream)


async def _begun(node: Node, run_id: str, *, is_new: bool) -> Start:
    """Where a run's story begins, or will begin."""
    if not is_new:
        return FromTime(time.time_ns() // 1_000_000 - _RETRIED_WITHIN_MS)
    source = of_entities(CHANNEL, [run_id]).selections[0]
    topic = (await node.tail.topic(node.topic_name(source))).info
    where = Partition(topic.name, node.log.partition_of(run_id.encode(), topic.partitions))
    return FromOffsets({where.number: (await node.log.end_offsets([where]))[where]})


def _name_of(key: str, message: str) -> bytes:
    """What a key and a message stand for."""
    text = f"{len(key)}:{key}{message}".encode()
    return hashlib.blake2b(text, digest_size=NAME_BYTES).digest()
