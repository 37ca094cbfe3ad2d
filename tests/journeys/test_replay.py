"""`tapewire risk replay`, as a user types it."""

import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cli import risk_replay
from kafka_io.publisher import Publisher
from kafka_io.reader import read_all, read_table
from producers.market.prices import load_prices, trading_days
from producers.returns import ReturnsPublisher
from schemas.events import (
    AlertAck,
    PortfolioState,
    Return,
    RiskAlert,
    RiskLimit,
    RiskLimits,
    Scenario,
    Shock,
)
from schemas.topics import PARTITIONS, RISK_ALERTS, RISK_STATE
from stream_processors.risk.confidence import ConfidenceLevel
from stream_processors.settings import ProcessorSettings
from tests.conftest import World

pytestmark = pytest.mark.kafka

DAY_US = 86_400_000_000


async def tapewire(world: World, *arguments: str, **env: str) -> tuple[int, str]:
    env |= {
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


async def processed(world: World, returns: int, *, until: Callable[[PortfolioState], bool]) -> None:
    """Wait until a portfolio has so many returns, and its state is as asked."""
    async with asyncio.timeout(60):
        while True:
            rows = (await read_table(RISK_STATE, world.producer_settings)).values()
            states = [row for row in rows if isinstance(row, PortfolioState)]
            if any(sum(at.outcomes.values()) == returns and until(at) for at in states):
                return


async def alerts_of(world: World) -> list[RiskAlert]:
    found = await read_all(RISK_ALERTS, world.producer_settings)
    return [alert for alert in found if isinstance(alert, RiskAlert)]


def noisy_log() -> list[Return]:
    dice = np.random.default_rng(5)
    log: list[Return] = []
    for day in range(260):
        value = float(dice.normal(0, 0.03 if 120 < day < 200 else 0.01))
        log.append(Return("p", day * DAY_US, value))
        if day % 9 == 8:  # a wrong return of an earlier day was put right
            log.append(Return("p", (day - 3) * DAY_US, value / 2, 2))
        if day % 31 == 30:  # at noon, and late
            log.append(Return("p", (day - 2) * DAY_US + DAY_US // 2, -0.05))
    return log


async def test_a_replay_has_the_alerts_of_the_running_worker(world: World) -> None:
    """By the limits and acknowledgements in the log, and by the stress scenarios."""
    log = noisy_log()
    processors = ProcessorSettings(var_limit=0.03, var_warn_ratio=0.7, var_critical_ratio=1.3)
    await world.worker(
        batch_within_s=0.05, var_limit=0.03, var_warn_ratio=0.7, var_critical_ratio=1.3
    )
    settings = world.producer_settings
    limits = RiskLimits(
        portfolio_id="p",
        limits=[RiskLimit("var_99", 0.04, raise_after=2), RiskLimit("stress_loss:crash", 0.2)],
        event_time_us=1,
    )
    crash = Scenario(
        name="crash",
        version=1,
        kind="hypothetical",
        shocks=[Shock("p", -0.3)],
        others="missing",
        event_time_us=1,
    )
    middle = len(log) * 2 // 3
    async with Publisher(settings) as publisher:
        returns = ReturnsPublisher(publisher)
        for start in range(0, middle, 7):
            await returns.send(log[start : min(start + 7, middle)])
        await processed(world, middle, until=lambda _: True)
        raised = (await alerts_of(world))[-1]
        ack = AlertAck(alert_id=raised.alert_id, entity_id="p", by="ann", event_time_us=1)
        await publisher.publish(ack)
        await processed(world, middle, until=lambda state: state.acks_offset >= 0)
        await publisher.publish(limits)
        await processed(world, middle, until=lambda state: state.limits_offset >= 0)
        for number in range(PARTITIONS):
            await publisher.publish(crash, partition=number)
        await processed(
            world,
            middle,
            until=lambda state: "stress_loss:crash" in {watch.rule_id for watch in state.watches},
        )
        for start in range(middle, len(log), 7):
            await returns.send(log[start : start + 7])
        await processed(world, len(log), until=lambda _: True)
    alerts = await alerts_of(world)
    asked = risk_replay.query_of(
        processors,
        portfolio_id="p",
        method="historical",
        level=ConfidenceLevel.of("0.95"),
        limit=None,
        since_us=0,
        until_us=260 * DAY_US,
    )
    found = await asyncio.to_thread(risk_replay.run, asked, settings, None, processors)
    assert {"var_95", "var_99", "stress_loss:crash"} <= {alert.rule_id for alert in alerts}
    assert "acknowledged" in {alert.state for alert in alerts}
    assert found.ran is not None
    assert [past.alert for past in found.ran.alerts] == alerts
    assert [loss.loss for loss in found.ran.stress] == [0.3]
    code, out = await tapewire(
        world,
        *("--from", "1970-01-01", "--to", "1970-12-31", "--portfolio", "p"),
        TAPEWIRE_VAR_LIMIT="0.03",
        TAPEWIRE_VAR_WARN_RATIO="0.7",
        TAPEWIRE_VAR_CRITICAL_RATIO="1.3",
    )
    assert code == 0, out
    assert "acknowledged by ann" in out
    assert "the loss in the scenario crash: 0.3000" in out


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
    assert "var_95          VaR exceeded threshold: 0." in out, out
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
