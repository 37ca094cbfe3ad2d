"""A risk desk: limits that are changed while it runs, alerts that people deal with."""

import asyncio
import sys
from typing import Any

import httpx
import numpy as np
import pytest

from kafka_io.publisher import Publisher
from producers.returns import ReturnsPublisher
from schemas.events import Return
from tests.conftest import Started, World
from tests.support.clients import StreamClient, stream
from tests.support.sse import Block

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]

ALERTS = "/api/v1/sse/alerts"
DAY_US = 86_400_000_000


async def observed(world: World, portfolio: str, days: range, deviation: float) -> None:
    """Returns of some days."""
    dice = np.random.default_rng(days.start)
    returns = [
        Return(portfolio_id=portfolio, event_time_us=day * DAY_US, value=float(value))
        for day, value in zip(days, dice.normal(0, deviation, len(days)), strict=True)
    ]
    async with Publisher(world.producer_settings) as publisher:
        await ReturnsPublisher(publisher).send(returns)


async def call(edge: Started, method: str, path: str, body: object = None) -> Any:
    async with httpx.AsyncClient(base_url=edge.url, timeout=30) as http:
        answer = await http.request(method, f"/api/v1{path}", json=body)
    return answer.raise_for_status().json()


async def steps(client: StreamClient, count: int) -> list[Block]:
    return await client.events("risk_alert", count)


async def test_a_limit_is_changed_and_an_alert_dealt_with_by_a_desk_on_two_edges(
    world: World,
) -> None:
    first, second = await world.edge(), await world.edge()
    worker = await world.worker(batch_within_s=0.05)
    query: Any = {"from": "earliest"}
    async with (
        stream(first.url, ALERTS, **query) as here,
        stream(second.url, ALERTS, **query) as there,
        stream(first.url, "/api/v1/sse/measures", **query) as measures,
    ):
        await observed(world, "growth", range(1, 301), 0.01)
        await measures.events("risk_measure", 1)
        wanted = {"limits": [{"metric": "var_95", "limit": 0.005, "critical_ratio": 9.0}]}
        limits = await call(first, "PUT", "/limits/growth", wanted | {"comment": "tight"})
        assert limits["limits"][0]["limit"] == 0.005

        (raised,) = await steps(there, 1)
        assert (raised.inner["state"], raised.inner["threshold"]) == ("raised", 0.005)
        async with asyncio.timeout(30):
            while not await call(second, "GET", "/alerts"):
                continue
        (alert,) = await call(second, "GET", "/alerts?entity_id=growth")
        assert alert["alert_id"] == raised.inner["alert_id"]
        assert await call(second, "GET", "/alerts?entity_id=other") == []

        answer = await call(
            second, "POST", f"/alerts/{alert['alert_id']}/ack", {"comment": "hedging"}
        )
        assert answer["status"] == "acknowledging"
        for client in (here, there):
            acknowledged = (await steps(client, 2))[1].inner
            assert acknowledged["state"] == "acknowledged"
            assert acknowledged["message"] == "acknowledged: hedging"

        # Limits and acknowledgements outlive the processor that judges by them.
        await worker.kill()
        await world.worker(batch_within_s=0.05)
        await observed(world, "growth", range(301, 551), 0.0001)
        cleared = (await steps(here, 3))[2].inner
        assert (cleared["state"], cleared["threshold"]) == ("cleared", 0.005)
        assert cleared["alert_id"] == alert["alert_id"]
        async with asyncio.timeout(30):
            while await call(first, "GET", "/alerts"):
                continue
    changes = await call(second, "GET", "/audit")
    assert {change["origin"] for change in changes} == {"127.0.0.1"}
    assert {"limits", "acknowledgement"} <= {change["what"] for change in changes}
    (shown,) = await call(second, "GET", "/limits")
    assert (shown["portfolio_id"], shown["comment"]) == ("growth", "tight")
    await call(second, "DELETE", "/limits/growth")
    async with asyncio.timeout(30):
        while await call(first, "GET", "/limits"):
            continue


