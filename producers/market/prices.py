"""Real daily prices, packaged with the program, and the returns of portfolios of them.

`data/stocks.csv.gz` has the split- and dividend-adjusted closes of five stocks, 2000-03-01 to
2013-03-01, which include the end of the dot-com bubble, 2008 and 2011. The file is from the package
`bokeh_sampledata` 2026.1, whose licence is beside it.

A portfolio here has constant weights: its return of a day is the weighted sum of its
constituents' simple returns, close to close. A day's return spans weekends and holidays; there are
no zero returns for days without trading. A portfolio begins with its youngest constituent.
"""

import csv
import gzip
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from itertools import count, pairwise
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo

from schemas.events import Bar, Return
from schemas.instants import from_datetime

PORTFOLIOS: Mapping[str, Mapping[str, float]] = {
    "AAPL": {"AAPL": 1.0},
    "FB": {"FB": 1.0},
    "GOOG": {"GOOG": 1.0},
    "IBM": {"IBM": 1.0},
    "MSFT": {"MSFT": 1.0},
    "equal-weight": {"AAPL": 1 / 3, "IBM": 1 / 3, "MSFT": 1 / 3},
    "growth": {"AAPL": 0.5, "GOOG": 0.3, "MSFT": 0.2},
    "balanced": {"AAPL": 0.2, "GOOG": 0.2, "IBM": 0.4, "MSFT": 0.2},
    "value": {"IBM": 0.6, "MSFT": 0.4},
}
"""The weights of each portfolio by symbol: single stocks, equal weights, and a few others."""

_PACKED = Path(__file__).with_name("data") / "stocks.csv.gz"

_CLOSE = time(16, tzinfo=ZoneInfo("America/New_York"))

Prices = Mapping[str, Mapping[date, float]]
"""The adjusted closes by symbol and trading day."""


@dataclass(frozen=True, slots=True)
class TradingDay:
    """The returns of one trading day."""

    day: date
    returns: Mapping[str, float]
    """The simple returns by portfolio, as fractions."""

    def at_close(self) -> list[Return]:
        """Return the returns as events at the day's close, 16:00 in New York."""
        instant = from_datetime(datetime.combine(self.day, _CLOSE).astimezone(UTC))
        return [
            Return(portfolio_id=portfolio, event_time_us=instant, value=value)
            for portfolio, value in self.returns.items()
        ]


def load_bars() -> Mapping[str, Sequence[Bar]]:
    """Read the packaged daily bars by symbol, in order; prices are adjusted as the closes are."""
    bars: dict[str, list[Bar]] = {}
    for row in _rows():
        adjusted = float(row["Adj Close"]) / float(row["Close"])
        bar = Bar(
            time=row["Date"],
            open=float(row["Open"]) * adjusted,
            high=float(row["High"]) * adjusted,
            low=float(row["Low"]) * adjusted,
            close=float(row["Adj Close"]),
            volume=float(row["Volume"]),
        )
        bars.setdefault(row["Ticker"], []).append(bar)
    return bars


def load_prices() -> Prices:
    """Return the packaged prices."""
    prices: dict[str, dict[date, float]] = {}
    for row in _rows():
        day = date.fromisoformat(row["Date"])
        prices.setdefault(row["Ticker"], {})[day] = float(row["Adj Close"])
    return prices


def _rows() -> Iterator[Mapping[str, str]]:
    with gzip.open(_PACKED, "rt", encoding="utf-8", newline="") as rows:
        yield from csv.DictReader(rows)


def trading_days(prices: Prices) -> list[TradingDay]:
    """Yield the returns of all portfolios, day by day, oldest first."""
    changes = {symbol: dict(_changes(closes)) for symbol, closes in prices.items()}
    days = sorted({day for closes in changes.values() for day in closes})
    return [TradingDay(day, _returns_on(day, changes)) for day in days]


class ReplayedDay(NamedTuple):
    """A trading day of a replay that begins again after the last day, for ever.

    The date is that of the data, in every lap. So no date is ever in the future, or one that the
    data do not have; the lap says which of two equal dates is the later one.
    """

    lap: int
    day: TradingDay


def laps(
    days: Sequence[TradingDay], after: tuple[int, date] | None = None
) -> Iterator[ReplayedDay]:
    """Yield the days of a history, lap after lap, for ever.

    Args:
        days: one history, oldest first.
        after: the lap and the date of the last replayed day; None for the beginning.
    """
    first_lap, last_date = (0, date.min) if after is None else after
    yield from (ReplayedDay(first_lap, day) for day in days if day.day > last_date)
    for lap in count(first_lap + 1):
        yield from (ReplayedDay(lap, day) for day in days)


def _changes(closes: Mapping[date, float]) -> Iterator[tuple[date, float]]:
    days = sorted(closes)
    for before, day in pairwise(days):
        yield day, closes[day] / closes[before] - 1.0


def _returns_on(day: date, changes: Prices) -> dict[str, float]:
    return {
        portfolio: sum(weight * changes[symbol][day] for symbol, weight in weights.items())
        for portfolio, weights in PORTFOLIOS.items()
        if all(day in changes[symbol] for symbol in weights)
    }
