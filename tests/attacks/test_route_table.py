"""Every route and WebSocket, played by everybody: what each caller gets, and what none gets.

A route without a row in the table fails the first test. Tenants and users have things of the same
names (see `tests.support.tenants_log`), and all that is theirs has their mark.
"""

import asyncio
import re
import time
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import jwt
import pytest
from fastapi import FastAPI
from starlette.routing import Mount, WebSocketRoute
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from schemas.run_ids import Owner
from sse_edge.app import build_api
from sse_edge.caller import Caller, Scope, owned_id
from sse_edge.delivery.fair_queue import FairQueue
from sse_edge.settings import EdgeSettings
from tests.support.edge_server import EdgeServer, edge_server
from tests.support.tenants_log import (
    ALICE,
    BOB,
    ELSEWHERE,
    ONLY_ACME,
    TASKS,
    USERS,
    TenantsLog,
    mark,
)

SECRET = "the secret of a test, of thirty-two bytes"  # it protects nothing
ISSUER = "https://issuer.example"
NOWHERE = Owner(None, "alice")
_MARK = re.compile(r"mark-\w+-\w+-")
_UNKNOWN = "no-such-thing"


@dataclass(frozen=True)
class Row:
    """What a route needs, and what is behind it."""

    scope: Scope
    url: str
    also: Scope | None = None
    """A further scope that it needs."""
    body: Any = None
    shows: str | None = None
    """Whose marks are in the answer to a caller: of its `tenant`, of the `user`, or of `both`."""
    theirs: str | None = None
    """A thing that the strangers have not."""
    strangers: tuple[Owner, ...] = ()
    unknown: str | None = None
    """A thing that nobody has."""


OPEN = None
"""A route that everybody may call: it tells nothing of any tenant."""

_TENANT = (ELSEWHERE, NOWHERE)
_USER = (BOB, ELSEWHERE, NOWHERE)
_EARLIEST = "from=earliest"
_TASK = TASKS[ALICE]
_CHALLENGE = owned_id(b"12345678", Caller("alice", "acme", 0.0))
_LIMITS: Any = {"limits": [{"metric": "var_95", "limit": 0.1}]}
_SCENARIO: Any = {"kind": "hypothetical", "shocks": {"P": -0.2}}
_METER = {"meter_id": "m", "meter_type": "gas"}


def _channel(name: str, shows: str) -> Row:
    return Row(Scope.READ, f"/api/v1/sse/{name}?{_EARLIEST}", shows=shows)


