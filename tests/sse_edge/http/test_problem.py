import json

import pytest

from sse_edge.errors import (
    EdgeError,
    ForeignCursor,
    InvalidParameter,
    TooManyRequests,
    Unauthorized,
    Unavailable,
    UnavailableReason,
)
from sse_edge.http.problem import problem


@pytest.mark.parametrize(
    ("error", "status", "more", "headers"),
    [
        (InvalidParameter("from", "it is 3"), 400, {"parameter": "from"}, {}),
        (ForeignCursor("of another stream"), 400, {}, {}),
        (Unauthorized("no token"), 401, {}, {"www-authenticate": "Bearer"}),
        (TooManyRequests("slow down", 7), 429, {}, {"retry-after": "7"}),
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
    response = problem(error)
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    assert json.loads(bytes(response.body)) == {
        "type": "about:blank",
        "title": error.title,
        "status": status,
        "detail": str(error),
        **more,
    }
    assert headers.items() <= dict(response.headers).items()
