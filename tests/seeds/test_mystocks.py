"""Clients of MyStocks: channels in JavaScript, React, Vue, Python and curl, and the reporters."""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from producers.broadcaster import SSEBroadcaster
from tests.seeds.conftest import Build, Open, System
from tests.seeds.programs import curls, python, run_until
from tests.seeds.snippets import Snippets
from tests.support.clients import stream

pytestmark = [
    pytest.mark.kafka,
    pytest.mark.browser,
    pytest.mark.timeout(180),
    pytest.mark.asyncio(loop_scope="session"),
]

METRICS = {"loss": 0.25, "accuracy": 0.875}
RESULTS = {"total_return": 0.125, "sharpe_ratio": 1.5, "max_drawdown": 0.0625}


@asynccontextmanager
async def reports(system: System) -> AsyncGenerator[SSEBroadcaster]:
    """Report a training, a backtest, an alert and a count, over and over while the block runs."""

    async def go_on(reporter: SSEBroadcaster) -> None:
        while True:
            await reporter.send_training_progress("t-1", 45.5, "running", "epoch 5", METRICS)
            await reporter.send_backtest_progress(
                "b-1", 50.0, "running", "half way", "2008-10-10", RESULTS
            )
            await reporter.send_risk_alert(
                "var_exceeded", "high", "VaR exceeded", "var_95", 0.0612, 0.05, "portfolio", "p-1"
            )
            await reporter.send_dashboard_update({"jobs": 4}, "ops")
            await asyncio.sleep(0.2)  # clients that open later need reports, too

    settings = system.world.producer_settings
    async with SSEBroadcaster(settings) as reporter, asyncio.TaskGroup() as tasks:
        reporting = tasks.create_task(go_on(reporter))
        yield reporter
        reporting.cancel()


async def test_plain_javascript_shows_a_training(
    system: System, snippets: Snippets, open_page: Open
) -> None:
    async with reports(system):
        screen = await open_page(snippets.text("mystocks/basic.js", system.url))
        await screen.logs("45.5%")
        assert "0.25" in await screen.logs("0.25")
        await screen.page.wait_for_timeout(1500)  # longer than a ping takes
    assert screen.errors == []


@pytest.mark.parametrize("react", [19, 18])
async def test_a_react_page_shows_a_training(
    system: System, snippets: Snippets, build: Build, open_page: Open, react: int
) -> None:
    async with reports(system):
        screen = await open_page(build(snippets, react)["training"])
        await screen.shows("progress[value='45.5']")
        await screen.shows("[data-connected=true]")
    text = await screen.text()
    assert "epoch 5" in text
    assert "0.25" in text
    assert "Error" not in text


async def test_a_vue_page_shows_a_backtest(
    system: System, snippets: Snippets, build: Build, open_page: Open
) -> None:
    async with reports(system):
        screen = await open_page(build(snippets, 19)["vue"])
        await screen.shows("[data-progress='50'][data-status=running][data-date='2008-10-10']")
        await screen.shows("[data-connected=true]")
        shown = await screen.page.get_attribute("[data-results]", "data-results")
    assert json.loads(shown or "") == RESULTS


async def test_a_page_follows_several_channels(
    system: System, snippets: Snippets, open_page: Open
) -> None:
    handlers = """
        const shown = {};
        const updateTrainingUI = ({ data }) => (shown.training = data.progress);
        const showRiskAlert = ({ data }) => (shown.alert = data.message);
        const updateDashboard = ({ data }) => (shown.dashboard = data);
    """
    async with reports(system):
        screen = await open_page(handlers + snippets.text("mystocks/manager.js", system.url))
        await screen.holds("Object.keys(shown).length === 3")
        shown = await screen.page.evaluate("shown")
    assert (shown["training"], shown["alert"]) == (45.5, "VaR exceeded")
    assert screen.errors == []


async def test_a_client_with_its_own_backoff_connects_once(
    system: System, snippets: Snippets, open_page: Open
) -> None:
    script = snippets.text("mystocks/reconnecting.js", system.url)
    url = f"{system.url}/api/v1/sse/training"
    screen = await open_page(f"{script}\nconst client = new ReconnectingSSE('{url}');")
    await screen.holds("client.eventSource.readyState === 1")
    await screen.page.evaluate("client.first = client.eventSource")
    await screen.page.wait_for_timeout(1500)
    assert await screen.page.evaluate("client.first === client.eventSource")
    assert await screen.page.evaluate("client.reconnectDelay") == 1000


