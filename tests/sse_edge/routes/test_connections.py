"""Open connections: each tenant sees and closes its own, and the log has who closed one."""

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import httpx

from schemas.events import OperatorAction
from schemas.run_ids import Owner
from tests.attacks.test_route_table import Edge, an_edge, token
from tests.support.tenants_log import ALICE, BOB, ELSEWHERE

PATH = "/api/v1/connections"


async def listed(edge: Edge, who: Owner, **params: int) -> dict[str, Any]:
    async with httpx.AsyncClient(base_url=edge.server.url) as http:
        headers = {"Authorization": f"Bearer {token(who)}"}
        answer = await http.get(PATH, params=params, headers=headers)
        found: dict[str, Any] = answer.json()
        return found


async def test_a_connection_has_its_client_channel_and_time() -> None:
    async with an_edge() as edge, AsyncExitStack() as held:
        for who, name in ((ALICE, "one"), (BOB, "two"), (ELSEWHERE, "three")):
            await held.enter_async_context(edge.hold("/api/v1/sse/alerts", token(who), name))
        found = await listed(edge, ALICE)
        assert found["total"] == 2
        rows = found["connections"]
        assert [row["client_id"] for row in rows] == ["one", "two"]
        assert rows[0] == {
            "id": f"{found['node_id']}.1",
            "number": 1,
            "client_id": "one",
            "channels": ["alerts"],
            "address": "127.0.0.1",
            "tenant": "acme",
            "since": rows[0]["since"],
            "behind": 0,
            "paused": False,
        }
        page = await listed(edge, ALICE, limit=1, after=1)
        assert (page["total"], [row["number"] for row in page["connections"]]) == (2, [2])
        assert [row["client_id"] for row in (await listed(edge, ELSEWHERE))["connections"]] == [
            "three"
        ]


async def test_a_tenant_closes_its_own_connections_only_and_the_log_has_it() -> None:
    async with an_edge() as edge, httpx.AsyncClient(base_url=edge.server.url) as http:
        own = {"Authorization": f"Bearer {token(ALICE)}"}
        params = {"client_id": "mine"}
        async with http.stream("GET", "/api/v1/sse/alerts", headers=own, params=params) as stream:
            pieces = stream.aiter_text()
            await anext(pieces)
            (row,) = (await listed(edge, ALICE))["connections"]
            url = f"{PATH}/{row['id']}"
            foreign = {"Authorization": f"Bearer {token(ELSEWHERE)}"}
            assert (await http.delete(url, headers=foreign)).status_code == 404
            closed = await http.delete(url, headers=own)
            assert (closed.status_code, closed.json()["closed"]["id"]) == (200, row["id"])
            async with asyncio.timeout(20):
                async for _ in pieces:  # until the edge ends the stream
                    pass
        assert (await http.delete(url, headers=own)).status_code == 404
        assert (await listed(edge, ALICE))["total"] == 0
        publisher = edge.server.publisher
        assert publisher is not None
        ((action, tenant),) = publisher.written
        assert isinstance(action, OperatorAction)
        assert (action.action, action.subject, action.by, action.comment, tenant) == (
            *("close_connection", row["id"], "alice", "mine", "acme"),
        )
        (change,) = (await http.get("/api/v1/audit", params={"limit": 1}, headers=own)).json()
        names = ("what", "id", "by", "origin", "tenant")
        assert [change[name] for name in names] == [
            *("connection closed", row["id"], "alice", "127.0.0.1", "acme")
        ]
