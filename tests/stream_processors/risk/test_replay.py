"""What would have alerted is what did alert; and other methods are what they say they are."""

import numpy as np
import pytest

from producers.market.prices import load_prices, trading_days
from schemas.events import Return
from stream_processors.messages import TopicPartition
from stream_processors.risk.confidence import InvalidInput, Level
from stream_processors.risk.config import RiskConfig
from stream_processors.risk.estimates import METHODS
from stream_processors.risk.portfolio import PortfolioRisk, ReturnOffset
from stream_processors.risk.replay import ReplayQuery, replay
from stream_processors.risk.thresholds import Rule

DAYS = trading_days(load_prices())
ALL = [one for day in DAYS for one in day.at_close()]


def wanted(portfolio: str, method: str = "historical", level: str = "0.95") -> ReplayQuery:
    return ReplayQuery(
        portfolio_id=portfolio,
        method=method,
        level=Level.of(level),
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
        for offset, one in enumerate(one for one in ALL if one.portfolio_id == portfolio)
        for alert in risk.apply(one, ReturnOffset(offset, 0))[1]
        if alert.rule_id == "var_95"
    ]
    found = replay(ALL, wanted(portfolio))
    assert [(step.at_us, step.transition.transition_id) for step in found.steps] == [
        (one.event_time_us, one.transition_id) for one in raised
    ]
    assert found.test is not None
    measure = risk.measure_event()
    assert measure is not None


@pytest.mark.parametrize("method", METHODS[:-1])
def test_every_method_forecasts_each_day_from_the_days_before(method: str) -> None:
    found = replay(ALL, wanted("IBM", method, "0.99"))
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


def test_only_the_days_that_are_asked_for_are_told_of() -> None:
    since, until = ALL[5_000].event_time_us, ALL[9_000].event_time_us
    question = wanted("MSFT")
    asked = ReplayQuery(
        portfolio_id="MSFT",
        method=question.method,
        level=question.level,
        limit=question.limit,
        since_us=since,
        until_us=until,
    )
    some, everything = replay(ALL, asked), replay(ALL, question)
    assert list(some.days) == [day for day in everything.days if since <= day.at_us < until]
    assert list(some.steps) == [one for one in everything.steps if since <= one.at_us < until]


def test_what_has_no_meaning_is_refused() -> None:
    with pytest.raises(InvalidInput, match="'magic' is no method; there are historical"):
        wanted("IBM", "magic")
    with pytest.raises(InvalidInput, match=r"between 0\.5 and 1"):
        wanted("IBM", level="95")
    question = wanted("IBM")
    with pytest.raises(InvalidInput, match="before the last"):
        ReplayQuery("IBM", "historical", question.level, 0.05, since_us=2, until_us=1)


def test_a_portfolio_that_is_not_there_has_no_days() -> None:
    assert replay([Return("p", 1, 0.1)], wanted("q")).days == []
