"""Strategies: their orders, equity and statistics, checked by hand and by plain Python."""

import statistics as plain
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from math import copysign, isfinite, sqrt
from typing import Any

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
from schemas.events import Fill


def run(
    closes: Sequence[float] | Floats,
    strategy: str,
    parameters: Mapping[str, float],
    cost: float,
    opens: Sequence[float] | None = None,
    fill: str = Fill.NEXT_OPEN,
) -> Simulation:
    """Run a strategy; without opens, each bar opens at the close before."""
    array = np.array(closes, dtype=np.float64)
    opened = np.concatenate((array[:1], array[:-1])) if opens is None else np.array(opens)
    return simulate(opened, array, strategy, parameters, cost, fill=fill)


closes_of = st.lists(st.floats(1, 1000), min_size=2, max_size=60)
STRATEGIES: Sequence[tuple[str, Mapping[str, float]]] = (
    ("moving_average_crossover", {"fast": 2, "slow": 4}),
    ("rsi", {"period": 3}),
    ("buy_and_hold", {}),
)


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
    expected = (9 / 13) * (1 - 0.01) / (1 + 0.01)
    assert done.capital[-1] == pytest.approx(expected)
    assert round_trips(done) == pytest.approx([expected - 1])


def test_a_trade_is_filled_at_the_next_open_and_not_at_the_close_that_decided_it() -> None:
    closes = [10.0, 10, 10, 13, 14, 9, 9, 9]
    opens = [10.0, 10, 10, 10, 13.5, 14, 8, 9]
    done = run(closes, "moving_average_crossover", {"fast": 1, "slow": 3}, 0.01, opens)
    # Bought at the open of bar 4, 13.5, and sold at that of bar 6, 8.
    expected = 8 / 13.5 * 0.99 / 1.01
    assert done.capital[-1] == pytest.approx(expected)
    assert round_trips(done) == pytest.approx([expected - 1])
    assert [(order.bar, order.is_buy, order.price) for order in done.orders] == [
        (4, True, 13.5),
        (6, False, 8.0),
    ]


def test_fills_at_the_close_are_those_of_the_close_that_decided_them() -> None:
    closes = [10.0, 10, 10, 13, 14, 9, 9, 9]
    done = run(
        closes, "moving_average_crossover", {"fast": 1, "slow": 3}, 0.0, [1.0] * 8, Fill.CLOSE
    )
    assert [(order.bar, order.price) for order in done.orders] == [(3, 13.0), (5, 9.0)]
    assert done.capital.tolist() == pytest.approx([1, 1, 1, 1, 14 / 13, *[9 / 13] * 3])


def test_slippage_makes_prices_worse_and_a_commission_is_paid_on_the_traded_value() -> None:
    closes = np.array([10.0, 10, 10, 13, 13, 9, 9, 9])
    crossover = ("moving_average_crossover", {"fast": 1, "slow": 3})
    done = simulate(closes, closes, *crossover, 0.01, slippage=0.1, cash=1_000.0)
    buy, sale = done.orders
    assert (buy.price, sale.price) == pytest.approx((13 * 1.1, 9 * 0.9))
    assert buy.value + buy.commission == pytest.approx(1_000)
    for order in done.orders:
        assert order.value == order.quantity * order.price
        assert order.commission == 0.01 * order.value
    assert done.capital[4] == pytest.approx(buy.quantity * 13)
    assert done.capital[-1] == sale.cash == pytest.approx(buy.quantity * 9 * 0.9 * 0.99)


@given(
    closes_of,
    closes_of,
    st.floats(0, 0.5),
    st.floats(0, 0.5),
    st.sampled_from(Fill),
    st.floats(1e-3, 1e12),
)
def test_cash_is_never_below_zero_and_equity_is_what_the_orders_add_up_to(
    closes: list[float], opens: list[float], cost: float, slippage: float, fill: Fill, start: float
) -> None:
    count = min(len(closes), len(opens))
    closed, opened = np.array(closes[:count]), np.array(opens[:count])
    for strategy, parameters in STRATEGIES:
        done = simulate(
            opened, closed, strategy, parameters, cost, slippage=slippage, fill=fill, cash=start
        )
        cash = start
        for at, order in enumerate(done.orders):
            assert order.is_buy == (at % 2 == 0)
            paid = order.value + order.commission
            cash += -paid if order.is_buy else order.value - order.commission
            assert cash == order.cash
            assert cash >= 0
        for bar in range(count):
            past = [order for order in done.orders if order.bar <= bar]
            held = past[-1].quantity if past and past[-1].is_buy else 0.0
            assert done.capital[bar] == (past[-1].cash if past else start) + held * closed[bar]


@given(closes_of, closes_of, st.integers(2, 59), st.sampled_from(Fill))
def test_later_bars_change_no_earlier_order(
    closes: list[float], opens: list[float], count: int, fill: Fill
) -> None:
    bars = min(len(closes), len(opens))
    closes, opens, count = closes[:bars], opens[:bars], min(count, bars)
    for strategy, parameters in STRATEGIES:
        whole = run(closes, strategy, parameters, 0.001, opens, fill).until(count)
        part = run(closes[:count], strategy, parameters, 0.001, opens[:count], fill)
        assert list(whole.orders) == list(part.orders)
        assert whole.capital.tolist() == part.capital.tolist()


