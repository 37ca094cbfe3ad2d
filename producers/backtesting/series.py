"""The prices that backtests run on: packaged daily bars of stocks, or candles in the log.

Daily bars are packaged with the program; candles are read from Kafka.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np

from kafka_io.reader import follow_key, read_table
from kafka_io.settings import ProducerSettings
from producers.backtesting.strategies import TRADING_DAYS_A_YEAR, Floats
from producers.errors import InvalidStrategy
from schemas.events import Bar, Candle, CandleState, Interval
from schemas.instants import to_date, to_rfc3339
from schemas.keys import encode_key
from schemas.topics import MARKET_CANDLES, MARKET_FORMING

_BARS_MIN = 2
_NAMED_MAX = 20
"""How many known symbols an error names."""
_YEAR_US = 365 * 24 * 60 * 60 * 1_000_000

Packaged = Mapping[str, Sequence[Bar]]
"""Daily bars by symbol, in order of time."""


@dataclass(frozen=True, slots=True)
class Series:
    """Bars of one symbol, in order of time."""

    symbol: str
    interval: str
    bars: Sequence[Bar]
    bars_a_year: float
    """The number of bars in a year: 252 for daily bars of stocks; for candles, what a year has at
    their rate."""
    wider: Mapping[str, Sequence[Bar]]
    """The bars of wider intervals, for charts."""

    @property
    def closes(self) -> Floats:
        """The closes, shape (bars,)."""
        return np.array([bar.close for bar in self.bars])


async def find_series(
    symbol: str,
    interval: str,
    first_day: str | None,
    last_day: str | None,
    packaged: Packaged,
    settings: ProducerSettings,
) -> Series:
    """Return the bars of a symbol between two days (YYYY-MM-DD), both included.

    Raises:
        InvalidStrategy: there are no such bars; the message says which there are.
        Unread: candles cannot be read from Kafka.
    """
    within = _Days(_day(first_day), _day(last_day))
    daily = packaged.get(symbol)
    if daily is not None:
        if interval != Interval.DAY:
            raise InvalidStrategy(f"{symbol} has no {interval} bars; it has: {Interval.DAY}")
        bars = within.of(symbol, daily)
        return Series(symbol, interval, bars, TRADING_DAYS_A_YEAR, {})
    candles = await _candles(symbol, settings)
    if not any(candles.values()):
        forming = (await read_table(MARKET_FORMING, settings)).values()
        traded = sorted(state.symbol for state in forming if isinstance(state, CandleState))
        named = [name[:60] for name in traded[:_NAMED_MAX]]
        if len(traded) > _NAMED_MAX:
            named.append(f"and {len(traded) - _NAMED_MAX} more")
        others = f"; by the minute, 3 minutes and day: {', '.join(named)}" if named else ""
        raise InvalidStrategy(
            f"there are no prices of {symbol[:60]}; there are {', '.join(sorted(packaged))} "
            f"by the day{others}"
        )
    bars = within.of(symbol, [_bar(candle) for candle in candles[interval]])
    intervals: list[str] = list(Interval)  # the narrowest first
    wider = {
        name: within.kept([_bar(candle) for candle in candles[name]])
        for name in intervals[intervals.index(interval) + 1 :]
    }
    shown = candles[interval]
    a_year = _YEAR_US / (shown[-1].end_us - shown[0].start_us) * len(shown)
    return Series(symbol, interval, bars, a_year, wider)


@dataclass(frozen=True, slots=True)
class _Days:
    first: str | None
    last: str | None

    def kept(self, bars: Sequence[Bar]) -> Sequence[Bar]:
        """Return the bars of the days."""
        first, last = self.first or "", self.last or "9"
        return [bar for bar in bars if first <= bar.time[:10] <= last]

    def of(self, symbol: str, bars: Sequence[Bar]) -> Sequence[Bar]:
        """Return the bars of the days, if there are enough."""
        kept = self.kept(bars)
        if len(kept) >= _BARS_MIN:
            return kept
        if not bars:
            raise InvalidStrategy(f"{symbol} has no complete bars yet; wait until it has some")
        since, until = bars[0].time, bars[-1].time
        raise InvalidStrategy(
            f"{symbol} has {len(kept)} bars from {self.first or since} to {self.last or until}, "
            f"but a backtest needs {_BARS_MIN}; its prices are from {since} to {until}"
        )


async def _candles(symbol: str, settings: ProducerSettings) -> Mapping[str, Sequence[Candle]]:
    """Return each interval's candles in order of time, each once."""
    found: dict[str, dict[int, Candle]] = {name: {} for name in Interval}
    async with follow_key(MARKET_CANDLES, encode_key(symbol), 0, settings) as candles:
        for candle in await candles.poll():
            if isinstance(candle, Candle) and candle.interval in found:
                found[candle.interval][candle.start_us] = candle
    return {
        name: [by_start[start_us] for start_us in sorted(by_start)]
        for name, by_start in found.items()
    }


def _bar(candle: Candle) -> Bar:
    to_text = to_date if candle.interval == Interval.DAY else to_rfc3339
    return Bar(
        time=to_text(candle.start_us),
        open=candle.open,
        high=candle.high,
        low=candle.low,
        close=candle.close,
        volume=candle.volume,
    )


def _day(text: str | None) -> str | None:
    if text is None:
        return None
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError as error:
        raise InvalidStrategy(f"{text!r} is no day such as 2008-10-10: {error}") from error
