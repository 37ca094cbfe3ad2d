"""Chat rooms, and streams of single users. Both are in the log, so any node can resume them."""

import uuid
from collections.abc import Callable, Mapping, Sequence
from math import inf
from typing import Annotated, cast

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import HTTPConnection

from kafka_io.clock import now_us
from kafka_io.publisher import RecordMetadata
from schemas.events import ChatEvent, ChatEventKind
from schemas.gate import admit_or_none
from schemas.topics import CHAT_MESSAGES
from sse_edge.caller import Scope
from sse_edge.delivery.node import Node
from sse_edge.delivery.start import FromOffsets
from sse_edge.errors import NoSuchThing, Unavailable
from sse_edge.frame import with_members
from sse_edge.http import openapi
from sse_edge.http.addresses import address_of
from sse_edge.http.dependencies import NodeDep, caller_of, node_of, tenant_read_by
from sse_edge.http.request_values import given_cursor
from sse_edge.http.scopes import require
from sse_edge.http.stream_response import (
    as_readable_by,
    count_write,
    event_names,
    in_format,
    may_read,
    open_stream,
    refuse_unacceptable,
    reserve,
    stream_route,
    write,
)
from sse_edge.http.web_pages import web_page_rules_of
from sse_edge.log.protocol import Log
from sse_edge.log.record import Partition, Record
from sse_edge.log.scan import scan
from sse_edge.routes.cluster import ClusterDep, metrics_of, scope
from sse_edge.routes.presence import Joined, Presence, Presences
from sse_edge.streams.channels import Channel
from sse_edge.streams.render import render
from sse_edge.streams.requests import of_entities
from sse_edge.streams.stream import Stream

ROOM = "lobby"
"""The room of a client that names none."""
REMEMBERED = 10
"""How many earlier messages a client receives when it joins."""

_LOOKED_AT_ONCE = 1_000
_LOOKS_MAX = 5
"""How many thousand records are searched; in a busier partition a room shows fewer messages."""

_Room = Annotated[str, Query(min_length=1, max_length=256, description="The name of the room.")]
_User = Annotated[
    str | None,
    Query(
        min_length=1, max_length=256, description="Your name in the room; a random one by default."
    ),
]

router = APIRouter(tags=["chat"])


class ChatMessageRequest(BaseModel):
    """A message to a room."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    user: Annotated[str, Field(min_length=1, max_length=256)] = "Anonymous"
    """The name of the sender."""
    message: Annotated[str, Field(max_length=10_000)] = ""
    """The text."""
    room: Annotated[str, Field(min_length=1, max_length=256)] = ROOM
    """The name of the room."""


@router.post(
    "/send-message",
    dependencies=[require(Scope.WRITE)],
    summary="Send a message to a room",
    responses={503: {"description": "Kafka is unavailable."}},
)
async def send_message(request: Request, body: ChatMessageRequest) -> dict[str, str]:
    """Write a message, and answer once Kafka has it."""
    await _write_event(request, body.room, ChatEventKind.MESSAGE, body.user, body.message)
    return {"status": "sent"}


@stream_route(router, "/chat-stream", "Join a room", openapi.of("chat"))
async def chat_stream(
    request: Request, node: NodeDep, room: _Room = ROOM, user: _User = None
) -> Response:
    """Stream the client's own `join`, the last ten messages, then the events of the room."""
    web_page_rules_of(request).refuse_foreign_page(request)  # to join is to write
    stream = in_format(request, of_entities("chat", [room], event_names(request)))
    cursor = given_cursor(request)
    presences = presences_of(request)
    presence = _presence_of(request, room, user)
    if user is None and cursor is not None:
        presence = presences.find_away(presence) or presence
    name = presence.name
    if request.method == "HEAD" or node.unavailable_for is not None:
        return open_stream(request, stream, client_id=name)
    refuse_unacceptable(request)
    if cursor is not None:
        node.codec(as_readable_by(request, stream)).decode(
            cursor
        )  # an invalid cursor is refused before the client joins
    reserve(request)  # before the client joins
    try:
        is_new = await _enter(request, presence)
    except Unavailable:
        return open_stream(request, stream, client_id=name)

    def leave() -> None:
        node.begin(presences.leave(presence, lambda: _write_leave(request, node, presence)))

    try:
        begins = dict(await _ends_of(request, room))
        joined = presences.joined_at[presence] if is_new else None
        if joined is not None:
            begins[joined.partition] = joined.offset
        prelude = b""
        if cursor is None:
            prelude = await _history(request, node, stream, begins)
        if joined is not None:
            begins[joined.partition] = joined.offset + 1  # after its own `join`
        start = FromOffsets({where.number: offset for where, offset in begins.items()})
        return open_stream(request, stream, start, client_id=name, prelude=prelude, when_over=leave)
    except Exception:
        leave()
        raise


async def _enter(request: Request, presence: Presence) -> bool:
    """Count a stream of a client, write its `join` if it was absent, and return whether it was.

    Raises:
        Unavailable: the `join` could not be written.
        TooManyRequests: the client exceeds its rate of writes.
    """
    presences = presences_of(request)
    is_new = presences.enter(presence)
    if is_new:
        try:
            count_write(request)
            joined = await _write_event(request, presence.room, ChatEventKind.JOIN, presence.name)
        except BaseException:
            presences.forget(presence)
            raise
        topic = node_of(request).settings.topic_prefix + CHAT_MESSAGES.name
        presences.joined_at[presence] = Joined(Partition(topic, joined.partition), joined.offset)
    return is_new


