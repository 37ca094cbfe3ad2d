"""Windows, exceptions, zones, alerts and ids equal those of a naive model of one portfolio.

The model is written from the definitions in `docs/concepts/risk.md`, and computes everything anew
from all that has arrived, at each record of the log. It shares no code with the processors.
"""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import ceil, isfinite
from random import Random
from typing import Any, NamedTuple
from uuid import NAMESPACE_URL, UUID, uuid5

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy.stats import binom

from kafka_io.dead_letters import log_time_us
from schemas.events import (
    AlertAck,
    PortfolioState,
    Return,
    ReturnBatch,
    RiskAlert,
    RiskLimit,
    RiskLimits,
    RiskMeasure,
    Scenario,
)
from schemas.topics import RISK_MEASURES, RISK_STATE
from stream_processors.agents.risk import Risk
from tests.stream_processors.agents.test_one_pass import any_step
from tests.support.live_worker import END_US, straight
from tests.support.messages import FakeMessage, admitted
from tests.support.processor_bench import ProcessorBench
from tests.support.risk_log import OLD, PORTFOLIOS, RED, SHORT, STEPS, Scene, Step, log_of

DAYS_JUDGED = 250
MODEL = "exceptions_99"
MOST_BEFORE_RED = 9
"""Of 250 days at 99 %: the Basel Committee's table."""
LEVELS = {"0.95": 95, "0.99": 99}

Values = Mapping[str, float | None]


class Transition(NamedTuple):
    """An alert's change from one level to another, as its event shows it."""

    rule_id: str
    alert_id: str
    transition_id: str
    state: str
    value: float
    acknowledged: bool


class Limit(NamedTuple):
    """The thresholds of one metric."""

    limit: float
    hysteresis: float
    warn_ratio: float | None
    critical_ratio: float | None
    raise_after: int
    clear_after: int

    def thresholds(self) -> list[float]:
        """Return the thresholds of warning, breach and critical; NaN for a level without one."""
        ratios = (self.warn_ratio, 1.0, self.critical_ratio)
        return [float("nan") if ratio is None else ratio * self.limit for ratio in ratios]

    def raw(self, value: float) -> int:
        return max([0, *(k for k, at in enumerate(self.thresholds(), 1) if value > at)])

    def held(self, value: float, level: int) -> int:
        share = 1 - self.hysteresis
        found = (k for k, at in enumerate(self.thresholds(), 1) if value > at * share)
        return max([0, *(k for k in found if k <= level)])


@dataclass
class Watch:
    """One rule's alert."""

    level: int = 0
    votes: list[int] = field(default_factory=list)
    """The levels that the last measures called for: all above the present one, or all below."""
    alert_id: str = ""
    transitions: int = 0
    is_acknowledged: bool = False


def rfc3339(time_us: int) -> str:
    whole, rest = divmod(time_us, 1_000_000)
    fraction = f".{rest:06}" if rest else ""
    return f"{datetime.fromtimestamp(whole, UTC):%Y-%m-%dT%H:%M:%S}{fraction}Z"


def tail_of(values: Sequence[float], percent: int) -> tuple[float, float]:
    losses = sorted(-value for value in values)
    var = losses[ceil(len(losses) * percent / 100) - 1]
    excess = sum(max(loss - var, 0.0) for loss in losses)
    return var + 0.0, var + excess / (len(losses) * (1 - percent / 100))


