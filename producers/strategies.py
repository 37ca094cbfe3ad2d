"""Strategies over daily closes, what they would have traded, and how they would have done.

Pure. A position is decided at a day's close and held over the next day; each change of position
costs a fraction of what is traded. All of the capital is in the market, or none of it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from producers.errors import InvalidStrategy

TRADING_DAYS_A_YEAR = 252

Floats = NDArray[np.float64]

DEFAULTS: Mapping[str, Mapping[str, float]] = {
    "moving_average_crossover": {"fast": 20, "slow": 100},
    "rsi": {"period": 14, "lower": 30, "upper": 70},
    "buy_and_hold": {},
}
"""The parameters that each strategy has; periods are trading days."""


@dataclass(frozen=True, slots=True)
class Simulation:
    """What a strategy did, bar by bar; all arrays have the shape (bars,)."""

    held: Floats
    """Whether the capital was in the market over the bar, 0 or 1."""
    returns: Floats
    """After costs, as a fraction."""
    capital: Floats
    """At each close, of 1 at the start."""


def simulate(
    closes: Floats, strategy: str, parameters: Mapping[str, float], cost: float
) -> Simulation:
    """Run a strategy over closes, shape (bars,).

    Args:
        closes: positive prices.
        strategy: one of `DEFAULTS`.
        parameters: what differs from its defaults.
        cost: of what is traded, as a fraction.

    Raises:
        InvalidStrategy: there is no such strategy, or a parameter has no meaning.
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


def moving_average(closes: Floats, days: int) -> Floats:
    """The mean of the last `days` closes; not a number before there are so many."""
    averages = np.full(len(closes), np.nan)
    if len(closes) >= days:
        averages[days - 1 :] = np.convolve(closes, np.full(days, 1 / days), "valid")
    return averages


def relative_strength(closes: Floats, period: int) -> Floats:
    """Wilder's relative strength index, 0 to 100; not a number before there are so many changes.

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


def statistics(simulation: Simulation) -> dict[str, float | None]:
    """How it did; ratios with a riskless rate of zero, annualised by 252 trading days.

    Volatility has ddof 1; Sortino's deviation is the root of the mean squared loss over all bars.
    A figure that cannot be said is None. `win_rate` is the share of closed round trips that gained.
    """
    returns, capital = simulation.returns, simulation.capital
    total = float(capital[-1] - 1)
    deviation = float(returns.std(ddof=1)) if len(returns) > 1 else 0.0
    downside = float(np.sqrt(np.mean(np.minimum(returns, 0) ** 2)))
    mean, year = float(returns.mean()), TRADING_DAYS_A_YEAR
    peaks = np.maximum.accumulate(np.maximum(capital, 1.0))
    trips = round_trips(simulation)
    return {
        "total_return": total,
        "annual_return": _annualised(total, len(returns)),
        "volatility": deviation * year**0.5,
        "sharpe_ratio": mean / deviation * year**0.5 if deviation > 0 else None,
        "sortino_ratio": mean / downside * year**0.5 if downside > 0 else None,
        "max_drawdown": float((1 - capital / peaks).max()),
        "win_rate": sum(one > 0 for one in trips) / len(trips) if trips else None,
        "trades": float(np.abs(np.diff(simulation.held, prepend=0.0)).sum()),
    }


def _annualised(total: float, bars: int) -> float | None:
    """A return as that of a year; None where a few good days make it more than can be said."""
    try:
        return float((1 + total) ** (TRADING_DAYS_A_YEAR / bars) - 1)
    except OverflowError:
        return None


def round_trips(simulation: Simulation) -> Sequence[float]:
    """The return of each stay in the market that has ended, with its costs."""
    changes = np.diff(simulation.held, prepend=0.0)
    ins, outs = np.flatnonzero(changes > 0), np.flatnonzero(changes < 0)
    before = np.concatenate(([1.0], simulation.capital))
    return [
        float(before[end + 1] / before[begin] - 1)
        for begin, end in zip(ins[: len(outs)], outs, strict=True)
    ]


def _crossover(closes: Floats, parameters: Mapping[str, float]) -> Floats:
    fast, slow = _days(parameters, "fast"), _days(parameters, "slow")
    if fast >= slow:
        raise InvalidStrategy(f"fast is {fast} and slow {slow}; fast < slow must hold")
    return (moving_average(closes, fast) > moving_average(closes, slow)).astype(np.float64)


def _rsi(closes: Floats, parameters: Mapping[str, float]) -> Floats:
    lower, upper = parameters["lower"], parameters["upper"]
    if not 0 <= lower < upper <= 100:  # noqa: PLR2004  # the index's own bounds
        raise InvalidStrategy(
            f"lower is {lower:g} and upper {upper:g}; 0 <= lower < upper <= 100 must hold"
        )
    decided = np.zeros(len(closes))
    holds = 0.0
    for at, index in enumerate(relative_strength(closes, _days(parameters, "period"))):
        if index < lower:
            holds = 1.0
        elif index > upper:
            holds = 0.0
        decided[at] = holds
    return decided


def _hold(closes: Floats, _: Mapping[str, float]) -> Floats:
    return np.ones(len(closes))


_DECIDED = {"moving_average_crossover": _crossover, "rsi": _rsi, "buy_and_hold": _hold}


def _days(parameters: Mapping[str, float], name: str) -> int:
    days = parameters[name]
    if not (days >= 1 and float(days).is_integer()):
        raise InvalidStrategy(f"{name} is {days:g}; it must be a whole number of days, 1 or more")
    return int(days)
