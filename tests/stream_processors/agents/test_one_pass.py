"""Exceptions, zones, alerts and ids are those of one pass over the log.

This holds with late, corrected and repeated returns, limits, acknowledgements, scenarios and times
at which something is due, whatever the batches, pauses, restarts and rebuilds.
"""

import asyncio
from collections.abc import Sequence
from math import nan
from random import Random
from typing import Any

from hypothesis import given, settings, strategies as st

from schemas.events import RiskAlert, RiskMeasure
from schemas.topics import (
    RISK_ALERTS,
    RISK_MEASURES,
    RISK_OPEN,
    RISK_STATE,
)
from stream_processors.agents.risk import Risk
from stream_processors.risk.risk_batch import ORDERED
from tests.support.live_worker import Live, straight
from tests.support.processor_bench import ProcessorBench
from tests.support.risk_log import (
    OLD,
    PORTFOLIOS,
    RED,
    SHORT,
    STEPS,
    Scene,
    Step,
    log_of,
    take_over,
)


class Outcome:
    """What clients have had, and the states."""

    def __init__(self, bench: ProcessorBench, alerts: Sequence[RiskAlert]) -> None:
        self.alerts = {name: [at for at in alerts if at.entity_id == name] for name in PORTFOLIOS}
        self.states = bench.journal.table(RISK_STATE)
        self.open_alerts = bench.journal.table(RISK_OPEN)
        self.zones = {
            name: [(test.confidence, test.exceptions, test.zone) for test in row.model_backtests]
            for name, row in bench.journal.table(RISK_MEASURES).items()
            if isinstance(row, RiskMeasure)
        }


class LiveRisk(Live):
    """A worker that continues from rebuilds, too."""

    async def rebuild(self) -> None:
        """Continue from a rebuild of a part of what is processed."""
        await self.commit()
        rebuilt = ProcessorBench(self.make())
        read = self.dice.randint(0, len(self.processed))
        processed: Any = self.processed
        before, unread = processed[:read], processed[read:]
        if before:
            await rebuilt.run(before)
        rows = rebuilt.rows() if before else {RISK_STATE.name: {}}
        journal = await take_over(self.bench, rows, unread, self.alerts)
        assert journal.sent(RISK_ALERTS, RiskAlert) == []


@given(steps=STEPS, scene=st.sampled_from([SHORT, OLD, RED]), seed=st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_all_is_as_in_one_pass(steps: list[Step], scene: Scene, seed: int) -> None:
    asyncio.run(check(steps, scene, seed))


async def check(steps: list[Step], scene: Scene, seed: int) -> None:
    log = await log_of(steps, scene)
    bench, alerts = await straight(log, Risk(scene.settings))
    assert len({alert.transition_id for alert in alerts}) == len(alerts)
    expected = Outcome(bench, alerts)
    worker = LiveRisk(log, lambda: Risk(scene.settings), ORDERED, Random(seed))
    await worker.run()
    live = Outcome(worker.bench, worker.alerts)
    assert live.alerts == expected.alerts
    assert live.states == expected.states
    assert live.open_alerts == expected.open_alerts
    assert live.zones == expected.zones


def any_step(dice: Random) -> Step:
    return Step(
        kind=dice.choice(["return", "return", "repeat", "limits", "ack", "scenario"]),
        after_ms=dice.choice([0, 1, 400, 2_000, 9_000]),
        portfolio=dice.choice([0, 0, 1]),
        size=dice.choice([0.0, 0.01, 0.021, 0.026, 0.03, 0.05, nan]),
        behind=dice.choice([0, 0, 1, 5, 24, 280, 320]),
        version=dice.choice([1, 2, 3]),
        repeats=dice.choice([1, 2]),
        stale_s=dice.choice([None, 1.0, 2.0]),
        temporary=dice.random() < 0.5,  # a coin
    )


def test_the_logs_have_what_the_property_is_about() -> None:
    """Else it would hold of nothing."""
    dice = Random(3)
    steps, outcomes = set[tuple[str | None, str]](), set[str]()
    for scene in (SHORT, OLD, RED) * 10:
        log = asyncio.run(log_of([any_step(dice) for _ in range(40)], scene))
        found = Outcome(*asyncio.run(straight(log, Risk(scene.settings))))
        for alerts in found.alerts.values():
            steps |= {(at.rule_id, at.state) for at in alerts}
        for state in found.states.values():
            outcomes |= getattr(state, "outcomes", {}).keys()
    assert outcomes >= {"accepted", "corrected", "duplicate", "late", "rejected"}
    for rule_id in ("var_95", "stress_loss:crash"):
        states = {state for of, state in steps if of == rule_id}
        assert states >= {"raised", "escalated", "deescalated", "acknowledged", "cleared"}, rule_id
    assert steps >= {("exceptions_99", "raised"), ("stale", "stale"), ("stale", "stale_cleared")}