async def _history(
    request: Request, node: Node, stream: Stream, before: Mapping[Partition, int]
) -> bytes:
    """Return the last messages of a room before some offsets, as blocks."""
    keys = as_readable_by(request, stream).keys[0]

    def is_ours(record: Record) -> bool:
        return record.key in keys and may_read(request, record)

    found: list[Record] = []
    for where, offset in before.items():
        found += await last_messages(node.log, where, is_ours, offset)
    found.sort(key=lambda record: record.timestamp_ms)
    channel = stream.selections[0].channel
    return b"".join(_shown(channel, record) for record in found[-REMEMBERED:])


def _presence_of(request: Request, room: str, user: str | None) -> Presence:
    caller = caller_of(request)
    return Presence(
        tenant=None if caller is None else caller.tenant,
        subject=None if caller is None else caller.subject,
        room=room,
        address="" if user else address_of(request.scope),
        name=user or f"User-{uuid.uuid4().hex[:6]}",
    )


@stream_route(
    router, "/user-specific-stream/{user_id}", "Follow the updates for one user", openapi.of("user")
)
async def user_stream(
    request: Request,
    user_id: Annotated[str, Path(description="The user, as the `sub` of the token.")],
) -> Response:
    """Stream each `update` for the user; `error` is recoverable, `fatal_error` ends the stream."""
    caller = caller_of(request)
    if caller is not None and caller.subject != user_id:
        raise NoSuchThing(f"there is no stream of user {user_id[:60]!r} for this token")
    return open_stream(request, of_entities("user", [user_id], event_names(request)))


@router.get("/sse-metrics", summary="Summary of `/metrics` of all nodes")
async def sse_metrics(request: Request, cluster: ClusterDep) -> dict[str, object]:
    """Return the open streams, events sent and errors of all running nodes, and of this process.

    A caller with a token sees those of its own tenant only.

    Where only this process is known, `scope` is `node`, and `note` says why.
    """
    members = await cluster.members(tenant_read_by(request))
    own = metrics_of(members.nodes[:1])
    return {**metrics_of(members.nodes), **scope(members), "node": own}


def presences_of(connection: HTTPConnection) -> Presences:
    """Return the clients in the rooms of this node."""
    return cast("Presences", connection.app.state.presences)


async def last_messages(
    log: Log, where: Partition, is_ours: Callable[[Record], bool], before: int
) -> Sequence[Record]:
    """Return the last messages of a room before an offset, in order.

    Args:
        log: the log.
        where: the room's partition.
        is_ours: whether a record is of the room, and the caller may read it.
        before: the offset.

    Raises:
        LogError: Kafka cannot be read.
    """
    found: list[Record] = []
    begin = (await log.begin_offsets([where]))[where]
    end = before
    for _ in range(_LOOKS_MAX):
        if end <= begin or len(found) >= REMEMBERED:
            break
        start = max(begin, end - _LOOKED_AT_ONCE)
        older = [
            record
            async for batch in scan(log, where, start, end)
            for record in batch.records
            if is_ours(record) and _is_message(record)
        ]
        found, end = older + found, start
    return found[-REMEMBERED:]


def _is_message(record: Record) -> bool:
    event = admit_or_none(ChatEvent, record.value)
    return event is not None and event.kind == ChatEventKind.MESSAGE


def _shown(channel: Channel, record: Record) -> bytes:
    """Return a message as a block without an id."""
    # Whether its time fits the log's is for the stream to say: a room shows what it has shown.
    frame, context = render(channel, record, inf), channel.dialect.context
    assert frame is not None
    body = frame.body
    if context is not None:
        body = with_members(body, lambda part: context(record, part))
    return body + b"\n"


async def _write_event(
    request: Request, room: str, kind: str, user: str, message: str = ""
) -> RecordMetadata:
    event = ChatEvent(room=room, kind=kind, user=user, message=message, event_time_us=now_us())
    return await write(request, event)


def _stream_of(request: Request, room: str) -> Stream:
    return as_readable_by(request, of_entities("chat", [room]))


async def _ends_of(request: Request, room: str) -> Mapping[Partition, int]:
    """Return the ends of the partitions that have a room's events.

    Raises:
        LogError: Kafka cannot be read.
    """
    node, stream = node_of(request), _stream_of(request, room)
    topic = (await node.tail.topic(node.topic_name(stream.selections[0]))).info
    numbers = {node.log.partition_of(key, topic.partitions) for key in stream.keys[0]}
    return await node.log.end_offsets([Partition(topic.name, number) for number in sorted(numbers)])


async def _write_leave(request: Request, node: Node, presence: Presence) -> None:
    """Write that a client has left a room, unless it is there on another node by now."""
    if not await _has_joined_again(request, node, presence):
        await _write_event(request, presence.room, ChatEventKind.LEAVE, presence.name)


async def _has_joined_again(request: Request, node: Node, presence: Presence) -> bool:
    """Return whether a client has joined its room once more lately.

    Raises:
        LogError: Kafka cannot be read.
    """
    keys = _stream_of(request, presence.room).keys[0]
    joined = presences_of(request).joined_at.get(presence)
    for where, end in (await _ends_of(request, presence.room)).items():
        begin = end - _LOOKED_AT_ONCE
        if joined is not None and joined.partition == where:
            begin = max(begin, joined.offset + 1)
        async for batch in scan(node.log, where, max(begin, 0), end):
            for record in batch.records:
                is_ours = record.key in keys and may_read(request, record)
                event = admit_or_none(ChatEvent, record.value) if is_ours else None
                if event is not None and _is_join_of(event, presence.name):
                    return True
    return False


def _is_join_of(event: ChatEvent, name: str) -> bool:
    return event.kind == ChatEventKind.JOIN and event.user == name
