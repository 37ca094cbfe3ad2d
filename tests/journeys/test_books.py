"""Trees of books: put over HTTP, measured as returns come, kept over the loss of a worker."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from infra.demo_issuer import ISSUER, jwks_path, token
from kafka_io.publisher import Publisher
from producers.returns import ReturnsPublisher
from schemas.events import Return
from schemas.instants import to_rfc3339
from tests.conftest import Started, World
from tests.support.clients import stream

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]

DAY_US = 86_400_000_000
BOOKS = "/api/v1/sse/books"
FROM: Any = {"from": "earliest"}


def values_of(series: str, days: range) -> list[float]:
    dice = np.random.default_rng(sum(series.encode()))
    return [float(item) for item in dice.normal(0, 0.01, 1_000)[days.start : days.stop]]


async def observed(world: World, days: range, *series: str, tenant: str | None = None) -> None:
    settings = world.producer_settings
    if tenant is not None:
        settings = settings.model_copy(update={"tenant": tenant})
    async with Publisher(settings) as publisher:
        for bar in series:
            returns = [
                Return(bar, day * DAY_US, value)
                for day, value in zip(days, values_of(bar, days), strict=True)
            ]
            await ReturnsPublisher(publisher).send(returns)


async def call(edge: Started, method: str, path: str, body: object = None) -> Any:
    async with httpx.AsyncClient(base_url=edge.url, timeout=30) as http:
        answer = await http.request(method, f"/api/v1/books{path}", json=body)
    return answer.raise_for_status().json()


def held(**values: float) -> list[dict[str, object]]:
    """Priced long after all returns, so that the values are these."""
    return [
        {"series_id": name, "quantity": value, "price": 1.0, "priced_at": "2100-01-01T00:00:00Z"}
        for name, value in values.items()
    ]


def is_measured(path: str, day: int) -> Any:
    def found(blocks: list[Any]) -> bool:
        events = [block.inner for block in blocks if block.data and block.inner]
        return any(
            event["path"] == path
            and event["as_of"] == to_rfc3339(day * DAY_US)
            and event["status"] == "ok"
            for event in events
            if "path" in event
        )

    return found


def last_of(blocks: list[Any], path: str) -> Any:
    events = [block.inner for block in blocks if block.data and block.inner]
    return [event for event in events if event.get("path") == path][-1]


def has_state(state: str) -> Any:
    def found(blocks: list[Any]) -> bool:
        return any(block.inner.get("state") == state for block in blocks if block.data)

    return found


def alert_of(blocks: list[Any]) -> Any:
    return [block.inner for block in blocks if block.data and "state" in block.inner][-1]


async def value_old_prices(edge: Started) -> None:
    # The returns after these prices have left the window; the log has them.
    value = 0.0
    for book_id, day in (("first", 30), ("second", 20)):
        body = {"series_id": "IBM", "quantity": 100, "price": 1.0}
        body["priced_at"] = to_rfc3339(day * DAY_US)
        await call(edge, "PUT", f"/other/{book_id}", {"holdings": [body]})
        value += 100 * float(np.prod(1 + np.array(values_of("IBM", range(day + 1, 300)))))
        async with asyncio.timeout(60), httpx.AsyncClient(base_url=edge.url) as http:
            while True:
                answer = await http.get("/api/v1/books/other")
                top = answer.json()[0] if answer.status_code == 200 else {"status": ""}
                if top["status"] == "ok" and top["value"] == pytest.approx(value, rel=1e-9):
                    break
        assert top["stale_prices"] == []


def var_95(pnl: Any) -> float:
    return float(np.quantile(-pnl, 0.95, method="inverted_cdf"))


async def alert_and_clear(first: Started, second: Started, fund: Any) -> None:
    # A limit in currency alerts at once, the alert is acknowledged, and clears without its limit.
    async with (
        stream(first.url, "/api/v1/sse/alerts", entity_id="fund/fund", **FROM) as alerts,
        httpx.AsyncClient(base_url=f"{second.url}/api/v1", timeout=30) as http,
    ):
        limit = {"metric": "var_95_amount", "limit": fund["amounts"]["var_95"] / 2}
        await call(second, "PUT", "/fund/fund/limits", {"limits": [limit], "comment": "lower"})
        raised = alert_of(await alerts.until(has_state("raised")))
        assert (raised["entity_type"], raised["level"]) == ("book", "breach")
        assert raised["metric_value"] == fund["amounts"]["var_95"]
        [shown] = (await http.get("/alerts", params={"entity_id": "fund/fund"})).json()
        assert (shown["alert_id"], shown["entity_type"]) == (raised["alert_id"], "book")
        answer = await http.post(f"/alerts/{raised['alert_id']}/ack", json={"comment": "seen"})
        assert answer.status_code == 202
        acknowledged = alert_of(await alerts.until(has_state("acknowledged")))
        assert acknowledged["message"] == "acknowledged: seen"
        found = await call(first, "GET", "/fund/fund/limits")
        assert [found["path"], found["limits"][0]["metric"]] == ["fund/fund", "var_95_amount"]
        assert (await http.get("/limits")).json() == []  # of portfolios
        changes = [(item["what"], item["id"]) for item in (await http.get("/audit")).json()]
        assert {("limits", "fund/fund"), ("acknowledgement", raised["alert_id"])} <= {*changes}
        await call(first, "DELETE", "/fund/fund/limits")
        cleared = alert_of(await alerts.until(has_state("cleared")))
        assert cleared["alert_id"] == raised["alert_id"]
        assert (await http.get("/books/fund/fund/limits")).status_code == 404


async def test_a_fund_is_measured_as_it_is_held_also_by_a_worker_that_takes_over(
    world: World,
) -> None:
    first, second = await world.edge(), await world.edge()
    worker = await world.worker(batch_within_s=0.05)
    # Some returns are there before anybody wants them, others come later.
    await observed(world, range(200), "AAPL", "IBM", "growth")
    async with (
        stream(first.url, BOOKS, **FROM) as everything,
        stream(second.url, BOOKS, entity_id="fund/fund", **FROM) as top,
    ):
        await call(first, "PUT", "/fund/tech", {"holdings": held(AAPL=600, IBM=-200)})
        await call(second, "PUT", "/fund/desk", {"holdings": held(growth=1_000)})
        await everything.until(is_measured("fund/tech", 199))
        await worker.kill()
        await world.worker(batch_within_s=0.05)
        await observed(world, range(200, 300), "AAPL", "IBM", "growth")
        blocks = await top.until(is_measured("fund/fund", 299))
    days = range(50, 300)
    columns = [np.array(values_of(item, days)) for item in ("AAPL", "IBM", "growth")]
    pnl = columns[0] * 600 - columns[1] * 200 + columns[2] * 1_000
    fund = last_of(blocks, "fund/fund")
    assert fund["amounts"]["var_95"] == pytest.approx(var_95(pnl), rel=1e-9)
    assert fund["var_95"] == pytest.approx(var_95(pnl) / 1_400, rel=1e-9)
    assert {part["part_id"] for part in fund["parts"]} == {"tech", "desk"}
    assert fund["amounts"]["var_95"] < fund["undiversified_95"]
    assert {estimate["method"] for estimate in fund["estimates"]} == {
        "historical",
        "normal",
        "monte_carlo",
    }

    await alert_and_clear(first, second, fund)

    # The books as they are held, and measured; then one is closed.
    assert [item["book_id"] for item in await call(second, "GET", "")] == ["desk", "tech"]
    assert [item["book_id"] for item in await call(second, "GET", "/fund")] == [
        "fund",
        "desk",
        "tech",
    ]
    await call(second, "DELETE", "/fund/desk")
    async with asyncio.timeout(30):
        while [item["value"] for item in await call(first, "GET", "/fund")] != [400, 400]:
            continue
    await call(first, "DELETE", "/fund/tech")
    async with httpx.AsyncClient(base_url=first.url) as http, asyncio.timeout(30):
        while (await http.get("/api/v1/books/fund")).status_code != 404:
            continue
    await value_old_prices(first)


async def test_books_of_a_tenant_are_hidden_from_others_and_see_no_foreign_returns(
    world: World, tmp_path: Path
) -> None:
    edge = await world.edge(jwt_issuer=ISSUER, jwt_jwks=jwks_path(tmp_path))
    await world.worker(batch_within_s=0.05)
    await observed(world, range(150), "secret", tenant="acme")
    await observed(world, range(150), "own", tenant="blue")
    acme = {"Authorization": f"Bearer {token(tmp_path, 'ann', 'acme', 600)}"}
    blue = {"Authorization": f"Bearer {token(tmp_path, 'bob', 'blue', 600)}"}
    async with httpx.AsyncClient(base_url=f"{edge.url}/api/v1/books", timeout=30) as http:
        for series in ("secret", "own"):
            body = {"holdings": held(**{series: 100.0})}
            answer = await http.put(f"/fund/{series}", json=body, headers=blue)
            assert answer.status_code == 200
        query: Any = {"entity_id": "fund/own"} | FROM
        async with stream(edge.url, BOOKS, headers=blue, **query) as client:
            await client.until(is_measured("fund/own", 149))
        (fund, *books) = (await http.get("/fund", headers=blue)).json()
        assert fund["missing"] == ["secret"]
        assert {book["book_id"]: book["status"] for book in books} == {
            "own": "ok",
            "secret": "insufficient_data",
        }
        assert (await http.get("/fund", headers=acme)).status_code == 404
        assert (await http.get(f"{edge.url}/api/v1/books", headers=acme)).json() == []


async def test_books_that_make_no_sense_are_refused_by_name(world: World) -> None:
    edge = await world.edge()
    twice = [*held(IBM=1.0), *held(IBM=2.0)]
    async with httpx.AsyncClient(base_url=f"{edge.url}/api/v1/books", timeout=30) as http:
        for body, named in (
            ({"holdings": twice}, "IBM is held twice"),
            ({"holdings": [{"series_id": "IBM", "quantity": 1, "price": 0}]}, "price"),
            ({"nav": -1}, "nav"),
            ({"held": []}, "held"),
            ({"currency": "dollars"}, "currency"),
            ({"calendar": "Mars/Olympus"}, "names no time zone"),
            ({"missing": "ignore"}, "missing"),
            (
                {"currency": "USD", "holdings": [held(IBM=1.0)[0] | {"currency": "EUR"}]},
                "IBM is in EUR, and the book in USD",
            ),
        ):
            answer = await http.put("/fund/tech", json=body)
            assert (answer.status_code, named in answer.text) == (400, True)
        in_dollars = {"holdings": held(IBM=1.0), "currency": "USD"}
        assert (await http.put("/fund/tech", json=in_dollars)).json()["currency"] == "USD"
        while not (await http.get(f"{edge.url}/api/v1/books")).json():
            pass  # an edge refuses by the books that it has read
        answer = await http.put("/fund/desk", json={"currency": "EUR"})
        assert answer.status_code == 400
        assert "desk is in EUR, and tech of the same tree in USD" in answer.text
        for wrong, named in (
            ([{"metric": "beta", "limit": 1}], "metric"),
            ([{"metric": "stress_loss_amount:", "limit": 1}], "metric"),
            ([{"metric": "var_95", "limit": 0}], "limit"),
            ([{"metric": "var_95", "limit": 1}] * 2, "two limits of var_95"),
        ):
            answer = await http.put("/fund/tech/limits", json={"limits": wrong})
            assert (answer.status_code, named in answer.text) == (400, True)
        stress = [f"stress_loss{unit}:crash-08" for unit in ("", "_amount")]
        body = {"limits": [{"metric": metric, "limit": 1} for metric in stress]}
        put = (await http.put("/fund/tech/limits", json=body)).json()
        assert [limit["metric"] for limit in put["limits"]] == stress
        assert (await http.get("/nothing")).status_code == 404
