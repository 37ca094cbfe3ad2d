"""Trading strategies on bars: their orders, equity and statistics.

This module is pure. A position is decided at a bar's close and filled at the next bar's open, the
first price at which it can be traded; or, where that is asked for, at the close that decided it.
The whole equity is in the market, or none of it. Slippage makes each price worse by a fraction, and
a commission is a fraction of the traded value. Quantities need not be whole. A buy leaves room for
its commission, so that cash is never below zero.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from producers.backtesting.catalogue import resolve_parameters
from producers.errors import InvalidStrategy
from schemas.events import Fill, Strategy

TRADING_DAYS_A_YEAR = 252

_RETURNS_MIN = 2
"""The fewest returns that have a sample deviation."""
_EPSILON = float(np.finfo(np.float64).eps)

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Order:
    """One change of position, as it was filled."""

    bar: int
    """The index of the bar in which it was filled."""
    is_buy: bool
    price: float
    """The price that was paid or got, slippage included."""
    quantity: float
    value: float
    """Quantity times price."""
    commission: float
    cash: float
    """The cash after it."""


@dataclass(frozen=True, slots=True)
class Simulation:
    """The result of a strategy; arrays have the shape (bars,)."""

    cash: float
    """The cash before the first bar."""
    held: Floats
    """Whether the equity was in the market at each close, 0 or 1."""
    capital: Floats
    """The equity at each close: cash, and the quantity at the close's price."""
    orders: Sequence[Order]
    """The orders in order of time."""

    @property
    def returns(self) -> Floats:
        """The return from each close to the next, as a fraction; shape (bars - 1,)."""
        return self.capital[1:] / self.capital[:-1] - 1

    def until(self, count: int) -> "Simulation":
        """Return the first bars."""
        orders = [order for order in self.orders if order.bar < count]
        return replace(self, held=self.held[:count], capital=self.capital[:count], orders=orders)


@dataclass(frozen=True, slots=True)
class Terms:
    """How orders are filled, and what they cost."""

    commission: float = 0.0
    """A fraction of the traded value."""
    slippage: float = 0.0
    """The fraction by which a buy's price is higher, and a sale's lower, than the bar's."""
    fill: str = Fill.NEXT_OPEN
    """One of `Fill`."""

    def __post_init__(self) -> None:
        for name, fraction in (("cost", self.commission), ("slippage", self.slippage)):
            if not 0 <= fraction < 1:
                raise InvalidStrategy(f"{name} is {fraction}; it must be 0 or more, below 1", name)
        if self.fill not in tuple(Fill):
            raise InvalidStrategy(f"{self.fill!r} is no fill; there are {', '.join(Fill)}", "fill")


def simulate(
    opens: Floats,
    closes: Floats,
    strategy: str,
    parameters: Mapping[str, float],
    cost: float,
    *,
    slippage: float = 0.0,
    fill: str = Fill.NEXT_OPEN,
    cash: float = 1.0,
) -> Simulation:
    """Run a strategy over opens and closes, shape (bars,).

    Args:
        opens: positive prices, at which orders are filled by default.
        closes: positive prices, from which positions are decided.
        strategy: one of `DEFAULTS`.
        parameters: parameters other than the defaults.
        cost: the commission, as a fraction of the traded value.
        slippage: the fraction by which prices are worse than those of the bars.
        fill: one of `Fill`.
        cash: the cash at the start.

    Raises:
        InvalidStrategy: there is no such strategy, a parameter is invalid, or values exceed the
            range of a float.
    """
    terms = Terms(cost, slippage, fill)
    if not (math.isfinite(cash) and cash > 0):
        raise InvalidStrategy(f"initial_cash is {cash}; it must be a positive number")
    resolved = resolve_parameters(strategy, parameters)
    decided = _DECIDED[Strategy(strategy)](closes, resolved)
    at_close = fill == Fill.CLOSE
    held = decided if at_close else np.concatenate(([0.0], decided[:-1]))
    orders = _fill_orders(held, closes if at_close else opens, terms, cash)
    count = np.searchsorted([order.bar for order in orders], np.arange(len(closes)), side="right")
    cash_after = np.array([cash, *(order.cash for order in orders)])
    quantity_after = np.array([0.0, *(order.quantity * order.is_buy for order in orders)])
    with np.errstate(all="ignore"):
        capital: Floats = cash_after[count] + quantity_after[count] * closes
    if not (np.isfinite(capital).all() and (capital > 0).all()):
        raise InvalidStrategy("the values of this backtest exceed the range of numbers")
    return Simulation(cash, held, capital, orders)


