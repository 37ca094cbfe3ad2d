"""The demo's backtest: a moving-average crossover on the packaged prices, day by day.

The strategy is long while the fast average of past closes is above the slow one, else in cash. A
day's position is decided at the previous close; each switch costs `COST` of the capital.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date

import numpy as np

from producers.broadcaster import BlockingBroadcaster
from producers.market.prices import Prices
from schemas.events import RunStatus

COST = 0.001
"""The cost of a change of position, as a fraction of the capital: ten basis points."""

TRADING_DAYS_A_YEAR = 252


@dataclass(frozen=True, slots=True)
class Crossover:
    """A strategy and its symbol; windows are in trading days."""

    symbol: str
    fast: int = 20
    slow: int = 100

    def __post_init__(self) -> None:
        if not 1 <= self.fast < self.slow:
            raise ValueError(
                f"fast is {self.fast} and slow {self.slow}; 1 <= fast < slow must hold"
            )


def backtest(
    reporter: BlockingBroadcaster,
    backtest_id: str,
    strategy: Crossover,
    prices: Prices,
    *,
    reports: int = 25,
    pause: Callable[[], object] = lambda: None,
) -> dict[str, float]:
    """Simulate, report on the way, and return the final results.

    Results are `total_return` (a fraction), `sharpe_ratio` (annualised, riskless rate zero),
    `max_drawdown` (a positive fraction) and `trades`.

    Args:
        reporter: reports the progress.
        backtest_id: the run's name.
        strategy: the strategy.
        prices: adjusted closes.
        reports: how many progress events the run is divided into.
        pause: called between progress events.

    Raises:
        Unsent: Kafka does not acknowledge; the run stops.
    """
    days = sorted(prices[strategy.symbol])
    closes = np.array([prices[strategy.symbol][day] for day in days])
    daily, trades = daily_returns(closes, strategy)
    name = f"{strategy.symbol} {strategy.fast}/{strategy.slow}"
    reporter.send_backtest_progress(
        backtest_id, 0.0, RunStatus.STARTED, f"{name} over {len(days)} days", str(days[0])
    )
    results: dict[str, float] = {}
    for count in np.linspace(len(days) / reports, len(days), reports).astype(int):
        results = summary(daily[:count]) | {"trades": float(trades[:count].sum())}
        reporter.send_backtest_progress(
            backtest_id,
            100.0 * float(count) / len(days),
            RunStatus.RUNNING,
            f"simulating {days[count - 1]}",
            _iso(days[count - 1]),
            results,
        )
        pause()
    reporter.send_backtest_progress(
        backtest_id,
        100.0,
        RunStatus.COMPLETED,
        f"{name}: {results['total_return']:+.1%} in {trades.sum():.0f} trades",
        _iso(days[-1]),
        results,
    )
    return results


def daily_returns(closes: np.ndarray, strategy: Crossover) -> tuple[np.ndarray, np.ndarray]:
    """Return each day's return after costs, and whether it traded; shapes (days,)."""
    held = np.zeros(len(closes))
    decided = _average(closes, strategy.fast) > _average(closes, strategy.slow)
    held[1:] = decided[:-1]  # tomorrow's position is decided on today's close
    change = np.diff(closes, prepend=closes[0]) / np.concatenate(([closes[0]], closes[:-1]))
    trades = np.abs(np.diff(held, prepend=0.0))
    return held * change - trades * COST, trades


def summary(daily: np.ndarray) -> dict[str, float]:
    """Return total return, annualised Sharpe ratio and maximum drawdown of the returns (days,)."""
    capital = np.cumprod(1.0 + daily)
    deviation = float(daily.std(ddof=1)) if len(daily) > 1 else 0.0
    ratio = float(daily.mean()) / deviation if deviation > 0 else 0.0
    peaks = np.maximum.accumulate(np.maximum(capital, 1.0))
    return {
        "total_return": float(capital[-1] - 1.0),
        "sharpe_ratio": ratio * TRADING_DAYS_A_YEAR**0.5,
        "max_drawdown": float((1.0 - capital / peaks).max()),
    }


def _average(closes: np.ndarray, days: int) -> np.ndarray:
    """Return the mean of the last `days` closes, NaN before there are as many; shape (days,)."""
    sums = np.cumsum(closes)
    sums[days:] -= sums[:-days].copy()
    sums[: days - 1] = np.nan
    return sums / days


def _iso(day: date) -> str:
    return day.isoformat()
