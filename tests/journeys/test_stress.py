"""Stress scenarios over HTTP and Kafka: shocks of past days, losses, and the alert of a limit."""

import asyncio
from typing import Any

import httpx
import pytest

from kafka_io.publisher import Publisher
from producers.returns import ReturnsPublisher
from schemas.events import Return
from tests.conftest import World

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]

DAY_US = 86_400_000_000
FIRST_DAY = 14_000
"""The first day with a return, 2008-05-01; odd days fall by 2 %."""
LOST = {"scenario": "s", "version": 1, "loss": 0.02, "missing": []}


async def test_a_scenario_of_past_days_values_portfolios_and_books_and_raises_an_alert(
    world: World,
) -> None:
    await world.worker()
    edge = await world.edge()
    returns = [
        Return(name, (FIRST_DAY + day) * DAY_US, 0.02 * (-1) ** day)
        for name in ("SPX", "AAPL")
        for day in range(120)
    ]
    async with Publisher(world.producer_settings) as publisher:
        await ReturnsPublisher(publisher).send(returns)
    async with httpx.AsyncClient(base_url=f"{edge.url}/api/v1", timeout=60) as http:

        async def ask(method: str, path: str, body: object = None) -> Any:
            return (await http.request(method, path, json=body)).raise_for_status().json()

        async def until(path: str, found: Any) -> Any:
            while not found(  # noqa: ASYNC110  # nothing tells a client what tables have
                answer := (await http.get(path)).json()
            ):
                await asyncio.sleep(0.2)  # each look is a request
            return answer

        limit = {"metric": "stress_loss:s", "limit": 0.01}
        await ask("PUT", "/limits/SPX", {"limits": [limit]})
        holding = {"series_id": "AAPL", "quantity": 10, "price": 100}
        await ask("PUT", "/books/firm/firm", {"holdings": [holding]})
        days = {"kind": "historical", "from": "2008-05-02", "to": "2008-05-04"}
        put = await ask("PUT", "/scenarios/s", days)
        assert {shock["series_id"]: shock["value"] for shock in put["shocks"]} == pytest.approx(
            {"AAPL": -0.02, "SPX": -0.02}
        )
        measures = await until("/measures", lambda rows: [r for r in rows if "stress" in r][1:])
        assert [row["stress"] for row in measures] == [[LOST | {"amount": None}]] * 2
        [book] = await until("/books/firm", lambda rows: "stress" in str(rows))
        assert book["stress"] == [LOST | {"amount": 20.0}]
        [alert] = await until("/alerts", bool)
        assert alert["message"] == "Stress loss in s exceeded threshold: 0.0200 > 0.0100"
        await ask("DELETE", "/scenarios/s")
        await until("/alerts", lambda rows: not rows)
