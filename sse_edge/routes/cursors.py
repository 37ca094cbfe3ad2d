"""Explains cursors: to clients they are opaque, and people who debug want to read them."""

from typing import Annotated

from fastapi import APIRouter, Query, Request

from sse_edge.caller import Caller, Scope
from sse_edge.cursor import Cursor, incarnation_of
from sse_edge.delivery.node import Node
from sse_edge.errors import Forbidden, InvalidParameter, LogUnavailable
from sse_edge.http.dependencies import NodeDep, caller_of
from sse_edge.http.scopes import refuse_without
from sse_edge.http.stream_response import as_readable_by, event_names
from sse_edge.log.record import Partition
from sse_edge.streams.channels import CHANNELS
from sse_edge.streams.requests import many_channels, one_channel
from sse_edge.streams.stream import Stream

router = APIRouter(prefix="/api/v1/sse", tags=["streams"])


@router.get("/cursor", summary="Explain a cursor: its offsets, and how far it lags behind")
async def explain(
    request: Request,
    node: NodeDep,
    id: Annotated[str, Query(description="The cursor: the id of an event.")],  # noqa: A002  # as in a block
    channel: Annotated[
        str | None, Query(description="The channel that it comes from, if from one.")
    ] = None,
    topic: Annotated[
        list[str] | None,
        Query(description="The channels of `/api/v1/sse/streams`, as they were requested."),
    ] = None,
) -> dict[str, object]:
    """Give the filters of the stream as well: `events`, and the entity as `entity_id`.

    For each partition: the offset of the next record that the client gets, the end of the log, and
    their difference. Markers of transactions have offsets too, so a lag may exceed the events.
    """
    _refuse_where_encrypted(node, caller_of(request))
    stream = as_readable_by(request, _stream_of(request, channel, topic))
    return await explained(node, stream, node.codec(stream).decode(id))


def _refuse_where_encrypted(node: Node, caller: Caller | None) -> None:
    """Return if the caller may see offsets and the log's ends, which cursors hide with a secret.

    Raises:
        Forbidden: the caller is of a tenant, or its token lacks the scope `admin`.
    """
    if node.settings.cursor_secret is None:
        return
    refuse_without(Scope.ADMIN, caller)
    if caller is not None and caller.tenant is not None:
        raise Forbidden(
            "cursors are encrypted here, so that no tenant sees how much others write; ask with a "
            "token without a tenant"
        )


async def explained(node: Node, stream: Stream, cursor: Cursor) -> dict[str, object]:
    """Return the position of a cursor in each topic of its stream.

    Raises:
        LogUnavailable: Kafka did not answer.
    """
    names = [node.topic_name(selection) for selection in stream.selections]
    infos = await node.log.describe(set(names))
    topics: list[dict[str, object]] = []
    for selection, name, position in zip(stream.selections, names, cursor.topics, strict=True):
        info = infos.get(name)
        if info is None:
            raise LogUnavailable(f"there is no topic {name}")
        is_present = position.incarnation == incarnation_of(info.topic_id)
        partitions = [
            Partition(name, number) for number, _ in position.offsets if number < info.partitions
        ]
        ends = await node.log.end_offsets(partitions) if is_present else {}
        topics.append(
            {
                "channel": selection.channel.name,
                "topic": selection.channel.topic.name,
                "is_present_incarnation": is_present,
                "partitions": [
                    {
                        "partition": number,
                        "next_offset": offset,
                        "end_offset": (end := ends.get(Partition(name, number))),
                        "lag": None if end is None else max(0, end - offset),
                    }
                    for number, offset in position.offsets
                ],
            }
        )
    return {"ended": cursor.ended, "topics": topics}


def _stream_of(request: Request, channel: str | None, topics: list[str] | None) -> Stream:
    if channel is None:
        return many_channels(topics or (), event_names(request))
    if channel not in CHANNELS.mystocks:
        raise InvalidParameter(
            "channel",
            f"{channel[:60]!r} is no channel; there are {', '.join(CHANNELS.mystocks)}",
        )
    return one_channel(channel, request.query_params, event_names(request))
