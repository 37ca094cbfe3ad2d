"""The headers of every response with server-sent events."""

SSE_HEADERS = {
    "Content-Type": "text/event-stream",  # clients compare it; the encoding is always UTF-8
    "Cache-Control": "no-cache, no-transform",
    "X-Accel-Buffering": "no",  # nginx would hold events back
}

STREAM_HEADERS = {"Connection": "close", **SSE_HEADERS}
"""The headers of a stream that takes its connection over."""
