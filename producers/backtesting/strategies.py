"""Trading strategies on bars: their positions, returns and statistics.

This module is pure. A position is decided at a bar's close and taken at the next bar's open, the
first price at which it can be traded; each change of position costs a fraction of the traded
amount. The whole capital is in the market, or none of it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from producers.backtesting.catalogue import resolve_parameters
from schemas.events import Strategy

TRADING_DAYS_A_YEAR = 252

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Simulation:
    """The result of a strategy; all arrays have the shape (bars,)."""

    held: Floats
    """Whether the capital was in the market from the bar's open on, 0 or 1."""
    returns: Floats
    """The return after costs from the close before to this close, as a fraction."""
    capital: Floats
    """The equity at each close; 1 at the start."""
    at_open: Floats
    """The equity at each open, before a trade at it."""

    def until(self, count: int) -> "Simulation":
        """Return the first bars."""
        columns = self.held, self.returns, self.capital, self.at_open
        return Simulation(*(column[:count] for column in columns))


def simulate(
    opens: Floats, closes: Floats, strategy: str, parameters: Mapping[str, float], cost: float
) -> Simulation:
    """Run a strategy over opens and closes, shape (bars,).

    Args:
        opens: positive prices, at which positions change.
        closes: positive prices, from which positions are decided.
        strategy: one of `DEFAULTS`.
        parameters: parameters other than the defaults.
        cost: the cost of a trade, as a fraction of the traded amount.

    Raises:
        InvalidStrategy: there is no such strategy, or a parameter is invalid.
    """
    resolved = resolve_parameters(strategy, parameters)
    decided = _DECIDED[Strategy(strategy)](closes, resolved)
    held = np.zeros(len(closes))
    held[1:] = decided[:-1]
    held_before = np.concatenate(([0.0], held[:-1]))
    closes_before = np.concatenate((opens[:1], closes[:-1]))
    overnight = 1 + held_before * (opens / closes_before - 1)
    trade = 1 - np.abs(held - held_before) * cost
    growth = overnight * trade * (1 + held * (closes / opens - 1))
    capital: Floats = np.cumprod(growth, dtype=np.float64)
    at_open = np.concatenate(([1.0], capital[:-1])) * overnight
    return Simulation(held, growth - 1, capital, at_open)


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
    scale = math.sqrt(bars_a_year)
    capital = np.concatenate(([1.0], np.cumprod(1 + returns)))
    with np.errstate(all="ignore"):  # undefined figures become None
        deviation = np.std(returns, ddof=1) if len(returns) > 1 else math.nan
        shortfall = np.sqrt(np.mean(np.minimum(returns, 0) ** 2))
        figures = {
            "total_return": capital[-1] - 1,
            "annual_return": _annual_return(float(capital[-1]), bars_a_year / len(returns)),
            "volatility": deviation * scale,
            "sharpe_ratio": np.mean(returns) / deviation * scale,
            "sortino_ratio": np.mean(returns) / shortfall * scale,
            "max_drawdown": np.max(1 - capital / np.maximum.accumulate(capital)),
            "win_rate": sum(gain > 0 for gain in trips) / len(trips) if trips else math.nan,
            "trades": np.abs(np.diff(simulation.held, prepend=0.0)).sum(),
        }
    return {name: float(value) if np.isfinite(value) else None for name, value in figures.items()}


def _annual_return(growth: float, spans_a_year: float) -> float:
    """Return an annualised return; NaN if it exceeds the range of a float."""
    try:
        return float(growth**spans_a_year - 1)
    except OverflowError:
        return math.nan


def round_trips(simulation: Simulation) -> Sequence[float]:
    """Return the return of each closed round trip, after the costs of both trades."""
    changes = np.diff(simulation.held, prepend=0.0)
    ins, outs = np.flatnonzero(changes > 0), np.flatnonzero(changes < 0)
    before = simulation.at_open
    # A trip ends at an open, and the return of that bar has nothing but the way to it and its cost.
    return [
        float(simulation.capital[end] / before[begin] - 1)
        for begin, end in zip(ins[: len(outs)], outs, strict=True)
    ]


def _crossover(closes: Floats, parameters: Mapping[str, float]) -> Floats:
    fast, slow = int(parameters["fast"]), int(parameters["slow"])
    return (moving_average(closes, fast) > moving_average(closes, slow)).astype(np.float64)


def _rsi(closes: Floats, parameters: Mapping[str, float]) -> Floats:
    lower, upper = parameters["lower"], parameters["upper"]
    decided = np.zeros(len(closes))
    holds = 0.0
    for at, index in enumerate(relative_strength(closes, int(parameters["period"]))):
        if index < lower:
            holds = 1.0
        elif index > upper:
            holds = 0.0
        decided[at] = holds
    return decided


def _hold(closes: Floats, _: Mapping[str, float]) -> Floats:
    return np.ones(len(closes))


_DECIDED = {
    Strategy.MOVING_AVERAGE_CROSSOVER: _crossover,
    Strategy.RSI: _rsi,
    Strategy.BUY_AND_HOLD: _hold,
}
