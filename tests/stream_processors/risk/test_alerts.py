"""Alerts of every kind: on changed limits, on failing models, and on missing data."""

from collections.abc import Sequence
from dataclasses import replace
from math import isfinite
from uuid import NAMESPACE_URL, uuid5

import numpy as np
import pytest

from schemas.codec import decode, encode
from schemas.errors import OutOfBounds
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


HOUR_US = 3_600_000_000
STALE_AFTER = RiskLimits(
    portfolio_id="p",
    limits=[RiskLimit(metric="var_95", limit=0.5)],
    stale_after_s=3600,
    event_time_us=0,
)


class Log:
    """Returns of one portfolio by the log's clock, whose event times are long past."""

    def __init__(self, risk: PortfolioRisk | None = None) -> None:
        self.risk = risk or PortfolioRisk("p", replace(CONFIG, lateness_us=DAY_US), SOURCE)
        self.alerts: list[RiskAlert] = []
        self.offset = 0

    def add(self, at_us: int, log_us: int, version: int = 1, value: float = 0.001) -> None:
        self.offset += 1
        observation, where = Return("p", at_us, value, version), ReturnOffset(self.offset, 0)
        self.alerts += self.risk.apply(observation, where, log_us=log_us)[1]

    def fill(self, count: int = 120, log_us: int = 0) -> "Log":
        for at_us in range(count):
            self.add(at_us, log_us)
        return self

    @property
    def states(self) -> list[str]:
        return [alert.state for alert in self.alerts]


def test_staleness_is_by_the_arrival_of_returns_and_corrections_are_none() -> None:
    log = Log().fill()
    assert log.risk.set_limits(STALE_AFTER, 0, log_us=0) == []
    log.add(119, HOUR_US, version=2)  # does not restart it
    assert log.risk.tick(HOUR_US) == ()
    log.alerts += log.risk.tick(HOUR_US + 1)
    assert log.states == ["stale"]
    log.add(118, HOUR_US + 5, version=2)  # does not end it
    log.add(120, HOUR_US + 6, value=float("nan"))
    log.add(119, HOUR_US + 7, version=2)  # a duplicate
    assert log.states == ["stale"]
    log.add(120, HOUR_US + 8)
    assert log.states == ["stale", "stale_cleared"]
    assert log.alerts[0].alert_id == log.alerts[1].alert_id


@pytest.mark.parametrize("ticks_us", [[], [HOUR_US + 1], [HOUR_US, HOUR_US + 7, HOUR_US + 9]])
def test_alerts_about_missing_measures_do_not_depend_on_the_times_of_ticks(
    ticks_us: list[int],
) -> None:
    log = Log().fill()
    log.risk.set_limits(STALE_AFTER, 0, log_us=0)
    for now_us in ticks_us:
        log.alerts += log.risk.tick(now_us)
    log.add(120, 3 * HOUR_US)
    expected = Log().fill()
    expected.risk.set_limits(STALE_AFTER, 0, log_us=0)
    expected.add(120, 3 * HOUR_US)
    assert log.alerts == expected.alerts
    assert log.states == ["stale", "stale_cleared"]
    assert log.alerts[0].message == "no measure for more than 3600 s"


def test_a_portfolio_with_limits_and_no_return_is_stale_from_the_limits_on() -> None:
    log = Log()
    log.risk.set_limits(STALE_AFTER, 0, log_us=DAY_US)
    log.risk.set_limits(STALE_AFTER, 1, log_us=DAY_US + 60)  # put again, it does not restart
    log.risk = PortfolioRisk.unpack(log.risk.pack(), CONFIG, SOURCE.topic)
    assert log.risk.tick(DAY_US + HOUR_US) == ()
    [stale] = log.risk.tick(DAY_US + HOUR_US + 1)
    assert (stale.state, stale.event_time_us, stale.status) == ("stale", DAY_US, None)
    ack = AlertAck(alert_id=stale.alert_id, entity_id="p", by="ann", event_time_us=0)
    [acknowledged] = log.risk.acknowledge(ack, 0, log_us=DAY_US + HOUR_US + 2)
    assert (acknowledged.state, acknowledged.message) == ("acknowledged", "acknowledged by ann")
    assert acknowledged.alert_id == stale.alert_id
    log.fill(99, DAY_US + 2 * HOUR_US)
    assert log.states == [], "too few returns give no measure"
    log.fill(100, DAY_US + 2 * HOUR_US)
    assert log.states == ["stale_cleared"]