class NaivePortfolio:
    """A portfolio, computed anew from all that has arrived."""

    def __init__(self, name: str, scene: Scene) -> None:
        self.name, self.settings = name, scene.settings
        self.days: dict[int, tuple[int, float]] = {}
        """Version and value of each day's return."""
        self.forecasts: dict[int, Values] = {}
        self.published: list[Transition] = []
        self.outcomes: Counter[str] = Counter()
        self.limits: dict[str, RiskLimit] = {}
        self.watches: dict[str, Watch] = {}
        self.losses: dict[str, float | None] = {}
        """The losses in the stress scenario, by the metric; empty without one."""
        self.scenario: Any = None
        self.stale: Watch | None = None
        self.stale_s: float | None = None
        self.stale_asked_us: int | None = None
        self.arrived_us: int | None = None
        self.measure_id = ""

    @property
    def window(self) -> list[int]:
        return sorted(self.days)[-self.settings.risk_window :]

    @property
    def kept(self) -> list[int]:
        return sorted(self.days)[-max(self.settings.risk_window, DAYS_JUDGED) :]

    def measure(self) -> Values:
        """Return the measures of the window."""
        values = [self.days[day][1] for day in self.window]
        found: dict[str, float | None] = dict.fromkeys(("var_95", "es_95", "var_99", "es_99"))
        for percent, least in ((95, 20), (99, 100)):
            enough = max(20, self.settings.risk_observations_min)
            if len(values) >= max(enough, least):
                found[f"var_{percent}"], found[f"es_{percent}"] = tail_of(values, percent)
        return found

    def exceptions(self, percent: int) -> tuple[int, int]:
        """Return the number of the last days with a forecast, and of the exceptions among them."""
        judged = [
            -self.days[day][1] > var
            for day in sorted(self.days)
            if (var := self.forecasts[day][f"var_{percent}"]) is not None
        ][-DAYS_JUDGED:]
        return len(judged), sum(judged)

    def values(self) -> Values:
        """Return the value of each metric that a rule is on."""
        days, exceptions = self.exceptions(99)
        of_model = float(exceptions) if days == DAYS_JUDGED else None
        return {**self.measure(), MODEL: of_model, **self.losses}

    def rules(self) -> dict[str, Limit]:
        """Return the rules: those of the limits, or the default one, and that on the model."""
        found = {
            metric: Limit(
                of.limit if of.temporary_limit is None else of.temporary_limit,
                *(of.hysteresis, of.warn_ratio, of.critical_ratio),
                *(of.raise_after, of.clear_after),
            )
            for metric, of in self.limits.items()
        }
        set_ = self.settings
        default = Limit(set_.var_limit, set_.var_hysteresis, set_.var_warn_ratio, None, 1, 1)
        return (found or {"var_95": default}) | {
            MODEL: Limit(MOST_BEFORE_RED, 0.0, None, None, 1, 1)
        }

    def add(self, observed: Return, log_us: int) -> None:
        """Add a return."""
        self.advance(log_us)
        _, at_us, value, version = observed
        newest = max(self.days, default=-1)
        outcome = self.outcome_of(observed, newest)
        self.outcomes[outcome] += 1
        if outcome not in ("accepted", "corrected"):
            return
        if at_us not in self.days:
            later = [day for day in self.days if day > at_us]
            before = self.measure() if self.days else dict.fromkeys(self.measure())
            self.forecasts[at_us] = self.forecasts[min(later)] if later else before
        self.days[at_us] = (version, value + 0.0)
        self.measure_id = f"measure:{self.name}:{rfc3339(at_us)}/{version}"
        if outcome == "accepted" and self.measure()["var_95"] is not None:
            self.arrived_us = log_us
            if self.stale is not None:
                self.publish("stale", self.stale, "stale_cleared", 0.0)
                self.stale = None
        for rule_id, limit in self.rules().items():
            self.judge(rule_id, limit)

    def outcome_of(self, observed: Return, newest: int) -> str:
        _, at_us, value, version = observed
        known = self.days.get(at_us) if at_us in {*self.kept, *self.window} else None
        if known is not None and known[0] == version:
            return "duplicate"
        if not isfinite(value):
            return "rejected"
        if at_us < newest - self.settings.risk_lateness_s * 1e6:
            return "late"
        if known is not None:
            return "corrected" if version > known[0] else "duplicate"
        is_full = len(self.days) >= max(self.settings.risk_window, DAYS_JUDGED)
        return "late" if is_full and at_us < self.kept[0] else "accepted"

    def judge(self, rule_id: str, limit: Limit, after: str = "", *, again: bool = False) -> None:
        """Judge the present value by a rule.

        Args:
            rule_id: the rule.
            limit: its thresholds.
            after: what the id of a new alert ends with.
            again: whether the last measure is judged once more, by a rule that has changed.
        """
        value = self.values().get(rule_id)
        if value is None:
            return
        watch = self.watches.setdefault(rule_id, Watch())
        raw, held = limit.raw(value), limit.held(value, watch.level)
        if again:
            del watch.votes[-1:]
        if raw > watch.level:
            watch.votes = [vote for vote in watch.votes if vote > watch.level] + [raw]
            if len(watch.votes) < limit.raise_after:
                return
            kind, level = "escalated" if watch.level else "raised", min(watch.votes)
        elif held < watch.level:
            watch.votes = [vote for vote in watch.votes if vote < watch.level] + [held]
            if len(watch.votes) < limit.clear_after:
                return
            level = max(watch.votes)
            kind = "deescalated" if level else "cleared"
        else:
            watch.votes = []
            return
        if not watch.alert_id:
            watch.alert_id = self.alert_id(rule_id, after)
        watch.level, watch.votes = level, []
        self.publish(rule_id, watch, kind, value)
        if level == 0:
            self.watches[rule_id] = Watch()

    def alert_id(self, rule_id: str, after: str) -> str:
        cause = self.measure_id or f"limits:{self.name}:"
        return str(uuid5(NAMESPACE_URL, f"risk-alert:{rule_id}:{self.name}:{cause}{after}"))

    def publish(self, rule_id: str, watch: Watch, kind: str, value: float) -> None:
        watch.transitions += 1
        if kind in ("cleared", "stale_cleared", "raised", "escalated"):
            watch.is_acknowledged = False
        name = str(uuid5(UUID(watch.alert_id), f"{watch.transitions}:{kind}"))
        acknowledged = watch.is_acknowledged
        self.published.append(Transition(rule_id, watch.alert_id, name, kind, value, acknowledged))

    def advance(self, now_us: int) -> None:
        """Do what is due by a time of the log."""
        while True:
            ends = [of.valid_until_us for of in self.limits.values() if of.valid_until_us]
            since_us = self.stale_asked_us if self.arrived_us is None else self.arrived_us
            if self.stale_s is None or self.stale is not None or since_us is None:
                stale_us = now_us + 1
            else:
                stale_us = since_us + int(self.stale_s * 1e6) + 1
            if min([*ends, stale_us]) > now_us:
                return
            if ends and min(ends) <= stale_us:
                before, at_us = self.rules(), min(ends)
                self.limits = {metric: ended(of, at_us) for metric, of in self.limits.items()}
                self.judge_changed(before, f":expired/{rfc3339(at_us)}")
                continue
            assert self.stale_s is not None
            after = ""
            if self.stale_asked_us is not None and self.stale_asked_us > (self.arrived_us or 0):
                after = f":limits/{self.stale_asked_us}"
            self.stale = Watch(level=2, alert_id=self.alert_id("stale", after))
            self.publish("stale", self.stale, "stale", self.stale_s + 1e-6)

    def judge_changed(self, before: Mapping[str, Limit], after: str) -> None:
        for rule_id, limit in self.rules().items():
            if before.get(rule_id) != limit and self.days:
                self.judge(rule_id, limit, after, again=True)

    def set_limits(self, limits: RiskLimits, offset: int, log_us: int) -> None:
        self.advance(log_us)
        if limits.stale_after_s is None and self.stale is not None:
            self.publish("stale", self.stale, "stale_cleared", 0.0)
            self.stale = None
        self.stale_s = limits.stale_after_s
        if self.stale_s is None:
            self.stale_asked_us = None
        elif self.stale_asked_us is None:
            self.stale_asked_us = log_us
        before, values = self.rules(), self.values()
        self.limits = {of.metric: ended(of, log_us) for of in limits.limits}
        for rule_id in before.keys() - self.rules().keys():
            watch = self.watches.pop(rule_id, Watch())
            if watch.alert_id:
                value, limit = values.get(rule_id), before[rule_id].limit
                self.publish(rule_id, watch, "cleared", limit if value is None else value)
        self.judge_changed(before, f":limits/{offset}")

    def acknowledge(self, ack: AlertAck, log_us: int) -> None:
        self.advance(log_us)
        watches = self.watches if self.stale is None else {**self.watches, "stale": self.stale}
        for rule_id, watch in watches.items():
            if watch.alert_id == ack.alert_id and not watch.is_acknowledged:
                watch.is_acknowledged = True
                value = self.stale_s if rule_id == "stale" else self.values().get(rule_id)
                limit = self.rules().get(rule_id)
                if value is None:
                    assert limit is not None
                    value = limit.limit
                self.publish(rule_id, watch, "acknowledged", value)

    def put_scenario(self, scenario: Scenario, log_us: int) -> None:
        self.advance(log_us)
        if scenario.withdrawn and self.scenario is None:
            return
        self.scenario = None if scenario.withdrawn else scenario
        metric = f"stress_loss:{scenario.name}"
        shocks = {shock.series_id: shock.value for shock in scenario.shocks}
        loss = -shocks[self.name] + 0.0 if self.name in shocks else None
        self.losses = {} if scenario.withdrawn else {metric: loss}
        limit = self.rules().get(metric)
        if limit is None:
            return
        if not scenario.withdrawn:
            self.judge(metric, limit, f":scenario/{scenario.name}/{scenario.version}")
            return
        watch = self.watches.pop(metric, Watch())
        if watch.alert_id:
            self.publish(metric, watch, "cleared", limit.limit)