TABLE: Mapping[tuple[str, str], Row | None] = {
    ("GET", "/openapi.json"): OPEN,
    ("GET", "/static-offline-docs"): OPEN,
    ("GET", "/docs"): OPEN,
    ("GET", "/docs/oauth2-redirect"): OPEN,
    ("GET", "/redoc"): OPEN,
    ("GET", "/"): OPEN,
    ("GET", "/assets"): OPEN,
    ("GET", "/health"): OPEN,
    ("GET", "/health/"): OPEN,
    ("GET", "/health/live"): OPEN,
    ("GET", "/health/ready"): OPEN,
    ("GET", "/metrics"): OPEN,
    ("GET", "/api/v1/about"): OPEN,
    ("GET", "/api/v1/sse/training"): _channel("training", "both"),
    ("GET", "/api/v1/sse/backtest"): _channel("backtest", "both"),
    ("GET", "/api/v1/sse/alerts"): _channel("alerts", "tenant"),
    ("GET", "/api/v1/sse/dashboard"): _channel("dashboard", "tenant"),
    ("GET", "/api/v1/sse/measures"): _channel("measures", "tenant"),
    ("GET", "/api/v1/sse/books"): _channel("books", "tenant"),
    ("GET", "/api/v1/sse/notifications"): _channel("notifications", "both"),
    ("GET", "/api/v1/sse/streams"): Row(
        Scope.READ,
        f"/api/v1/sse/streams?topic=alerts:P&topic=training&topic=backtest&{_EARLIEST}",
        shows="both",
    ),
    ("GET", "/api/v1/events/{channel}"): Row(
        Scope.READ,
        "/api/v1/events/training",
        shows="both",
        unknown=f"/api/v1/events/{_UNKNOWN}",
    ),
    ("GET", "/ds/{channel}"): Row(
        Scope.READ, "/ds/training", shows="both", unknown=f"/ds/{_UNKNOWN}"
    ),
    ("GET", "/ds/{channel}/{entity}"): Row(Scope.READ, "/ds/alerts/P", shows="tenant"),
    ("GET", "/api/v1/sse/channels"): Row(Scope.READ, "/api/v1/sse/channels"),
    ("GET", "/api/v1/sse/status"): Row(Scope.READ, "/api/v1/sse/status"),
    ("GET", "/api/v1/sse/cursor"): Row(Scope.READ, "/api/v1/sse/cursor?channel=alerts&id=x"),
    ("POST", "/api/v1/sse/renew/{challenge}"): Row(
        Scope.READ,
        f"/api/v1/sse/renew/{_CHALLENGE}",
        theirs=f"/api/v1/sse/renew/{_CHALLENGE}",
        strangers=_USER,
        unknown=f"/api/v1/sse/renew/{_UNKNOWN}",
    ),
    ("POST", "/trainmodel"): Row(Scope.WRITE, "/trainmodel", body=_METER),
    ("POST", "/trainmodel/"): Row(Scope.WRITE, "/trainmodel/", body=_METER),
    ("GET", "/trainmodel/status/{task_id}"): Row(
        Scope.READ,
        f"/trainmodel/status/{_TASK}",
        theirs=f"/trainmodel/status/{_TASK}",
        strangers=_USER,
        unknown=f"/trainmodel/status/{_UNKNOWN}",
    ),
    ("GET", "/trainmodel/running"): Row(Scope.READ, "/trainmodel/running", shows="user"),
    ("GET", "/trainmodel/stream/{task_id}"): Row(
        Scope.READ,
        f"/trainmodel/stream/{_TASK}",
        theirs=f"/trainmodel/stream/{_TASK}",
        strangers=_USER,
        unknown=f"/trainmodel/stream/{_UNKNOWN}",
    ),
    ("GET", "/trainmodel/stream"): Row(
        Scope.READ,
        f"/trainmodel/stream?task_id={_TASK}",
        theirs=f"/trainmodel/stream?task_id={_TASK}",
        strangers=_USER,
        unknown=f"/trainmodel/stream?task_id={_UNKNOWN}",
    ),
    ("GET", "/api/sse/backtest/jobs"): Row(Scope.READ, "/api/sse/backtest/jobs", shows="user"),
    ("GET", "/api/sse/backtest/history"): Row(Scope.READ, "/api/sse/backtest/history"),
    ("GET", "/api/sse/backtest/{job_id}/data"): Row(
        Scope.READ,
        "/api/sse/backtest/J/data",
        theirs="/api/sse/backtest/K/data",
        strangers=(ALICE, ELSEWHERE, NOWHERE),
        unknown=f"/api/sse/backtest/{_UNKNOWN}/data",
    ),
    ("GET", "/api/sse/backtest/{job_id}"): Row(
        Scope.READ,
        "/api/sse/backtest/J",
        theirs="/api/sse/backtest/K",
        strangers=(ALICE, ELSEWHERE, NOWHERE),
        unknown=f"/api/sse/backtest/{_UNKNOWN}",
    ),
    ("POST", "/api/backtesting/jobs"): Row(
        Scope.WRITE, "/api/backtesting/jobs", body={"symbol": "AAPL"}
    ),
    ("GET", "/api/backtesting/jobs"): Row(Scope.READ, "/api/backtesting/jobs", shows="user"),
    ("GET", "/api/backtesting/history"): Row(Scope.READ, "/api/backtesting/history"),
    ("DELETE", "/api/backtesting/jobs/{job_id}"): Row(
        Scope.WRITE,
        "/api/backtesting/jobs/J",
        theirs="/api/backtesting/jobs/K",
        strangers=(ALICE, ELSEWHERE, NOWHERE),
        unknown=f"/api/backtesting/jobs/{_UNKNOWN}",
    ),
    ("POST", "/send-message"): Row(Scope.WRITE, "/send-message", body={"message": "hello"}),
    ("GET", "/chat-stream"): Row(Scope.READ, "/chat-stream?user=a", shows="tenant"),
    ("GET", "/user-specific-stream/{user_id}"): Row(
        Scope.READ,
        f"/user-specific-stream/alice?{_EARLIEST}",
        theirs="/user-specific-stream/bob",
        strangers=(ALICE, ELSEWHERE, NOWHERE),
        unknown=f"/user-specific-stream/{_UNKNOWN}",
    ),
    ("GET", "/sse-metrics"): Row(Scope.READ, "/sse-metrics"),
    ("POST", "/process/stream"): Row(Scope.WRITE, "/process/stream", body={"message": "hello"}),
    ("GET", "/process/stream"): Row(Scope.READ, "/process/stream?message=hello", also=Scope.WRITE),
    ("PUT", "/api/v1/limits/{portfolio_id}"): Row(Scope.LIMITS, "/api/v1/limits/Q", body=_LIMITS),
    ("DELETE", "/api/v1/limits/{portfolio_id}"): Row(Scope.LIMITS, "/api/v1/limits/Q"),
    ("GET", "/api/v1/limits"): Row(Scope.READ, "/api/v1/limits", shows="tenant"),
    ("GET", "/api/v1/limits/{portfolio_id}"): Row(
        Scope.READ,
        "/api/v1/limits/P",
        shows="tenant",
        theirs=f"/api/v1/limits/{ONLY_ACME}",
        strangers=_TENANT,
        unknown=f"/api/v1/limits/{_UNKNOWN}",
    ),
    ("GET", "/api/v1/alerts"): Row(Scope.READ, "/api/v1/alerts", shows="tenant"),
    ("POST", "/api/v1/alerts/{alert_id}/ack"): Row(
        Scope.ACK,
        "/api/v1/alerts/P/ack",
        theirs=f"/api/v1/alerts/{ONLY_ACME}/ack",
        strangers=_TENANT,
        unknown=f"/api/v1/alerts/{_UNKNOWN}/ack",
    ),
    ("GET", "/api/v1/measures"): Row(Scope.READ, "/api/v1/measures", shows="tenant"),
    ("GET", "/api/v1/measures/history"): Row(
        Scope.READ, "/api/v1/measures/history", shows="tenant"
    ),
    ("PUT", "/api/v1/books/{root}/{book_id}"): Row(Scope.LIMITS, "/api/v1/books/R/R", body={}),
    ("DELETE", "/api/v1/books/{root}/{book_id}"): Row(Scope.LIMITS, "/api/v1/books/R/R"),
    ("PUT", "/api/v1/books/{root}/{book_id}/limits"): Row(
        Scope.LIMITS, "/api/v1/books/R/R/limits", body=_LIMITS
    ),
    ("DELETE", "/api/v1/books/{root}/{book_id}/limits"): Row(
        Scope.LIMITS, "/api/v1/books/R/R/limits"
    ),
    ("GET", "/api/v1/books/{root}/{book_id}/limits"): Row(
        Scope.READ,
        "/api/v1/books/P/P/limits",
        shows="tenant",
        theirs=f"/api/v1/books/{ONLY_ACME}/{ONLY_ACME}/limits",
        strangers=_TENANT,
        unknown=f"/api/v1/books/{_UNKNOWN}/{_UNKNOWN}/limits",
    ),
    ("GET", "/api/v1/books"): Row(Scope.READ, "/api/v1/books", shows="tenant"),
    ("GET", "/api/v1/books/{root}"): Row(
        Scope.READ,
        "/api/v1/books/P",
        shows="tenant",
        theirs=f"/api/v1/books/{ONLY_ACME}",
        strangers=_TENANT,
        unknown=f"/api/v1/books/{_UNKNOWN}",
    ),
    ("PUT", "/api/v1/scenarios/{name}"): Row(Scope.LIMITS, "/api/v1/scenarios/S", body=_SCENARIO),
    ("DELETE", "/api/v1/scenarios/{name}"): Row(Scope.LIMITS, "/api/v1/scenarios/S"),
    ("GET", "/api/v1/scenarios"): Row(Scope.READ, "/api/v1/scenarios", shows="tenant"),
    ("GET", "/api/v1/scenarios/{name}"): Row(
        Scope.READ,
        "/api/v1/scenarios/P",
        shows="tenant",
        theirs=f"/api/v1/scenarios/{ONLY_ACME}",
        strangers=_TENANT,
        unknown=f"/api/v1/scenarios/{_UNKNOWN}",
    ),
    ("PUT", "/api/v1/notifications/{name}"): Row(
        Scope.ADMIN,
        "/api/v1/notifications/N",
        body={"destination": "webhook", "url": "https://hooks.example.com/"},
    ),
    ("DELETE", "/api/v1/notifications/{name}"): Row(
        Scope.ADMIN,
        f"/api/v1/notifications/{_UNKNOWN}",
        theirs=f"/api/v1/notifications/{ONLY_ACME}",
        strangers=_TENANT,
        unknown=f"/api/v1/notifications/{_UNKNOWN}",
    ),
    ("POST", "/api/v1/notifications/{name}/test"): Row(
        Scope.ADMIN,
        "/api/v1/notifications/P/test",
        theirs=f"/api/v1/notifications/{ONLY_ACME}/test",
        strangers=_TENANT,
        unknown=f"/api/v1/notifications/{_UNKNOWN}/test",
    ),
    ("GET", "/api/v1/notifications"): Row(
        Scope.READ, "/api/v1/notifications", also=Scope.ADMIN, shows="tenant"
    ),
    ("GET", "/api/v1/notifications/{name}"): Row(
        Scope.READ,
        "/api/v1/notifications/P",
        also=Scope.ADMIN,
        shows="tenant",
        theirs=f"/api/v1/notifications/{ONLY_ACME}",
        strangers=_TENANT,
        unknown=f"/api/v1/notifications/{_UNKNOWN}",
    ),
    ("GET", "/api/v1/connections"): Row(Scope.READ, "/api/v1/connections", also=Scope.ADMIN),
    ("DELETE", "/api/v1/connections/{connection_id}"): Row(
        Scope.ADMIN, f"/api/v1/connections/{_UNKNOWN}"
    ),
    ("GET", "/api/v1/audit"): Row(Scope.READ, "/api/v1/audit", also=Scope.ADMIN, shows="tenant"),
    ("WS", "/ws/backtest/{job_id}"): Row(
        Scope.READ,
        "/ws/backtest/J",
        shows="user",
        theirs="/ws/backtest/K",
        strangers=(ALICE, ELSEWHERE, NOWHERE),
        unknown=f"/ws/backtest/{_UNKNOWN}",
    ),
}

