"""Clients of backtests: at the end a person sees results and charts, and no error."""

import asyncio

import httpx
import pytest

from kafka_io.clock import now_us
from kafka_io.publisher import Publisher
from schemas.events import BacktestProgress, JobStep
from tests.seeds.conftest import Build, Open, Screen, System
from tests.seeds.snippets import Snippets
from tests.support.clients import stream

pytestmark = [
    pytest.mark.kafka,
    pytest.mark.browser,
    pytest.mark.timeout(300),
    pytest.mark.asyncio(loop_scope="session"),
]

BARS_MIN = 2_000
MINUTES = {"symbol": "BTC-USD", "interval": "minute", "strategy": "rsi"}


async def show(screen: Screen, name: str, **properties: str) -> str:
    version: str = await screen.page.evaluate(
        "([name, properties]) => show(name, properties)", [name, properties]
    )
    return version


async def candles_exist(system: System) -> None:
    """Wait until jobs on minutes have more bars than a chart shows."""
    async with asyncio.timeout(90):
        while not system.has_candles:
            try:
                job_id = await system.submit(**MINUTES | {"strategy": "buy_and_hold"})
            except httpx.HTTPStatusError:
                await asyncio.sleep(0.5)  # an edge refuses the symbol until its table has it
                continue
            headers = {"Authorization": f"Bearer {system.token}"}
            path = f"/api/sse/backtest/{job_id}"
            async with stream(system.url, path, headers=headers) as client:
                blocks = await client.to_event("completed", "failed")
            bars = [block.json["total_bars"] or 0 for block in blocks if block.event == "progress"]
            system.has_candles = blocks[-1].event == "completed" and max(bars) > BARS_MIN


@pytest.mark.parametrize("react", [19, 18])
async def test_pages_show_results_and_charts_and_no_error(
    system: System, snippets: Snippets, build: Build, open_page: Open, react: int
) -> None:
    await candles_exist(system)
    script = build(snippets, react)["backtests"]
    lists, charts = await open_page(script), await open_page(script)
    version = await show(lists, "BacktestJobsPage")
    assert version.startswith(f"{react}.")
    await show(lists, "HistoryPage")
    await show(lists, "JobListPage")
    job_id = await system.submit(**MINUTES)
    # The pages are opened right after the request; the charts wait for the job's bars.
    await show(charts, "ChartComponent", backtestId=job_id, interval="minute")
    await show(charts, "MultiChartComponent", backtestId=job_id)
    await show(lists, "JobDetailPage", jobId=job_id)
    await show(lists, "GenericHook", url=f"/api/sse/backtest/{job_id}?token={system.token}")
    await lists.shows(f"#JobListPage [data-job='{job_id}'][data-status=running]")

    await lists.shows("#JobDetailPage [data-badge=completed]")
    for section in ("BacktestJobsPage", "HistoryPage"):
        await lists.shows(f"#{section} [data-status=completed]:is([data-job='{job_id}'], "
                          f"[data-backtest='{job_id}'])")  # fmt: skip
    await charts.shows("#ChartComponent [data-points='1000'][data-times='1000']")
    await charts.holds(
        """() => {
            const found = [...document.querySelectorAll('#MultiChartComponent [data-points]')];
            return found.length === 3 && found.every(
                ({dataset}) => dataset.points > 0 && dataset.points === dataset.times);
        }"""
    )
    # Longer than a browser takes to come back to a connection that has ended.
    await lists.page.wait_for_timeout(1500)
    orders = await lists.page.get_attribute("#JobDetailPage [data-orders]", "data-orders")
    trades = await lists.page.get_attribute("#JobDetailPage [data-trades]", "data-trades")
    assert orders == trades != "0"
    await lists.shows("#GenericHook [data-connected=true]")
    assert await lists.page.evaluate("ENDS") == [job_id]
    for screen in (lists, charts):
        text = await screen.text()
        assert "Error" not in text
        assert "Loading" not in text
    await lists.page.click("#BacktestJobsPage button:has-text('Completed')")
    await lists.shows(f"#BacktestJobsPage [data-job='{job_id}'][data-status=completed]")


