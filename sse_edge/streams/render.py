"""Renders records as frames: events in bytes that lack only the cursor."""

from collections.abc import Callable
from typing import NamedTuple

from schemas.codec import decode
from schemas.errors import Undecodable
from schemas.instants import to_rfc3339
from sse_edge.errors import Unframable
from sse_edge.frame import FRAME_BYTES_MAX, body
from sse_edge.log.record import Record
from sse_edge.streams.channels import Channel


class Frame(NamedTuple):
    """A rendered record, without its cursor, and what filters need to know of it."""

    event: str
    body: bytes
    ends: bool


Renderer = Callable[[Channel, Record], Frame | None]
"""Renders a record; None for one that clients do not get, or that cannot be rendered."""


def render(channel: Channel, record: Record) -> Frame | None:
    """Render a record; None for one that clients of the channel do not get.

    Raises:
        Unframable: the record is no event of the channel, or too large for an event.
    """
    return render_value(channel, record.value, record.timestamp_ms)


def render_value(channel: Channel, value: bytes | None, timestamp_ms: int) -> Frame | None:
    """Render a record's value, with its time in the log; see `render`."""
    if value is None:
        return None
    try:
        event = decode(value)
        if not isinstance(event, channel.topic.records):
            raise Unframable(f"a {type(event).__name__} is no event of channel {channel.name}")
        rendered = channel.render(event)
        if rendered is None:
            return None
        timestamp = to_rfc3339(timestamp_ms * 1000)
        unfinished = body(*channel.dialect.wrap(rendered, timestamp))
    except (Undecodable, ValueError, OverflowError, RecursionError) as error:
        raise Unframable(str(error)) from error
    if len(unfinished) > FRAME_BYTES_MAX:
        raise Unframable(f"{len(unfinished)} bytes; an event has at most {FRAME_BYTES_MAX}")
    return Frame(rendered.event, unfinished, rendered.ends)
