"""Form candles of trades: trades become minute candles, and those become wider ones. Pure.

A symbol's trades arrive in batches, each with a watermark: every later trade is of this time or
after it. A trade belongs to the minute of its time. A minute closes when the watermark passes its
end; until then its trades may come in any order, also those from before the watermark. A trade of
a closed minute is late, and refused. The first trade by time opens a candle, and the last one
closes it; trades of one instant are ordered by number, then by producer and run. So a candle
depends on its trades alone, whatever the batches. An interval without a trade has no candle.

No clock is read. A time is bounded by that of the record in the log: trades and watermarks that are
further ahead are refused, since one of them would make all other trades late for years.
"""

import math
import sys
from dataclasses import dataclass, field, replace
from typing import NamedTuple

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


class _Place(NamedTuple):
    """The place of a trade among all trades of its symbol."""

    time_us: int
    number: int
    producer: str
    run: str


_UNNUMBERED = -1
"""The number of a trade that an earlier version has placed: before all others of its instant."""


@dataclass(slots=True)
class _Forming:
    """A minute that can change, the places of its first and its last trade, and a rest.

    `rest` is what rounding has left of the volume, so that it does not depend on the order of the
    trades.
    """

    candle: Candle
    first: _Place
    last: _Place
    rest: float = 0.0

    def add(self, place: _Place, trade: Trade) -> None:
        """Add a trade to the minute."""
        candle, price = self.candle, trade.price
        volume, rest = _exact_sum(candle.volume, trade.amount)
        volume, self.rest = _exact_sum(volume, self.rest + rest)
        self.candle = replace(
            candle,
            open=price if place < self.first else candle.open,
            high=max(candle.high, price),
            low=min(candle.low, price),
            close=price if place >= self.last else candle.close,
            volume=volume,
            trades=min(candle.trades + 1, _TRADES_MAX),
        )
        self.first = min(self.first, place)
        self.last = max(self.last, place)


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
        edges = [edge for minute in minutes for edge in (minute.first, minute.last)]
        return CandleState(
            symbol=self._symbol,
            next=self._numbers.next,
            watermark_us=self._watermark_us,
            forming=[*(minute.candle for minute in minutes), *self._wider.values()],
            edges_us=[edge.time_us for edge in edges],
            edge_numbers=[edge.number for edge in edges],
            edge_producers=[name for edge in edges for name in (edge.producer, edge.run)],
            volume_rests=[minute.rest for minute in minutes],
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
        numbers, names = state.edge_numbers, state.edge_producers
        rests = state.volume_rests
        if not len(numbers) == len(edges_us) == len(names) // 2 == 2 * len(rests):
            # Of an earlier version, in which trades of one instant kept the order of their arrival.
            numbers, names = [_UNNUMBERED] * len(edges_us), [""] * 2 * len(edges_us)
            rests = [0.0] * len(minutes)
        edges = list(map(_Place, edges_us, numbers, names[::2], names[1::2]))
        for minute, first, last, rest in zip(minutes, edges[::2], edges[1::2], rests, strict=True):
            self._minutes[minute.start_us] = _Forming(minute, first, last, rest)
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
                place = _Place(found.trade.time_us, found.number, batch.producer, batch.run)
                self._add_trade(found.index, place, found.trade, latest_us, changes)
        if batch.watermark_us > latest_us:
            error = f"the watermark is {_ahead(batch.watermark_us, log_us)}; it is not followed"
            changes.refused.append(RefusedTrade(None, DeadLetterReason.INVALID, error))
        else:
            self._advance(batch.watermark_us, changes)
        return changes

    def _add_trade(
        self, index: int, place: _Place, trade: Trade, latest_us: float, changes: CandleChanges
    ) -> None:
        fault = _fault(trade, latest_us)
        if fault is not None:
            changes.refused.append(RefusedTrade(index, DeadLetterReason.INVALID, fault))
            return
        if self._is_late(trade):
            self._late += 1
            error = (
                f"the trade's time {trade.time_us} is in a minute that the watermark "
                f"{self._watermark_us} has closed (microseconds)"
            )
            changes.refused.append(RefusedTrade(index, DeadLetterReason.LATE, error))
            return
        start = _minute_of(trade)
        minute = self._minutes.get(start)
        if minute is not None:
            minute.add(place, trade)
            return
        candle = Candle(
            symbol=self._symbol,
            interval=Interval.MINUTE,
            start_us=start,
            end_us=start + _MINUTE_US,
            open=trade.price,
            high=trade.price,
            low=trade.price,
            close=trade.price,
            volume=trade.amount,
            trades=1,
        )
        self._minutes[start] = _Forming(candle, place, place)
        if len(self._minutes) > MINUTES_MAX:
            self._advance(min(self._minutes) + _MINUTE_US, changes)

    def _is_late(self, trade: Trade) -> bool:
        return _minute_of(trade) + _MINUTE_US <= self._watermark_us

    def _refuse_taken(self, index: int | None, number: int, batch: TradeBatch) -> RefusedTrade:
        """Refuse a trade whose number another one has had, or a whole batch of them."""
        is_late = all(map(self._is_late, batch.trades))
        return RefusedTrade(
            index,
            DeadLetterReason.LATE if is_late else DeadLetterReason.INVALID,
            f"number {number} of producer {batch.producer!r}, run {batch.run!r}, was used before, "
            "so this trade may be a repeat; a producer that starts to count again needs a new run",
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
    for what, name in (("producer's name", batch.producer), ("run's name", batch.run)):
        if len(name) > _NAME_CHARACTERS_MAX:
            return f"the {what} has {len(name)} characters; it may have {_NAME_CHARACTERS_MAX}"
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


def _minute_of(trade: Trade) -> int:
    return trade.time_us - trade.time_us % _MINUTE_US


def _sum(left: float, right: float) -> float:
    """Add two amounts; the result stays finite."""
    return min(left + right, sys.float_info.max)


def _exact_sum(left: float, right: float) -> tuple[float, float]:
    """Return the sum of two numbers, and what its rounding has left out.

    D. E. Knuth, The Art of Computer Programming, volume 2, section 4.2.2, theorem B.
    """
    total = _sum(left, right)
    if total == sys.float_info.max:
        return total, 0.0
    part = total - left
    return total, (left - (total - part)) + (right - part)
