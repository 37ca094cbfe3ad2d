"""A route that names a scope serves only callers whose token allows it."""

import time
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from fastapi import Depends, FastAPI

from sse_edge.caller import Caller, Scope
from sse_edge.errors import Forbidden, Unauthorized
from sse_edge.http.problem import add_exception_handlers
from sse_edge.http.rate_limit import RateLimiter
from sse_edge.http.scopes import refuse_without, require
from sse_edge.http.stream_response import authenticate
from sse_edge.http.web_pages import WebPageRules
from sse_edge.metrics.node_metrics import NodeMetrics
from sse_edge.settings import EdgeSettings

SCOPES = {"reader": {Scope.READ}, "desk": {Scope.READ, Scope.LIMITS}, "nothing": set[Scope]()}


class Users:
    """An authenticator whose tokens are the names of users."""

    async def caller(self, token: str | None) -> Caller | None:
        if token is None:
            return None
        if token not in SCOPES:
            raise Unauthorized("the token is invalid")
        return Caller(token, None, time.time() + 60, frozenset(SCOPES[token]))


@pytest.fixture
def app() -> FastAPI:
    app = FastAPI()
    app.state.node = SimpleNamespace(settings=EdgeSettings(), metrics=NodeMetrics())
    app.state.authenticator = Users()
    app.state.rate_limiter = RateLimiter(1)
    app.state.web_page_rules = WebPageRules(EdgeSettings())
    add_exception_handlers(app)

    async def done() -> str:
        return "done"

    router: Any = app.router
    router.add_api_route(
        "/limits",
        done,
        methods=["PUT"],
        dependencies=[Depends(authenticate), require(Scope.LIMITS)],
    )
    router.add_api_route("/alone", done, methods=["GET"], dependencies=[require(Scope.READ)])
    return app


async def answer(app: FastAPI, method: str, path: str, token: str | None) -> httpx.Response:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://edge") as client:
        return await client.request(method, path, headers=headers)


@pytest.mark.parametrize(
    ("path", "token", "status"),
    [
        ("/limits", "desk", 200),
        ("/limits", "reader", 403),
        ("/limits", "nothing", 403),
        ("/limits", "unknown", 401),
        ("/limits", None, 200),
        ("/alone", "reader", 200),
        ("/alone", "nothing", 403),
        ("/alone", "unknown", 401),
    ],
)
async def test_a_route_serves_whom_its_scope_allows(
    app: FastAPI, path: str, token: str | None, status: int
) -> None:
    method = "PUT" if path == "/limits" else "GET"
    assert (await answer(app, method, path, token)).status_code == status


async def test_a_route_with_a_scope_counts_a_write_once(app: FastAPI) -> None:
    assert (await answer(app, "PUT", "/limits", "desk")).status_code == 200
    assert (await answer(app, "PUT", "/limits", "desk")).status_code == 429


async def test_a_refusal_names_the_scopes_of_the_token(app: FastAPI) -> None:
    body = (await answer(app, "PUT", "/limits", "reader")).json()
    assert body["detail"] == "the token lacks the scope limits; its scopes are: read"
    with pytest.raises(Forbidden, match="its scopes are: none"):
        refuse_without(Scope.ACK, Caller("u", None, 0.0, frozenset()))
