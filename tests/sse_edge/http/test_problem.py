import json
from collections import Counter
from types import SimpleNamespace

import httpx
import pytest
from fastapi import FastAPI

from sse_edge.errors import (
    EdgeError,
    ForeignCursor,
    InvalidParameter,
    TooManyRequests,
    Unauthorized,
    Unavailable,
    UnavailableReason,
)
from sse_edge.http.problem import add_exception_handlers, problem
from sse_edge.settings import EdgeSettings
from tests.support.sse import Reader


@pytest.mark.parametrize(
    ("error", "status", "more", "headers"),
    [
        (
            InvalidParameter("from", "it is 3"),
            400,
            {"parameter": "from", "reason": "invalid_parameter"},
            {},
        ),
        (ForeignCursor("of another stream"), 400, {"reason": "foreign_cursor"}, {}),
        (
            Unauthorized("no token"),
            401,
            {"reason": "unauthorized"},
            {"www-authenticate": "Bearer"},
        ),
        (
            TooManyRequests("slow down", 7),
            429,
            {"reason": "too_many_requests"},
            {"retry-after": "7"},
        ),
        (
            Unavailable(UnavailableReason.DRAINING, "soon"),
            503,
            {"reason": "draining"},
            {"retry-after": "2"},
        ),
    ],
)
def test_an_error_is_a_problem_with_its_status_and_its_detail(
    error: EdgeError, status: int, more: dict[str, str], headers: dict[str, str]
) -> None:
    response = problem(error, "a1b2")
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    assert json.loads(bytes(response.body)) == {
        "type": "about:blank",
        "title": error.title,
        "status": status,
        "detail": str(error),
        "id": "a1b2",
        **more,
    }
    assert headers.items() <= dict(response.headers).items()


class _Counted:
    """A node that counts what it refuses."""

    settings = EdgeSettings()

    def __init__(self) -> None:
        self.metrics = SimpleNamespace(refused=Counter[str](), refused_to=Counter[str]())


@pytest.mark.parametrize(
    ("accept", "status"), [("text/event-stream", 200), ("*/*", 503), ("application/json", 503)]
)
async def test_an_event_source_gets_a_stream_with_the_error_and_comes_back(
    accept: str, status: int
) -> None:
    app = FastAPI()
    app.state.node = _Counted()
    add_exception_handlers(app)

    @app.get("/")
    async def refuse() -> None:
        raise Unavailable(UnavailableReason.NO_KEYS, "no keys")

    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://edge") as client:
        answer = await client.get("/", headers={"Accept": accept})
    assert answer.status_code == status
    assert app.state.node.metrics.refused == {"503": 1}
    if status == 200:
        assert answer.headers["content-type"] == "text/event-stream"
        [block] = Reader().feed(answer.content)
        assert (block.event, block.id, block.json["reason"]) == ("error", None, "no_keys")
        assert block.retry_ms is not None
