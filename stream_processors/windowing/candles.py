"""Form candles of trades: trades become minute candles, and those become wider ones. Pure.

A symbol's trades arrive in batches, each with a watermark; candles leave when the watermark has
passed their end. The watermark comes from the trades, and no clock is read. An interval without a
trade has no candle. Trades of one instant keep the order in which they were made: the first opens
the candle, and the last closes it.
"""

import math
from dataclasses import dataclass, field, replace

from schemas.events import Candle, CandleState, DeadLetterReason, Interval, Trade, TradeBatch
from schemas.instants import EARLIEST_US, LATEST_US

_MINUTE_US = 60_000_000
WIDER = {Interval.THREE_MINUTES: 3 * _MINUTE_US, Interval.DAY: 24 * 60 * _MINUTE_US}
"""Lengths of the wider intervals; each starts at a whole multiple of its length since 1970 UTC."""


@dataclass(frozen=True, slots=True)
class RefusedTrade:
    """A trade that is in no candle."""

    index: int
    """Its index in the batch."""
    reason: DeadLetterReason
    error: str


@dataclass(slots=True)
class CandleChanges:
    """The results of one batch of trades."""

    closed: list[Candle] = field(default_factory=list)
    """The candles that are complete now, by their end, the narrower first."""
    refused: list[RefusedTrade] = field(default_factory=list)


class SymbolCandles:
    """The candles of one symbol. A batch that is applied again changes nothing."""

    def __init__(self, symbol: str, state: CandleState | None = None) -> None:
        self._symbol = symbol
        self._next = 0 if state is None else state.next
        self._watermark_us = 0 if state is None else state.watermark_us
        self._late = 0 if state is None else state.late
        forming = () if state is None else state.forming
        self._forming = {candle.interval: candle for candle in forming}

    def pack(self) -> CandleState:
        """Return the whole state of the symbol."""
        return CandleState(
            symbol=self._symbol,
            next=self._next,
            watermark_us=self._watermark_us,
            forming=list(self._forming.values()),
            late=self._late,
        )

    def apply(self, batch: TradeBatch) -> CandleChanges:
        """Add the trades of a batch that are new, then advance to its watermark."""
        changes = CandleChanges()
        for index, trade in enumerate(batch.trades):
            if batch.first + index >= self._next:
                self._add_trade(index, trade, changes)
        self._next = max(self._next, batch.first + len(batch.trades))
        if batch.watermark_us > self._watermark_us:
            self._advance(batch.watermark_us, changes)
        return changes

    def _add_trade(self, index: int, trade: Trade, changes: CandleChanges) -> None:
        fault = _fault(trade)
        if fault is not None:
            changes.refused.append(RefusedTrade(index, DeadLetterReason.INVALID, fault))
            return
        if trade.time_us < self._watermark_us:
            self._late += 1
            error = f"the trade's time {trade.time_us} is before the watermark {self._watermark_us}"
            changes.refused.append(
                RefusedTrade(index, DeadLetterReason.LATE, f"{error} (microseconds)")
            )
            return
        self._advance(trade.time_us, changes)
        start = trade.time_us - trade.time_us % _MINUTE_US
        price, amount = trade.price, trade.amount
        minute = Candle(
            symbol=self._symbol,
            interval=Interval.MINUTE,
            start_us=start,
            end_us=start + _MINUTE_US,
            open=price,
            high=price,
            low=price,
            close=price,
            volume=amount,
            trades=1,
        )
        self._merge(minute)

    def _advance(self, watermark_us: int, changes: CandleChanges) -> None:
        """Close the candles that end before the watermark; add closed minutes to wider candles."""
        self._watermark_us = watermark_us
        minute = self._forming.get(Interval.MINUTE)
        if minute is not None and minute.end_us <= watermark_us:
            del self._forming[Interval.MINUTE]
            changes.closed.append(minute)
            for interval, length_us in WIDER.items():
                start = minute.start_us - minute.start_us % length_us
                wide = replace(minute, interval=interval, start_us=start, end_us=start + length_us)
                self._merge(wide)
        for interval in WIDER:
            candle = self._forming.get(interval)
            if candle is not None and candle.end_us <= watermark_us:
                changes.closed.append(self._forming.pop(interval))

    def _merge(self, later: Candle) -> None:
        """Merge later prices into the candle that is forming in their interval, or start it."""
        candle = self._forming.get(later.interval)
        if candle is None:
            self._forming[later.interval] = later
            return
        # Both are of the same interval: the caller has advanced to the later prices' time.
        self._forming[later.interval] = replace(
            candle,
            high=max(candle.high, later.high),
            low=min(candle.low, later.low),
            close=later.close,
            volume=candle.volume + later.volume,
            trades=candle.trades + later.trades,
        )


def _fault(trade: Trade) -> str | None:
    if not EARLIEST_US <= trade.time_us <= LATEST_US:
        return f"the time is {trade.time_us}; it must be microseconds since 1970 UTC"
    if not (math.isfinite(trade.price) and trade.price > 0):
        return f"the price is {trade.price}; it must be finite and positive"
    if not (math.isfinite(trade.amount) and trade.amount >= 0):
        return f"the amount is {trade.amount}; it must be finite and not negative"
    return None
