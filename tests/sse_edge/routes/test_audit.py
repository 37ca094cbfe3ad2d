"""The list of changes: each with its author, of the caller's tenant, newest first."""

import httpx

from tests.attacks.test_route_table import an_edge, token
from tests.support.tenants_log import ALICE, ELSEWHERE


async def test_each_change_names_its_author_and_is_its_tenants() -> None:
    async with an_edge() as edge, httpx.AsyncClient(base_url=edge.server.url) as http:
        headers = {"Authorization": f"Bearer {token(ALICE)}"}
        limits = {"limits": [{"metric": "var_95", "limit": 0.1}], "comment": "for the quarter"}
        await http.put("/api/v1/limits/Q", json=limits, headers=headers)
        await http.post("/api/v1/alerts/P/ack", json={"comment": "seen"}, headers=headers)
        await http.put("/api/v1/books/R/R", json={}, headers=headers)
        await http.delete("/api/v1/books/R/R", headers=headers)
        answer = await http.get("/api/v1/audit", params={"limit": 4}, headers=headers)
        changes = [
            (change["what"], change["id"], change["by"], change["tenant"], change["comment"])
            for change in answer.json()
        ]
        assert changes == [
            ("book closed", "R/R", "alice", "acme", ""),
            ("book", "R/R", "alice", "acme", ""),
            ("acknowledgement", "P", "alice", "acme", "seen"),
            ("limits", "Q", "alice", "acme", "for the quarter"),
        ]
        other = await http.get(
            "/api/v1/audit", headers={"Authorization": f"Bearer {token(ELSEWHERE)}"}
        )
        assert {change["tenant"] for change in other.json()} == {"other"}
