"""Form candles of trades: trades become minute candles, and those become wider ones. Pure.

A symbol's trades arrive in batches, each with a watermark: every later trade is of this time or
after it. Candles leave when the watermark has passed their end; until then a trade belongs into its
minute, in whatever order trades come. A trade from before the watermark is late, and refused.
The first trade by time opens a candle, and the last one closes it; trades of one instant keep the
order in which they came. An interval without a trade has no candle.

No clock is read. A time is bounded by that of the record in the log: trades and watermarks that are
further ahead are refused, since one of them would make all other trades late for years.
"""

import math
import sys
from dataclasses import dataclass, field, replace

from schemas.events import Candle, CandleState, DeadLetterReason, Interval, Trade, TradeBatch
from schemas.instants import EARLIEST_US, LATEST_US
from stream_processors.windowing.trade_numbers import NUMBER_MAX, TradeNumbers

_MINUTE_US = 60_000_000
WIDER = {Interval.THREE_MINUTES: 3 * _MINUTE_US, Interval.DAY: 24 * 60 * _MINUTE_US}
"""Lengths of the wider intervals; each starts at a whole multiple of its length since 1970 UTC."""
AHEAD_US = 24 * 60 * _MINUTE_US
"""How far ahead of its record's time in the log a trade may be."""
MINUTES_MAX = 120
"""The minutes of a symbol that can change; beyond, the oldest leaves, whatever the watermark is."""
_NAME_CHARACTERS_MAX = 256
_TRADES_MAX = (1 << 31) - 1


@dataclass(frozen=True, slots=True)
class RefusedTrade:
    """A trade that is in no candle, or all of a batch."""

    index: int | None
    """Its index in the batch; None for the batch as a whole."""
    reason: DeadLetterReason
    error: str


@dataclass(slots=True)
class CandleChanges:
    """The results of one batch of trades."""

    closed: list[Candle] = field(default_factory=list)
    """The candles that are complete now, by their end, the narrower first."""
    refused: list[RefusedTrade] = field(default_factory=list)


@dataclass(slots=True)
class _Forming:
    """A candle that can change, and the times of its first and its last trade."""

    candle: Candle
    first_us: int
    last_us: int


