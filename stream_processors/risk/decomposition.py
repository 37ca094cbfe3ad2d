"""Which position did it: a portfolio's VaR and ES in parts that add up.

Weights have the shape (assets,), as fractions of net asset value; returns (observations, assets),
the oldest first. Tasche, "Capital Allocation to Business Units and Sub-Portfolios: the Euler
Principle", 2008.
"""

from dataclasses import dataclass

import numpy as np

from stream_processors.risk.confidence import InvalidInput, Level
from stream_processors.risk.methods import Floats, historical
from stream_processors.risk.moments import Normal


@dataclass(frozen=True, slots=True)
class NormalParts:
    """Of a normal VaR; each has the shape (assets,)."""

    var: float
    marginal: Floats
    """What a little more of a position adds, for each unit of it."""
    component: Floats
    """Weight times marginal: these add up to the VaR."""
    incremental: Floats
    """The VaR less what it would be without the position."""


def normal_parts(weights: Floats, mean: Floats, covariance: Floats, level: Level) -> NormalParts:
    """Of a portfolio of assets with normal returns.

    Args:
        weights: shape (assets,).
        mean: of the assets' returns, shape (assets,).
        covariance: shape (assets, assets).
        level: the confidence.

    Raises:
        InvalidInput: the shapes differ.
    """
    assets = len(weights)
    if mean.shape != (assets,) or covariance.shape != (assets, assets):
        raise InvalidInput(
            f"{assets} weights do not fit means of shape {mean.shape} and a covariance of shape "
            f"{covariance.shape}"
        )

    def var_of(held: Floats) -> float:
        deviation = float(np.sqrt(max(0.0, float(held @ covariance @ held))))
        return method.of(float(mean @ held), deviation).var

    method = Normal(level)
    deviation = float(np.sqrt(max(0.0, float(weights @ covariance @ weights))))
    if deviation == 0:
        nothing = np.zeros(assets)
        return NormalParts(var_of(weights), nothing, nothing, nothing)
    at = method.of(0.0, 1.0).var
    marginal: Floats = -mean + at * (covariance @ weights) / deviation
    var = var_of(weights)
    without = [var_of(np.where(np.arange(assets) == one, 0.0, weights)) for one in range(assets)]
    return NormalParts(var, marginal, weights * marginal, var - np.array(without))


@dataclass(frozen=True, slots=True)
class HistoricalParts:
    """Of a historical VaR and ES; each has the shape (assets,), and adds up to the whole."""

    var: Floats
    """What each position lost in the scenario that the VaR is; the mean over equal ones."""
    es: Floats
    """What each position loses on average over the tail."""


def historical_parts(weights: Floats, returns: Floats, level: Level) -> HistoricalParts:
    """Of a portfolio with constant weights.

    Raises:
        InvalidInput: the shapes differ.
    """
    if returns.ndim != 2 or returns.shape[1] != len(weights):  # noqa: PLR2004  # a table
        raise InvalidInput(f"{len(weights)} weights do not fit returns of shape {returns.shape}")
    losses: Floats = -returns * weights
    whole: Floats = -(returns @ weights)
    var = historical(-whole, level).var
    at_var: Floats = losses[whole == var].mean(axis=0)
    beyond: Floats = losses[whole > var].sum(axis=0)
    # The last scenario counts with what the tail's share leaves for it.
    share = len(whole) * level.tail
    left = share - int((whole > var).sum())
    return HistoricalParts(at_var, (beyond + left * at_var) / share)
