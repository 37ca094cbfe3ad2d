"""Stress scenarios through the edge: versions, shocks of past days, betas, tenants, refusals."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import numpy as np
import pytest

from schemas.codec import encode
from schemas.events import Return, ReturnBatch, RiskHistory, Scenario
from schemas.instants import from_datetime
from schemas.keys import encode_key
from schemas.topics import PORTFOLIO_RETURNS, RISK_HISTORY
from sse_edge.delivery.node import Node
from sse_edge.routes import scenarios, shocks
from sse_edge.routes.shocks import PastReturns
from tests.attacks.test_route_table import ISSUER, SECRET, token
from tests.support.edge_server import edge_server
from tests.support.fake_publisher import FakePublisher
from tests.support.tenants_log import ALICE, ELSEWHERE, TenantsLog

START = datetime(2008, 1, 1, 21, tzinfo=UTC)
DAYS = 120
AHEAD_S = 3e8
"""The log in memory has the clock of 2023."""
LEHMAN = {"kind": "historical", "from": "2008-01-03", "to": "2008-01-05"}
CRASH = {"kind": "hypothetical", "shocks": {"SPX": -0.2, "AAPL": -0.0}}


def us(day: int) -> int:
    return from_datetime(START + timedelta(days=day))


class Desk:
    """Callers of an edge."""

    def __init__(self, http: httpx.AsyncClient, publisher: FakePublisher) -> None:
        self._http = http
        self.publisher = publisher

    async def ask(
        self, method: str, name: str, body: object = None, who: Any = ALICE
    ) -> httpx.Response:
        headers = {"Authorization": f"Bearer {token(who)}"}
        path = f"/api/v1/scenarios{name}"
        return await self._http.request(method, path, json=body, headers=headers)

    def written(self) -> Sequence[Scenario]:
        """Return the scenarios that were written, each once."""
        copies = [event for event, _ in self.publisher.written if isinstance(event, Scenario)]
        assert copies[::2] == copies[1::2]  # the log has two partitions of each topic
        return copies[::2]


@asynccontextmanager
async def a_desk(log: TenantsLog | None = None, **settings: Any) -> AsyncGenerator[Desk]:
    log = log or TenantsLog()
    async with (
        edge_server(
            log=log,
            jwt_issuer=ISSUER,
            jwt_hs256_secret=SECRET,
            jwt_scope_claim="scope",
            broker_patience_s=10.0,
            ahead_s=AHEAD_S,
            **settings,
        ) as server,
        httpx.AsyncClient(base_url=server.url, timeout=30) as http,
    ):
        assert server.publisher is not None
        yield Desk(http, server.publisher)


def log_with_returns() -> TenantsLog:
    """Return a log in which two tenants have returns of the same series."""
    log = TenantsLog()
    dice = np.random.default_rng(3)
    spx = dice.normal(0, 0.01, DAYS)
    for tenant, scale in (("acme", 1.0), ("other", 10.0)):
        for number, (name, beta) in enumerate((("SPX", 1.0), ("AAPL", 1.5))):
            values = (scale * beta * spx).tolist()
            returns = [Return(name, us(day), value) for day, value in enumerate(values)]
            for part in (returns[:50], returns[50:]):
                value = encode(ReturnBatch(returns=part))
                log.append(PORTFOLIO_RETURNS.name, number, b"", value, tenant=tenant.encode())
            times = np.array([us(day) for day in range(DAYS)], np.int64)
            history = RiskHistory(
                portfolio_id=name,
                as_of_us=us(DAYS - 1),
                observations=DAYS,
                window=times.tobytes() + np.array(values).tobytes(),
            )
            key = encode_key(name, tenant)
            where = log.partition_of(key, 2)
            log.append(RISK_HISTORY.name, where, key, encode(history), tenant=tenant.encode())
    return log


async def test_a_hypothetical_scenario_is_put_listed_shown_replaced_and_withdrawn() -> None:
    async with a_desk() as desk:
        put = await desk.ask("PUT", "/crash", {**CRASH, "comment": "why"})
        assert put.status_code == 200, put.text
        assert put.json() | {"set_at": ""} == {
            "name": "crash",
            "version": 1,
            "kind": "hypothetical",
            "from": None,
            "to": None,
            "days": 0,
            "others": "zero",
            "factor": None,
            "series": 2,
            "set_by": "alice",
            "comment": "why",
            "set_at": "",
            "shocks": [
                {"series_id": "AAPL", "value": 0.0, "observations": 0, "beta": None},
                {"series_id": "SPX", "value": -0.2, "observations": 0, "beta": None},
            ],
        }
        assert "-0.0" not in put.text
        assert await _until_shown(desk, "/crash", 1) == put.json()
        listed = (await desk.ask("GET", "")).json()
        assert {row["name"] for row in listed} == {"P", "only-acme", "crash"}
        assert (await desk.ask("PUT", "/crash", CRASH)).json()["version"] == 2
        await _until_shown(desk, "/crash", 2)
        assert (await desk.ask("DELETE", "/crash")).json() == {
            "name": "crash",
            "status": "withdrawn",
        }
        while (await desk.ask("GET", "/crash")).status_code != 404:
            pass
        assert (await desk.ask("PUT", "/crash", CRASH)).json()["version"] == 4
        assert [row.version for row in desk.written()] == [1, 2, 3, 4]
        assert {tenant for _, tenant in desk.publisher.written} == {"acme"}


async def _until_shown(desk: Desk, name: str, version: int) -> Any:
    """Return a scenario as soon as the edge's table has a version of it."""
    while True:
        answer = await desk.ask("GET", name)
        if answer.status_code == 200 and answer.json()["version"] >= version:
            return answer.json()