async def test_a_measure_says_everything_that_was_configured(world: World) -> None:
    edge = await world.edge()
    await world.worker(risk_horizons="1,10", risk_slower_every=50)
    await observed(world, "value", range(1, 301), 0.01)
    query: Any = {"from": "earliest"}
    async with stream(edge.url, "/api/v1/sse/measures", **query) as client:
        blocks = await client.until(
            lambda seen: any(
                (record.inner or {}).get("observations") == 250 for record in seen if record.data
            )
        )
    measure = blocks[-1].inner
    found = {
        (estimate["method"], estimate["confidence"], estimate["horizon"])
        for estimate in measure["estimates"]
    }
    for method in ("normal", "student_t", "cornish_fisher", "ewma", "fhs", "age_weighted"):
        assert (method, 0.99, 1) in found
        assert (method, 0.95, 10) in found
    assert ("historical", 0.975, 10) in found
    scaled = [estimate for estimate in measure["estimates"] if estimate["scaled"]]
    assert {(item["method"], item["horizon"]) for item in scaled} == {("ewma", 10)}
    assert 0.1 < measure["volatility"] < 0.25
    assert [backtest["zone"] for backtest in measure["model_backtests"]] == ["green", "green"]


@pytest.mark.long
async def test_the_command_line_sets_shows_and_withdraws(world: World) -> None:
    edge = await world.edge()

    async def tapewire(*arguments: str) -> tuple[int, str]:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "cli", "limits", *arguments, "--url", edge.url),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        out, _ = await process.communicate()
        assert process.returncode is not None
        return process.returncode, out.decode()

    code, out = await tapewire("set", "growth", "0.045", "--warn-ratio", "0.8")
    assert (code, "growth" in out, "var_95  0.045" in out, "warn at 80%" in out) == (0, 1, 1, 1)
    async with asyncio.timeout(30):
        while "growth" not in (out := (await tapewire("show"))[1]):
            continue
    assert "0.045" in out
    code, out = await tapewire("set", "growth", "-1")
    assert code != 0
    code, out = await tapewire("set", "growth", "0.1", "--metric", "beta")
    assert (code, "the edge says" in out, "metric" in out) == (1, True, True)
    code, out = await tapewire("withdraw", "growth")
    assert (code, "the processors' defaults hold" in out) == (0, True)


async def test_meaningless_requests_are_refused_with_the_reason(world: World) -> None:
    edge = await world.edge()
    wrong: list[tuple[str, str, object, int, str]] = [
        ("PUT", "/limits/p", {"limits": [{"limit": 0}]}, 400, "limit"),
        ("PUT", "/limits/p", {"limits": [{"limit": 0.1, "warn_ratio": 1}]}, 400, "warn_ratio"),
        ("PUT", "/limits/p", {"limits": [{"limit": 0.1, "hysteresis": 1}]}, 400, "hysteresis"),
        ("PUT", "/limits/p", {"limits": [{"limit": 0.1, "metric": "beta"}]}, 400, "metric"),
        ("PUT", "/limits/p", {"limits": [{"limit": 0.1}] * 2}, 400, "two limits of var_95"),
        ("PUT", "/limits/p", {"limits": [], "stale_after_s": -1}, 400, "stale_after_s"),
        ("PUT", "/limits/p", {"limit": 0.1}, 400, "limits"),
        ("PUT", f"/limits/{'p' * 257}", {"limits": []}, 400, "portfolio_id"),
        ("GET", "/limits/nobody", None, 404, "nobody"),
        ("POST", "/alerts/none/ack", {}, 404, "GET /api/v1/alerts lists"),
    ]
    async with httpx.AsyncClient(base_url=edge.url, timeout=30) as http:
        for method, path, body, status, named in wrong:
            answer = await http.request(method, f"/api/v1{path}", json=body)
            assert (answer.status_code, named in answer.text) == (status, True), (path, answer.text)
            assert answer.headers["content-type"] == "application/problem+json"
