"""The worked example of backtests: its bars give its orders and figures."""

import re
from pathlib import Path

import numpy as np

from producers.backtesting.strategies import simulate, statistics

PAGE = Path(__file__).parents[2] / "docs" / "concepts" / "backtests.md"


def tables() -> dict[str, list[list[str]]]:
    """Return the cells of each table's rows, by the table's first heading."""
    text = PAGE.read_text("utf-8").split("## A worked example")[1]
    found = {}
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        heading, _, *rows = [
            [cell.strip().replace(",", "") for cell in line.strip("|\n").split("|")]
            for line in table.splitlines()
        ]
        found[heading[0]] = rows
    return found


def test_the_worked_example_is_what_the_strategy_does() -> None:
    example = tables()
    bars = example["bar"]
    opens, closes = (np.array([float(row[column]) for row in bars]) for column in (1, 2))
    found = simulate(
        opens,
        closes,
        "moving_average_crossover",
        {"fast": 1, "slow": 3},
        0.001,
        slippage=0.0005,
        cash=10_000.0,
    )
    assert [row[3] for row in bars] == [f"{equity:.2f}" for equity in found.capital]
    assert example["side"] == [
        [
            "buy" if order.is_buy else "sell",
            str(order.bar + 1),
            f"{order.price:.4f}",
            f"{order.quantity:.4f}",
            f"{order.value:.2f}",
            f"{order.commission:.2f}",
            f"{order.cash:.2f}",
        ]
        for order in found.orders
    ]
    assert example["figure"] == [
        [f"`{name}`", "null" if value is None else f"{value:.6f}"]
        for name, value in statistics(found, 252).items()
    ]