async def test_listeners_can_be_removed(
    system: System, snippets: Snippets, open_page: Open
) -> None:
    stubs = f"""
        const url = "{system.url}/api/v1/sse/training", seen = [];
        let cleanUp;
        const useEffect = (effect) => (cleanUp = effect());
        const handleConnected = () => seen.push("connected");
        const handleProgress = () => seen.push("progress");
    """
    async with reports(system):
        screen = await open_page(stubs + snippets.text("mystocks/listeners.js", system.url))
        await screen.holds("seen.includes('progress')")
        count = await screen.page.evaluate("cleanUp(), seen.length")
        await screen.page.wait_for_timeout(500)
        assert await screen.page.evaluate("seen.length") == count


async def test_a_python_client_prints_trainings_and_alerts(
    system: System, snippets: Snippets, tmp_path: Path
) -> None:
    text = snippets.text("mystocks/client.py", system.url)
    alerts = text.replace("client.listen_training(h", "client.listen_alerts(handle_risk_alert)  # ")
    async with reports(system):
        await run_until(
            python(text, tmp_path), "Progress: 45.5%", "epoch 5", "Loss: 0.25", folder=tmp_path
        )
        await run_until(
            python(alerts, tmp_path), "RISK ALERT: VaR exceeded", "Severity: high", folder=tmp_path
        )


async def test_curl_shows_each_channel_and_the_status(
    system: System, snippets: Snippets, tmp_path: Path
) -> None:
    training, backtest, alerts, status = curls(snippets.text("mystocks/curl.sh", system.url))
    async with reports(system):
        for command, channel, event in (
            (training, "training", "training_progress"),
            (backtest, "backtest", "backtest_progress"),
            (alerts, "alerts", "risk_alert"),
        ):
            connected = f'"message":"Connected to {channel} channel"'
            await run_until(command, connected, f'"event":"{event}"', folder=tmp_path)
        async with stream(system.url, "/api/v1/sse/training", client_id="me") as client:
            await client.more()
            shown = json.loads(await run_until(["bash", "-c", f"{status[2]} -s"], folder=tmp_path))
    assert shown["status"] == "active"
    assert "me" in shown["channels"]["training"]["clients"]
    assert shown["channels"]["training"]["connection_count"] >= 1


async def test_pings_come_while_nothing_happens(
    system: System, snippets: Snippets, tmp_path: Path
) -> None:
    command = curls(snippets.text("mystocks/curl.sh", system.url))[0]
    await run_until(command, '"event":"ping","data":{"timestamp":', folder=tmp_path)


STUBS = """
import asyncio, sys, types, uuid
import pandas as pd
import producers
start_date, end_date, final_results = "2008-10-01", "2008-10-05", {"total_return": 0.125}
results = types.SimpleNamespace(total_return=0.125, sharpe_ratio=1.5, max_drawdown=0.0625)
simulate_trading = lambda date: results
train_epoch = lambda: (0.25, 0.875)
calculate_var = lambda portfolio, confidence: 0.0612
portfolio = types.SimpleNamespace(id="p-1")
for name in ("app", "app.core", "app.core.sse_manager"):
    sys.modules[name] = types.ModuleType(name)
sys.modules["app.core.sse_manager"].get_sse_broadcaster = producers.get_sse_broadcaster
"""
"""Modules of the reporters' own system, and the path from which they import the broadcaster."""


@pytest.mark.parametrize(
    ("file", "call", "path", "event", "last"),
    [
        (
            "mystocks/train.py",
            "train_model({})",
            "/api/v1/sse/training",
            "training_progress",
            {"progress": 100.0, "status": "completed"},
        ),
        (
            "mystocks/backtest.py",
            "run_backtest({})",
            "/api/v1/sse/backtest",
            "backtest_progress",
            {"progress": 100.0, "status": "completed", "results": {"total_return": 0.125}},
        ),
        (
            "mystocks/risk.py",
            "check_risk_limits(portfolio)",
            "/api/v1/sse/alerts",
            "risk_alert",
            {"message": "VaR exceeded threshold: 0.0612 > 0.0500", "metric_value": 0.0612},
        ),
    ],
)
async def test_a_reporter_reaches_its_channel(
    system: System,
    snippets: Snippets,
    tmp_path: Path,
    file: str,
    call: str,
    path: str,
    event: str,
    last: dict[str, object],
) -> None:
    program = f"{STUBS}\n{snippets.text(file)}\nasyncio.run({call})\n"
    env = {
        "KAFKA_BOOTSTRAP_SERVERS": system.world.kafka.bootstrap_servers,
        "TAPEWIRE_TOPIC_PREFIX": system.world.prefix,
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    async with stream(system.url, path) as client:
        await client.until(lambda blocks: len(blocks) >= 2)
        await run_until(python(program, tmp_path), folder=tmp_path, env=env)
        await client.until(
            lambda blocks: any(
                block.event == event and last.items() <= block.inner.items() for block in blocks
            )
        )
