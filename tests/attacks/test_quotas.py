"""A caller that writes ever more names gets no more of them than the settings allow."""

import asyncio

import httpx
import pytest

from tests.conftest import World

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(120)]


async def test_limits_and_books_are_bounded_and_can_be_replaced_and_withdrawn(
    world: World,
) -> None:
    edge = await world.edge(limited_portfolios_max=1, books_max=1)
    limits = {"limits": [{"metric": "var_95", "limit": 0.04}]}
    book: dict[str, object] = {"holdings": []}
    async with httpx.AsyncClient(base_url=edge.url, timeout=60) as http:
        for path, body in (("/api/v1/limits", limits), ("/api/v1/books/r", book)):
            first, second = f"{path}/a", f"{path}/b"
            assert (await http.put(first, json=body)).status_code == 200
            await until(http, second, body, 429)
            refused = await http.put(second, json=body)
            assert refused.json()["reason"] == "quota_reached"
            assert (await http.put(first, json=body)).status_code == 200
            assert (await http.delete(first)).status_code == 200
            await until(http, second, body, 200)


async def until(http: httpx.AsyncClient, path: str, body: object, status: int) -> None:
    """Write until the edge's tables have what was written before."""
    async with asyncio.timeout(60):
        while True:
            if (await http.put(path, json=body)).status_code == status:
                return
            if status != 200:
                await http.delete(path)
            await asyncio.sleep(0.2)  # nothing tells a client what an edge's tables have
