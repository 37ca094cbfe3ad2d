"""Events become text/event-stream: blocks of lines, as bytes.

Pure. JSON is ASCII-escaped and stands on one `data:` line, so that no character of any text can
end a line or a block. An `id:` is the last line of its block: some clients keep the id of a block
that a broken connection cut in two, and would skip the event for ever.
"""

import json
import re

import orjson

_LINE_END = re.compile(r"\r\n|\r|\n")

FRAME_BYTES_MAX = 64 << 10
"""Readers of several client libraries have a buffer of this size for a line."""


class Text(str):
    """Data that is sent as it is, a line for each of its lines, not as JSON."""

    __slots__ = ()


def block(event: str | None, data: object, *, retry_ms: int | None = None) -> bytes:
    """A block without an id: `event:`, `retry:` and `data:` lines, and the end of the block.

    Args:
        event: its name; None for an unnamed one.
        data: any JSON-able value, or a `Text`; NaN and infinities become null, since JSON has
            neither.
        retry_ms: when the client should come back after a loss of connection.
    """
    return body(event, data, retry_ms=retry_ms) + b"\n"


def body(event: str | None, data: object, *, retry_ms: int | None = None) -> bytes:
    """A block that still lacks its id and its end; see `with_id`."""
    name = b"" if event is None else b"event: %b\n" % event.encode()
    retry = b"" if retry_ms is None else b"retry: %d\n" % retry_ms
    return b"%b%b%b" % (name, retry, _data(data))


def with_id(unfinished: bytes, cursor: bytes) -> bytes:
    """Finish a block with the cursor after it."""
    return b"%bid: %b\n\n" % (unfinished, cursor)


def checkpoint(cursor: bytes, *, named: bool = False, retry_ms: int | None = None) -> bytes:
    """Move the client's cursor without an event.

    Browsers store the id of a block without data and dispatch nothing. Client libraries that drop
    such blocks ask for a named one.
    """
    if named:
        return with_id(body("checkpoint", {}, retry_ms=retry_ms), cursor)
    retry = b"" if retry_ms is None else b"retry: %d\n" % retry_ms
    return with_id(retry, cursor)


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
