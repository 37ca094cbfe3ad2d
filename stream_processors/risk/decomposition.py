"""Decompose a portfolio's VaR and ES into its positions' parts, which add up. Pure.

Weights have the shape (assets,), as fractions of net asset value; returns (observations, assets),
the oldest first. Tasche, "Capital Allocation to Business Units and Sub-Portfolios: the Euler
Principle", 2008.
"""

from dataclasses import dataclass
from math import sqrt

import numpy as np

from stream_processors.risk.confidence import ConfidenceLevel, InvalidInput
from stream_processors.risk.methods import Floats, historical
from stream_processors.risk.moments import Normal


@dataclass(frozen=True, slots=True)
class NormalParts:
    """The parts of a normal VaR; each array has the shape (assets,)."""

    var: float
    marginal: Floats
    """The derivative of the VaR with respect to each weight."""
    component: Floats
    """Weight times marginal; the components add up to the VaR."""
    incremental: Floats
    """The VaR minus the VaR without the position."""


def normal_parts(
    weights: Floats, mean: Floats, covariance: Floats, level: ConfidenceLevel
) -> NormalParts:
    """Decompose the VaR of a portfolio of assets with normal returns.

    With portfolio deviation s = sqrt(w' C w): marginal = -mean + z C w / s; all 0 where s is 0, or
    the square of s no larger than the rounding errors in its sum.

    Args:
        weights: shape (assets,).
        mean: the assets' mean returns, shape (assets,).
        covariance: shape (assets, assets).
        level: the confidence.

    Raises:
        InvalidInput: the shapes differ, or a number is not finite.
    """
    _require_finite(weights, mean, covariance)
    assets = len(weights)
    if mean.shape != (assets,) or covariance.shape != (assets, assets):
        raise InvalidInput(
            f"{assets} weights do not fit means of shape {mean.shape} and a covariance of shape "
            f"{covariance.shape}"
        )

    def deviation_of(held: Floats) -> float:
        variance, gross = float(held @ covariance @ held), np.abs(held)
        rounding = 2 * assets * np.finfo(float).eps * float(gross @ np.abs(covariance) @ gross)
        return sqrt(variance) if variance > rounding else 0.0

    def var_of(held: Floats) -> float:
        return method.estimate(float(mean @ held), deviation_of(held)).var

    method = Normal(level)
    var, deviation = var_of(weights), deviation_of(weights)
    if deviation == 0:
        zeros = np.zeros(assets)
        return NormalParts(var, zeros, zeros, zeros)
    z = method.estimate(0.0, 1.0).var
    marginal: Floats = -mean + z * (covariance @ weights) / deviation
    without = [
        var_of(np.where(np.arange(assets) == asset, 0.0, weights)) for asset in range(assets)
    ]
    # Adding 0.0 turns -0.0, which a weight of 0 can give, into 0.0.
    return NormalParts(var, marginal + 0.0, weights * marginal + 0.0, var - np.array(without) + 0.0)


@dataclass(frozen=True, slots=True)
class HistoricalParts:
    """The parts of a historical VaR and ES; each has the shape (assets,), and adds up to it."""

    var: Floats
    """Each position's loss in the VaR scenario; the mean over equal scenarios."""
    es: Floats
    """Each position's mean loss over the tail."""


def historical_parts(weights: Floats, returns: Floats, level: ConfidenceLevel) -> HistoricalParts:
    """Decompose the VaR and ES of a portfolio with constant weights.

    Args:
        weights: shape (assets,).
        returns: shape (observations, assets).
        level: the confidence.

    Raises:
        InvalidInput: the shapes differ, there are no returns, or a number is not finite.
    """
    _require_finite(weights, returns)
    if returns.ndim != 2 or returns.shape[1] != len(weights):  # noqa: PLR2004  # a table
        raise InvalidInput(f"{len(weights)} weights do not fit returns of shape {returns.shape}")
    losses: Floats = 0.0 - returns * weights
    whole: Floats = 0.0 - returns @ weights
    var = historical(-whole, level).var
    at_var: Floats = losses[whole == var].mean(axis=0)
    beyond: Floats = losses[whole > var].sum(axis=0)
    # The VaR scenario counts with the fraction that the worse scenarios leave of the tail.
    tail_size = len(whole) * level.tail
    fraction = tail_size - int((whole > var).sum())
    return HistoricalParts(at_var, (beyond + fraction * at_var) / tail_size)


def _require_finite(*arrays: Floats) -> None:
    if not all(np.isfinite(array).all() for array in arrays):
        raise InvalidInput("weights, means, covariances and returns must be finite")