async def test_past_days_are_added_once_and_each_tenants_are_its_own() -> None:
    async with a_desk(log_with_returns()) as desk:
        answer = await desk.ask("PUT", "/lehman", LEHMAN)
        assert answer.status_code == 200, answer.text
        found = answer.json()
        spx = np.random.default_rng(3).normal(0, 0.01, DAYS)[2:5].sum()
        shocks = {shock["series_id"]: shock["value"] for shock in found["shocks"]}
        assert shocks == pytest.approx({"SPX": spx, "AAPL": 1.5 * spx}, rel=1e-12)
        assert (found["from"], found["to"], found["days"]) == ("2008-01-03", "2008-01-05", 3)
        others = (await desk.ask("PUT", "/lehman", LEHMAN, ELSEWHERE)).json()
        (_, other) = others["shocks"]
        assert other["value"] == pytest.approx(10 * spx, rel=1e-12)
        assert others["version"] == 1


async def test_other_series_follow_the_factor_by_the_betas_of_the_windows() -> None:
    async with a_desk(log_with_returns()) as desk:
        body = {
            "kind": "hypothetical",
            "shocks": {"SPX": -0.2},
            "others": "beta",
            "factor": "SPX",
        }
        found = (await desk.ask("PUT", "/crash", body)).json()
        aapl = next(shock for shock in found["shocks"] if shock["series_id"] == "AAPL")
        assert aapl["beta"] == pytest.approx(1.5, rel=1e-12)
        assert aapl["value"] == pytest.approx(-0.3, rel=1e-12)
        assert aapl["observations"] == DAYS


REFUSED: Sequence[tuple[dict[str, Any], str]] = (
    (LEHMAN | {"from": "2007-12-31"}, "the log has returns from 2008-01-01 to 2008-04-29"),
    (LEHMAN | {"to": "2008-04-30"}, "the log has returns from 2008-01-01 to 2008-04-29"),
    (LEHMAN | {"to": "2008-01-02"}, "2008-01-03 is after to: 2008-01-02"),
    (LEHMAN | {"to": "9999-12-31"}, "9998-12-31"),
    (CRASH | {"shocks": {}}, "shocks"),
    (CRASH | {"shocks": {"SPX": "NaN"}}, "SPX: Input should be"),
    (CRASH | {"factor": "SPX"}, "leave it out, or set others to beta"),
    (CRASH | {"others": "beta", "factor": "IBM"}, "name the series of `shocks`"),
    (
        CRASH | {"shocks": {"IBM": -0.1}, "others": "beta", "factor": "IBM"},
        "'IBM' has no measured returns",
    ),
    ({"kind": "magic"}, "kind"),
)


async def test_a_scenario_that_cannot_be_is_refused_with_the_reason() -> None:
    async with a_desk(log_with_returns()) as desk:
        for body, text in REFUSED:
            answer = await desk.ask("PUT", "/s", body)
            assert answer.status_code == 400, answer.text
            assert text in answer.text
        assert desk.written() == []


async def test_a_tenant_has_so_many_scenarios_and_can_replace_them() -> None:
    async with a_desk(scenarios_max=2) as desk:  # the tenant has two
        refused = await desk.ask("PUT", "/third", CRASH)
        assert (refused.status_code, refused.json()["reason"]) == (429, "quota_reached")
        assert (await desk.ask("PUT", "/P", CRASH)).json()["version"] == 2


async def test_a_tenant_whose_past_takes_long_holds_up_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reading = asyncio.Event()
    read_all = scenarios._read_all

    async def slowly(node: Node, tenant: bytes, past: PastReturns) -> None:
        if tenant == b"acme":
            reading.set()
            await asyncio.Event().wait()
        await read_all(node, tenant, past)

    monkeypatch.setattr(scenarios, "_read_all", slowly)
    async with a_desk(log_with_returns()) as desk, asyncio.TaskGroup() as tasks:
        slow = tasks.create_task(desk.ask("PUT", "/lehman", LEHMAN))
        async with asyncio.timeout(30):
            await reading.wait()
            assert (await desk.ask("PUT", "/lehman", LEHMAN, ELSEWHERE)).status_code == 200
        assert not slow.done()
        slow.cancel()


async def test_a_scenario_of_too_many_returns_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shocks, "RETURNS_MAX", 5)
    async with a_desk(log_with_returns()) as desk:
        answer = await desk.ask("PUT", "/lehman", LEHMAN)
        assert (answer.status_code, answer.json()["parameter"]) == (400, "from")
        assert "more than 5 returns; name fewer days" in answer.text
