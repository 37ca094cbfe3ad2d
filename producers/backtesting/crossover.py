"""The demo's backtest: a moving-average crossover on the packaged daily bars.

It is the strategy `moving_average_crossover` of `producers.backtesting.strategies`: a position is
decided at a close and filled at the next day's open, and each order costs `COST` of its value. The
end is compared with buying and holding the stock, which a strategy should beat.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from producers.backtesting.catalogue import resolve_parameters
from producers.backtesting.strategies import (
    TRADING_DAYS_A_YEAR,
    Floats,
    Simulation,
    simulate,
    statistics,
)
from producers.broadcaster import BlockingBroadcaster
from schemas.events import Bar, RunStatus, Strategy

COST = 0.001
"""The commission of an order, as a fraction of the traded value: ten basis points."""

_SHOWN = ("total_return", "sharpe_ratio", "max_drawdown", "trades")


@dataclass(frozen=True, slots=True)
class Crossover:
    """A strategy and its symbol; windows are in trading days."""

    symbol: str
    fast: int = 20
    slow: int = 100

    def __post_init__(self) -> None:
        resolve_parameters(Strategy.MOVING_AVERAGE_CROSSOVER, self.parameters)

    @property
    def parameters(self) -> dict[str, float]:
        """The parameters of the strategy."""
        return {"fast": self.fast, "slow": self.slow}


def backtest(
    reporter: BlockingBroadcaster,
    backtest_id: str,
    strategy: Crossover,
    bars: Sequence[Bar],
    *,
    reports: int = 25,
    pause: Callable[[], object] = lambda: None,
) -> dict[str, float]:
    """Simulate, report on the way, and return the final results.

    Results are `total_return` (a fraction), `sharpe_ratio` (annualised, riskless rate zero),
    `max_drawdown` (a positive fraction) and `trades`; at the end also `hold_return`, the return of
    buying at the first open and holding.

    Args:
        reporter: reports the progress.
        backtest_id: the run's name.
        strategy: the strategy.
        bars: the daily bars of its symbol.
        reports: how many progress events the run is divided into.
        pause: called between progress events.

    Raises:
        Unsent: Kafka does not acknowledge; the run stops.
    """
    opens, closes = _columns(bars)
    done = simulate(opens, closes, Strategy.MOVING_AVERAGE_CROSSOVER, strategy.parameters, COST)
    held = simulate(opens, closes, Strategy.BUY_AND_HOLD, {}, COST)
    name = f"{strategy.symbol} {strategy.fast}/{strategy.slow}"
    reporter.send_backtest_progress(
        backtest_id, 0.0, RunStatus.STARTED, f"{name} over {len(bars)} days", bars[0].time
    )
    reports = min(reports, len(bars))
    for count in map(int, np.linspace(len(bars) / reports, len(bars), reports)):
        day = bars[count - 1].time
        reporter.send_backtest_progress(
            backtest_id,
            100.0 * float(count) / len(bars),
            RunStatus.RUNNING,
            f"simulating {day}",
            day,
            _results(done.until(count)),
        )
        pause()
    hold_return = float(held.capital[-1] - 1)
    results = _results(done) | {"hold_return": hold_return}
    reporter.send_backtest_progress(
        backtest_id,
        100.0,
        RunStatus.COMPLETED,
        f"{name}: {results['total_return']:+.1%} in {results['trades']:.0f} trades, filled at the "
        f"next open; buying and holding: {hold_return:+.1%}",
        bars[-1].time,
        results,
    )
    return results


def _results(simulation: Simulation) -> dict[str, float]:
    figures = statistics(simulation, TRADING_DAYS_A_YEAR)
    return {name: value for name in _SHOWN if (value := figures[name]) is not None}


def _columns(bars: Sequence[Bar]) -> tuple[Floats, Floats]:
    return np.array([bar.open for bar in bars]), np.array([bar.close for bar in bars])
