"""Strategies: what they hold, checked by hand and by plain Python."""

import statistics as plain
from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import sqrt

import numpy as np
import pytest
from hypothesis import given, strategies as st

from producers.backtesting.strategies import (
    Floats,
    Simulation,
    moving_average,
    relative_strength,
    round_trips,
    simulate,
    statistics,
)
from producers.errors import InvalidStrategy
from producers.market.prices import load_prices


def run(
    closes: Sequence[float] | Floats,
    strategy: str,
    parameters: Mapping[str, float],
    cost: float,
    opens: Sequence[float] | None = None,
) -> Simulation:
    """Run a strategy; without opens, each bar opens at the close before."""
    array = np.array(closes, dtype=np.float64)
    opened = np.concatenate((array[:1], array[:-1])) if opens is None else np.array(opens)
    return simulate(opened, array, strategy, parameters, cost)


closes_of = st.lists(st.floats(1, 1000), min_size=2, max_size=60)


@given(closes_of)
def test_buy_and_hold_is_the_price_itself(closes: list[float]) -> None:
    done = run(closes, "buy_and_hold", {}, 0.0)
    assert done.capital[-1] == pytest.approx(closes[-1] / closes[0])
    assert not round_trips(done)


@given(closes_of, st.integers(1, 10))
def test_a_moving_average_is_the_mean_of_the_last_closes(closes: list[float], days: int) -> None:
    found = moving_average(np.array(closes), days)
    for at, value in enumerate(found):
        if at < days - 1:
            assert np.isnan(value)
        else:
            assert value == pytest.approx(plain.fmean(closes[at - days + 1 : at + 1]))


def test_a_crossover_trades_on_the_next_bar_and_pays_for_it() -> None:
    closes = np.array([10.0, 10, 10, 13, 13, 9, 9, 9])
    done = run(closes, "moving_average_crossover", {"fast": 1, "slow": 3}, 0.01)
    # 13 > mean(10, 10, 13) at bar 3: held from 4; 9 < mean(13, 13, 9) at bar 5: out from 6.
    assert done.held.tolist() == [0, 0, 0, 0, 1, 1, 0, 0]
    expected = (1 + 0 - 0.01) * (9 / 13) * (1 - 0.01)
    assert done.capital[-1] == pytest.approx(expected)
    assert round_trips(done) == pytest.approx([expected - 1])


def test_a_trade_is_filled_at_the_next_open_and_not_at_the_close_that_decided_it() -> None:
    closes = [10.0, 10, 10, 13, 14, 9, 9, 9]
    opens = [10.0, 10, 10, 10, 13.5, 14, 8, 9]
    done = run(closes, "moving_average_crossover", {"fast": 1, "slow": 3}, 0.01, opens)
    # Bought at the open of bar 4, 13.5, and sold at that of bar 6, 8.
    expected = 8 / 13.5 * 0.99**2
    assert done.capital[-1] == pytest.approx(expected)
    assert round_trips(done) == pytest.approx([expected - 1])
    assert done.at_open[4] == 1.0
    assert done.at_open[6] == pytest.approx(0.99 * 8 / 13.5)


@given(closes_of, st.integers(2, 59))
def test_later_bars_change_no_earlier_trade(closes: list[float], count: int) -> None:
    for strategy, parameters in (("moving_average_crossover", {"fast": 2, "slow": 4}), ("rsi", {})):
        whole = run(closes, strategy, parameters, 0.001).until(count)
        part = run(closes[:count], strategy, parameters, 0.001)
        assert whole.held.tolist() == part.held.tolist()
        assert whole.capital == pytest.approx(part.capital)


def wilder(closes: list[float], period: int) -> list[float | None]:
    """The index as its author works it out, bar by bar."""
    changes = [later - earlier for earlier, later in pairwise(closes)]
    found: list[float | None] = [None] * len(closes)
    gain = loss = 0.0
    for at in range(period, len(closes)):
        if at == period:
            gain = sum(max(change, 0) for change in changes[:period]) / period
            loss = sum(max(-change, 0) for change in changes[:period]) / period
        else:
            gain = (gain * (period - 1) + max(changes[at - 1], 0)) / period
            loss = (loss * (period - 1) + max(-changes[at - 1], 0)) / period
        found[at] = 100.0 if loss == 0 else 100 - 100 / (1 + gain / loss)
    return found


