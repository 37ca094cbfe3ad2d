"""Callers on real edges: they need a token, read their own records only, and until it expires."""

from pathlib import Path

import httpx
import pytest

from infra.demo_issuer import ISSUER, jwks_path, token
from kafka_io.clock import now_us
from kafka_io.publisher import Publisher
from producers.progress import training_progress, user_update
from tests.conftest import Started, World
from tests.support.clients import stream
from tests.support.sse import Block

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(120)]


async def strict_edge(world: World, folder: Path, **settings: object) -> Started:
    """An edge that serves no caller without a token."""
    return await world.edge(jwt_issuer=ISSUER, jwt_jwks=jwks_path(folder), **settings)


def bearer(folder: Path, subject: str, tenant: str | None = None, seconds: float = 60) -> str:
    return f"Bearer {token(folder, subject, tenant, seconds)}"


def is_placed(blocks: list[Block]) -> bool:
    return any(block.id for block in blocks)


async def test_a_token_comes_by_header_parameter_or_cookie(world: World, tmp_path: Path) -> None:
    edge = await strict_edge(world, tmp_path)
    good = token(tmp_path, "alice", None, 60)
    path = "/api/v1/sse/alerts"
    async with httpx.AsyncClient(base_url=edge.url, timeout=30) as http:
        for asked in ({}, {"headers": {"Authorization": "Bearer x"}}, {"params": {"token": "x"}}):
            answer = await http.get(path, **asked)  # type: ignore[arg-type]
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"] == "Bearer"
            assert answer.headers["content-type"] == "application/problem+json"
        for refused in ("/api/v1/sse/status", "/trainmodel/status/x", "/process/stream?message=x"):
            assert (await http.get(refused)).status_code == 401
        assert (await http.post("/send-message", json={"message": "x"})).status_code == 401
        assert (await http.get("/health/ready")).status_code == 200
        for headers, query in (
            ({"Authorization": f"Bearer {good}"}, ""),
            ({}, f"?token={good}"),
            ({"Cookie": f"token={good}"}, ""),
        ):
            assert (await http.head(path + query, headers=headers)).status_code == 200


async def test_a_users_stream_is_refused_to_other_users(world: World, tmp_path: Path) -> None:
    edge = await strict_edge(world, tmp_path)
    headers = {"Authorization": bearer(tmp_path, "alice")}
    async with httpx.AsyncClient(base_url=edge.url, timeout=30, headers=headers) as http:
        refused = await http.get("/user-specific-stream/bob")
        assert (refused.status_code, refused.json()["title"]) == (404, "Not found")
    async with (
        stream(edge.url, "/user-specific-stream/alice", headers=headers) as alice,
        Publisher(world.producer_settings) as publisher,
    ):
        await alice.until(is_placed)
        await publisher.publish(user_update("alice", {"for": "alice"}, now_us=0))
        assert [event.json for event in await alice.events("update", 1)] == [{"for": "alice"}]


async def test_tenants_see_their_own_and_a_cursor_does_not_change_that(
    world: World, tmp_path: Path
) -> None:
    edge = await strict_edge(world, tmp_path)
    async with Publisher(world.producer_settings) as publisher:
        for tenant in ("acme", "other", None, "acme"):
            event = training_progress(f"of-{tenant}", 1.0, "running", now_us=now_us())
            await publisher.publish(event, tenant=tenant)
    path, last_id = "/api/v1/sse/training", ""
    for tenant, expected in (("acme", ["acme", "acme"]), ("other", ["other"]), (None, ["None"])):
        headers = {"Authorization": bearer(tmp_path, "alice", tenant)}
        async with stream(edge.url, path, headers=headers, since="earliest") as client:
            await client.events("training_progress", len(expected))
            await client.until(lambda blocks: blocks[-1].event is None or len(blocks) > 2)
            tasks = [block.inner["task_id"] for block in client.blocks if block.event and block.id]
            assert tasks == [f"of-{name}" for name in expected]
            last_id = last_id or client.last_id
    # Another tenant's cursor is another stream's.
    headers = {"Authorization": bearer(tmp_path, "eve", "other"), "Last-Event-ID": last_id}
    async with httpx.AsyncClient(base_url=edge.url, timeout=30) as http:
        assert (await http.get(path, headers=headers)).status_code == 400