CLOSED = {route: row for route, row in TABLE.items() if row is not None}
"""The routes that need a token."""


def token(who: Owner, *scopes: Scope, valid_for_s: float = 600) -> str:
    """Return a caller's token; with all scopes, unless some are given."""
    claims = {"iss": ISSUER, "sub": who.subject, "exp": time.time() + valid_for_s}
    if who.tenant is not None:
        claims["tenant"] = who.tenant
    claims["scope"] = " ".join(scopes or Scope)
    return jwt.encode(claims, SECRET, algorithm="HS256")


class Answer:
    """What a caller got: the status, or the code of a closed WebSocket, and the text so far."""

    def __init__(self, status: int, text: str = "") -> None:
        self.status = status
        self.text = text
        self.marks = set(_MARK.findall(text))


class Edge:
    """An edge that needs tokens, over the log of several tenants."""

    def __init__(self, server: EdgeServer, http: httpx.AsyncClient) -> None:
        self.server = server
        self._http = http

    async def ask(
        self,
        method: str,
        url: str,
        given: str | None,
        body: Any = None,
        *,
        until: frozenset[str] = frozenset(),
    ) -> Answer:
        """Return the answer to a caller; of a stream, what comes until all marks have come."""
        headers = {} if given is None else {"Authorization": f"Bearer {given}"}
        if method == "WS":
            return await self._follow(url, headers, until)
        async with self._http.stream(method, url, headers=headers, json=body) as answer:
            if "event-stream" not in answer.headers.get("content-type", ""):
                return Answer(answer.status_code, (await answer.aread()).decode())
            text = ""
            if until:
                async with asyncio.timeout(20):
                    async for piece in answer.aiter_text():
                        text += piece
                        if until <= set(_MARK.findall(text)):
                            break
            return Answer(answer.status_code, text)

    @asynccontextmanager
    async def hold(self, url: str, given: str, client_id: str) -> AsyncGenerator[None]:
        """Keep a stream open while the context lasts."""
        headers, params = {"Authorization": f"Bearer {given}"}, {"client_id": client_id}
        async with self._http.stream("GET", url, headers=headers, params=params) as answer:
            pieces = answer.aiter_text()
            await anext(pieces)
            yield
            del pieces  # which would close the stream

    async def _follow(self, url: str, headers: Mapping[str, str], until: frozenset[str]) -> Answer:
        text = ""
        async with connect(
            f"{self.server.url.replace('http', 'ws')}{url}", additional_headers=headers
        ) as socket:
            try:
                async with asyncio.timeout(20):
                    while not text or not until <= set(_MARK.findall(text)):
                        text += str(await socket.recv())
            except ConnectionClosed as closed:
                if closed.rcvd is None:
                    raise
                return Answer(closed.rcvd.code - 4000, closed.rcvd.reason)
        return Answer(200, text)