def ended(limit: RiskLimit, at_us: int) -> RiskLimit:
    """Return a limit without its temporary one, if that is over."""
    if limit.valid_until_us is None or limit.valid_until_us > at_us:
        return limit
    return limit._replace(temporary_limit=None, valid_until_us=None, approved_by=None)


def modelled(log: Sequence[FakeMessage], scene: Scene) -> dict[str, NaivePortfolio]:
    """Return what the model makes of a log."""
    found = {name: NaivePortfolio(name, scene) for name in PORTFOLIOS}
    for received in log:
        log_us, record = log_time_us(received), admitted(received).record
        match record:
            case ReturnBatch():
                for observed in record.returns:
                    found[observed.portfolio_id].add(observed, log_us)
            case RiskLimits():
                found[record.portfolio_id].set_limits(record, received.offset, log_us)
            case AlertAck():
                found[record.entity_id].acknowledge(record, log_us)
            case Scenario():
                for portfolio in found.values():
                    portfolio.put_scenario(record, log_us)
            case _:
                raise AssertionError(record)
    for portfolio in found.values():
        portfolio.advance(log_time_us(log[-1]) + END_US)
    return found


def transitions_of(alerts: Sequence[RiskAlert], name: str) -> list[Transition]:
    return [
        Transition(
            *(str(at.rule_id), at.alert_id, at.transition_id, at.state),
            *(at.metric_value, at.acknowledged),
        )
        for at in alerts
        if at.entity_id == name
    ]


