"""Encodes events as text/event-stream: blocks of lines, in bytes.

This module is pure. JSON is ASCII-escaped and on one `data:` line, so that no character of a text
can end a line or a block. The `id:` is the last line of its block: some clients keep the id of a
block that a broken connection cut in two, and would skip the event for ever.
"""

import json
import re
from collections.abc import Callable
from functools import lru_cache

import orjson

_LINE_END = re.compile(r"\r\n|\r|\n")

FRAME_BYTES_MAX = 64 << 10
"""Several client libraries read a line into a buffer of this size."""


class Text(str):
    """Data that is sent as plain text instead of JSON, with a `data:` line for each line."""

    __slots__ = ()


def block(event: str | None, data: object, *, retry_ms: int | None = None) -> bytes:
    """Return a block without an id: `event:`, `retry:` and `data:` lines, and an empty line.

    Args:
        event: the event's name; None for an unnamed event.
        data: a value that JSON can hold, or a `Text`; NaN and infinities become null.
        retry_ms: how long the client waits before it reconnects, in milliseconds.
    """
    return body(event, data, retry_ms=retry_ms) + b"\n"


def body(event: str | None, data: object, *, retry_ms: int | None = None) -> bytes:
    """Return a block without its id and its end, for `with_id`.

    Raises:
        ValueError: the event's name has a line break, or the data is no value for JSON.
    """
    name = b"" if event is None else _name_line(event)
    retry = b"" if retry_ms is None else b"retry: %d\n" % retry_ms
    return b"%b%b%b" % (name, retry, _data(data))


def with_id(unfinished: bytes, cursor: bytes) -> bytes:
    """Complete a block with its id, the cursor after the event."""
    return b"%bid: %b\n\n" % (unfinished, cursor)


def with_members(unfinished: bytes, members: Callable[[str], bytes]) -> bytes:
    """Add members to the JSON object that is an event's data, or to that of each of its parts.

    Args:
        unfinished: a block without its id, after others if the event comes in parts; each has a
            data line that is an object with members.
        members: returns the JSON of members, such as `"a":1,"b":2`, for the number of a part as
            text; empty for an event in one block.
    """
    *parts, last = unfinished.split(b"\n\n")
    blocks = [
        b"%b,%b}\n" % (part[:-1], members(str(number))) for number, part in enumerate(parts, 1)
    ]
    number = str(len(parts) + 1) if parts else ""
    return b"\n".join([*blocks, b"%b,%b}\n" % (last[:-2], members(number))])


def with_member(unfinished: bytes, name: str, value: bytes) -> bytes:
    """Add a text to the JSON object that is an event's data, or to that of each of its parts.

    A block is returned as it is where its data is no object on one line, or would become larger
    than `FRAME_BYTES_MAX`.

    Args:
        unfinished: a block without its id, after others if the event comes in parts.
        name: the member's name.
        value: its text, of characters that JSON need not escape.
    """
    *parts, last = unfinished.split(b"\n\n")
    blocks = [_with_member(part + b"\n", name, value) for part in parts]
    return b"\n".join([*blocks, _with_member(last, name, value)])


def _with_member(unfinished: bytes, name: str, value: bytes) -> bytes:
    start = unfinished.rfind(b"\n", 0, -1) + 1
    added = b'"%b":"%b"}\n' % (name.encode(), value)
    if not (unfinished.startswith(b"data: {", start) and unfinished.endswith(b"}\n")):
        return unfinished
    if len(unfinished) + len(added) > FRAME_BYTES_MAX:
        return unfinished
    separator = b"" if unfinished.endswith(b"{}\n", start) else b","
    return unfinished[:-2] + separator + added


def checkpoint(cursor: bytes, *, named: bool = False, retry_ms: int | None = None) -> bytes:
    """Return a block that moves the client's cursor without an event.

    A browser stores the id of a block without data, and dispatches nothing. A client library that
    drops such blocks requests a named `checkpoint` event instead.
    """
    if named:
        return with_id(body("checkpoint", {}, retry_ms=retry_ms), cursor)
    retry = b"" if retry_ms is None else b"retry: %d\n" % retry_ms
    return with_id(retry, cursor)


@lru_cache(maxsize=256)
def _name_line(event: str) -> bytes:
    # Cached, since a stream has few names and many events.
    if _LINE_END.search(event):
        raise ValueError(f"an event's name has no line breaks, as {event!r} has")
    return b"event: %b\n" % event.encode()


def _data(data: object) -> bytes:
    if not isinstance(data, Text):
        return b"data: %b\n" % _json(data)
    lines = _LINE_END.split(data)
    return "".join(f"data: {line}\n" for line in lines).encode(errors="replace")


def _json(data: object) -> bytes:
    try:
        text = orjson.dumps(data)
    except orjson.JSONEncodeError:  # a lone surrogate, which only a caller's own text can hold
        return json.dumps(data, allow_nan=False, separators=(",", ":")).encode("ascii")
    if text.isascii():
        return text
    return json.dumps(orjson.loads(text), separators=(",", ":")).encode("ascii")
