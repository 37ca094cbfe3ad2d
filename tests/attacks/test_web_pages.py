"""Pages of others do not reach an open edge by names of theirs, nor write by a user's browser."""

import asyncio
from collections.abc import Mapping

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from kafka_io.errors import InvalidSetting
from sse_edge.settings import EdgeSettings
from tests.support.edge_server import EdgeServer, edge_server

CLOSED = {"jwt_issuer": "https://issuer.example", "jwt_hs256_secret": "s" * 32}
EVIL = "https://evil.example"
WRITES = (
    ("POST", "/send-message"),
    ("POST", "/trainmodel/"),
    ("POST", "/process/stream"),
    ("POST", "/api/backtesting/jobs"),
    ("DELETE", "/api/backtesting/jobs/J"),
    ("PUT", "/api/v1/limits/p"),
    ("DELETE", "/api/v1/limits/p"),
    ("PUT", "/api/v1/books/r/b"),
    ("POST", "/api/v1/alerts/a/ack"),
    ("POST", "/api/v1/sse/renew/x"),
    ("POST", "/an/endpoint/that/is/not/there"),
)
WRITING_GETS = ("/chat-stream?user=eve", "/process/stream?message=1%2B1")


async def status_for(edge: EdgeServer, host: str, path: str = "/api/v1/about") -> int:
    async with httpx.AsyncClient(base_url=edge.url) as http:
        return (await http.get(path, headers={"Host": host})).status_code


async def test_a_name_that_resolves_to_this_machine_reaches_no_open_edge() -> None:
    async with edge_server() as edge:
        for host in (
            "evil.example",
            f"evil.example:{edge.port}",
            "localhost.evil.example",
            "10.0.0.1",
        ):
            assert await status_for(edge, host) == 421
            assert await status_for(edge, host, "/") == 421
            assert await status_for(edge, host, "/api/v1/sse/alerts") == 421
        for host in ("localhost", "LOCALHOST:1", "127.0.0.1:8000", "[::1]:8000", "app.localhost."):
            assert await status_for(edge, host) == 200


async def test_probes_reach_an_edge_by_any_name() -> None:
    async with edge_server() as edge:
        assert await status_for(edge, "10.1.2.3:8000", "/health/live") == 200
        assert await status_for(edge, "edge-7.pods", "/metrics") == 200
        assert await status_for(edge, "edge-7.pods", "/openapi.json") == 421


async def test_an_edge_answers_to_the_names_of_its_setting() -> None:
    async with edge_server(hosts="edge, Desk.example") as edge:
        for host in ("edge:8000", "desk.example", "localhost"):
            assert await status_for(edge, host) == 200
        assert await status_for(edge, "evil.example") == 421
    async with edge_server(**CLOSED) as edge:
        assert await status_for(edge, "any.example") == 200
    async with edge_server(hosts="desk.example", **CLOSED) as edge:
        assert await status_for(edge, "any.example") == 421


async def test_two_hosts_in_one_request_must_both_be_known() -> None:
    async with edge_server() as edge:
        head = (
            b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\nConnection: close\r\n\r\n"
        )
        assert (await edge.answer(head)).startswith(b"HTTP/1.1 421 ")


async def refused(http: httpx.AsyncClient, headers: Mapping[str, str]) -> bool:
    """Return whether no request that writes gets further than to the check of its page."""
    answers = [await http.request(method, path, headers=headers) for method, path in WRITES]
    answers += [await http.get(path, headers=headers) for path in WRITING_GETS]
    found = {answer.status_code == 403 for answer in answers}
    assert len(found) == 1, [(answer.url, answer.status_code) for answer in answers]
    return found.pop()


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": EVIL},
        {"Origin": "null"},
        {"Origin": "https://localhost"},
        {"Origin": "http://localhost.evil.example"},
        {"Origin": "http://localhost:5173@evil.example"},
        {"Origin": ""},
        {"Sec-Fetch-Site": "cross-site"},
    ],
)
async def test_pages_of_others_write_nothing_on_an_open_edge(headers: dict[str, str]) -> None:
    async with edge_server() as edge, httpx.AsyncClient(base_url=edge.url) as http:
        if "Origin" in headers:
            assert await refused(http, headers)
        # Images and links carry no origin.
        elsewhere = {"Sec-Fetch-Site": "cross-site"} | headers
        assert await refused(http, elsewhere)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "http://localhost:5173", "Sec-Fetch-Site": "same-site"},
        {"Origin": "http://127.0.0.1"},
        {"Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "none"},
    ],
)
async def test_programs_and_pages_of_this_machine_write_on_an_open_edge(
    headers: dict[str, str],
) -> None:
    async with edge_server() as edge, httpx.AsyncClient(base_url=edge.url) as http:
        assert not await refused(http, headers)
        assert not await refused(http, {"Origin": edge.url})


