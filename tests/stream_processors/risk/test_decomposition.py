"""Decompositions: parts that add up, and marginal parts that are derivatives."""

import numpy as np
import pytest

from producers.market.prices import load_prices, trading_days
from stream_processors.risk.confidence import ConfidenceLevel, InvalidInput
from stream_processors.risk.decomposition import historical_parts, normal_parts
from stream_processors.risk.methods import Floats, historical
from stream_processors.risk.moments import Normal, RunningMoments

LEVELS = [ConfidenceLevel.of(text) for text in ("0.95", "0.975", "0.99")]
P95 = LEVELS[0]


def stocks() -> tuple[Floats, Floats]:
    """Return the weights and returns of three stocks."""
    days = [day.returns for day in trading_days(load_prices())][-250:]
    returns = np.array([[day[name] for name in ("AAPL", "IBM", "MSFT")] for day in days])
    return np.array([0.5, 0.8, -0.3]), returns


def test_the_parts_of_a_normal_var_add_up_and_are_its_derivatives() -> None:
    weights, returns = stocks()
    mean, covariance = returns.mean(axis=0), np.cov(returns.T)
    parts = normal_parts(weights, mean, covariance, P95)
    running = RunningMoments(map(float, returns @ weights)).moments()
    whole = Normal(P95).estimate(running.mean, running.deviation).var
    assert parts.var == pytest.approx(whole, rel=1e-9)
    assert parts.component.sum() == pytest.approx(parts.var, rel=1e-9)
    for asset in range(3):
        step = np.zeros(3)
        step[asset] = 1e-6
        more = normal_parts(weights + step, mean, covariance, P95).var
        less = normal_parts(weights - step, mean, covariance, P95).var
        assert parts.marginal[asset] == pytest.approx((more - less) / 2e-6, rel=1e-5)
        without = np.where(np.arange(3) == asset, 0.0, weights)
        rest = normal_parts(without, mean, covariance, P95).var
        assert parts.incremental[asset] == pytest.approx(parts.var - rest, rel=1e-9)


def test_a_portfolio_without_risk_has_parts_of_zero_and_unfit_shapes_are_refused() -> None:
    parts = normal_parts(np.zeros(2), np.zeros(2), np.eye(2), P95)
    assert parts.component.tolist() == parts.marginal.tolist() == [0.0, 0.0]
    with pytest.raises(InvalidInput, match="do not fit"):
        normal_parts(np.zeros(2), np.zeros(3), np.eye(2), P95)
    with pytest.raises(InvalidInput, match="do not fit"):
        historical_parts(np.zeros(2), np.zeros((5, 3)), P95)


def test_a_hedge_that_is_perfect_but_for_rounding_errors_has_no_risk() -> None:
    weights = np.array([0.1, 0.2, -0.3])
    assert weights.sum() != 0
    parts = normal_parts(weights, np.zeros(3), np.full((3, 3), 0.0004), P95)
    assert parts.var == 0
    assert not np.concatenate([parts.marginal, parts.component, parts.incremental]).any()
    nearly = normal_parts(np.array([1.0, -0.999_999]), np.zeros(2), np.full((2, 2), 0.0004), P95)
    assert nearly.var == pytest.approx(1e-6 * 0.02 * 1.6448536269514722, rel=1e-3)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_refused(bad: float) -> None:
    weights, means, covariance = np.array([1.0, bad]), np.zeros(2), np.eye(2)
    with pytest.raises(InvalidInput, match="must be finite"):
        normal_parts(weights, means, covariance, P95)
    with pytest.raises(InvalidInput, match="must be finite"):
        historical_parts(np.ones(2), np.full((30, 2), bad), P95)
    with pytest.raises(InvalidInput, match="must be one or more"):
        historical_parts(np.ones(2), np.zeros((0, 2)), P95)


def test_the_parts_of_a_historical_var_and_es_add_up() -> None:
    weights, returns = stocks()
    for level in LEVELS:
        whole = historical(returns @ weights, level)
        parts = historical_parts(weights, returns, level)
        assert parts.var.sum() == pytest.approx(whole.var, rel=1e-9)
        assert parts.es.sum() == pytest.approx(whole.es, rel=1e-9)


def test_no_part_is_minus_zero() -> None:
    returns = np.array([[0.0, -0.01], [0.0, 0.02], [0.0, 0.0]] * 40)
    weights = np.array([-1.0, 0.0])
    normal = normal_parts(weights, returns.mean(axis=0), np.cov(returns.T), P95)
    past = historical_parts(weights, returns, P95)
    for part in (normal.marginal, normal.component, normal.incremental, past.var, past.es):
        assert not np.signbit(part[part == 0]).any()