@asynccontextmanager
async def an_edge(**settings: Any) -> AsyncGenerator[Edge]:
    """Serve the log of several tenants."""
    async with (
        edge_server(
            log=TenantsLog(),
            jwt_issuer=ISSUER,
            jwt_hs256_secret=SECRET,
            jwt_scope_claim="scope",
            broker_patience_s=10.0,
            processor_patience_s=0.01,
            writes_per_minute_max=100_000,
            connections_per_ip_max=100_000,
            connections_per_user_max=100_000,
            **settings,
        ) as server,
        httpx.AsyncClient(base_url=server.url, timeout=30) as http,
    ):
        yield Edge(server, http)


def routes_of(app: FastAPI) -> Iterator[tuple[str, str]]:
    """Yield the methods and paths of an application, by reflection."""

    def walk(routes: Sequence[Any]) -> Iterator[tuple[str, str]]:
        for route in routes:
            if hasattr(route, "original_router"):
                yield from walk(route.original_router.routes)
            elif isinstance(route, WebSocketRoute) or "WebSocket" in type(route).__name__:
                yield "WS", route.path
            elif isinstance(route, Mount):
                yield "GET", route.path
            else:
                for method in route.methods:
                    yield method, route.path.replace(":path}", "}")

    return walk(app.routes)


