"""The worked example of candles: its batches give its candles."""

import re
from pathlib import Path

from schemas.events import Trade, TradeBatch
from stream_processors.windowing.candles import SymbolCandles

PAGE = Path(__file__).parents[2] / "docs" / "concepts" / "windows.md"
NOON_US = 1_700_049_600_000_000


def example_tables() -> list[list[list[str]]]:
    """Return the rows of the example's tables."""
    text = PAGE.read_text("utf-8").split("### A worked example")[1]
    return [
        [[cell.strip() for cell in line.strip("|\n").split("|")] for line in table.splitlines()[2:]]
        for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    ]


def test_the_worked_example_is_what_becomes_of_the_trades() -> None:
    trades, expected = example_tables()
    symbol, candles, late = SymbolCandles("S"), [], []
    for number in dict.fromkeys(row[0] for row in trades):
        of_batch = [row for row in trades if row[0] == number]
        batch = TradeBatch(
            symbol="S",
            first=int(of_batch[0][1]),
            trades=[
                Trade(
                    time_us=NOON_US + int(row[2]) * 1_000_000,
                    price=float(row[3]),
                    amount=float(row[4]),
                )
                for row in of_batch
            ],
            watermark_us=NOON_US + int(of_batch[0][5]) * 1_000_000,
        )
        changes = symbol.apply(batch, NOON_US + 3_600_000_000)
        candles += changes.closed
        late += [of_batch[refused.index or 0] for refused in changes.refused]
    assert late == [row for row in trades if row[6] == "late"]
    assert sorted(expected) == sorted(
        [
            candle.interval,
            str((candle.start_us - NOON_US) // 1_000_000),
            *(f"{price:g}" for price in (candle.open, candle.high, candle.low, candle.close)),
            f"{candle.volume:g}",
            str(candle.trades),
        ]
        for candle in candles
    )
