import numpy as np
import pytest

from producers.backtesting.crossover import COST, Crossover, daily_returns, summary


def by_the_book(closes: np.ndarray, fast: int, slow: int) -> list[float]:
    """The strategy as a slow loop: decide at a close, hold the next day, pay for each switch."""
    held, returns = 0, []
    for day in range(len(closes)):
        wanted = 0
        if day >= slow:
            wanted = int(closes[day - fast : day].mean() > closes[day - slow : day].mean())
        change = closes[day] / closes[day - 1] - 1 if day else 0.0
        returns.append(wanted * change - COST * abs(wanted - held))
        held = wanted
    return returns


def test_the_strategy_equals_a_loop_that_does_it_day_by_day() -> None:
    closes = 100 * np.cumprod(1 + np.random.default_rng(7).normal(0, 0.02, 400))
    found, trades = daily_returns(closes, Crossover("X", 5, 20))
    assert found == pytest.approx(by_the_book(closes, 5, 20), abs=1e-12)
    assert trades.sum() > 2


def test_results_are_what_their_names_say() -> None:
    results = summary(np.array([0.10, -0.20, 0.05]))
    assert results["total_return"] == pytest.approx(1.1 * 0.8 * 1.05 - 1)
    assert results["max_drawdown"] == pytest.approx(0.2)
    daily = np.array([0.10, -0.20, 0.05])
    assert results["sharpe_ratio"] == pytest.approx(daily.mean() / daily.std(ddof=1) * 252**0.5)


def test_a_loss_from_the_start_is_a_drawdown() -> None:
    assert summary(np.array([-0.5, 0.0]))["max_drawdown"] == pytest.approx(0.5)


def test_windows_must_make_sense() -> None:
    with pytest.raises(ValueError, match="1 <= fast < slow"):
        Crossover("X", 20, 20)
