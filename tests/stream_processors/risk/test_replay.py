"""A replay finds the alerts that the running system raised, and forecasts by any method."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from producers.market.prices import load_prices, trading_days
from schemas.events import Return
from schemas.topics import TopicPartition
from stream_processors.risk.confidence import ConfidenceLevel, InvalidInput
from stream_processors.risk.config import RiskConfig
from stream_processors.risk.estimates import METHODS
from stream_processors.risk.model_tests import zone
from stream_processors.risk.portfolio import PortfolioRisk, ReturnOffset
from stream_processors.risk.replay import ReplayQuery, replay
from stream_processors.risk.thresholds import Rule

DAY_US = 86_400_000_000
DAYS = trading_days(load_prices())
ALL = [observation for day in DAYS for observation in day.at_close()]


def query(portfolio: str, method: str = "historical", level: str = "0.95") -> ReplayQuery:
    return ReplayQuery(
        portfolio_id=portfolio,
        method=method,
        level=ConfidenceLevel.of(level),
        limit=0.05,
        since_us=ALL[0].event_time_us,
        until_us=ALL[-1].event_time_us + 1,
    )


@pytest.mark.parametrize("portfolio", ["AAPL", "MSFT", "growth"])
def test_the_historical_method_replays_what_the_running_system_raised(portfolio: str) -> None:
    config = RiskConfig(
        window=250, observations_min=100, lateness_us=0, default_rules=(Rule("var_95", 0.05),)
    )
    risk = PortfolioRisk(portfolio, config, TopicPartition("portfolio.returns", 0))
    raised = [
        alert
        for offset, observation in enumerate(
            observation for observation in ALL if observation.portfolio_id == portfolio
        )
        for alert in risk.apply(observation, ReturnOffset(offset, 0))[1]
        if alert.rule_id == "var_95"
    ]
    found = replay(ALL, query(portfolio))
    assert [(step.at_us, step.transition.transition_id) for step in found.steps] == [
        (alert.event_time_us, alert.transition_id) for alert in raised
    ]
    assert found.test is not None
    measure = risk.measure_event()
    assert measure is not None


@pytest.mark.parametrize("method", METHODS[:-1])
def test_every_method_forecasts_each_day_from_the_days_before(method: str) -> None:
    found = replay(ALL, query("IBM", method, "0.99"))
    values = np.array([day.value for day in found.days])
    assert all(day.forecast is None for day in found.days[:100])
    assert all(day.forecast is not None for day in found.days[120:])
    assert found.test is not None
    exceeded = [
        -value > day.forecast.var
        for value, day in zip(values, found.days, strict=True)
        if day.forecast is not None
    ]
    assert found.test.exceptions == sum(exceeded)
    # Over thirteen years with two crises no method is off by an order of magnitude.
    assert 0.003 < sum(exceeded) / len(exceeded) < 0.04


def test_only_the_days_and_steps_in_the_time_range_are_returned() -> None:
    since, until = ALL[5_000].event_time_us, ALL[9_000].event_time_us
    whole = query("MSFT")
    asked = ReplayQuery(
        portfolio_id="MSFT",
        method=whole.method,
        level=whole.level,
        limit=whole.limit,
        since_us=since,
        until_us=until,
    )
    part, everything = replay(ALL, asked), replay(ALL, whole)
    assert list(part.days) == [day for day in everything.days if since <= day.at_us < until]
    assert list(part.steps) == [step for step in everything.steps if since <= step.at_us < until]


def test_parameters_out_of_range_are_refused() -> None:
    with pytest.raises(InvalidInput, match="'magic' is no method; there are historical"):
        query("IBM", "magic")
    with pytest.raises(InvalidInput, match=r"between 0\.5 and 1"):
        query("IBM", level="95")
    whole = query("IBM")
    with pytest.raises(InvalidInput, match="before the last"):
        ReplayQuery("IBM", "historical", whole.level, 0.05, since_us=2, until_us=1)


def test_an_unknown_portfolio_has_no_days() -> None:
    assert replay([Return("p", 1, 0.1)], query("q")).days == []


@pytest.mark.parametrize(("level", "metric"), [("0.95", "var_95"), ("0.99", "var_99")])
@given(seed=st.integers(0, 2**32))
@settings(max_examples=15, deadline=None)
def test_late_and_corrected_returns_count_as_they_did(level: str, metric: str, seed: int) -> None:
    dice = np.random.default_rng(seed)
    rule = Rule(metric, 0.02, 0.2, 0.8, 1.5)
    config = RiskConfig(
        window=int(dice.choice([110, 300])),
        observations_min=100,
        lateness_us=9 * DAY_US,
        default_rules=(rule,),
    )
    log, day = [], 0
    for _ in range(500):
        day += int(dice.integers(1, 4))
        at = day
        version = 1
        if dice.random() < 0.2 and day > 40:  # late, corrected, repeated, or all too late
            at, version = day - int(dice.integers(0, 12)), int(dice.integers(1, 4))
        scale = 0.03 if dice.random() < 0.1 else 0.01
        value = float("nan") if dice.random() < 0.01 else float(dice.normal(0, scale))
        log.append(Return("p", at * DAY_US, value, version))
    risk = PortfolioRisk("p", config, TopicPartition("portfolio.returns", 0))
    alerts = [
        alert
        for offset, observation in enumerate(log)
        for alert in risk.apply(observation, ReturnOffset(offset, 0))[1]
        if alert.rule_id == metric
    ]
    asked = ReplayQuery(
        portfolio_id="p",
        method="historical",
        level=ConfidenceLevel.of(level),
        limit=0.02,
        since_us=0,
        until_us=(day + 1) * DAY_US,
        window=config.window,
        lateness_us=config.lateness_us,
        hysteresis=0.2,
        warn_ratio=0.8,
        critical_ratio=1.5,
    )
    found = replay(log, asked)
    assert [(step.at_us, step.transition.transition_id) for step in found.steps] == [
        (alert.event_time_us, alert.transition_id) for alert in alerts
    ]
    measure = risk.measure_event()
    assert measure is not None
    [live] = [test for test in measure.model_backtests if test.confidence == float(level)]
    judged = [day.exceeded for day in found.days if day.forecast is not None][-250:]
    assert (len(judged), sum(judged)) == (live.observations, live.exceptions)
    assert found.test is not None
    assert found.test.zone == live.zone


@pytest.mark.parametrize("late", [50, 55])
def test_a_late_return_before_all_days_is_no_evaluation(late: int) -> None:
    returns = [Return("p", 10 * day, -0.001 * (day % 7)) for day in range(400)]
    asked = replace(query("p"), since_us=0, until_us=5_000, limit=0.0055, lateness_us=5_000)
    raised = replay(returns, asked)
    found = replay([*returns, Return("p", late, -0.5)], asked)
    assert len(raised.steps) > 0
    assert found.steps == raised.steps
    assert found.days == raised.days


@pytest.mark.parametrize("method", METHODS)
def test_a_portfolio_of_zeros_is_replayed(method: str) -> None:
    zeros = [Return("p", day * DAY_US, 0.0) for day in range(130)]
    asked = replace(query("p", method), since_us=0, until_us=130 * DAY_US)
    found = replay(zeros, asked)
    assert len(found.days) == 130
    assert not found.steps
    assert not any(day.exceeded for day in found.days)


def test_thousands_of_exceptions_are_tested() -> None:
    # Each day is a little worse than all before it.
    returns = [Return("p", day * DAY_US, -0.0001 * day) for day in range(5_000)]
    asked = replace(query("p"), since_us=0, until_us=5_000 * DAY_US)
    found = replay(returns, asked)
    assert found.test is not None
    assert (found.test.observations, found.test.exceptions) == (4_900, 4_900)
    assert found.test.zone == "red"


def test_the_zone_is_of_the_last_days() -> None:
    dice = np.random.default_rng(3)
    wild_first = [*dice.normal(0, 0.01, 150), *dice.normal(0, 0.08, 40), *dice.normal(0, 0.01, 700)]
    returns = [Return("p", day * DAY_US, float(value)) for day, value in enumerate(wild_first)]
    found = replay(returns, replace(query("p"), since_us=0, until_us=len(returns) * DAY_US))
    last = [day.exceeded for day in found.days][-250:]
    assert found.test is not None
    assert found.test.zone == zone(250, sum(last), ConfidenceLevel.of("0.95"))
    assert found.test.observations > 250


def test_the_ids_of_a_later_lap_name_it() -> None:
    returns = [Return("p", day * DAY_US, 0.2 * (-1) ** day) for day in range(130)]
    asked = replace(query("p"), since_us=0, until_us=130 * DAY_US)
    first, second = (replay(returns, replace(asked, lap=lap)) for lap in (0, 1))
    assert first.steps[0].transition.alert_id != second.steps[0].transition.alert_id


@pytest.mark.parametrize(
    ("method", "changed"),
    [
        ("normal", {"mean": "zero"}),
        ("ewma", {"ewma_start": 0.2}),
        ("ewma", {"ewma_decay": 0.97}),
        ("fhs", {"ewma_decay": 0.97}),
    ],
)
def test_a_method_is_replayed_under_its_settings(method: str, changed: dict[str, Any]) -> None:
    asked = query("IBM", method)
    some = [observation for observation in ALL if observation.portfolio_id == "IBM"][:130]
    plain = replay(some, asked).days[-1].forecast
    other = replay(some, replace(asked, **changed)).days[-1].forecast
    assert plain is not None
    assert other is not None
    assert plain.var != other.var