class SymbolCandles:
    """The candles of one symbol. A batch that is applied again changes nothing."""

    def __init__(
        self,
        symbol: str,
        state: CandleState | None = None,
        *,
        ahead_us: float = AHEAD_US,
        tenant: str | None = None,
    ) -> None:
        """Continue a symbol.

        Args:
            symbol: its name.
            state: what is known of it; None for a new symbol.
            ahead_us: how far ahead of its record's time in the log a trade may be.
            tenant: whose symbol it is; None for none.
        """
        self._symbol = symbol
        self._tenant = tenant
        self._ahead_us = ahead_us
        self._numbers = TradeNumbers(state)
        self._watermark_us = 0 if state is None else state.watermark_us
        self._late = 0 if state is None else state.late
        self._is_of_earlier_version = state is not None and not state.counts
        """Whether the watermark may lie too far ahead; later versions follow no such one."""
        self._minutes: dict[int, _Forming] = {}
        """The minutes that can change, by their starts."""
        self._wider: dict[str, Candle] = {}
        """The wider candles of closed minutes, by interval."""
        if state is not None:
            self._unpack(state)

    def pack(self) -> CandleState:
        """Return the whole state of the symbol."""
        counts, recent, batches = self._numbers.pack()
        minutes = [self._minutes[start] for start in sorted(self._minutes)]
        return CandleState(
            symbol=self._symbol,
            next=self._numbers.next,
            watermark_us=self._watermark_us,
            forming=[*(minute.candle for minute in minutes), *self._wider.values()],
            edges_us=[edge for minute in minutes for edge in (minute.first_us, minute.last_us)],
            late=self._late,
            tenant=self._tenant,
            counts=counts,
            recent=recent,
            batches=batches,
        )

    def _unpack(self, state: CandleState) -> None:
        minutes = [candle for candle in state.forming if candle.interval == Interval.MINUTE]
        edges_us = state.edges_us
        if len(edges_us) != 2 * len(minutes):
            # Of an earlier version, whose watermark was the time of the last trade.
            edges_us = [
                edge
                for minute in minutes
                for edge in (minute.start_us, max(minute.start_us, state.watermark_us))
            ]
        for minute, first_us, last_us in zip(minutes, edges_us[::2], edges_us[1::2], strict=True):
            self._minutes[minute.start_us] = _Forming(minute, first_us, last_us)
        self._wider = {candle.interval: candle for candle in state.forming if candle not in minutes}

    def apply(self, batch: TradeBatch, log_us: int) -> CandleChanges:
        """Add the trades of a batch that are new, then advance to its watermark.

        Args:
            batch: the batch.
            log_us: when its record was appended to the log, in microseconds since 1970 UTC.
        """
        changes = CandleChanges()
        if self._numbers.is_repeat(batch):
            return changes
        fault = _batch_fault(batch)
        if fault is not None:
            changes.refused.append(RefusedTrade(None, DeadLetterReason.INVALID, fault))
            return changes
        latest_us = min(log_us + self._ahead_us, LATEST_US - AHEAD_US)
        if self._is_of_earlier_version and self._watermark_us > latest_us:
            self._turn_back(batch, latest_us, changes)
        self._is_of_earlier_version = False
        new = self._numbers.take(batch, int(latest_us))
        if new and len(new) == len(batch.trades) and all(trade.is_taken for trade in new):
            changes.refused.append(self._refuse_taken(None, new[0].number, batch))
            new = ()
        for found in new:
            if found.is_taken:
                changes.refused.append(self._refuse_taken(found.index, found.number, batch))
            else:
                self._add_trade(found.index, found.trade, latest_us, changes)
        if batch.watermark_us > latest_us:
            error = f"the watermark is {_ahead(batch.watermark_us, log_us)}; it is not followed"
            changes.refused.append(RefusedTrade(None, DeadLetterReason.INVALID, error))
        else:
            self._advance(batch.watermark_us, changes)
        return changes

    def _add_trade(
        self, index: int, trade: Trade, latest_us: float, changes: CandleChanges
    ) -> None:
        fault = _fault(trade, latest_us)
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
        start = trade.time_us - trade.time_us % _MINUTE_US
        price, amount = trade.price, trade.amount
        minute = self._minutes.get(start)
        if minute is None:
            candle = Candle(
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
            self._minutes[start] = _Forming(candle, trade.time_us, trade.time_us)
            if len(self._minutes) > MINUTES_MAX:
                self._advance(min(self._minutes) + _MINUTE_US, changes)
            return
        candle = minute.candle
        minute.candle = replace(
            candle,
            open=price if trade.time_us < minute.first_us else candle.open,
            high=max(candle.high, price),
            low=min(candle.low, price),
            close=price if trade.time_us >= minute.last_us else candle.close,
            volume=_sum(candle.volume, amount),
            trades=min(candle.trades + 1, _TRADES_MAX),
        )
        minute.first_us = min(minute.first_us, trade.time_us)
        minute.last_us = max(minute.last_us, trade.time_us)

    def _refuse_taken(self, index: int | None, number: int, batch: TradeBatch) -> RefusedTrade:
        """Refuse a trade whose number another one has had, or a whole batch of them."""
        is_late = all(trade.time_us < self._watermark_us for trade in batch.trades)
        return RefusedTrade(
            index,
            DeadLetterReason.LATE if is_late else DeadLetterReason.INVALID,
            f"number {number} of producer {batch.producer!r} was used before, so this trade may "
            "be a repeat; a producer that starts to count again needs a new name",
        )

    def _advance(self, watermark_us: int, changes: CandleChanges) -> None:
        """Close the candles that end before the watermark; add closed minutes to wider candles."""
        if watermark_us <= self._watermark_us:
            return
        self._watermark_us = watermark_us
        over = sorted(start for start in self._minutes if start + _MINUTE_US <= watermark_us)
        for start in over:
            self._close_wider(start, changes)
            minute = self._minutes.pop(start).candle
            changes.closed.append(minute)
            for interval, length_us in WIDER.items():
                first_us = start - start % length_us
                self._merge(
                    replace(
                        minute, interval=interval, start_us=first_us, end_us=first_us + length_us
                    )
                )
        self._close_wider(watermark_us, changes)

    def _close_wider(self, until_us: int, changes: CandleChanges) -> None:
        """Close the wider candles that end until a time."""
        for interval in WIDER:
            candle = self._wider.get(interval)
            if candle is not None and candle.end_us <= until_us:
                changes.closed.append(self._wider.pop(interval))

    def _merge(self, later: Candle) -> None:
        """Merge a closed minute into the wider candle that is forming, or start it."""
        candle = self._wider.get(later.interval)
        if candle is None:
            self._wider[later.interval] = later
            return
        self._wider[later.interval] = replace(
            candle,
            high=max(candle.high, later.high),
            low=min(candle.low, later.low),
            close=later.close,
            volume=_sum(candle.volume, later.volume),
            trades=min(candle.trades + later.trades, _TRADES_MAX),
        )

    def _turn_back(self, batch: TradeBatch, latest_us: float, changes: CandleChanges) -> None:
        """Leave a watermark that lies too far ahead, as earlier versions have taken it."""
        for start in sorted(self._minutes):
            changes.closed.append(self._minutes.pop(start).candle)
        changes.closed += self._wider.values()
        self._wider.clear()
        times_us = [trade.time_us for trade in batch.trades if _fault(trade, latest_us) is None]
        self._watermark_us = min([*times_us, int(latest_us)])


def _batch_fault(batch: TradeBatch) -> str | None:
    if not 0 <= batch.first <= NUMBER_MAX:
        return f"the number of the first trade is {batch.first}; it must be 0 to {NUMBER_MAX}"
    if len(batch.producer) > _NAME_CHARACTERS_MAX:
        return (
            f"the producer's name has {len(batch.producer)} characters; it may have "
            f"{_NAME_CHARACTERS_MAX}"
        )
    return None


def _fault(trade: Trade, latest_us: float) -> str | None:
    if trade.time_us < EARLIEST_US:
        return f"the time is {trade.time_us}; it must be microseconds since 1970 UTC"
    if trade.time_us > latest_us:
        return f"the time {trade.time_us} is too far ahead of the log's clock (microseconds)"
    if not (math.isfinite(trade.price) and trade.price > 0):
        return f"the price is {trade.price}; it must be finite and positive"
    if not (math.isfinite(trade.amount) and trade.amount >= 0):
        return f"the amount is {trade.amount}; it must be finite and not negative"
    return None


def _ahead(time_us: int, log_us: int) -> str:
    return f"{(time_us - log_us) / 1_000_000:.0f} s ahead of the log's clock"


def _sum(left: float, right: float) -> float:
    """Add two amounts; the result stays finite."""
    return min(left + right, sys.float_info.max)
