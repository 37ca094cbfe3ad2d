"""A replay finds the alerts that the running system raised, and forecasts by any method."""

import numpy as np
import pytest

from producers.market.prices import load_prices, trading_days
from schemas.events import Return
from schemas.topics import TopicPartition
from stream_processors.risk.confidence import ConfidenceLevel, InvalidInput
from stream_processors.risk.config import RiskConfig
from stream_processors.risk.estimates import METHODS
from stream_processors.risk.portfolio import PortfolioRisk, ReturnOffset
from stream_processors.risk.replay import ReplayQuery, replay
from stream_processors.risk.thresholds import Rule

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
