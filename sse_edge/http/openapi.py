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


_EVENT: dict[str, object] = {
    "type": "object",
    "properties": {
        "event": {"type": "string"},
        "data": {"type": "string"},
        "id": {"type": "string"},
        "retry": {"type": "integer", "minimum": 0},
    },
}
"""An event of a stream; comments, which keep a connection open, have none of these fields."""


def _problem(description: str) -> dict[str, Any]:
    """Return a response that is an error."""
    return {"description": description, "content": {"application/problem+json": _PROBLEM}}


_PROBLEM: dict[str, object] = {
    "schema": {
        "type": "object",
        "required": ["type", "title", "status", "reason"],
        "properties": {
            "type": {"type": "string"},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string"},
            "reason": {"type": "string"},
            "id": {"type": "string"},
            "parameter": {"type": "string"},
        },
    }
}


def responses(*channels: Channel) -> dict[int | str, dict[str, Any]]:
    """Return the responses of an endpoint that serves channels, with an example of each event."""
    shown = {}
    for channel in channels:
        for record in channel.examples:
            frame = render_value(channel, encode(record), _TIMESTAMP_MS)
            assert frame is not None
            shown[frame.event] = {"value": with_id(frame.body, _CURSOR).decode()}
    stream = {"text/event-stream": {"itemSchema": _EVENT, "examples": shown}}
    return {
        200: {
            "description": "Server-sent events. The id of an event is the cursor after it: send it "
            "back as `Last-Event-ID`, to any node, to get every later event. "
            f"Events: {', '.join(shown)}.",
            "content": stream,
        },
        204: {"description": "The stream had ended before this cursor."},
        400: _problem("A parameter or the cursor is invalid; `detail` says why."),
        401: _problem("The token is missing or invalid."),
        403: _problem("The token lacks the scope."),
        404: _problem("It does not exist, or belongs to another user or tenant."),
        406: _problem("`Accept` excludes `text/event-stream`."),
        429: _problem("This address or user has reached its limit of connections."),
        503: _problem("Kafka is unavailable, or the node is draining."),
    }


def of(*names: str) -> dict[int | str, dict[str, Any]]:
    """Return the responses of channels by name; see `responses`."""
    return responses(*(CHANNELS[name] for name in names))


def of_many() -> dict[int | str, dict[str, Any]]:
    """Return the responses of several channels in one connection; see `responses`."""
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
            "description": "The last id that the client received. Browsers send it by themselves.",
            "schema": {"type": "string"},
        },
        _query(
            "last_event_id",
            "The same for a first connection, also as `lastEventId` or `Last-Event-ID`; "
            "the header wins.",
        ),
        _query("from", "Where to start without an id: earliest, latest or an RFC 3339 time."),
        _query("events", "The names of the events to send, separated by commas."),
        _query(
            "on_gap", "What to do when events cannot be delivered any more.", "continue", "close"
        ),
        _query(
            "checkpoint",
            "How the cursor of a quiet client moves: by an id, or by an event.",
            "id",
            "event",
        ),
        _query(
            "slow", "What a slow client gets when it reads again.", "pause", "conflate", "close"
        ),
        _query(
            "traceparent",
            "Whether the data of each event have its W3C trace context, where it was traced.",
            "none",
            "data",
        ),
        _query(
            "format",
            "Whether events are in the dialect of the stream, or CloudEvents in JSON.",
            "dialect",
            "cloudevents",
        ),
        _query("heartbeat", "The seconds of silence before a heartbeat, if sooner than usual."),
        _query("client_id", "The client's name for itself."),
        _query("token", "The access token, for clients that cannot send headers."),
    ]
}
"""The parameters of every stream."""

