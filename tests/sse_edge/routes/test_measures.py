"""The history of a portfolio, as its state has it after the processor has packed it."""

from collections.abc import Mapping
from dataclasses import replace
from math import inf
from typing import Any

import numpy as np
import pytest

from schemas.codec import decode, encode
from schemas.events import PortfolioState, Return, RiskHistory
from schemas.instants import to_date
from schemas.topics import TopicPartition
from sse_edge.routes.measures import history_of
from stream_processors.risk.config import RiskConfig
from stream_processors.risk.portfolio import PortfolioRisk, ReturnOffset
from stream_processors.risk.thresholds import Rule

DAY_US = 86_400_000_000
CONFIG = RiskConfig(
    window=250,
    observations_min=100,
    lateness_us=30 * DAY_US,
    default_rules=(Rule("var_95", 0.05),),
    ahead_us=inf,
)


def packed(risk: PortfolioRisk) -> PortfolioState:
    state = decode(encode(risk.pack()))
    assert isinstance(state, PortfolioState)
    return state


def written(risk: PortfolioRisk) -> RiskHistory:
    event = risk.history_event()
    assert event is not None
    history = decode(encode(event))
    assert isinstance(history, RiskHistory)
    return history


def risk_of(values: list[float], *, restart_at: int | None = None) -> PortfolioRisk:
    """Measure returns, one a day; restart before one of them."""
    risk = PortfolioRisk("p", CONFIG, TopicPartition("portfolio.returns", 0))
    for number, value in enumerate(values):
        if number == restart_at:
            risk = PortfolioRisk.unpack(packed(risk), CONFIG, "portfolio.returns")
        risk.apply(Return("p", number * DAY_US, value), ReturnOffset(number, 0))
    return risk


@pytest.mark.parametrize("restart_at", [None, 350])
def test_each_day_of_a_year_has_the_forecast_that_was_published_before_it(
    restart_at: int | None,
) -> None:
    values = np.random.default_rng(7).normal(0, 0.01, 400).tolist()
    found = history_of(written(risk_of(values, restart_at=restart_at)))
    assert found["portfolio_id"] == "p"
    assert found["days"] == [to_date(number * DAY_US) for number in range(150, 400)]
    assert found["returns"] == values[150:]
    expected = [
        float(np.quantile(-np.array(values[max(0, day - 250) : day]), 0.95, method="inverted_cdf"))
        for day in range(150, 400)
    ]
    assert found["var_95"] == pytest.approx(expected, rel=1e-12)
    exceeded = [-values[day] > expected[day - 150] for day in range(150, 400)]
    assert found["exceptions"] == [
        to_date((150 + place) * DAY_US) for place, is_one in enumerate(exceeded) if is_one
    ]


def test_days_before_the_first_forecast_have_none() -> None:
    found = history_of(written(risk_of([0.01, -0.02, 0.005])))
    assert found["var_95"] == [None, None, None]
    assert found["exceptions"] == []


def test_a_late_return_is_judged_by_the_forecast_before_its_day_and_moves_no_other() -> None:
    values = np.random.default_rng(8).normal(0, 0.01, 300).tolist()
    risk = PortfolioRisk("p", CONFIG, TopicPartition("portfolio.returns", 0))
    days = [number for number in range(300) if number != 290]
    for offset, number in enumerate([*days, 290]):
        risk.apply(Return("p", number * DAY_US, values[number]), ReturnOffset(offset, 0))
    history = history_of(written(PortfolioRisk.unpack(packed(risk), CONFIG, "portfolio.returns")))
    assert history["days"] == [to_date(number * DAY_US) for number in range(50, 300)]
    var = history["var_95"]
    assert isinstance(var, list)
    assert [place for place, value in enumerate(var) if value is None] == [*range(50)]
    # The day after it was forecast without it, and so from the same days.
    assert var[240] == var[241]


def test_a_portfolio_without_returns_has_no_history() -> None:
    risk = PortfolioRisk("p", CONFIG, TopicPartition("portfolio.returns", 0))
    assert risk.history_event() is None


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"window": b"odd"}, "are not those of 3 days"),
        ({"observations": 4}, "are not those of 4 days"),
        ({"var_95": bytes(8)}, "8 of forecasts are not those of 3 days"),
        ({"window": (2**62).to_bytes(8, "little") * 6}, "a day is in no calendar"),
    ],
)
def test_columns_that_do_not_fit_each_other_are_no_history(
    changes: Mapping[str, Any], reason: str
) -> None:
    whole = written(risk_of([0.01, -0.02, 0.005]))
    with pytest.raises(ValueError, match=reason):
        history_of(replace(whole, **changes))
