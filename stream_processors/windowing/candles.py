"""Candles: trades become minute bars, and those become wider ones.

Pure. A candle is told when its interval is over, which the trades' watermark says and no clock; an
interval without a trade has none. Trades of one instant keep the order in which they were made:
the first opens, the last closes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from schemas.events import Candle, CandleState, Trade, TradeBatch
from schemas.instants import EARLIEST_US, LATEST_US

_MINUTE_US = 60_000_000
MINUTE = "minute"
WIDER = {"3minute": 3 * _MINUTE_US, "day": 24 * 60 * _MINUTE_US}
"""Each is made of minutes, and begins at a whole multiple of its length since 1970 UTC."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A trade that is in no candle, by its place in its batch."""

    index: int
    reason: str
    error: str


@dataclass(slots=True)
class Taken:
    """What followed from a batch."""

    closed: list[Candle] = field(default_factory=list)
    """In the order in which they ended, the narrower first."""
    refused: list[Refused] = field(default_factory=list)


class SymbolCandles:
    """One symbol's candles. What is taken again, after a crash, changes nothing."""

    def __init__(self, symbol: str, state: CandleState | None = None) -> None:
        self._symbol = symbol
        self._next = 0 if state is None else state.next
        self._watermark_us = 0 if state is None else state.watermark_us
        self._late = 0 if state is None else state.late
        forming = () if state is None else state.forming
        self._forming = {candle.interval: candle for candle in forming}

    def pack(self) -> CandleState:
        """Everything, as it is kept."""
        return CandleState(
            symbol=self._symbol,
            next=self._next,
            watermark_us=self._watermark_us,
            forming=list(self._forming.values()),
            late=self._late,
        )

    def take(self, batch: TradeBatch) -> Taken:
        """Take those trades of a batch that were not taken yet, and its watermark."""
        taken = Taken()
        for index, trade in enumerate(batch.trades):
            if batch.first + index >= self._next:
                self._take_one(index, trade, taken)
        self._next = max(self._next, batch.first + len(batch.trades))
        if batch.watermark_us > self._watermark_us:
            self._advance(batch.watermark_us, taken)
        return taken

    def _take_one(self, index: int, trade: Trade, taken: Taken) -> None:
        wrong = _wrong(trade)
        if wrong is not None:
            taken.refused.append(Refused(index, "invalid", wrong))
            return
        if trade.time_us < self._watermark_us:
            self._late += 1
            error = f"a trade of {trade.time_us} came after {self._watermark_us}, in microseconds"
            taken.refused.append(Refused(index, "late", error))
            return
        self._advance(trade.time_us, taken)
        start = trade.time_us - trade.time_us % _MINUTE_US
        price, amount = trade.price, trade.amount
        one = Candle(
            symbol=self._symbol,
            interval=MINUTE,
            start_us=start,
            end_us=start + _MINUTE_US,
            open=price,
            high=price,
            low=price,
            close=price,
            volume=amount,
            trades=1,
        )
        self._add(one)

    def _advance(self, watermark_us: int, taken: Taken) -> None:
        """Let time pass: whatever is over is told, and minutes go into what is wider."""
        self._watermark_us = watermark_us
        minute = self._forming.get(MINUTE)
        if minute is not None and minute.end_us <= watermark_us:
            del self._forming[MINUTE]
            taken.closed.append(minute)
            for interval, length_us in WIDER.items():
                start = minute.start_us - minute.start_us % length_us
                wide = replace(minute, interval=interval, start_us=start, end_us=start + length_us)
                self._add(wide)
        for interval in WIDER:
            candle = self._forming.get(interval)
            if candle is not None and candle.end_us <= watermark_us:
                taken.closed.append(self._forming.pop(interval))

    def _add(self, later: Candle) -> None:
        """Add prices to the candle of their interval that is forming, or begin it with them."""
        candle = self._forming.get(later.interval)
        if candle is None:
            self._forming[later.interval] = later
            return
        # One that is over was told before: time has passed up to the later prices already.
        self._forming[later.interval] = replace(
            candle,
            high=max(candle.high, later.high),
            low=min(candle.low, later.low),
            close=later.close,
            volume=candle.volume + later.volume,
            trades=candle.trades + later.trades,
        )


def _wrong(trade: Trade) -> str | None:
    if not EARLIEST_US <= trade.time_us <= LATEST_US:
        return f"the time is {trade.time_us}; it must be microseconds since 1970 UTC"
    if not (math.isfinite(trade.price) and trade.price > 0):
        return f"the price is {trade.price}; it must be finite and positive"
    if not (math.isfinite(trade.amount) and trade.amount >= 0):
        return f"the amount is {trade.amount}; it must be finite and not negative"
    return None


def intervals() -> Sequence[str]:
    """Every interval, the narrowest first."""
    return (MINUTE, *WIDER)
