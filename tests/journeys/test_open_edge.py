"""An edge without an issuer: foreign tokens, pages of this machine, and jobs without an owner."""

import json
import time
from collections.abc import Mapping
from pathlib import Path

import httpx
import jwt
import pytest
from websockets.asyncio.client import connect

from infra.demo_issuer import jwks_path, token
from tests.conftest import World
from tests.support.clients import stream

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(120)]

ALERTS = "/api/v1/sse/alerts"
JOBS = "/api/backtesting/jobs"
PAGE = "http://localhost:3000"
FIREBASE = {
    "iss": "https://securetoken.google.com/their-app",
    "aud": "their-app",
    "sub": "alice",
    "exp": int(time.time()) + 3600,
}


def bearer(folder: Path, subject: str, tenant: str | None = None) -> Mapping[str, str]:
    return {"Authorization": f"Bearer {token(folder, subject, tenant, 60)}"}


async def test_foreign_tokens_are_ignored_and_jobs_without_a_token_are_everybodys(
    world: World, tmp_path: Path
) -> None:
    edge = await world.edge(demo_jwks=jwks_path(tmp_path))
    await world.worker()
    foreign = jwt.encode(FIREBASE, "s" * 32, "HS256", {"kid": "theirs"})
    async with httpx.AsyncClient(base_url=edge.url, timeout=30) as http:
        assert (await http.head(ALERTS, params={"token": foreign})).status_code == 200
        assert (await http.head(ALERTS, headers={"Cookie": "token=theirs"})).status_code == 200
        expired = token(tmp_path, "alice", None, -60)
        assert (await http.head(ALERTS, params={"token": expired})).status_code == 401

        headers = {"Authorization": f"Bearer {foreign}"}
        job = (await http.post(JOBS, json={"symbol": "IBM"}, headers=headers)).json()["job_id"]
        owned = (
            await http.post(JOBS, json={"symbol": "IBM"}, headers=bearer(tmp_path, "alice"))
        ).json()["job_id"]

        async def listed(headers: Mapping[str, str]) -> set[str]:
            answer = await http.get(JOBS, headers=headers)
            return {found["job_id"] for found in answer.raise_for_status().json()}

        assert await listed({}) == {job, owned}
        assert await listed(headers) == {job, owned}
        assert await listed(bearer(tmp_path, "alice")) == {job, owned}
        assert await listed(bearer(tmp_path, "bob")) == {job}
        assert await listed(bearer(tmp_path, "eve", "other")) == set()
        path = f"/api/sse/backtest/{job}"
        refused = await http.get(path, headers=bearer(tmp_path, "eve", "other"))
        assert refused.status_code == 404
    async with stream(edge.url, path, headers=bearer(tmp_path, "bob")) as client:
        await client.events("progress", 1)
    socket = f"{edge.url.replace('http', 'ws')}/ws/backtest/{job}?token={foreign}"
    async with connect(socket) as following:
        assert json.loads(await following.recv())["type"] == "connection"
    log = edge.process.log_path.read_text()
    assert log.count("this edge is open and ignores a token: ") == 1


async def test_pages_of_this_machine_may_read_and_write(world: World) -> None:
    edge = await world.edge()
    async with httpx.AsyncClient(base_url=edge.url, timeout=30) as http:
        for origin in (PAGE, "http://127.0.0.1:5173"):
            read = await http.head(ALERTS, headers={"Origin": origin})
            assert read.headers["access-control-allow-origin"] == origin
            assert read.headers["access-control-allow-credentials"] == "true"
            assert await may_write(http, origin)
        sent = await http.post("/send-message", json={"message": "x"}, headers={"Origin": PAGE})
        assert sent.headers["access-control-allow-origin"] == PAGE
        for origin in ("http://localhost.example", "https://example.com", "null"):
            read = await http.head(ALERTS, headers={"Origin": origin})
            assert "access-control-allow-origin" not in read.headers
            assert not await may_write(http, origin)


async def test_with_an_issuer_foreign_tokens_and_pages_are_refused(
    world: World, tmp_path: Path
) -> None:
    edge = await world.edge(jwt_issuer="https://issuer.example", jwt_jwks=jwks_path(tmp_path))
    async with httpx.AsyncClient(base_url=edge.url, timeout=30) as http:
        foreign = jwt.encode(FIREBASE, "s" * 32, "HS256")
        refused = await http.head(ALERTS, params={"token": foreign}, headers={"Origin": PAGE})
        assert refused.status_code == 401
        assert "access-control-allow-origin" not in refused.headers
        assert not await may_write(http, PAGE)


async def may_write(http: httpx.AsyncClient, origin: str) -> bool:
    """Ask as a browser does before a page posts JSON."""
    headers = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type",
    }
    answer = await http.options("/trainmodel/", headers=headers)
    return bool(answer.headers.get("access-control-allow-origin") == origin)