def test_each_route_has_a_row_in_the_table() -> None:
    app = build_api(EdgeSettings(), FairQueue())
    found = set(routes_of(app))
    # HEAD is played wherever it is served.
    assert {route for route in found if route[0] != "HEAD"} == set(TABLE)
    described = {
        (method.upper(), path)
        for path, methods in app.openapi()["paths"].items()
        for method in methods
    }
    assert described <= set(TABLE)
    assert {("GET", path) for method, path in found if method == "HEAD"} <= set(TABLE)


async def test_without_a_valid_token_only_open_routes_answer() -> None:
    faults = {}
    async with an_edge() as edge:
        for given in (None, "x.y.z", token(ALICE, valid_for_s=-3600)):
            for (method, path), row in CLOSED.items():
                answer = await edge.ask(method, row.url, given, row.body)
                if answer.status != 401 or answer.marks:
                    faults[method, path, given] = answer.status
            for method, path in TABLE.keys() - CLOSED.keys():
                url = path if path not in ("/assets", "/static-offline-docs") else f"{path}/x"
                answer = await edge.ask(method, url, given)
                if answer.status not in (200, 404) or answer.marks:
                    faults[method, path, given] = answer.status
    assert faults == {}


async def test_each_route_needs_its_scope_and_no_other() -> None:
    faults: dict[Any, Any] = {}
    async with an_edge() as edge:
        for (method, path), row in CLOSED.items():
            needed = {row.scope} | ({row.also} if row.also else set())
            for missing in needed:
                rest = [scope for scope in Scope if scope != missing]
                answer = await edge.ask(method, row.url, token(ALICE, *rest), row.body)
                if answer.status != 403 or answer.marks:
                    faults[method, path, "without", missing] = answer.status
        for (method, path), row in CLOSED.items():
            needed = {row.scope} | ({row.also} if row.also else set())
            answer = await edge.ask(method, row.url, token(ALICE, *needed), row.body)
            if answer.status in (401, 403):
                faults[method, path, "with", *needed] = answer.status
    assert faults == {}


def marks_of(row: Row, who: Owner) -> frozenset[str]:
    """Return the marks that a caller finds behind a route."""
    marks = {
        "tenant": {mark(who.tenant)},
        "user": {mark(who.tenant, who.subject)},
        "both": {mark(who.tenant), mark(who.tenant, who.subject)},
    }
    return frozenset(marks[row.shows] if row.shows else set())


