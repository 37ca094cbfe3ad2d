"""The prices that backtests run on: packaged daily bars of stocks, or candles in the log.

Daily bars are packaged with the program; candles are read from Kafka.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
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
_MINUTE_US = 60_000_000
_DAY_US = 24 * 60 * _MINUTE_US
_YEAR_US = 365 * _DAY_US

LENGTHS_US: Mapping[Interval, int] = {
    Interval.MINUTE: _MINUTE_US,
    Interval.THREE_MINUTES: 3 * _MINUTE_US,
    Interval.DAY: _DAY_US,
}
"""The length of each interval; each begins at a whole multiple of its length since 1970 UTC."""

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
    others: Mapping[str, Sequence[Bar]]
    """The bars of the symbol's other intervals, for charts."""

    @property
    def closes(self) -> Floats:
        """The closes, shape (bars,)."""
        return np.array([bar.close for bar in self.bars])

    @property
    def opens(self) -> Floats:
        """The opens, shape (bars,)."""
        return np.array([bar.open for bar in self.bars])


async def find_series(
    symbol: str,
    interval: str,
    first_day: str | None,
    last_day: str | None,
    packaged: Packaged,
    settings: ProducerSettings,
    tenant: str | None = None,
) -> Series:
    """Return the bars of a symbol between two days (YYYY-MM-DD), both included.

    Packaged bars are everybody's; candles are those of a tenant, or of none.

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
    candles = await _candles(symbol, settings, tenant)
    if not any(candles.values()):
        forming = (await read_table(MARKET_FORMING, settings, tenant or "")).values()
        traded = sorted(state.symbol for state in forming if isinstance(state, CandleState))
        named = [name[:60] for name in traded[:_NAMED_MAX]]
        if len(traded) > _NAMED_MAX:
            named.append(f"and {len(traded) - _NAMED_MAX} more")
        by_minute = f"; by the minute, 3 minutes and day: {', '.join(named)}" if named else ""
        raise InvalidStrategy(
            f"there are no prices of {symbol[:60]}; there are {', '.join(sorted(packaged))} "
            f"by the day{by_minute}"
        )
    bars = within.of(symbol, [_bar(candle) for candle in candles[interval]])
    finest = next(name for name in Interval if candles[name])
    kept = [candle for candle in candles[finest] if within.has(to_date(candle.start_us))]
    wider = [name for name in Interval if LENGTHS_US[name] > LENGTHS_US[finest]]
    others = {
        str(name): [_bar(candle) for candle in of_interval]
        for name, of_interval in [(finest, kept), *((name, widened(kept, name)) for name in wider)]
        if name != interval
    }
    shown = candles[interval]
    a_year = _YEAR_US / (shown[-1].end_us - shown[0].start_us) * len(shown)
    return Series(symbol, interval, bars, a_year, others)


def widened(candles: Sequence[Candle], interval: Interval) -> Sequence[Candle]:
    """Return the candles of a wider interval, made of narrower ones in order of time.

    The last one is as long as there are narrower ones, so charts of all intervals end together.
    """
    length_us = LENGTHS_US[interval]
    found: list[Candle] = []
    for candle in candles:
        start_us = candle.start_us - candle.start_us % length_us
        if not found or found[-1].start_us != start_us:
            end_us = start_us + length_us
            found.append(replace(candle, interval=interval, start_us=start_us, end_us=end_us))
            continue
        last = found[-1]
        found[-1] = replace(
            last,
            high=max(last.high, candle.high),
            low=min(last.low, candle.low),
            close=candle.close,
            volume=last.volume + candle.volume,
            trades=last.trades + candle.trades,
        )
    return found


@dataclass(frozen=True, slots=True)
class _Days:
    first: str | None
    last: str | None

    def has(self, day: str) -> bool:
        """Whether a day is one of them."""
        return (self.first or "") <= day <= (self.last or "9")

    def of(self, symbol: str, bars: Sequence[Bar]) -> Sequence[Bar]:
        """Return the bars of the days, if there are enough."""
        kept = [bar for bar in bars if self.has(bar.time[:10])]
        if len(kept) >= _BARS_MIN:
            return kept
        if not bars:
            raise InvalidStrategy(f"{symbol} has no complete bars yet; wait until it has some")
        since, until = bars[0].time, bars[-1].time
        raise InvalidStrategy(
            f"{symbol} has {len(kept)} bars from {self.first or since} to {self.last or until}, "
            f"but a backtest needs {_BARS_MIN}; its prices are from {since} to {until}"
        )


async def _candles(
    symbol: str, settings: ProducerSettings, tenant: str | None
) -> Mapping[str, Sequence[Candle]]:
    """Return each interval's candles in order of time, each once."""
    found: dict[str, dict[int, Candle]] = {name: {} for name in Interval}
    async with follow_key(MARKET_CANDLES, encode_key(symbol, tenant), 0, settings) as candles:
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
