"""Renders records as frames: events in bytes that lack only the cursor."""

from collections.abc import Callable
from typing import NamedTuple

from schemas.errors import Refused
from schemas.gate import AHEAD_US, admit
from schemas.instants import to_rfc3339
from sse_edge.errors import Unframable
from sse_edge.frame import body
from sse_edge.log.record import Record
from sse_edge.streams.channels import Channel
from sse_edge.streams.dialect import UnknownWord
from sse_edge.streams.parts import in_parts, without_the_largest


class Frame(NamedTuple):
    """A rendered record, without its cursor, and what filters need to know of it."""

    event: str
    body: bytes
    """One block without its id, after others if the event is too large for one."""
    ends: bool
    owner: str | None = None
    """The one user whom it is for; None for all of its tenant."""


Renderer = Callable[[Channel, Record], Frame | None]
"""Renders a record; None for one that clients do not get, or that cannot be rendered."""


def render(channel: Channel, record: Record, ahead_us: float = AHEAD_US) -> Frame | None:
    """Render a record; None for one that clients of the channel do not get.

    Args:
        channel: the channel.
        record: a record of its topic.
        ahead_us: how far ahead of its time in the log an event may be, in microseconds.

    Raises:
        Unframable: the gate refuses the record, the channel's dialect has no words for it, or it
            is too large for an event.
    """
    return render_value(channel, record.value, record.timestamp_ms, ahead_us)


def render_value(
    channel: Channel, value: bytes | None, timestamp_ms: int, ahead_us: float = AHEAD_US
) -> Frame | None:
    """Render a record's value, with its time in the log; see `render`."""
    if value is None:
        return None
    logged_us = max(timestamp_ms, 0) * 1000
    try:
        event = admit(value, *channel.topic.records, logged_us=logged_us, ahead_us=ahead_us)
        rendered = channel.render(event)
        if rendered is None:
            return None
        owner = None if channel.owner_of is None else channel.owner_of(event)
        timestamp = to_rfc3339(logged_us)
        unfinished = whole = body(*channel.dialect.wrap(rendered, timestamp))
        if len(whole) > channel.dialect.frame_bytes_max:
            unfinished = in_parts(channel.dialect, rendered, timestamp) or b""
            if not unfinished:
                unfinished = without_the_largest(channel.dialect, rendered, timestamp) or b""
    except Refused as error:
        raise Unframable(error.reason, str(error)) from error
    except UnknownWord as error:
        raise Unframable("unknown_word", str(error)) from error
    except Exception as error:
        # A dialect has failed, at this record only: every other one is still rendered.
        raise Unframable("failed", f"{type(error).__name__}: {error}") from error
    if not unfinished:
        text = f"{len(whole)} bytes; an event has at most {channel.dialect.frame_bytes_max}"
        raise Unframable("too_large", text)
    return Frame(rendered.event, unfinished, rendered.ends, owner)