def check(
    bench: ProcessorBench, alerts: Sequence[RiskAlert], expected: Mapping[str, NaivePortfolio]
) -> None:
    states = {
        row.portfolio_id: row
        for row in bench.journal.table(RISK_STATE).values()
        if isinstance(row, PortfolioState)
    }
    measures: dict[str, RiskMeasure] = {
        row.portfolio_id: row
        for row in bench.journal.table(RISK_MEASURES).values()
        if isinstance(row, RiskMeasure)
    }
    for name, portfolio in expected.items():
        assert transitions_of(alerts, name) == portfolio.published
        assert dict(states[name].outcomes) == portfolio.outcomes
        window = np.frombuffer(states[name].window)[len(portfolio.window) :]
        values = [portfolio.days[day][1] for day in portfolio.window]
        assert window[: len(values)].tolist() == values
        measure, numbers = measures[name], portfolio.measure()
        for metric, number in numbers.items():
            found = getattr(measure, metric)
            assert found == (number and pytest.approx(number, rel=1e-9, abs=1e-12))
        for test in measure.model_backtests:
            days, exceptions = portfolio.exceptions(round(test.confidence * 100))
            assert (test.days, test.exceptions) == (days, exceptions)
            likely = binom.cdf(exceptions, days, 1 - test.confidence)
            colour = "green" if likely < 0.95 else "yellow" if likely < 0.9999 else "red"
            assert test.zone == colour


@given(steps=STEPS, scene=st.sampled_from([SHORT, OLD, RED]))
@settings(max_examples=40, deadline=None)
def test_all_is_as_in_the_naive_model(steps: list[Step], scene: Scene) -> None:
    asyncio.run(compare(steps, scene))


async def compare(steps: Sequence[Step], scene: Scene) -> None:
    log = await log_of(steps, scene)
    check(*await straight(log, Risk(scene.settings)), modelled(log, scene))


@pytest.mark.parametrize("scene", [SHORT, OLD, RED], ids=["short", "old", "red"])
def test_a_log_of_many_steps_is_as_in_the_naive_model(scene: Scene) -> None:
    dice = Random(6)
    asyncio.run(compare([any_step(dice) for _ in range(60)], scene))
