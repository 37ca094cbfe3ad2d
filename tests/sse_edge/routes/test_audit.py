"""The list of changes: each with its author, of the caller's tenant, newest first."""

import httpx

from schemas.events import OperatorAction, RebuildDone, TopicGrowth
from schemas.run_ids import Owner
from tests.attacks.test_route_table import NOWHERE, an_edge, token
from tests.support.tenants_log import ALICE, ELSEWHERE

NAMES = ("what", "id", "by", "origin", "tenant")


async def test_each_change_names_its_author_and_is_its_tenants() -> None:
    async with an_edge() as edge, httpx.AsyncClient(base_url=edge.server.url) as http:
        headers = {"Authorization": f"Bearer {token(ALICE)}"}
        limits = {"limits": [{"metric": "var_95", "limit": 0.1}], "comment": "for the quarter"}
        await http.put("/api/v1/limits/Q", json=limits, headers=headers)
        await http.post("/api/v1/alerts/P/ack", json={"comment": "seen"}, headers=headers)
        await http.put("/api/v1/books/R/R", json={}, headers=headers)
        await http.delete("/api/v1/books/R/R", headers=headers)
        hook = {"destination": "webhook", "url": "https://hooks.example.com/"}
        await http.put("/api/v1/notifications/N", json=hook, headers=headers)
        answer = await http.get("/api/v1/audit", params={"limit": 5}, headers=headers)
        changes = [
            tuple(change[name] for name in ("what", "id", "by", "tenant", "origin", "comment"))
            for change in answer.json()
        ]
        assert changes == [
            ("notification route", "N", "alice", "acme", "127.0.0.1", ""),
            ("book closed", "R/R", "alice", "acme", "127.0.0.1", ""),
            ("book", "R/R", "alice", "acme", "127.0.0.1", ""),
            ("acknowledgement", "P", "alice", "acme", "127.0.0.1", "seen"),
            ("limits", "Q", "alice", "acme", "127.0.0.1", "for the quarter"),
        ]
        other = await http.get(
            "/api/v1/audit", headers={"Authorization": f"Bearer {token(ELSEWHERE)}"}
        )
        assert {change["tenant"] for change in other.json()} == {"other"}


async def test_what_operators_change_names_user_and_host_and_is_of_no_tenant() -> None:
    async with an_edge() as edge, httpx.AsyncClient(base_url=edge.server.url) as http:
        publisher = edge.server.publisher
        assert publisher is not None
        for partition in range(2):
            done = RebuildDone(version="v2", partition=partition, event_time_us=0)
            await publisher.publish(done, partition=partition, origin="eve@desk-1")
        for subject, comment in (("returns/0/1", "mended"), ("returns/0/2", "")):
            action = OperatorAction(
                action="redrive" if comment else "discard",
                subject=subject,
                comment=comment,
                event_time_us=0,
            )
            await publisher.publish(action, partition=0, origin="eve@desk-1")
        growth = TopicGrowth(old_count=6, new_count=12, is_done=True, event_time_us=0)
        await publisher.publish(growth)

        async def listed(owner: Owner) -> list[list[object]]:
            headers = {"Authorization": f"Bearer {token(owner)}"}
            answer = await http.get("/api/v1/audit", params={"limit": 4}, headers=headers)
            return [[change[name] for name in NAMES] for change in answer.json()]

        assert await listed(NOWHERE) == [
            ["topics grown", "6 to 12 partitions", None, None, None],
            ["dead letter discarded", "returns/0/2", "eve", "desk-1", None],
            ["dead letter re-driven", "returns/0/1", "eve", "desk-1", None],
            ["rebuild", "v2", "eve", "desk-1", None],
        ]
        assert not {"rebuild", "topics grown", "dead letter re-driven"} & {
            row[0] for row in await listed(ALICE)
        }


async def test_behind_a_trusted_proxy_the_origin_is_the_client() -> None:
    async with (
        an_edge(trusted_proxies="127.0.0.1") as edge,
        httpx.AsyncClient(base_url=edge.server.url) as http,
    ):
        headers = {"Authorization": f"Bearer {token(ALICE)}", "X-Forwarded-For": "192.0.2.7"}
        await http.delete("/api/v1/limits/Q", headers=headers)
        [change] = (await http.get("/api/v1/audit", params={"limit": 1}, headers=headers)).json()
        assert change["origin"] == "192.0.2.7"
        # Lists that others may read do not show it.
        for path in ("/api/v1/limits", "/api/v1/books", "/api/v1/alerts"):
            assert "192.0.2.7" not in (await http.get(path, headers=headers)).text