@given(closes_of, st.integers(1, 10))
def test_relative_strength_is_wilders(closes: list[float], period: int) -> None:
    found = relative_strength(np.array(closes), period)
    for value, expected in zip(found, wilder(closes, period), strict=True):
        assert np.isnan(value) if expected is None else value == pytest.approx(expected)


def test_relative_strength_of_published_numbers() -> None:
    """The example of StockCharts' ChartSchool, to its two decimals."""
    closes = [
        44.3389, 44.0902, 44.1497, 43.6124, 44.3278, 44.8264, 45.0955, 45.4245, 45.8433, 46.0826,
        45.8931, 46.0328, 45.6140, 46.2820, 46.2820, 46.0028, 46.0328, 46.4116, 46.2222, 45.6439,
    ]  # fmt: skip
    found = relative_strength(np.array(closes), 14)[14:]
    assert found.round(2).tolist() == [70.53, 66.32, 66.55, 69.41, 66.36, 57.97]


@given(closes_of)
def test_statistics_are_what_plain_python_says(closes: list[float]) -> None:
    done = run(closes, "buy_and_hold", {}, 0.0)
    found = statistics(done, 252)
    returns = [0.0] + [later / earlier - 1 for earlier, later in pairwise(closes)]
    deviation = plain.stdev(returns)
    assert found["total_return"] == pytest.approx(closes[-1] / closes[0] - 1)
    assert found["volatility"] == pytest.approx(deviation * sqrt(252), rel=1e-9, abs=1e-12)
    if deviation > 1e-9:
        expected = plain.fmean(returns) / deviation * sqrt(252)
        assert found["sharpe_ratio"] == pytest.approx(expected, rel=1e-6, abs=1e-9)
    peak, worst = 1.0, 0.0
    for close in closes:
        peak = max(peak, close / closes[0])
        worst = max(worst, 1 - close / closes[0] / peak)
    assert found["max_drawdown"] == pytest.approx(worst, abs=1e-12)


def test_figures_without_a_value_are_none() -> None:
    found = statistics(run(np.ones(10), "buy_and_hold", {}, 0.0), 252)
    assert (found["sharpe_ratio"], found["sortino_ratio"], found["win_rate"]) == (None,) * 3


def test_a_good_day_is_no_year() -> None:
    found = statistics(run(np.array([1.0, 280.0]), "buy_and_hold", {}, 0.0), 252)
    assert (found["total_return"], found["annual_return"]) == (279.0, None)


def test_real_prices_are_traded_by_every_strategy() -> None:
    series = load_prices()["IBM"]
    closes = np.array([series[day] for day in sorted(series)])
    for strategy in ("moving_average_crossover", "rsi", "buy_and_hold"):
        figures = statistics(run(closes, strategy, {}, 0.001), 252)
        assert 0 < (figures["max_drawdown"] or 0) < 1
        assert figures["trades"]


@pytest.mark.parametrize(
    ("strategy", "parameters", "why"),
    [
        ("magic", {}, "'magic' is no strategy; there are moving_average_crossover, rsi"),
        ("rsi", {"fast": 3}, "rsi has no parameter 'fast'; it has period, lower, upper"),
        ("buy_and_hold", {"x": 3}, "it has none"),
        ("moving_average_crossover", {"fast": 100}, "fast must be less than slow"),
        ("moving_average_crossover", {"fast": 1.5}, "fast is 1.5; it must be a whole number"),
        ("rsi", {"lower": 80}, "0 <= lower < upper <= 100 must hold"),
    ],
)
def test_what_has_no_meaning_is_refused(
    strategy: str, parameters: Mapping[str, float], why: str
) -> None:
    with pytest.raises(InvalidStrategy, match=why):
        run(np.ones(300), strategy, parameters, 0.0)
