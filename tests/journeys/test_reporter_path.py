"""A program that imports the reporter from MyStocks' path runs as it is, with the guide's shim."""

import asyncio
import os
import re
import sys
from pathlib import Path

import pytest

from tests.conftest import World
from tests.support.clients import stream

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(120)]

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "docs" / "guides" / "produce.md"

PROGRAM = """
import asyncio
import datetime

from app.core.sse_manager import get_sse_broadcaster


async def main():
    reporter = get_sse_broadcaster()
    await reporter.send_training_progress(
        task_id="training-1", progress=0.0, status="started", message="begun", metrics={}
    )
    await reporter.send_training_progress(
        task_id="training-1",
        progress=100.0,
        status="completed",
        message="done",
        metrics={"final_loss": 0.125, "history": [0.5, 0.25, 0.125]},
    )
    await reporter.send_backtest_progress(
        backtest_id="backtest-1",
        progress=50.0,
        status="running",
        message="Simulating",
        current_date=str(datetime.date(2008, 10, 10)),
        results={"total_return": -0.1, "sharpe_ratio": None, "trades": [{"side": "buy"}]},
    )
    await reporter.send_risk_alert(
        alert_type="var_exceeded",
        severity="high",
        message="VaR exceeded threshold: 0.0612 > 0.0500",
        metric_name="var_95",
        metric_value=0.0612,
        threshold=0.05,
        entity_type="portfolio",
        entity_id="growth",
    )
    await reporter.close()


asyncio.run(main())
"""


def write_shim(folder: Path) -> None:
    """Write the module that the guide shows, at the path that it names."""
    (code,) = re.findall(r"```python\n(# app/[^`]*)```", GUIDE.read_text(encoding="utf-8"))
    first, _, rest = code.partition("\n")
    path = folder / first.removeprefix("# ")
    path.parent.mkdir(parents=True)
    path.write_text(rest, encoding="utf-8")


async def test_a_program_of_mystocks_reports_through_the_shim(world: World, tmp_path: Path) -> None:
    write_shim(tmp_path)
    (tmp_path / "program.py").write_text(PROGRAM, encoding="utf-8")
    edge = await world.edge()
    system = {
        "KAFKA_BOOTSTRAP_SERVERS": world.kafka.bootstrap_servers,
        "TAPEWIRE_TOPIC_PREFIX": world.prefix,
        "PYTHONPATH": f"{tmp_path}:{ROOT}",
    }
    topics = ["training", "backtest", "alerts"]
    async with stream(edge.url, "/api/v1/sse/streams", topic=topics) as client:
        await client.until(lambda blocks: len(blocks) >= 2)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "program.py"), env={**os.environ, **system}, cwd=tmp_path
        )
        await client.until(lambda blocks: len([block for block in blocks if block.event]) >= 5)
        assert await process.wait() == 0
    trainings = await client.events("training_progress", 2)
    assert [block.inner["metrics"] for block in trainings] == [
        {},
        {"final_loss": 0.125, "history": [0.5, 0.25, 0.125]},
    ]
    (backtest,) = await client.events("backtest_progress", 1)
    assert backtest.inner["current_date"] == "2008-10-10"
    assert backtest.inner["results"] == {
        "total_return": -0.1,
        "sharpe_ratio": None,
        "trades": [{"side": "buy"}],
    }
    (alert,) = await client.events("risk_alert", 1)
    assert alert.inner["message"] == "VaR exceeded threshold: 0.0612 > 0.0500"
