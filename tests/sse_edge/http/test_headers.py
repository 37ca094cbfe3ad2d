from sse_edge.http.headers import SSE_HEADERS, STREAM_HEADERS


def test_no_proxy_stores_transforms_or_holds_back_a_stream() -> None:
    assert STREAM_HEADERS.items() >= SSE_HEADERS.items()
    assert SSE_HEADERS == {
        "Content-Type": "text/event-stream",
        "Cache-Control": "no-cache, no-transform",
        "X-Accel-Buffering": "no",
    }