def _fill_orders(held: Floats, prices: Floats, terms: Terms, cash: float) -> Sequence[Order]:
    """Return the orders that change the position as `held` says, at these prices."""
    orders: list[Order] = []
    quantity = 0.0
    for bar in map(int, np.flatnonzero(np.diff(held, prepend=0.0))):
        is_buy = bool(held[bar])
        price = float(prices[bar]) * (1 + terms.slippage if is_buy else 1 - terms.slippage)
        if is_buy:
            quantity = _affordable(cash, price, terms.commission)
        value = quantity * price
        commission = value * terms.commission
        cash = cash - (value + commission) if is_buy else cash + (value - commission)
        orders.append(Order(bar, is_buy, price, quantity, value, commission, cash))
    return orders


def _affordable(cash: float, price: float, commission: float) -> float:
    """Return the largest quantity that cash pays for, with its commission."""
    quantity = cash / (price * (1 + commission))
    while quantity * price + quantity * price * commission > cash:
        quantity = math.nextafter(quantity, 0.0)  # its last bit was rounded up
    return quantity


def moving_average(closes: Floats, bars: int) -> Floats:
    """Return the mean of the last `bars` closes, NaN before there are as many; shape (bars,).

    Each is the exact mean of the closes as they are written in decimals, rounded once. So two means
    that are equal, such as those of constant prices, compare as equal whatever their lengths, and a
    price that has left the window leaves nothing behind.
    """
    averages = np.full(len(closes), np.nan)
    sums = [Fraction(0), *accumulate(Fraction(repr(close)) for close in closes.tolist())]
    for end in range(bars, len(sums)):
        averages[end - 1] = float((sums[end] - sums[end - bars]) / bars)
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
    """Return the statistics of a simulation; an undefined figure is None.

    They are computed from the n - 1 returns between n bars; the first bar has none. The riskless
    rate is zero. `docs/concepts/backtests.md` has the formulas.
    """
    returns, capital = simulation.returns, simulation.capital
    trips = round_trips(simulation)
    growth = float(capital[-1] / simulation.cash)
    curve = np.concatenate(([simulation.cash], capital))
    scale = math.sqrt(bars_a_year)
    mean = float(returns.mean()) if len(returns) else math.nan
    deviation = _deviation(returns)
    shortfall = math.sqrt(np.mean(np.minimum(returns, 0) ** 2)) if len(returns) else math.nan
    figures = {
        "total_return": growth - 1,
        "annual_return": _annual_return(growth, bars_a_year, len(returns)),
        "volatility": deviation * scale,
        "sharpe_ratio": _ratio(mean, deviation) * scale,
        "sortino_ratio": _ratio(mean, shortfall) * scale,
        "max_drawdown": float(np.max(1 - curve / np.maximum.accumulate(curve))),
        "win_rate": _ratio(sum(gain > 0 for gain in trips), len(trips)),
        "trades": float(len(simulation.orders)),
    }
    # Adding zero makes a zero of -0.0.
    return {name: value + 0.0 if math.isfinite(value) else None for name, value in figures.items()}


def _deviation(returns: Floats) -> float:
    """Return the sample deviation; zero for returns that are equal but for rounding."""
    if len(returns) < _RETURNS_MIN:
        return math.nan
    deviation = float(np.std(returns, ddof=1))
    rounding = 8 * _EPSILON * float(np.abs(1 + returns).max())
    return deviation if deviation > rounding else 0.0


def _ratio(value: float, by: float) -> float:
    return value / by if by else math.nan


def _annual_return(growth: float, bars_a_year: float, count: int) -> float:
    """Return the annualised return of `count` bars; NaN if it exceeds the range of a float."""
    if not count:
        return math.nan
    try:
        return math.pow(growth, bars_a_year / count) - 1
    except OverflowError:
        return math.nan


def round_trips(simulation: Simulation) -> Sequence[float]:
    """Return the return of each buy with its sale, after both commissions."""
    buys, sales = simulation.orders[::2], simulation.orders[1::2]
    return [
        (sale.value - sale.commission) / (buy.value + buy.commission) - 1
        for buy, sale in zip(buys, sales, strict=False)  # the last position may be open
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