async def test_a_chart_of_an_interval_that_cannot_be_had_is_empty_and_no_error(
    system: System, snippets: Snippets, build: Build, open_page: Open
) -> None:
    screen = await open_page(build(snippets, 19)["backtests"])
    job_id = await system.submit(symbol="IBM", strategy="buy_and_hold")
    await show(screen, "MultiChartComponent", backtestId=job_id)
    await screen.holds(
        """() => [...document.querySelectorAll('#MultiChartComponent [data-points]')]
            .map(({dataset}) => dataset.points).join() === '1000,0,0'"""
    )
    await screen.page.wait_for_timeout(1500)
    text = await screen.text()
    assert "Error" not in text
    assert "Loading" not in text


async def test_a_job_that_fails_shows_its_reason(
    system: System, snippets: Snippets, build: Build, open_page: Open
) -> None:
    screen = await open_page(build(snippets, 19)["backtests"])
    job_id = f"fails-{snippets.name}"
    async with Publisher(system.world.producer_settings) as publisher:
        for kind in ("submitted", "failed"):
            step = JobStep(kind=kind, symbol="IBM", strategy="rsi", owner="alice")
            await publisher.publish(
                BacktestProgress(
                    backtest_id=job_id,
                    progress=0.0,
                    status="running",
                    message="no prices of that year",
                    results={},
                    event_time_us=now_us(),
                    job=step,
                )
            )
    await show(screen, "JobDetailPage", jobId=job_id)
    await screen.page.wait_for_selector("text=Error: no prices of that year", timeout=60_000)


async def test_a_hook_that_counts_errors_has_none_to_count(
    snippets: Snippets, build: Build, open_page: Open
) -> None:
    screen = await open_page(build(snippets, 19)["backtests"])
    await show(screen, "CountingHook", url="/api/v1/sse/alerts")
    await screen.page.wait_for_timeout(1000)
    assert "Error" not in await screen.text()


async def test_a_manager_of_connections_opens_and_closes_them(
    system: System, snippets: Snippets, build: Build, open_page: Open
) -> None:
    screen = await open_page(build(snippets, 19)["manager"])
    url = f"/api/sse/backtest/jobs?token={system.token}"
    await screen.page.evaluate(
        """url => {
            window.jobs = null;
            sseManager.connect('jobs', url, {
                snapshot: (event) => { window.jobs = JSON.parse(event.data).jobs; },
            });
        }""",
        url,
    )
    await screen.holds("Array.isArray(window.jobs)")
    assert await screen.page.evaluate("sseManager.isConnected('jobs')")
    assert not await screen.page.evaluate(
        "sseManager.disconnectAll(), sseManager.isConnected('jobs')"
    )
    assert screen.errors == []


async def test_the_first_example_and_the_clients_from_before_still_work(
    system: System, snippets: Snippets, open_page: Open
) -> None:
    job_id = await system.submit(symbol="MSFT", strategy="buy_and_hold")
    stubs = f"""
        const token = "{system.token}", firebaseToken = token, jobId = "{job_id}", shown = {{}};
        const useEffect = (effect) => {{ effect(); }};
        const setJobs = (jobs) => (shown.jobs = jobs);
        const setHistory = (history) => (shown.history = history);
        const setProgress = (progress) => (shown.progress = progress);
    """
    files = ("quick.js", "poll_jobs.js", "poll_history.js", "socket.js")
    scripts = [f"{{ {snippets.text(f'backtests/{file}')} }}" for file in files]
    screen = await open_page("\n".join([stubs, *scripts]))
    await screen.holds("shown.progress?.progress === 100")
    await screen.holds(f"shown.jobs?.some(({{job_id}}) => job_id === '{job_id}')")
    await screen.holds(f"shown.history?.some(({{backtest_id}}) => backtest_id === '{job_id}')")
    assert screen.errors == []
