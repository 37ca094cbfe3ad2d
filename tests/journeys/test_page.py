"""The page, in a real browser, on a real edge that is killed under it."""

from collections.abc import AsyncGenerator

import pytest
from playwright.async_api import Page, async_playwright

from kafka_io.publisher import Publisher
from producers.broadcaster import SSEBroadcaster
from producers.market.prices import load_prices, trading_days
from producers.returns import ReturnsPublisher
from tests.conftest import World

pytestmark = [pytest.mark.kafka, pytest.mark.browser, pytest.mark.timeout(180)]

_OPTIONS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run")


@pytest.fixture
async def page(chromium: str) -> AsyncGenerator[Page]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=[*_OPTIONS])
        page = await browser.new_page(viewport={"width": 390, "height": 844}, color_scheme="dark")
        faults: list[str] = []
        page.on("pageerror", lambda error: faults.append(str(error)))
        yield page
        assert faults == []
        await browser.close()


async def shown_alerts(page: Page) -> list[str]:
    found: list[str] = await page.evaluate(
        "[...document.querySelectorAll('#alerts .what')].map(one => one.textContent).reverse()"
    )
    return found


async def test_it_shows_risk_training_and_backtests_live(world: World, page: Page) -> None:
    edge = await world.edge()
    await world.worker(batch_within_s=0.05)
    await page.goto(edge.url)
    await page.wait_for_selector("#connection[data-state=live]")
    days = trading_days(load_prices())[:400]
    async with (
        Publisher(world.producer_settings) as publisher,
        SSEBroadcaster(world.producer_settings) as reporter,
    ):
        returns = ReturnsPublisher(publisher)
        for start in range(0, 400, 20):
            await returns.send(
                [observation for day in days[start : start + 20] for observation in day.at_close()]
            )
        await reporter.send_training_progress(
            "run-1", 40, "running", "epoch 4 of 10", {"loss": 0.5, "accuracy": 0.9}
        )
        await reporter.send_backtest_progress(
            "test-1", 100, "completed", "done", "2008-10-10", {"total_return": 0.25}
        )
        await page.wait_for_selector("[data-run='run-1'] progress[value='40']")
        await page.wait_for_selector("[data-run='test-1'][data-status=completed]")
    await page.wait_for_selector("#portfolios tr.over[data-portfolio=AAPL]")
    await page.wait_for_selector("#chart canvas")
    alert = page.locator("#alerts li", has_text="AAPL").first
    assert "VaR exceeded threshold: 0.0" in (await alert.text_content() or "")
    await page.locator("#as-of", has_text=str(days[-1].day)).wait_for()
    await page.click("[data-show=utilisation]")
    await page.wait_for_selector("[data-show=utilisation][aria-pressed=true]")
    wide = await page.evaluate("document.documentElement.scrollWidth - innerWidth")
    assert wide <= 0, "nothing sticks out on a phone"
    background = await page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == "rgb(15, 20, 25)", "dark where the system is dark"
    resources = await page.evaluate("performance.getEntriesByType('resource').map(one => one.name)")
    assert all(name.startswith((edge.url, "data:")) for name in resources), "no CDN"


async def test_it_survives_the_edge_without_a_reload_and_without_a_gap(
    world: World, page: Page
) -> None:
    first = await world.edge()
    port = first.url.rsplit(":", 1)[1]
    await page.goto(first.url)
    await page.wait_for_selector("#connection[data-state=live]")
    await page.evaluate("window.isTheSamePage = true")

    async with SSEBroadcaster(world.producer_settings) as reporter:

        async def alert(number: int) -> None:
            await reporter.send_risk_alert(
                "margin", "high", f"number {number}", "used", 0.9, 0.8, "desk", "rates"
            )

        for number in range(5):
            await alert(number)
        await page.wait_for_selector("text=number 4")
        await first.kill()
        await page.wait_for_selector("#connection:not([data-state=live])")
        for number in range(5, 10):
            await alert(number)
        second = await world.edge(port=port)
        assert second.url == first.url
        await page.wait_for_selector("#connection[data-state=live]")
        await alert(10)
        await page.wait_for_selector("text=number 10")
    assert await shown_alerts(page) == [f"number {number}" for number in range(11)]
    assert await page.evaluate("window.isTheSamePage")
    assert await page.is_hidden("#notice")


async def test_the_api_is_described_with_nothing_from_elsewhere(world: World, page: Page) -> None:
    edge = await world.edge()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    await page.goto(f"{edge.url}/docs")
    await page.wait_for_selector(".opblock")
    await page.get_by_text("/trainmodel/stream/{task_id}").click()
    await page.get_by_text("TRAINING_MODEL").first.wait_for()
    assert {url.split("/")[2] for url in asked if not url.startswith("data:")} == {
        edge.url.split("/")[2]
    }
