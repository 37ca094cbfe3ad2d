"""Messages to agents: a request writes a command, a worker answers, and the client follows the run.

The cursors of a run begin with its name. A browser reconnects with the same URL and its last id,
so the id identifies the run, and nothing runs twice. The name also identifies the owner: another
user that has an id cannot read the answer with it.
"""

import asyncio
import hashlib
import secrets
import time
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from kafka_io.clock import now_us
from schemas.events import AgentCommand
from sse_edge.caller import NAME_BYTES, OWNED_ID_CHARS, Scope, is_owned, owned_id
from sse_edge.delivery import control_events
from sse_edge.delivery.start import FromOffsets, FromTime, Start
from sse_edge.errors import (
    InvalidCursor,
    InvalidParameter,
    LogError,
    NoSuchThing,
    Unavailable,
    UnavailableReason,
)
from sse_edge.frame import block
from sse_edge.http import openapi
from sse_edge.http.dependencies import caller_of, node_of, subject_of
from sse_edge.http.headers import STREAM_HEADERS
from sse_edge.http.request_values import asks_for_stream, given_cursor
from sse_edge.http.scopes import refuse_without, require
from sse_edge.http.stream_response import (
    as_readable_by,
    count_write,
    event_names,
    open_stream,
    reserve,
    stream_route,
    write,
)
from sse_edge.log.record import Partition
from sse_edge.streams.dialects import agent
from sse_edge.streams.requests import of_entities

CHANNEL = "agent"

_RETRIED_WITHIN_MS = 600_000
"""How far back a run with the same idempotency key is looked for, in milliseconds."""

_Message = Annotated[
    str | None, Query(max_length=2_000, description="The message; without one, a help text.")
]
_KEY = "A name of this request; a repetition with it joins the run that has begun."
_Key = Annotated[str | None, Query(min_length=1, max_length=256, description=_KEY)]
_KeyHeader = Annotated[str | None, Header(min_length=1, max_length=256, description=_KEY)]

router = APIRouter(prefix="/process", tags=["agents"])


class Question(BaseModel):
    """A message for an agent."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    message: Annotated[str, Field(min_length=1, max_length=2_000)]
    """The question; a classifier chooses the agent."""


@router.post(
    "/stream",
    dependencies=[require(Scope.WRITE)],
    response_class=Response,
    summary="Ask an agent",
    responses=openapi.of(CHANNEL),
    openapi_extra=openapi.PARAMETERS,
)
async def ask(request: Request, question: Question, idempotency_key: _KeyHeader = None) -> Response:
    """Stream the answer step by step; with an `Idempotency-Key`, a repetition joins the first."""
    return await _run(request, question.message, idempotency_key)


@stream_route(router, "/stream", "Ask an agent with EventSource", openapi.of(CHANNEL))
async def ask_by_get(
    request: Request, message: _Message = None, idempotency_key: _Key = None
) -> Response:
    """Stream the answer step by step. A reconnect with the last id continues the same run."""
    refuse_without(Scope.WRITE, caller_of(request))
    if not message and request.method == "GET" and given_cursor(request) is None:
        return _help(request)
    return await _run(request, message or "", idempotency_key)


def _help(request: Request) -> Response:
    """Answer a browser without a message with a help text; nothing runs.

    Raises:
        InvalidParameter: another caller has no message.
    """
    if not asks_for_stream(request):
        raise InvalidParameter("message", "it is empty; give a question for an agent")
    first, last = agent.help_events()
    retry_ms = control_events.late_retry_ms()
    return Response(block(*first, retry_ms=retry_ms) + block(*last), headers=STREAM_HEADERS)


async def _run(request: Request, message: str, key: str | None) -> Response:
    node = node_of(request)
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
    reserve(request)  # before a worker is asked
    try:
        async with asyncio.timeout(node.settings.broker_patience_s):
            start = await _begun(request, run_id, is_new=key is None)
            # A worker that finds the run ended does nothing.
            command = AgentCommand(
                run_id=run_id, message=message, owner=subject_of(request), event_time_us=now_us()
            )
            await write(request, command)
    except (LogError, TimeoutError) as error:
        raise Unavailable(
            UnavailableReason.NO_BROKER, "the message could not be written in time"
        ) from error
    return open_stream(request, stream, start)


def _resumed(request: Request, run_id: str, cursor: str) -> Response:
    node = node_of(request)
    stream = of_entities(CHANNEL, [run_id], event_names(request))
    node.codec(as_readable_by(request, stream)).decode(cursor)  # raises for an invalid cursor
    if not is_owned(run_id, caller_of(request)):
        raise NoSuchThing("there is no such run; POST /process/stream begins one")
    return open_stream(request, stream)


async def _begun(request: Request, run_id: str, *, is_new: bool) -> Start:
    """Return where the events of a run begin, or will begin."""
    if not is_new:
        return FromTime(time.time_ns() // 1_000_000 - _RETRIED_WITHIN_MS)
    node = node_of(request)
    stream = as_readable_by(request, of_entities(CHANNEL, [run_id]))
    topic = (await node.tail.topic(node.topic_name(stream.selections[0]))).info
    numbers = {node.log.partition_of(key, topic.partitions) for key in stream.keys[0]}
    ends = await node.log.end_offsets([Partition(topic.name, number) for number in numbers])
    return FromOffsets({where.number: end for where, end in ends.items()})


def _name_of(key: str, message: str) -> bytes:
    """Return the name of the run with an idempotency key and a message."""
    text = f"{len(key)}:{key}{message}".encode()
    return hashlib.blake2b(text, digest_size=NAME_BYTES).digest()
