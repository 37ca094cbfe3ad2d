"""The hooks of a React page, mounted for real, on edges that are killed under them."""

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.async_api import Page, async_playwright

from infra.demo_issuer import ISSUER, jwks_path, token
from tests.conftest import World
from tests.seeds.conftest import Build
from tests.seeds.snippets import OwnClients

pytestmark = [pytest.mark.kafka, pytest.mark.browser, pytest.mark.timeout(300)]

JOBS = "/api/backtesting/jobs"


@pytest.fixture
async def page(chromium: str, build: Build) -> AsyncGenerator[Page]:
    bundle = build(OwnClients(), 19)["desk"]
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = await browser.new_page()
        page.set_default_timeout(90_000)  # a busy machine runs one job after the other
        html = f"<div id=root></div><script>{bundle}</script>"
        await page.route(
            "**/backtests?*", lambda route: route.fulfill(body=html, content_type="text/html")
        )
        faults: list[str] = []
        page.on("pageerror", lambda error: faults.append(str(error)))
        yield page
        assert faults == []
        await browser.close()


class Desk:
    """What Alice asks of whichever edge there is."""

    def __init__(self, url: str, bearer: str) -> None:
        self._url = url
        self._headers = {"Authorization": f"Bearer {bearer}"}

    async def ask(self, **wanted: object) -> str:
        async with asyncio.timeout(60):
            while True:
                try:
                    return str((await self._call("POST", JOBS, wanted))["job_id"])
                except httpx.HTTPStatusError as error:
                    if error.response.status_code != httpx.codes.BAD_REQUEST:
                        raise
                    await asyncio.sleep(0.5)  # an edge refuses the symbol until its table has it

    async def completed(self) -> list[str]:
        found = await self._call("GET", f"{JOBS}?limit=5&status_filter=completed", None)
        return [record["job_id"] for record in found]

    async def _call(self, method: str, path: str, body: object) -> Any:
        async with httpx.AsyncClient(base_url=self._url, timeout=30) as http:
            answer = await http.request(method, path, json=body, headers=self._headers)
        return answer.raise_for_status().json()


async def listed(page: Page) -> list[str]:
    found: list[str] = await page.eval_on_selector_all(
        "#jobs [data-job]", "elements => elements.map(({ dataset }) => dataset.job)"
    )
    return found


async def errors(page: Page) -> list[str]:
    """The errors that the hooks show."""
    found: list[str] = await page.eval_on_selector_all(
        "[data-error]", "elements => elements.map(({ dataset }) => dataset.error)"
    )
    return found


async def charts_are_whole(page: Page, job_id: str) -> None:
    await page.evaluate("jobId => chart(jobId)", job_id)
    for interval in ("minute", "3minute", "day"):
        drawn = f"[data-interval='{interval}'][data-loading=false]:not([data-points='0'])"
        chart = await page.wait_for_selector(drawn, timeout=30_000)
        assert chart is not None
        points = await chart.get_attribute("data-points")
        assert points == await chart.get_attribute("data-different")


async def test_a_react_page_follows_jobs_over_a_change_of_edges(
    world: World, page: Page, tmp_path: Path
) -> None:
    """Its lists stay right, its story has no order twice, and its charts are whole."""
    known = {"jwt_issuer": ISSUER, "jwt_jwks": jwks_path(tmp_path)}
    bearer = token(tmp_path, "alice", None, 600)
    edge = await world.edge(retry_ms=200, **known)
    port = edge.url.rsplit(":", 1)[1]
    await world.worker()
    await world.market()
    desk = Desk(edge.url, bearer)
    await page.goto(f"{edge.url}/backtests?token={bearer}")

    # A list of all jobs takes in what is asked for elsewhere, and has its first state beside.
    on_minutes = await desk.ask(symbol="BTC-USD", interval="minute")
    await page.wait_for_selector(f"#jobs [data-job='{on_minutes}'][data-status=pending]")
    long = await desk.ask(
        symbol="IBM", strategy="rsi", parameters={"period": 5, "lower": 40, "upper": 60}
    )
    await page.wait_for_selector(f"#jobs [data-job='{long}']")
    await page.evaluate("jobId => follow(jobId)", long)

    await world.backtester(backtest_step_pause_s=0.4)
    await page.click("text=running")
    await page.wait_for_selector("#jobs[data-filter=running] [data-status=running]")

    assert await errors(page) == []

    # The edge is lost in the middle of the story; the browser comes back to another by itself.
    await page.wait_for_selector("#progress[data-status=running]:not([data-transactions='0'])")
    await edge.kill()
    await world.edge(port=port, retry_ms=200, **known)
    await page.wait_for_selector("#progress[data-status=completed]", timeout=60_000)
    orders = await page.get_attribute("#progress", "data-transactions")
    assert orders == await page.get_attribute("#progress", "data-trades")
    # The lists have got over it. The hook of a job never takes an error back; a new one has none.
    assert await errors(page) == ["the stream of the job has failed"]
    await page.evaluate("follow('')")
    await page.evaluate("jobId => follow(jobId)", long)
    await page.wait_for_selector("#progress[data-status=completed]")

    # What runs no longer is on the list of what runs no longer, and in the history.
    await page.wait_for_selector(f"#history [data-backtest='{long}'][data-status=completed]")
    await page.wait_for_selector("#jobs:not(:has([data-job]))", state="attached", timeout=60_000)
    await page.click("text=completed")
    await page.wait_for_selector(f"#jobs[data-filter=completed] [data-job='{long}']")
    async with asyncio.timeout(30):
        while await listed(page) != await desk.completed():
            await page.wait_for_selector("#jobs [data-job]")

    await charts_are_whole(page, on_minutes)
    await page.wait_for_timeout(1500)  # longer than a browser takes to come back
    assert await errors(page) == []
