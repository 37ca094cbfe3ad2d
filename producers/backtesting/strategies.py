"""Trading strategies on closes: their positions, returns and statistics.

This module is pure. A position is decided at a bar's close and held over the next bar; each change
of position costs a fraction of the traded amount. The whole capital is in the market, or none of
it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import empyrical
import numpy as np
from numpy.typing import NDArray

from producers.errors import InvalidStrategy
from schemas.events import Strategy

TRADING_DAYS_A_YEAR = 252

Floats = NDArray[np.float64]

DEFAULTS: Mapping[str, Mapping[str, float]] = {
    Strategy.MOVING_AVERAGE_CROSSOVER: {"fast": 20, "slow": 100},
    Strategy.RSI: {"period": 14, "lower": 30, "upper": 70},
    Strategy.BUY_AND_HOLD: {},
}
"""The default parameters of each strategy; periods are in bars."""


@dataclass(frozen=True, slots=True)
class Simulation:
    """The result of a strategy; all arrays have the shape (bars,)."""

    held: Floats
    """Whether the capital was in the market during the bar, 0 or 1."""
    returns: Floats
    """The return after costs, as a fraction."""
    capital: Floats
    """The equity at each close; 1 at the start."""


def simulate(
    closes: Floats, strategy: str, parameters: Mapping[str, float], cost: float
) -> Simulation:
    """Run a strategy over closes, shape (bars,).

    Args:
        closes: positive prices.
        strategy: one of `DEFAULTS`.
        parameters: parameters other than the defaults.
        cost: the cost of a trade, as a fraction of the traded amount.

    Raises:
        InvalidStrategy: there is no such strategy, or a parameter is invalid.
    """
    known = DEFAULTS.get(strategy)
    if known is None:
        raise InvalidStrategy(f"{strategy!r} is no strategy; there are {', '.join(DEFAULTS)}")
    for name in sorted(set(parameters) - set(known)):
        has = ", ".join(known) or "none"
        raise InvalidStrategy(f"{strategy} has no parameter {name!r}; it has {has}")
    decided = _DECIDED[strategy](closes, {**known, **parameters})
    held = np.zeros(len(closes))
    held[1:] = decided[:-1]
    change = np.zeros(len(closes))
    change[1:] = closes[1:] / closes[:-1] - 1
    returns = held * change - np.abs(np.diff(held, prepend=0.0)) * cost
    capital: Floats = np.cumprod(1 + returns, dtype=np.float64)
    return Simulation(held, returns, capital)


def moving_average(closes: Floats, bars: int) -> Floats:
    """Return the mean of the last `bars` closes, NaN before there are as many; shape (bars,)."""
    averages = np.full(len(closes), np.nan)
    if len(closes) >= bars:
        averages[bars - 1 :] = np.convolve(closes, np.full(bars, 1 / bars), "valid")
    return averages


def relative_strength(closes: Floats, period: int) -> Floats:
    """Return Wilder's relative strength index, 0 to 100, NaN before there are enough changes.

    J. Welles Wilder, New Concepts in Technical Trading Systems (1978), section VI.
    """
    index = np.full(len(closes), np.nan)
    changes = np.diff(closes)
    if len(changes) < period:
        return index
    gain = float(np.maximum(changes[:period], 0).mean())
    loss = float(np.maximum(-changes[:period], 0).mean())
    for at in range(period, len(closes)):
        if at > period:
            change = float(changes[at - 1])
            gain = (gain * (period - 1) + max(change, 0.0)) / period
            loss = (loss * (period - 1) + max(-change, 0.0)) / period
        index[at] = 100.0 if loss == 0 else 100 - 100 / (1 + gain / loss)
    return index


def statistics(simulation: Simulation, bars_a_year: float) -> dict[str, float | None]:
    """Return the statistics of a simulation; ratios have a riskless rate of zero.

    Volatility has ddof 1; Sortino's deviation is the root of the mean squared loss over all bars.
    An undefined figure is None. `win_rate` is the fraction of closed round trips with a gain.
    """
    returns = simulation.returns
    trips = round_trips(simulation)
    with np.errstate(all="ignore"):  # undefined figures become None
        figures = {
            "total_return": empyrical.cum_returns_final(returns),
            "annual_return": _annual_return(returns, bars_a_year),
            "volatility": empyrical.annual_volatility(returns, annualization=bars_a_year),
            "sharpe_ratio": empyrical.sharpe_ratio(returns, annualization=bars_a_year),
            "sortino_ratio": empyrical.sortino_ratio(returns, annualization=bars_a_year),
            "max_drawdown": -empyrical.max_drawdown(returns),
            "win_rate": sum(gain > 0 for gain in trips) / len(trips) if trips else math.nan,
            "trades": np.abs(np.diff(simulation.held, prepend=0.0)).sum(),
        }
    return {name: float(value) if np.isfinite(value) else None for name, value in figures.items()}


def _annual_return(returns: Floats, bars_a_year: float) -> float:
    """Return an annualised return; NaN if it exceeds the range of a float."""
    try:
        found: Any = empyrical.annual_return(returns, annualization=bars_a_year)
    except OverflowError:
        return math.nan
    return float(found)


def round_trips(simulation: Simulation) -> Sequence[float]:
    """Return the return of each closed round trip, after costs."""
    changes = np.diff(simulation.held, prepend=0.0)
    ins, outs = np.flatnonzero(changes > 0), np.flatnonzero(changes < 0)
    before = np.concatenate(([1.0], simulation.capital))
    return [
        float(before[end + 1] / before[begin] - 1)
        for begin, end in zip(ins[: len(outs)], outs, strict=True)
    ]


def _crossover(closes: Floats, parameters: Mapping[str, float]) -> Floats:
    fast, slow = _bars(parameters, "fast"), _bars(parameters, "slow")
    if fast >= slow:
        raise InvalidStrategy(f"fast is {fast} and slow {slow}; fast must be less than slow")
    return (moving_average(closes, fast) > moving_average(closes, slow)).astype(np.float64)


def _rsi(closes: Floats, parameters: Mapping[str, float]) -> Floats:
    lower, upper = parameters["lower"], parameters["upper"]
    if not 0 <= lower < upper <= 100:  # noqa: PLR2004  # the index's own bounds
        raise InvalidStrategy(
            f"lower is {lower:g} and upper {upper:g}; 0 <= lower < upper <= 100 must hold"
        )
    decided = np.zeros(len(closes))
    holds = 0.0
    for at, index in enumerate(relative_strength(closes, _bars(parameters, "period"))):
        if index < lower:
            holds = 1.0
        elif index > upper:
            holds = 0.0
        decided[at] = holds
    return decided


def _hold(closes: Floats, _: Mapping[str, float]) -> Floats:
    return np.ones(len(closes))


_DECIDED = {"moving_average_crossover": _crossover, "rsi": _rsi, "buy_and_hold": _hold}


def _bars(parameters: Mapping[str, float], name: str) -> int:
    bars = parameters[name]
    if not (bars >= 1 and float(bars).is_integer()):
        raise InvalidStrategy(f"{name} is {bars:g}; it must be a whole number of bars, 1 or more")
    return int(bars)
