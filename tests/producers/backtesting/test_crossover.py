from itertools import pairwise

import pytest

from producers.backtesting.crossover import COST, Crossover, backtest
from producers.errors import InvalidStrategy
from schemas.events import Bar
from tests.support.reporter import MemoryReporter

FALL_AND_RISE = [10.0, 9, 8, 7, 8, 9, 10, 11, 9, 7, 6, 5]


class Calls(MemoryReporter):
    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[object, ...]] = []

    def send_backtest_progress(self, *arguments: object) -> None:
        self.calls.append(arguments)


def bars_of(closes: list[float]) -> list[Bar]:
    return [
        Bar(
            time=f"2001-01-{day:02}",
            open=close * 1.01,
            high=close * 1.02,
            low=close * 0.98,
            close=close,
            volume=1.0,
        )
        for day, close in enumerate(closes, 1)
    ]


def by_the_book(bars: list[Bar], fast: int, slow: int) -> float:
    """The strategy as a slow loop: decide at a close, trade at the next open, pay for it."""
    cash, shares = 1.0, 0.0
    closes = [bar.close for bar in bars]
    for day, bar in enumerate(bars):
        known = closes[:day]
        wants = day >= slow and sum(known[-fast:]) / fast > sum(known[-slow:]) / slow
        if wants and not shares:
            cash, shares = 0.0, cash / (1 + COST) / bar.open
        elif shares and not wants:
            cash, shares = shares * bar.open * (1 - COST), 0.0
    return cash + shares * closes[-1] - 1


def test_the_result_is_that_of_a_loop_that_trades_at_the_next_open() -> None:
    bars = bars_of(FALL_AND_RISE)
    results = backtest(Calls().blocking, "run", Crossover("X", 2, 3), bars)
    assert results["total_return"] == pytest.approx(by_the_book(bars, 2, 3))
    assert results["trades"] == 2


def test_progress_has_days_of_the_bars_and_the_end_compares_with_holding() -> None:
    reporter, bars = Calls(), bars_of(FALL_AND_RISE)
    results = backtest(reporter.blocking, "run", Crossover("X", 2, 3), bars, reports=4)
    days = [str(call[4]) for call in reporter.calls]
    assert all(earlier <= later for earlier, later in pairwise(days))
    assert (days[0], days[-1]) == (bars[0].time, bars[-1].time)
    assert [call[2] for call in reporter.calls] == ["started", *["running"] * 4, "completed"]
    hold_return = results["hold_return"]
    # Held from the second day's open on.
    assert hold_return == pytest.approx(5 / (9 * 1.01) / (1 + COST) - 1)
    assert f"buying and holding: {hold_return:+.1%}" in str(reporter.calls[-1][3])


def test_windows_must_make_sense() -> None:
    with pytest.raises(InvalidStrategy, match="fast must be less than slow"):
        Crossover("X", 20, 20)
    with pytest.raises(InvalidStrategy, match="fast is -1; it must be a whole number"):
        Crossover("X", -1, 20)