async def test_a_room_of_a_tenant_is_resumed_and_is_no_other_tenants(
    world: World, tmp_path: Path
) -> None:
    edge = await strict_edge(world, tmp_path)
    ours = {"Authorization": bearer(tmp_path, "alice", "acme")}
    theirs = {"Authorization": bearer(tmp_path, "eve", "other")}
    async with httpx.AsyncClient(base_url=edge.url, timeout=30) as http:
        # More than a room shows of old messages, and none of them ours.
        for headers in (ours, *[theirs] * 12):
            message = {"user": headers["Authorization"][-5:], "message": "hello"}
            assert (
                await http.post("/send-message", json=message, headers=headers)
            ).status_code == 200
    async with stream(edge.url, "/chat-stream", headers=ours, user="alice") as first:
        await first.until(is_placed)
        assert [block.json["user"] for block in first.blocks if block.event == "message"] == [
            ours["Authorization"][-5:]
        ]
    headers = ours | {"Last-Event-ID": first.last_id}
    async with stream(edge.url, "/chat-stream", headers=headers, user="alice") as again:
        assert again.response.status_code == 200
        await again.until(bool)


async def test_a_stream_asks_for_a_fresh_token_and_ends_without_one(
    world: World, tmp_path: Path
) -> None:
    edge = await strict_edge(world, tmp_path, jwt_leeway_s=0, challenge_s=60)
    other = await strict_edge(world, tmp_path)
    headers = {"Authorization": bearer(tmp_path, "alice", seconds=8)}
    path = "/api/v1/sse/alerts"
    async with (
        httpx.AsyncClient(base_url=edge.url, timeout=30) as http,
        httpx.AsyncClient(base_url=other.url, timeout=30) as elsewhere,
        stream(edge.url, path, headers=headers) as renewed,
        stream(edge.url, path, headers=headers) as left,
    ):
        (asked,) = await renewed.events("challenge", 1)
        url = asked.inner["url"]
        for wrong, status in (
            ({}, 401),
            ({"Authorization": bearer(tmp_path, "bob")}, 404),
            ({"Authorization": bearer(tmp_path, "alice", "acme")}, 404),
        ):
            assert (await elsewhere.post(url, headers=wrong)).status_code == status
        fresh = {"Authorization": bearer(tmp_path, "alice", seconds=600)}
        assert (await elsewhere.post(f"{url}x", headers=fresh)).status_code == 404
        forged = f"{url[:-22]}{'é' * 22}"
        assert (await elsewhere.post(forged, headers=fresh)).status_code == 404
        # The token goes to whichever node there is, and the one that asked lets the stream live on.
        assert (await elsewhere.post(url, headers=fresh)).status_code == 204
        await left.to_end()
        assert left.blocks[-1].id
        assert not renewed.ended
        status = (await http.get("/api/v1/sse/status", headers=fresh)).json()
        assert status["total_connections"] == 1


async def test_a_list_ends_with_its_token(world: World, tmp_path: Path) -> None:
    edge = await strict_edge(world, tmp_path, jwt_leeway_s=0)
    headers = {"Authorization": bearer(tmp_path, "alice", seconds=6)}
    async with stream(edge.url, "/api/sse/backtest/jobs", headers=headers) as jobs:
        blocks = await jobs.to_end()
    assert [block.event for block in blocks if block.event] == ["connection", "snapshot"]
    assert blocks[-1].json == {"jobs": []}


async def test_a_user_holds_so_many_connections(world: World, tmp_path: Path) -> None:
    edge = await strict_edge(world, tmp_path, connections_per_user_max=1)
    headers = {"Authorization": bearer(tmp_path, "alice")}
    async with (
        stream(edge.url, "/api/v1/sse/alerts", headers=headers) as first,
        httpx.AsyncClient(base_url=edge.url, timeout=30) as http,
    ):
        await first.until(is_placed)
        refused = await http.get("/api/v1/sse/alerts", headers=headers)
        assert (refused.status_code, "retry-after" in refused.headers) == (429, True)
        headers = {"Authorization": bearer(tmp_path, "bob")}
        assert (await http.head("/api/v1/sse/alerts", headers=headers)).status_code == 200