async def test_only_listed_pages_write_where_origins_are_listed() -> None:
    listed = "https://desk.example"
    async with (
        edge_server(cors_origins=listed) as edge,
        httpx.AsyncClient(base_url=edge.url) as http,
    ):
        assert not await refused(http, {"Origin": listed, "Sec-Fetch-Site": "cross-site"})
        assert await refused(http, {"Origin": "http://localhost:5173"})
        assert await refused(http, {"Sec-Fetch-Site": "same-site"})
        answer = await http.post("/send-message", headers={"Origin": EVIL})
        assert "access-control-allow-origin" not in answer.headers


async def test_a_page_is_refused_before_its_token_is_looked_at() -> None:
    async with edge_server(**CLOSED) as edge, httpx.AsyncClient(base_url=edge.url) as http:
        answer = await http.post("/send-message", json={}, headers={"Origin": EVIL})
        assert answer.status_code == 403
        assert answer.json()["detail"].startswith("pages of 'https://evil.example' may not write")


@pytest.mark.parametrize("origin", [EVIL, "null", "http://localhost.evil.example"])
async def test_a_page_of_others_opens_no_websocket(origin: str) -> None:
    async with edge_server() as edge:
        url = f"ws://127.0.0.1:{edge.port}/ws/backtest/J"
        with pytest.raises(InvalidStatus) as caught:
            async with connect(url, origin=origin):  # type: ignore[arg-type]  # a text
                pass
        assert caught.value.response.status_code == 403
        with pytest.raises(InvalidStatus) as caught:
            async with connect(url, additional_headers={"Host": "evil.example"}):
                pass
        assert caught.value.response.status_code == 421
        for own in ("http://localhost:3000", edge.url, None):
            async with connect(url, origin=own) as websocket:  # type: ignore[arg-type]  # a text
                await websocket.wait_closed()
            assert websocket.close_code is not None


@pytest.mark.parametrize(
    ("setting", "value", "reason"),
    [
        ("cors_origins", "*", "name each origin"),
        ("cors_origins", "null", "'null', which is no origin"),
        ("cors_origins", "https://desk.example/app", "which is no origin"),
        ("cors_origins", "https://*.example", "which is no origin"),
        ("hosts", "https://edge", "which is no name of a host"),
        ("hosts", "*", "which is no name of a host"),
        ("cors_headers", "a b", "which is no name of a header"),
    ],
)
def test_patterns_and_other_things_than_names_are_refused_at_start(
    setting: str, value: str, reason: str
) -> None:
    with pytest.raises(InvalidSetting, match=reason):
        EdgeSettings(**{setting: value})  # type: ignore[arg-type]  # read as from the environment


async def test_pages_may_send_the_headers_of_the_setting() -> None:
    ask = {
        "Origin": "http://localhost:3000",
        "Access-Control-Request-Method": "GET",
        "Access-Control-Request-Headers": "traceparent,baggage",
    }
    async with edge_server() as edge, httpx.AsyncClient(base_url=edge.url) as http:
        assert (await http.options("/api/v1/limits", headers=ask)).status_code == 400
    async with (
        edge_server(cors_headers="traceparent, baggage") as edge,
        httpx.AsyncClient(base_url=edge.url) as http,
    ):
        assert (await http.options("/api/v1/limits", headers=ask)).status_code == 200


async def test_answers_have_the_headers_that_browsers_go_by() -> None:
    async with edge_server() as edge, httpx.AsyncClient(base_url=edge.url) as http:
        answers = {path: await http.get(path) for path in ("/", "/docs", "/api/v1/about")}
        stream = await http.head("/api/v1/sse/alerts")
    for answer in (*answers.values(), stream):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "server" not in answer.headers
    for path in ("/", "/docs"):
        assert "frame-ancestors" in answers[path].headers["content-security-policy"]
        assert answers[path].headers["referrer-policy"] == "no-referrer"
    assert stream.headers["cache-control"] == "no-cache, no-transform"


async def test_the_body_of_a_refused_page_is_not_read() -> None:
    async with edge_server() as edge:
        reader, writer = await edge.connect()
        writer.write(
            b"POST /send-message HTTP/1.1\r\nHost: localhost\r\nOrigin: https://evil.example\r\n"
            b"Expect: 100-continue\r\nContent-Length: 100\r\n\r\n"
        )
        async with asyncio.timeout(10):
            assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 403 ")
        writer.close()
