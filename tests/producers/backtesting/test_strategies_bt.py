"""Backtests equal those of bt, an independent library, on all packaged prices.

bt knows one price of a security at a time, so each bar has two rows, its open and its close. Which
positions a strategy wants is computed with pandas here; bt sizes the orders, takes the commissions,
and keeps the account. https://pmorissette.github.io/bt
"""

from collections.abc import Sequence

import bt
import numpy as np
import pandas as pd
import pytest

from producers.backtesting.catalogue import DEFAULTS
from producers.backtesting.strategies import Floats, Simulation, simulate, statistics
from producers.market.prices import load_bars
from schemas.events import Bar, Fill

CASH, COST, SLIPPAGE = 10_000.0, 0.001, 0.0005
BARS = load_bars()
FIGURES = (
    "total_return",
    "annual_return",
    "volatility",
    "sharpe_ratio",
    "sortino_ratio",
    "max_drawdown",
)


def wanted(closes: pd.Series, strategy: str) -> Floats:
    """Return whether a strategy wants to hold after each close, 0 or 1, as pandas computes it."""
    parameters = DEFAULTS[strategy]
    match strategy:
        case "moving_average_crossover":
            fast, slow = (int(parameters[name]) for name in ("fast", "slow"))
            fast_mean, slow_mean = (
                np.asarray(closes.rolling(bars).mean(), dtype=np.float64) for bars in (fast, slow)
            )
            return (fast_mean > slow_mean).astype(np.float64)
        case "rsi":
            index = wilder(closes, int(parameters["period"]))
            signal = pd.Series(np.nan, closes.index)
            signal[index < parameters["lower"]] = 1.0
            signal[index > parameters["upper"]] = 0.0
            return np.asarray(signal.ffill().fillna(0.0), dtype=np.float64)
        case _:
            return np.ones(len(closes))


def wilder(closes: pd.Series, period: int) -> pd.Series:
    changes = closes.diff()

    def smoothed(part: pd.Series) -> pd.Series:
        seeded = part.copy()
        seeded.iloc[period] = part.iloc[1 : period + 1].mean()
        weighted = seeded.iloc[period:].ewm(alpha=1 / period, adjust=False)
        return pd.Series(weighted.mean())

    gain, loss = smoothed(changes.clip(lower=0)), smoothed(-changes.clip(upper=0))
    return (100 - 100 / (1 + gain / loss)).reindex(closes.index)


def run_bt(bars: Sequence[Bar], strategy: str, fill: str) -> tuple[pd.Series, pd.DataFrame]:
    """Return the equity at each close, and the orders."""
    days = pd.to_datetime([bar.time for bar in bars])
    opens = pd.Series([bar.open for bar in bars], days + pd.Timedelta(hours=9))
    closes = pd.Series([bar.close for bar in bars], days + pd.Timedelta(hours=16))
    prices = pd.concat([opens, closes]).sort_index().to_frame("S")
    weights, times = wanted(closes, strategy), closes.index
    if fill == Fill.NEXT_OPEN:
        weights, times = weights[:-1], opens.index[1:]
    changes = np.flatnonzero(np.diff(weights, prepend=0.0))
    algos = [
        bt.algos.RunOnDate(*times[changes]),
        bt.algos.SelectAll(),
        bt.algos.WeighTarget(pd.DataFrame({"S": weights[changes]}, times[changes])),
        bt.algos.Rebalance(),
    ]
    test = bt.Backtest(
        bt.Strategy("s", algos),
        prices,
        initial_capital=CASH,
        commissions=commission,
        integer_positions=False,
        progress_bar=False,
        additional_data={"bidoffer": prices * 2 * SLIPPAGE},
    )
    bt.run(test)
    orders = test.strategy.get_transactions().droplevel("Security").reset_index()
    equity = pd.Series(test.strategy.data["value"])
    return equity.reindex(closes.index), orders


def commission(quantity: float, price: float) -> float:
    """Return the commission on the traded value; bt gives the price without slippage."""
    return COST * (abs(quantity) + SLIPPAGE * quantity) * price


def run_ours(bars: Sequence[Bar], strategy: str, fill: str) -> Simulation:
    opens, closes = (np.array([getattr(bar, name) for bar in bars]) for name in ("open", "close"))
    return simulate(opens, closes, strategy, {}, COST, slippage=SLIPPAGE, fill=fill, cash=CASH)


@pytest.mark.parametrize("fill", Fill)
@pytest.mark.parametrize("strategy", DEFAULTS)
@pytest.mark.parametrize("symbol", sorted(BARS))
def test_orders_and_equity_are_those_of_bt(symbol: str, strategy: str, fill: str) -> None:
    bars = BARS[symbol]
    ours = run_ours(bars, strategy, fill)
    equity, orders = run_bt(bars, strategy, fill)
    assert ours.capital == pytest.approx(equity.to_numpy(), rel=1e-9)
    assert [bars[order.bar].time for order in ours.orders] == [
        day.strftime("%Y-%m-%d") for day in orders["Date"]
    ]
    quantities = [order.quantity if order.is_buy else -order.quantity for order in ours.orders]
    assert quantities == pytest.approx(orders["quantity"].to_list(), rel=1e-9)
    figures = statistics(ours, 252)
    returns = equity.pct_change().iloc[1:]
    assert len(returns) == len(bars) - 1
    total, losses = equity.iloc[-1] / CASH, returns.clip(upper=0)
    assert [figures[name] for name in FIGURES] == pytest.approx(
        [
            total - 1,
            total ** (252 / len(returns)) - 1,
            returns.std(ddof=1) * np.sqrt(252),
            bt.ffn.calc_sharpe(returns, nperiods=252, annualize=True),
            returns.mean() / np.sqrt((losses**2).mean()) * np.sqrt(252),
            -bt.ffn.calc_max_drawdown(pd.Series([CASH, *equity])),
        ],
        rel=1e-9,
    )