async def test_each_caller_finds_only_its_own_of_things_with_the_same_names() -> None:
    faults = {}
    async with an_edge() as edge:
        for (method, path), row in CLOSED.items():
            if method not in ("GET", "WS"):
                continue
            for who in USERS:
                if "J" in row.url and who == BOB:
                    continue  # it is alice's
                expected = marks_of(row, who)
                answer = await edge.ask(method, row.url, token(who), until=expected)
                foreign = answer.marks - {mark(who.tenant), mark(who.tenant, who.subject)}
                if foreign or not expected <= answer.marks:
                    faults[method, path, who] = sorted(answer.marks), answer.status
    assert faults == {}


async def test_a_tenant_sees_its_own_connections_only() -> None:
    faults = {}
    async with an_edge() as edge, AsyncExitStack() as held:
        for who in (ALICE, ELSEWHERE):
            name = mark(who.tenant, who.subject)
            await held.enter_async_context(edge.hold("/api/v1/sse/alerts", token(who), name))
        for asking, names in (
            (ALICE, {mark("acme", "alice")}),
            (BOB, {mark("acme", "alice")}),
            (ELSEWHERE, {mark("other", "alice")}),
            (NOWHERE, set[str]()),
        ):
            status = await edge.ask("GET", "/api/v1/sse/status", token(asking))
            metrics = await edge.ask("GET", "/sse-metrics", token(asking))
            if status.marks != names or f'"active_connections":{len(names)}' not in metrics.text:
                faults[asking] = status.marks, metrics.text
    assert faults == {}


async def test_things_of_others_are_answered_as_things_that_do_not_exist() -> None:
    faults = {}
    async with an_edge() as edge:
        for (method, path), row in CLOSED.items():
            if row.theirs is None or row.unknown is None:
                continue
            for who in row.strangers:
                theirs = await edge.ask(method, row.theirs, token(who), row.body)
                unknown = await edge.ask(method, row.unknown, token(who), row.body)
                told = {_without_names(answer.text, row) for answer in (theirs, unknown)}
                if (theirs.status, unknown.status) != (404, 404) or len(told) > 1:
                    faults[method, path, who] = theirs.status, theirs.text, unknown.text
        assert edge.server.publisher is not None
        assert edge.server.publisher.written == []
    assert faults == {}


def _without_names(text: str, row: Row) -> str:
    """Return a text without the names of the things that a row asks for, and its error's id."""
    text = re.sub(r'"id":"\w+"', '"id":"..."', text)
    text = re.sub(r" \([0-9a-f]{12}\)$", " (...)", text)  # of a WebSocket's close
    for url in (row.theirs, row.unknown):
        assert url is not None
        for name in re.split(r"[/?=&]", url):
            if name in (ONLY_ACME, _UNKNOWN, _TASK, _CHALLENGE, "K", "bob"):
                text = text.replace(f"'{name}'", "'...'")
    return text


async def test_head_is_refused_as_get_is() -> None:
    faults = {}
    app = build_api(EdgeSettings(), FairQueue())
    heads = {path for method, path in routes_of(app) if method == "HEAD"}
    async with an_edge() as edge:
        for path in heads:
            row = TABLE["GET", path]
            if row is None:
                continue
            statuses = [
                (await edge.ask("HEAD", row.url, given)).status
                for given in (None, token(ALICE, Scope.ACK), token(ALICE))
            ]
            if statuses != [401, 403, 200]:
                faults[path] = statuses
    assert faults == {}


@pytest.mark.parametrize("who", [ALICE, ELSEWHERE, NOWHERE], ids=lambda who: str(who.tenant))
async def test_what_a_caller_writes_has_its_tenant_and_no_other(who: Owner) -> None:
    async with an_edge(tenant="of the edge") as edge:
        for (method, path), row in CLOSED.items():
            if method in ("POST", "PUT", "DELETE") and "renew" not in path:
                assert (await edge.ask(method, row.url, token(who), row.body)).status < 500
        assert edge.server.publisher is not None
        written = edge.server.publisher.written
        assert len(written) > 8
        assert {tenant for _, tenant in written} == {who.tenant}
