"""How OpenAPI describes a stream: its parameters, and an example of each event.

The channels themselves render the examples, so that the documentation shows what clients get.
"""

from typing import Any

from schemas.codec import encode
from sse_edge.frame import with_id
from sse_edge.streams.channels import CHANNELS, Channel
from sse_edge.streams.render import render_value

_TIMESTAMP_MS = 1_223_596_800_000
_CURSOR = b"AXRg_WkwRn0O6ykGAQAAAAAA"


def responses(*channels: Channel) -> dict[int | str, dict[str, Any]]:
    """The answers of an endpoint that serves channels, with an example of each event."""
    shown = {}
    for channel in channels:
        for record in channel.examples:
            frame = render_value(channel, encode(record), _TIMESTAMP_MS)
            assert frame is not None
            shown[frame.event] = {"value": with_id(frame.body, _CURSOR).decode()}
    stream = {"text/event-stream": {"schema": {"type": "string"}, "examples": shown}}
    return {
        200: {
            "description": "Server-sent events. Each event's id is the cursor after it: send it "
            "back as `Last-Event-ID`, to any node, to get everything that follows. "
            f"Events: {', '.join(shown)}.",
            "content": stream,
        },
        204: {"description": "The stream had ended before this cursor."},
        400: {"description": "A parameter or the cursor has no meaning; `detail` says why."},
        401: {"description": "A token is needed, or the one given is not good."},
        403: {"description": "It is somebody else's."},
        404: {"description": "There is no such thing."},
        406: {"description": "`Accept` excludes `text/event-stream`."},
        429: {"description": "This address, or user, holds as many connections as it may."},
        503: {"description": "No broker, or the node is on its way out."},
    }


def of(*names: str) -> dict[int | str, dict[str, Any]]:
    """As `responses`, of channels by their names."""
    return responses(*(CHANNELS[name] for name in names))


def of_many() -> dict[int | str, dict[str, Any]]:
    """As `responses`, of several channels in one connection."""
    return responses(*CHANNELS.in_many.values())


def _query(name: str, description: str, *allowed: str) -> dict[str, object]:
    schema: dict[str, object] = {"type": "string"}
    if allowed:
        schema |= {"enum": list(allowed), "default": allowed[0]}
    return {"name": name, "in": "query", "description": description, "schema": schema}


PARAMETERS: dict[str, object] = {
    "parameters": [
        {
            "name": "Last-Event-ID",
            "in": "header",
            "description": "the last id that was seen; browsers send it by themselves",
            "schema": {"type": "string"},
        },
        _query("last_event_id", "the same, for a first connection; the header wins"),
        _query("from", "where to begin without an id: earliest, latest or an RFC 3339 time"),
        _query("events", "names of the events to send, with commas between"),
        _query("on_gap", "what to do where events cannot be had any more", "continue", "close"),
        _query("checkpoint", "how a quiet client's cursor moves", "id", "event"),
        _query("slow", "what becomes of a slow client", "pause", "conflate", "close"),
        _query("client_id", "what the client calls itself"),
        _query("token", "who it is, where no header can be sent"),
    ]
}
"""What every stream takes."""

TOKEN: dict[str, object] = {
    "parameters": [_query("token", "who it is, where no header can be sent")]
}
"""What a list takes beside its own."""
