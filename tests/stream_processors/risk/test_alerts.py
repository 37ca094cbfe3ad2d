"""Alerts of every kind: on changed limits, on failing models, and on missing data."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from schemas.codec import decode, encode
from schemas.events import (
    AlertAck,
    PortfolioState,
    Return,
    RiskAlert,
    RiskLimit,
    RiskLimits,
)
from schemas.topics import TopicPartition
from stream_processors.risk.config import RiskConfig
from stream_processors.risk.portfolio import PortfolioRisk, ReturnOffset
from stream_processors.risk.thresholds import InvalidRule, Rule

SOURCE = TopicPartition("portfolio.returns", 3)
CONFIG = RiskConfig(
    window=250, observations_min=100, lateness_us=0, default_rules=(Rule("var_95", 0.05),)
)
DAY_US = 86_400_000_000


class Desk:
    """One portfolio, and all alerts that it has caused."""

    def __init__(self, config: RiskConfig = CONFIG) -> None:
        self.config = config
        self.risk = PortfolioRisk("p", config, SOURCE)
        self.alerts: list[RiskAlert] = []
        self.offset = 0

    def returns(self, values: Sequence[float]) -> "Desk":
        for value in values:
            self.offset += 1
            observation = Return(
                portfolio_id="p", event_time_us=self.offset * DAY_US, value=float(value)
            )
            self.alerts += self.risk.apply(observation, ReturnOffset(self.offset, 0))[1]
        return self

    def limits(self, *limits: RiskLimit, offset: int, stale_after_s: float | None = None) -> None:
        record = RiskLimits(
            portfolio_id="p", limits=limits, stale_after_s=stale_after_s, event_time_us=0
        )
        self.alerts += self.risk.set_limits(record, offset)

    def acknowledge(self, offset: int, comment: str = "") -> None:
        alert_id = self.alerts[-1].alert_id
        ack = AlertAck(alert_id=alert_id, entity_id="p", by="ann", comment=comment, event_time_us=0)
        self.alerts += self.risk.acknowledge(ack, offset)

    def tick(self, now_us: int) -> None:
        self.alerts += self.risk.tick(now_us)

    def restarted(self) -> None:
        """Replace the portfolio by one from its encoded state."""
        state = decode(encode(self.risk.pack()))
        assert isinstance(state, PortfolioState)
        self.risk = PortfolioRisk.unpack(state, self.config, SOURCE.topic)

    @property
    def steps(self) -> list[tuple[str | None, str]]:
        return [(alert.rule_id, alert.state) for alert in self.alerts]


def noise(count: int, deviation: float, seed: int = 1) -> list[float]:
    return list(np.random.default_rng(seed).normal(0, deviation, count))


def test_a_changed_limit_judges_at_once_and_a_withdrawn_one_clears() -> None:
    desk = Desk().returns(noise(200, 0.02))
    assert desk.steps == []
    desk.limits(RiskLimit(metric="var_95", limit=0.01), offset=0)
    assert desk.steps == [("var_95", "raised")]
    assert desk.alerts[0].threshold == 0.01
    desk.limits(RiskLimit(metric="var_95", limit=0.2), offset=1)
    assert desk.steps[1:] == [("var_95", "cleared")]
    desk.limits(RiskLimit(metric="es_95", limit=0.01, warn_ratio=0.5), offset=2)
    assert desk.steps[2:] == [("es_95", "raised")]
    assert desk.alerts[2].alert_type == "es_exceeded"
    assert desk.alerts[2].message.startswith("ES exceeded threshold: 0.0")
    desk.restarted()
    desk.limits(offset=3)
    assert desk.steps[3:] == [("es_95", "cleared")]
    assert desk.alerts[3].message == "the limit was withdrawn"
    # The default limits apply again, and the VaR of such noise is well below them.
    desk.returns(noise(30, 0.02, seed=2))
    assert len(desk.steps) == 4


def test_limits_applied_twice_change_nothing_and_ids_are_never_reused() -> None:
    desk = Desk().returns(noise(200, 0.02))
    for turn in range(6):
        low = turn % 2 == 0
        desk.limits(RiskLimit(metric="var_95", limit=0.01 if low else 0.2), offset=turn)
        desk.limits(RiskLimit(metric="var_95", limit=0.2 if low else 0.01), offset=turn)
    assert [state for _, state in desk.steps] == ["raised", "cleared"] * 3
    assert len({alert.transition_id for alert in desk.alerts}) == 6
    assert len({alert.alert_id for alert in desk.alerts}) == 3


@pytest.mark.parametrize(
    ("limit", "why"),
    [
        (RiskLimit(metric="var_95", limit=0.0), "limit is 0.0; it must be a finite number above 0"),
        (RiskLimit(metric="var_95", limit=0.1, warn_ratio=1.0), "warn_ratio is 1.0"),
        (RiskLimit(metric="beta", limit=0.1), "'beta' is no metric; there are var_95"),
    ],
)
def test_invalid_limits_are_refused_and_the_present_limits_stay(limit: RiskLimit, why: str) -> None:
    desk = Desk().returns(noise(200, 0.02))
    desk.limits(RiskLimit(metric="var_95", limit=0.01), offset=0)
    with pytest.raises(InvalidRule, match=why):
        desk.limits(limit, offset=1)
    desk.returns(noise(1, 0.001))
    assert desk.steps == [("var_95", "raised")]


def test_an_alert_is_acknowledged_once_at_each_level_and_stays_open() -> None:
    config = replace(CONFIG, default_rules=(Rule("var_95", 0.02, critical_ratio=2.0),))
    desk = Desk(config).returns(noise(200, 0.02))
    assert desk.steps == [("var_95", "raised")]
    desk.acknowledge(0, "I am on it")
    desk.acknowledge(1)
    desk.acknowledge(1)
    assert desk.steps[1:] == [("var_95", "acknowledged")]
    assert desk.alerts[1].message == "acknowledged by ann: I am on it"
    assert desk.alerts[1].alert_id == desk.alerts[0].alert_id
    desk.restarted()
    desk.acknowledge(2)
    assert len(desk.steps) == 2
    desk.returns(noise(60, 0.09, seed=3))
    assert desk.steps[2:] == [("var_95", "escalated")]
    desk.acknowledge(3)
    assert desk.steps[3:] == [("var_95", "acknowledged")]
    desk.returns(noise(300, 0.0001, seed=4))
    over = [state for rule, state in desk.steps if rule == "var_95"][4:]
    assert over in (["cleared"], ["deescalated", "cleared"])
    desk.acknowledge(4)
    assert desk.steps[-1][1] != "acknowledged"


def test_missing_measures_raise_one_alert_which_the_next_measure_clears() -> None:
    desk = Desk().returns(noise(150, 0.01))
    last_us = 150 * DAY_US
    desk.tick(last_us + 10 * DAY_US)
    assert desk.steps == []  # no limits ask for it
    desk.limits(RiskLimit(metric="var_95", limit=0.5), offset=0, stale_after_s=3600)
    desk.tick(last_us + 3_600_000_000)
    assert desk.steps == []
    desk.tick(last_us + 3_600_000_001)
    desk.tick(last_us + 2 * 3_600_000_000)
    desk.restarted()
    desk.tick(last_us + 3 * 3_600_000_000)
    assert desk.steps == [("stale", "stale")]
    stale = desk.alerts[0]
    assert (stale.alert_type, stale.severity, stale.threshold) == (
        "stale_data",
        "medium",
        3600,
    )
    # A refused return is no measure.
    desk.returns([float("nan")])
    assert len(desk.steps) == 1
    desk.returns([0.001])
    assert desk.steps[1:] == [("stale", "stale_cleared")]
    assert desk.alerts[1].alert_id == stale.alert_id
    desk.tick((desk.offset + 30) * DAY_US)
    assert desk.steps[2:] == [("stale", "stale")]
    assert desk.alerts[2].alert_id != stale.alert_id


def test_a_model_in_the_red_zone_raises_one_alert() -> None:
    """A calm year, then losses that each exceed all earlier ones."""
    desk = Desk().returns(noise(360, 0.001))
    losses = [-0.01 * 1.05**day for day in range(30)]
    desk.returns(losses)
    model = [alert for alert in desk.alerts if alert.rule_id == "exceptions_99"]
    assert [alert.state for alert in model] == ["raised"]
    assert (model[0].alert_type, model[0].severity) == ("model_red", "medium")
    # Basel: the tenth exception in 250 days is red; a few exceptions are of the calm year.
    assert model[0].metric_value == 10.0
    assert "entered the red zone: 10 exceptions in 250 days, and 9 may be" in model[0].message
    measure = desk.risk.measure_event()
    assert measure is not None
    assert measure.model_backtests[1].zone == "red"
    assert measure.model_backtests[1].kupiec_p < 0.001
    desk.returns(noise(260, 0.02, seed=8))
    model = [alert for alert in desk.alerts if alert.rule_id == "exceptions_99"]
    assert [alert.state for alert in model] == ["raised", "cleared"]


def test_the_state_of_the_first_version_is_read() -> None:
    """Its only rule continues from its state."""
    desk = Desk().returns(noise(200, 0.05))
    raised = desk.alerts[0]
    packed = desk.risk.pack()
    (var_95,) = [watch for watch in packed.watches if watch.rule_id == "var_95"]
    old = replace(
        packed,
        watches=[],
        level=var_95.level,
        run=var_95.run,
        run_up=var_95.run_up,
        alert_id=var_95.alert_id,
        transitions=var_95.transitions,
        judged_us=var_95.judged_us,
    )
    desk.risk = PortfolioRisk.unpack(old, CONFIG, SOURCE.topic)
    desk.returns(noise(300, 0.001, seed=3))
    cleared = next(alert for alert in desk.alerts if alert.state == "cleared")
    assert cleared.alert_id == raised.alert_id