@given(st.floats(1e-6, 1e9), st.integers(1, 12), st.integers(1, 12), st.integers(20, 60))
def test_constant_prices_make_no_trade_of_averages(
    price: float, fast: int, more: int, bars: int
) -> None:
    parameters = {"fast": fast, "slow": fast + more}
    assert not run([price] * bars, "moving_average_crossover", parameters, 0.0).orders


def test_averages_that_are_equal_in_decimals_make_no_trade() -> None:
    """Also after prices of another size, which leave nothing behind in a sum."""
    wave = [1e9, 0.1] + [10.1, 10.3, 10.2, 10.2] * 10
    fast, slow = moving_average(np.array(wave), 4), moving_average(np.array(wave), 8)
    assert fast[9:].tolist() == slow[9:].tolist() == [10.2] * 33


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


@given(closes_of, st.sampled_from(STRATEGIES), st.sampled_from(Fill), st.floats(0, 0.01))
def test_statistics_are_what_plain_python_makes_of_the_curve(
    closes: list[float],
    strategy: tuple[str, Mapping[str, float]],
    fill: Fill,
    cost: float,
) -> None:
    done = run(closes, *strategy, cost, fill=fill)
    found = statistics(done, 252)
    curve = done.capital.tolist()
    returns = [later / earlier - 1 for earlier, later in pairwise(curve)]
    assert done.returns.tolist() == returns
    count = len(closes) - 1
    assert len(returns) == count
    assert found["total_return"] == curve[-1] - 1
    if found["annual_return"] is not None:
        assert found["annual_return"] == pytest.approx(curve[-1] ** (252 / count) - 1)
    deviation = plain.stdev(returns) if count > 1 else 0.0
    mean = plain.fmean(returns)
    if count > 1:
        assert found["volatility"] == pytest.approx(deviation * sqrt(252), rel=1e-9, abs=1e-12)
    if deviation > 1e-9:
        expected = mean / deviation * sqrt(252)
        assert found["sharpe_ratio"] == pytest.approx(expected, rel=1e-6, abs=1e-9)
    losses = sqrt(sum(min(value, 0) ** 2 for value in returns) / count)
    if losses > 0:
        expected = mean / losses * sqrt(252)
        assert found["sortino_ratio"] == pytest.approx(expected, rel=1e-6, abs=1e-9)
    else:
        assert found["sortino_ratio"] is None
    peak, worst = 1.0, 0.0
    for value in curve:
        peak = max(peak, value)
        worst = max(worst, 1 - value / peak)
    assert found["max_drawdown"] == pytest.approx(worst, abs=1e-12)
    trips = round_trips(done)
    wins = sum(gain > 0 for gain in trips)
    assert found["win_rate"] == (wins / len(trips) if trips else None)
    assert found["trades"] == len(done.orders)
    for value in found.values():
        assert value is None or isfinite(value)
        assert value != 0 or copysign(1, value) == 1, "-0.0"


def test_figures_without_a_value_are_none() -> None:
    found = statistics(run(np.ones(10), "buy_and_hold", {}, 0.0), 252)
    assert (found["sharpe_ratio"], found["sortino_ratio"], found["win_rate"]) == (None,) * 3
    assert (found["total_return"], found["volatility"]) == (0.0, 0.0)
    growing = [1.01**day for day in range(60)]
    steady = run(growing, "buy_and_hold", {}, 0.0, growing)
    part = replace(steady, capital=steady.capital[2:])  # returns of 1 %, but for rounding
    assert len(set(part.returns.tolist())) > 1
    assert statistics(part, 252)["sharpe_ratio"] is None


def test_one_bar_has_no_return() -> None:
    found = statistics(run([1.0, 2.0], "buy_and_hold", {}, 0.0).until(1), 252)
    assert {name for name, value in found.items() if value is not None} == {
        "total_return",
        "max_drawdown",
        "trades",
    }


def test_a_good_day_is_no_year() -> None:
    found = statistics(run(np.array([1.0, 280.0]), "buy_and_hold", {}, 0.0), 252)
    assert (found["total_return"], found["annual_return"]) == (279.0, None)


def test_selling_at_the_price_of_the_buy_is_no_win() -> None:
    closes = [3.0, 3, 3, 4, 3, 2, 3, 3, 3]
    opens = [0.7] * 9
    done = run(closes, "moving_average_crossover", {"fast": 1, "slow": 3}, 0.0, opens)
    assert round_trips(done)[0] == 0.0
    assert statistics(done, 252)["win_rate"] == 0.0


@pytest.mark.parametrize(
    ("given_terms", "why"),
    [
        ({"cost": 1.0}, "cost is 1.0; it must be 0 or more, below 1"),
        ({"cost": -0.1}, "cost is -0.1"),
        ({"slippage": float("nan")}, "slippage is nan"),
        ({"fill": "later"}, "'later' is no fill; there are next_open, close"),
        ({"cash": 0.0}, "initial_cash is 0.0; it must be a positive number"),
        ({"cash": 1e308}, "exceed the range of numbers"),
    ],
)
def test_terms_without_a_meaning_are_refused(given_terms: Mapping[str, Any], why: str) -> None:
    prices = np.array([1e-3, 1e-3, 1e3])
    with pytest.raises(InvalidStrategy, match=why):
        simulate(prices, prices, "buy_and_hold", {}, **{"cost": 0.0, **given_terms})


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
