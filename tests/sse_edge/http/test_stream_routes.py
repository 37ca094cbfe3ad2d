"""Streams that are found in the table are answered as FastAPI's own routes answer them."""

import re
import time
from collections.abc import Mapping
from typing import Any
from unittest.mock import patch

import jwt
import pytest
from fastapi.routing import APIRoute
from pydantic import SecretStr
from starlette.types import Scope

from sse_edge.http.scopes import require_to_read
from sse_edge.http.stream_routes import StreamRoutes
from sse_edge.routes.channels import plain_streams
from tests.support.asgi_edge import Answer, AsgiEdge, log_of_the_catalogue, serving
from tests.support.edge import ALERTS, alert

SECRET = "the secret of a test, of thirty-two bytes"  # it protects nothing
ISSUER = "https://issuer.example"
STREAM = "/api/v1/sse/alerts"
_VARIES = re.compile(rb'client-[0-9a-f]{12}|"id":"[^"]*"|"time(stamp)?":"[^"]*"|retry: \d+')
"""What differs between two answers to the same request."""


def token(*scopes: str, valid_for_s: float = 86_400) -> str:
    """Return a token; those of parameters are made long before their test runs."""
    claims = {"sub": "a", "iss": ISSUER, "exp": time.time() + valid_for_s, "tenant": "t"}
    return jwt.encode(claims | {"scope": " ".join(scopes)}, SECRET)


def bearer(text: str) -> tuple[bytes, bytes]:
    return b"authorization", b"Bearer " + text.encode()


async def both_answers(edge: AsgiEdge, path: str, query: str, **how: Any) -> tuple[Answer, Answer]:
    """Return the answer by the table, and the one by FastAPI's own route."""
    found: list[APIRoute | None] = []

    def route_of(routes: StreamRoutes, scope: Scope) -> APIRoute | None:
        found.append(routes._by_path[scope["path"]])  # what is tested
        return found[-1]

    with patch.object(StreamRoutes, "route_of", route_of):
        by_table = await edge.request(path, query, **how)
    assert bool(found) is (by_table.status != 421)  # the guard comes first
    with patch.object(StreamRoutes, "route_of", lambda *_: None):
        return by_table, await edge.request(path, query, **how)


def comparable(answer: Answer) -> tuple[int, Mapping[str, str], bytes]:
    headers = {name: value for name, value in answer.headers.items() if name != "content-length"}
    return answer.status, headers, _VARIES.sub(b"", answer.body)


@pytest.mark.virtual_time
@pytest.mark.parametrize(
    ("query", "headers", "status"),
    [
        ("from=earliest", [], 200),
        ("from=earliest&portfolio_id=p&events=risk_alert&traceparent=data", [], 200),
        ("from=earliest&format=cloudevents&client_id=c", [], 200),
        ("from=earliest", [(b"origin", b"http://localhost:3000")], 200),
        ("", [(b"accept", b"text/event-stream"), (b"last-event-id", b"nonsense")], 400),
        ("from=tomorrow", [], 400),
        ("task_id=t", [], 400),
        ("slow=conflate", [], 400),
        ("events=nothing", [], 400),
        ("", [(b"accept", b"application/json")], 406),
        ("", [(b"host", b"other.example")], 421),
    ],
)
async def test_an_open_edge_answers_alike(
    query: str, headers: list[tuple[bytes, bytes]], status: int
) -> None:
    log = log_of_the_catalogue()
    log.append(ALERTS, 0, b"p", alert("p", 0))
    async with serving(log) as edge:
        by_table, by_fastapi = await both_answers(edge, STREAM, query, headers=headers)
        assert by_table.status == status
        assert comparable(by_table) == comparable(by_fastapi)
        assert (b"event: risk_alert" in by_table.body) is (status == 200)


@pytest.mark.virtual_time
@pytest.mark.parametrize(
    ("headers", "query", "status"),
    [
        ([], "", 401),
        ([bearer("x.y.z")], "", 401),
        ([bearer(token("read", valid_for_s=-3600))], "from=tomorrow", 401),
        ([bearer(token("write"))], "from=tomorrow", 403),
        ([bearer(token("read"))], "from=tomorrow", 400),
        ([bearer(token("read"))], "", 200),
        ([], f"token={token('read')}", 200),
    ],
)
async def test_an_edge_with_an_issuer_answers_alike_and_checks_tokens_first(
    headers: list[tuple[bytes, bytes]], query: str, status: int
) -> None:
    settings: dict[str, Any] = {
        "jwt_issuer": ISSUER,
        "jwt_hs256_secret": SecretStr(SECRET),
        "jwt_tenant_claim": "tenant",
        "jwt_scope_claim": "scope",
        "cursor_secret": SecretStr("s" * 16),
    }
    async with serving(log_of_the_catalogue(), **settings) as edge:
        by_table, by_fastapi = await both_answers(edge, STREAM, query, headers=headers)
        assert by_table.status == status
        assert comparable(by_table) == comparable(by_fastapi)


@pytest.mark.virtual_time
async def test_only_gets_of_single_channels_are_taken() -> None:
    async with serving(log_of_the_catalogue()) as edge:
        table = StreamRoutes(edge.app, routes=plain_streams(), check=require_to_read)
        scope = {"type": "http", "method": "GET", "path": STREAM}
        route = table.route_of(scope)
        assert route is not None
        assert route.path == STREAM
        for other in (
            {"type": "websocket"},
            {"method": "HEAD"},
            {"method": "POST"},
            {"path": STREAM + "/"},
            {"path": "/api/v1/sse/streams"},
            {"root_path": "/api"},
        ):
            assert table.route_of(scope | other) is None
        assert edge.app.url_path_for("channels") == "/api/v1/sse/channels"
        assert (await edge.request(STREAM, method="HEAD")).status == 200
