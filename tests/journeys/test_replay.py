"""`tapewire risk replay`, as a user types it."""

import asyncio
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from cli import risk_replay
from kafka_io.publisher import Publisher
from kafka_io.reader import read_all, read_table
from producers.market.prices import load_prices, trading_days
from producers.returns import ReturnsPublisher
from schemas.events import PortfolioState, Return, RiskAlert
from schemas.topics import RISK_ALERTS, RISK_STATE
from stream_processors.risk.confidence import ConfidenceLevel
from stream_processors.settings import ProcessorSettings
from tests.conftest import World

pytestmark = pytest.mark.kafka

DAY_US = 86_400_000_000


async def tapewire(world: World, *arguments: str) -> tuple[int, str]:
    env = {
        "KAFKA_BOOTSTRAP_SERVERS": world.kafka.bootstrap_servers,
        "TAPEWIRE_TOPIC_PREFIX": world.prefix,
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cli", "risk", "replay", *arguments),
        env=os.environ | env,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode()


async def test_a_replay_has_the_alerts_of_the_running_worker(world: World) -> None:
    dice = np.random.default_rng(5)
    log: list[Return] = []
    for day in range(260):
        value = float(dice.normal(0, 0.03 if 120 < day < 200 else 0.01))
        log.append(Return("p", day * DAY_US, value))
        if day % 9 == 8:  # a wrong return of an earlier day was put right
            log.append(Return("p", (day - 3) * DAY_US, value / 2, 2))
        if day % 31 == 30:  # at noon, and late
            log.append(Return("p", (day - 2) * DAY_US + DAY_US // 2, -0.05))
    processors = ProcessorSettings(var_limit=0.03, var_warn_ratio=0.7, var_critical_ratio=1.3)
    await world.worker(
        batch_within_s=0.05, var_limit=0.03, var_warn_ratio=0.7, var_critical_ratio=1.3
    )
    settings = world.producer_settings
    async with Publisher(settings) as publisher:
        for start in range(0, len(log), 7):
            await ReturnsPublisher(publisher).send(log[start : start + 7])
    async with asyncio.timeout(60):
        while True:
            rows = (await read_table(RISK_STATE, settings)).values()
            counts = [sum(row.outcomes.values()) for row in rows if isinstance(row, PortfolioState)]
            if counts == [len(log)]:
                break
    alerts = [
        (alert.event_time_us, alert.transition_id)
        for alert in await read_all(RISK_ALERTS, settings)
        if isinstance(alert, RiskAlert) and alert.rule_id == "var_95"
    ]
    asked = risk_replay.query_of(
        processors,
        portfolio_id="p",
        method="historical",
        level=ConfidenceLevel.of("0.95"),
        limit=0.03,
        since_us=0,
        until_us=260 * DAY_US,
    )
    found = await asyncio.to_thread(risk_replay.run, asked, settings)
    assert len(alerts) > 3
    assert [(step.at_us, step.transition.transition_id) for step in found.steps] == alerts


async def test_the_crisis_is_printed_and_drawn(world: World, tmp_path: Path) -> None:
    async with Publisher(world.producer_settings) as publisher:
        returns = ReturnsPublisher(publisher)
        await returns.send(
            observation for day in trading_days(load_prices()) for observation in day.at_close()
        )
    years = ("--from", "2007-01-01", "--to", "2009-12-31", "--portfolio", "MSFT")
    picture = tmp_path / "risk.png"
    code, out = await tapewire(world, *years, "--limit", "0.035", "--out", str(picture))
    assert code == 0, out
    lines = out.splitlines()
    first = lines[next(at for at, line in enumerate(lines) if "step" in line.split()) + 1]
    assert first.split()[1] == "raised"
    assert first.startswith("2008-")
    assert "756 days with a forecast" in out
    assert "37.8 were to be expected" in out
    assert "traffic light" in out
    assert picture.read_bytes().startswith(b"\x89PNG")

    drawing = tmp_path / "risk.svg"
    code, out = await tapewire(world, *years, "--method", "ewma", "--out", str(drawing))
    assert code == 0, out
    assert "<svg" in drawing.read_text(encoding="utf-8")

    for wrong, named in (
        (("--portfolio", "nobody"), "the log has no returns of nobody"),
        (("--method", "magic"), "'magic' is no method"),
        (("--confidence", "95"), "between 0.5 and 1"),
        (("--limit", "-1"), "limit is -1.0"),
        (("--from", "2030-01-01", "--to", "2031-01-01"), "its returns are from 2000-"),
        (("--out", "risk.pdf"), "must end in .png or .svg"),
    ):
        code, out = await tapewire(world, *years, *wrong)
        assert (code, named in out) == (1, True), out