def test_a_withdrawn_limit_on_missing_measures_clears_at_once() -> None:
    log = Log().fill()
    log.risk.set_limits(STALE_AFTER, 0, log_us=0)
    [stale] = log.risk.tick(2 * HOUR_US)
    without = replace(STALE_AFTER, stale_after_s=None)
    [cleared] = log.risk.set_limits(without, 1, log_us=3 * HOUR_US)
    assert (cleared.state, cleared.alert_id) == ("stale_cleared", stale.alert_id)
    assert cleared.message == "the limit on missing measures was withdrawn"
    assert log.risk.tick(9 * HOUR_US) == ()


@pytest.mark.parametrize("number", [float("nan"), float("inf"), 0.0, -1.0])
def test_limits_that_are_no_positive_numbers_are_refused_by_name(number: float) -> None:
    risk = PortfolioRisk("p", CONFIG, SOURCE)
    limits = replace(STALE_AFTER, limits=[RiskLimit("var_95", number)])
    with pytest.raises(InvalidRule, match=f"of var_95: limit is {number}; it must be a finite"):
        risk.set_limits(limits, 0)
    with pytest.raises(InvalidRule, match=f"stale_after_s is {number}; it must be a finite"):
        risk.set_limits(replace(STALE_AFTER, stale_after_s=number), 1)
    if not isfinite(number):
        with pytest.raises(OutOfBounds, match="limit"):
            encode(limits)


LOUD = replace(
    STALE_AFTER,
    limits=[
        RiskLimit(
            "var_95", 0.005, temporary_limit=0.02, valid_until_us=2 * HOUR_US, approved_by="bob"
        )
    ],
    stale_after_s=None,
    event_time_us=HOUR_US,
)


def desk_with_temporary_limit() -> Log:
    log = Log()
    for at_us in range(120):
        log.add(at_us, 0, value=-0.01)
    log.alerts += log.risk.set_limits(LOUD, 0, log_us=HOUR_US)
    log.risk = PortfolioRisk.unpack(log.risk.pack(), CONFIG, SOURCE.topic)
    return log


def test_a_temporary_limit_falls_back_by_the_logs_clock_and_the_last_measure_is_judged() -> None:
    log = desk_with_temporary_limit()
    log.alerts += log.risk.tick(2 * HOUR_US - 1)
    assert log.states == []
    log.alerts += log.risk.tick(2 * HOUR_US)
    [raised] = log.alerts
    assert raised.message == "VaR exceeded threshold: 0.0100 > 0.0050"
    assert (raised.limits_version, raised.limit_until_us) == ("1970-01-01T01:00:00Z", None)
    log.alerts += log.risk.tick(9 * HOUR_US)
    assert log.states == ["raised"], "the last measure is judged once"


def test_the_end_of_a_temporary_limit_is_the_same_by_a_tick_and_by_a_replay() -> None:
    ticked, replayed = desk_with_temporary_limit(), desk_with_temporary_limit()
    ticked.alerts += ticked.risk.tick(5 * HOUR_US)
    for log in (ticked, replayed):
        log.add(120, 6 * HOUR_US, value=-0.01)
    assert replayed.alerts == ticked.alerts
    assert replayed.risk.pack() == ticked.risk.pack()


def test_an_alert_by_a_temporary_limit_says_until_when_it_holds() -> None:
    log = desk_with_temporary_limit()
    for at_us in range(120, 130):
        log.add(at_us, HOUR_US + 1, value=-0.03)
    [raised] = log.alerts
    assert (raised.threshold, raised.limit_until_us) == (0.02, 2 * HOUR_US)


def test_a_temporary_limit_that_is_over_when_it_arrives_never_holds() -> None:
    log = Log()
    for at_us in range(120):
        log.add(at_us, 0, value=-0.01)
    [raised] = log.risk.set_limits(LOUD, 0, log_us=2 * HOUR_US)
    assert raised.threshold == 0.005


@pytest.mark.parametrize(
    ("limit", "why"),
    [
        (RiskLimit("var_95", 0.1, temporary_limit=0.2), "needs all of temporary_limit"),
        (RiskLimit("var_95", 0.1, approved_by="bob"), "needs all of temporary_limit"),
        (
            RiskLimit("var_95", 0.1, temporary_limit=0.1, valid_until_us=9, approved_by="bob"),
            "temporary_limit is 0.1; it must be a finite number above the limit, 0.1",
        ),
    ],
)
def test_a_temporary_limit_needs_an_end_an_approver_and_a_higher_number(
    limit: RiskLimit, why: str
) -> None:
    with pytest.raises(InvalidRule, match=f"of var_95: .*{why}"):
        PortfolioRisk("p", CONFIG, SOURCE).set_limits(replace(LOUD, limits=[limit]), 0)