PROBLEMS: dict[int | str, dict[str, Any]] = {
    "4XX": _problem(
        "The request is refused; `detail` says why, `reason` is a code of it, `id` names the line "
        "in the log, and `parameter` a parameter or field that is invalid."
    ),
    503: _problem("Kafka is unavailable, or the node is draining."),
}
"""How every endpoint refuses a request; in place of FastAPI's 422, which the edge never answers."""

LIST_PARAMETERS: dict[str, object] = {
    "parameters": [
        _query("format", "Whether events are as usual, or CloudEvents.", "dialect", "cloudevents"),
        _query("token", "The access token, for clients that cannot send headers."),
    ]
}
"""The parameters of streams of lists, besides those that an endpoint declares."""

PAGE_PARAMETERS: dict[str, object] = {
    "parameters": [
        _query("after", "The cursor of a page or event, after which the page begins."),
        _query("from", "Where to start without a cursor: earliest, latest or an RFC 3339 time."),
        _query("until", "Before which time of the log the pages end: an RFC 3339 time."),
        _query("format", "The format, if not by `Accept`.", "json", "ndjson", "cloudevents"),
        _query("events", "The names of the events, separated by commas."),
        *(
            _query(name, "Selects one entity, on channels that have this parameter.")
            for name in CHANNELS.mystocks_parameters
        ),
        _query("token", "The access token, for clients that cannot send headers."),
    ]
}
"""The parameters of pages, besides those that the endpoint declares."""

_PAGED_EVENT: dict[str, object] = {
    "type": "object",
    "required": ["data"],
    "properties": {"id": {"type": "string"}, "event": {"type": "string"}, "data": {}},
}

DURABLE_STREAM_PARAMETERS: dict[str, object] = {
    "parameters": [
        _query("offset", "Where to read from: -1, now, or the `Stream-Next-Offset` of an answer."),
        _query("live", "How to follow, with an offset: long-poll or sse."),
        _query("cursor", "The `Stream-Cursor` of the last answer, for caches."),
        _query("events", "The names of the events, separated by commas."),
        _query("token", "The access token, for clients that cannot send headers."),
    ]
}
"""The parameters of durable streams."""

OF_DURABLE_STREAMS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "A chunk: the data of events. `Stream-Next-Offset` is the offset after it; "
        "`Stream-Up-To-Date` says that no more is there yet, `Stream-Closed` that nothing follows.",
        "content": {
            "application/json": {"schema": {"type": "array", "items": {}}},
            "text/event-stream": {"itemSchema": _EVENT},
        },
    },
    204: {"description": "By long-polling: no event has come in time."},
    304: {"description": "The client has this chunk: `If-None-Match` names its `ETag`."},
    404: _problem("There is no such channel, or this edge serves no durable streams."),
    410: _problem("The log has not all events after the offset any more."),
}
"""The responses of durable streams, besides those of every endpoint."""

_CLOUDEVENT: dict[str, object] = {
    "type": "object",
    "required": ["specversion", "id", "source", "type"],
    "properties": {
        name: {"type": "string"}
        for name in ("specversion", "id", "source", "type", "time", "subject", "datacontenttype")
    }
    | {"data": {}, "cursor": {"type": "string"}},
}

OF_PAGES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "A page. `Last-Event-ID` has the cursor after it, and `Link` the address of "
        "the next one while more events follow.",
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["events", "cursor", "has_more", "ended"],
                    "properties": {
                        "events": {"type": "array", "items": _PAGED_EVENT},
                        "cursor": {"type": "string"},
                        "has_more": {"type": "boolean"},
                        "ended": {"type": "boolean"},
                    },
                }
            },
            "application/x-ndjson": {"itemSchema": _PAGED_EVENT},
            "application/cloudevents-batch+json": {
                "schema": {"type": "array", "items": _CLOUDEVENT}
            },
        },
    },
    304: {"description": "The client has this page: `If-None-Match` names its `ETag`."},
    410: _problem("With `on_gap=close`: the log has not all events after the cursor any more."),
}
"""The responses of pages, besides those of every endpoint."""