def test_limits_put_again_do_not_count_as_measures() -> None:
    limit = RiskLimit(metric="var_95", limit=0.01, raise_after=3)
    desk = Desk(replace(CONFIG, default_rules=()))
    desk.limits(limit, offset=0)
    desk.returns(noise(100, 0.02))
    for offset in range(1, 9):
        desk.limits(limit, offset=offset)
    desk.returns(noise(1, 0.02, seed=2))
    assert desk.steps == []
    desk.returns(noise(1, 0.02, seed=3))
    assert desk.steps == [("var_95", "raised")]


def test_an_alert_after_a_correction_names_the_measure_that_it_replaces() -> None:
    risk = PortfolioRisk("p", replace(CONFIG, lateness_us=DAY_US), SOURCE)
    log = Log(risk).fill()
    before = risk.measure_event()
    for at_us in range(20):
        log.add(at_us, 0, version=2, value=-0.2)
    measure = risk.measure_event()
    assert before is not None
    assert measure is not None
    assert (before.supersedes, before.corrections, before.status) == (None, 0, "degenerate")
    assert before.status_reason == "all 120 returns in the window are equal"
    assert measure.corrections == 20
    assert (measure.window_first_us, measure.window_last_us) == (0, 119)
    assert measure.supersedes is not None
    assert measure.supersedes.startswith("measure:p:1970-01-01T00:00:00.000018")
    [alert] = log.alerts
    assert (alert.measure_id, alert.corrections, alert.observations) == (
        *("measure:p:1970-01-01T00:00:00.000006Z/2", 7, 120),
    )
    assert alert.supersedes == "measure:p:1970-01-01T00:00:00.000005Z/2"
    log.add(200, 0)
    after = risk.measure_event()
    assert after is not None
    assert (after.supersedes, after.event_id) == (None, "measure:p:1970-01-01T00:00:00.000200Z/1")


def test_a_measure_of_too_few_returns_says_how_many_are_needed() -> None:
    log = Log().fill(3)
    measure = log.risk.measure_event()
    assert measure is not None
    assert measure.status_reason == "there are 3 returns, and 100 are needed"


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


def test_an_alert_about_missing_measures_that_is_asked_for_again_has_an_id_of_its_own() -> None:
    log = Log().fill()
    alerts: list[RiskAlert] = []
    for offset, hour in enumerate((0, 3)):
        without = replace(STALE_AFTER, stale_after_s=None)
        alerts += log.risk.set_limits(STALE_AFTER, 2 * offset, log_us=hour * HOUR_US)
        alerts += log.risk.tick((hour + 2) * HOUR_US)
        alerts += log.risk.set_limits(without, 2 * offset + 1, log_us=(hour + 2) * HOUR_US)
    assert [alert.state for alert in alerts] == ["stale", "stale_cleared"] * 2
    assert len({alert.transition_id for alert in alerts}) == 4


def test_so_has_one_of_a_portfolio_with_too_few_returns_for_a_measure() -> None:
    log = Log().fill(3)
    without = replace(STALE_AFTER, stale_after_s=None)
    for hour in (1, 4):
        log.alerts += log.risk.set_limits(STALE_AFTER, 2 * hour, log_us=hour * HOUR_US)
        log.alerts += log.risk.tick((hour + 2) * HOUR_US)
        log.alerts += log.risk.set_limits(without, 2 * hour + 1, log_us=(hour + 2) * HOUR_US)
    assert log.states == ["stale", "stale_cleared"] * 2
    assert len({alert.transition_id for alert in log.alerts}) == 4


def test_the_id_of_an_alert_about_missing_measures_is_of_the_last_measure() -> None:
    log = Log()
    log.risk.set_limits(STALE_AFTER, 0, log_us=HOUR_US)
    log.fill(log_us=HOUR_US)  # of equal times, limits are first
    [stale] = log.risk.tick(9 * HOUR_US)
    name = f"risk-alert:stale:p:{stale.measure_id}"
    assert stale.alert_id == str(uuid5(NAMESPACE_URL, name))


@pytest.mark.parametrize("restarts", ["never", "always"])
def test_a_new_lap_does_not_end_an_alert_about_missing_measures(restarts: str) -> None:
    log = Log().fill()
    log.risk.set_limits(STALE_AFTER, 0, log_us=0)
    log.alerts += log.risk.tick(2 * HOUR_US)
    for at_us in range(100):
        first = Return("p", at_us, 0.001), ReturnOffset(1_000 + at_us, 0)
        log.alerts += log.risk.apply(*first, lap=1, log_us=9 * HOUR_US)[1]
        log.alerts += log.risk.tick(9 * HOUR_US)
        assert log.states == (["stale"] if at_us < 99 else ["stale", "stale_cleared"])
        if restarts == "always":
            log.risk = PortfolioRisk.unpack(log.risk.pack(), CONFIG, SOURCE.topic)
