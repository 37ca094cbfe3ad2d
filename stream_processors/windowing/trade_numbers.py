"""Decide which trades of a batch are new: by their number, and by what they are. Pure.

A trade is known by its producer, the producer's run and its number: a producer counts its trades of
a symbol in each of its runs. A batch that is sent again brings numbers that were taken,
and the same trades: they are left out. A batch that comes before an earlier one, or after a jump,
brings numbers that were not taken: they are taken, and the numbers between stay free.

A producer that counts from 0 again in the same run brings numbers that were taken, and trades that
were not. If one of them is later than all before it, the producer has begun a new count, and
all of them are new. Else nobody can tell: they are refused, and in no candle twice.
"""

import struct
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

from schemas.events import CandleState, Trade, TradeBatch, TradeCount
from schemas.instants import EARLIEST_US

NUMBER_MAX = 1 << 40
"""The largest number of a trade."""
PRODUCERS_MAX = 16
"""The runs of a symbol's producers that are remembered; the one that wrote longest ago leaves."""
RANGES_MAX = 256
"""The ranges of numbers that are remembered of a producer; beyond, the lowest gap is closed."""
TRADES_MAX = 512
"""The last trades that are recognized when they come again in another batch."""
BATCHES_MAX = 64
"""The last batches that are recognized when they come again."""

_MARK_BYTES = 8
_NUMBERS = struct.Struct(">qqdd")


@dataclass(frozen=True, slots=True)
class NewTrade:
    """A trade that was not seen before."""

    index: int
    """Its index in the batch."""
    number: int
    trade: Trade
    is_taken: bool
    """Whether another trade had its number."""


class TradeNumbers:
    """The numbers of a symbol's trades that were taken."""

    def __init__(self, state: CandleState | None = None) -> None:
        self._trades = _Marks(None if state is None else state.recent, TRADES_MAX)
        self._batches = _Marks(None if state is None else state.batches, BATCHES_MAX)
        counts = () if state is None else state.counts or _counts_of_earlier_versions(state)
        self._counts = {(count.producer, count.run): _Count(count) for count in counts}
        """By producer and run."""

    @property
    def next(self) -> int:
        """The number after the last one of the producer without a name."""
        count = self._counts.get(("", ""))
        return count.ranges[-1] if count is not None and count.ranges else 0

    def pack(self) -> tuple[Sequence[TradeCount], bytes, bytes]:
        """Return the counts, and the marks of the last trades and batches."""
        counts = [count.pack(*counted_by) for counted_by, count in self._counts.items()]
        return counts, self._trades.pack(), self._batches.pack()

    def is_repeat(self, batch: TradeBatch) -> bool:
        """Return whether this very batch was taken lately, and remember it."""
        head = _NUMBERS.pack(batch.first, batch.watermark_us, float(len(batch.trades)), 0.0)
        digest = blake2b(head + _counted_by(batch), digest_size=_MARK_BYTES)
        for trade in batch.trades:
            digest.update(_NUMBERS.pack(0, trade.time_us, trade.price, trade.amount))
        return not self._batches.add(digest.digest())

    def take(self, batch: TradeBatch, latest_us: int) -> Sequence[NewTrade]:
        """Take the numbers of a batch, and return its trades that were not seen before.

        Args:
            batch: the batch.
            latest_us: a trade with a later time is invalid, and shows no new count.
        """
        key, counted_by = (batch.producer, batch.run), _counted_by(batch)
        count = self._counts.pop(key, None) or _Count()
        self._counts[key] = count  # last, since it has written last
        if len(self._counts) > PRODUCERS_MAX:
            del self._counts[next(iter(self._counts))]
        numbered = [
            (index, batch.first + index, trade)
            for index, trade in enumerate(batch.trades)
            if self._trades.add(_mark(counted_by, batch.first + index, trade))
        ]
        if any(
            count.latest_us < trade.time_us <= latest_us and number in count
            for _, number, trade in numbered
        ):
            count.ranges.clear()
        found = [
            NewTrade(index, number, trade, is_taken=number in count)
            for index, number, trade in numbered
        ]
        if batch.trades:
            count.add(batch.first, batch.first + len(batch.trades))
        count.latest_us = max(
            [
                count.latest_us,
                *(trade.time_us for _, _, trade in numbered if trade.time_us <= latest_us),
            ]
        )
        return found


class _Count:
    """The numbers that one producer has used."""

    def __init__(self, count: TradeCount | None = None) -> None:
        self.ranges = [] if count is None else list(count.ranges)
        """The start and the end of each range, in order."""
        self.latest_us = _NONE_US if count is None else count.latest_us

    def __contains__(self, number: int) -> bool:
        return bisect_right(self.ranges, number) % 2 == 1

    def add(self, start: int, end: int) -> None:
        """Take the numbers from `start` to `end`, exclusive, and join ranges that touch."""
        # An even position is outside of a range, so the bound that is there begins a new one.
        left, right = bisect_left(self.ranges, start), bisect_right(self.ranges, end)
        bounds = [start] * (left % 2 == 0) + [end] * (right % 2 == 0)
        self.ranges[left:right] = bounds
        if len(self.ranges) > 2 * RANGES_MAX:
            del self.ranges[1:3]

    def pack(self, producer: str, run: str) -> TradeCount:
        """Return the count for the state."""
        ranges = list(self.ranges)
        return TradeCount(producer=producer, ranges=ranges, latest_us=self.latest_us, run=run)


_NONE_US = EARLIEST_US
"""Before every time: no trade was taken."""


class _Marks:
    """The marks of what came last, in order."""

    def __init__(self, packed: bytes | None, most: int) -> None:
        packed = packed or b""
        marks = (packed[at : at + _MARK_BYTES] for at in range(0, len(packed), _MARK_BYTES))
        self._order = deque(marks)
        self._known = set(self._order)
        self._most = most

    def add(self, mark: bytes) -> bool:
        """Remember a mark, and return whether it is new."""
        if mark in self._known:
            return False
        self._known.add(mark)
        self._order.append(mark)
        if len(self._order) > self._most:
            self._known.discard(self._order.popleft())
        return True

    def pack(self) -> bytes:
        """Return the marks for the state."""
        return b"".join(self._order)


def _mark(counted_by: bytes, number: int, trade: Trade) -> bytes:
    content = _NUMBERS.pack(number, trade.time_us, trade.price, trade.amount)
    return blake2b(content + counted_by, digest_size=_MARK_BYTES).digest()


def _counted_by(batch: TradeBatch) -> bytes:
    """Return the producer and its run; that of no run is as in earlier versions."""
    return f"{batch.producer}\0{batch.run}".encode() if batch.run else batch.producer.encode()


def _counts_of_earlier_versions(state: CandleState) -> Sequence[TradeCount]:
    """Return what the first versions knew: the next number of all trades."""
    if not state.next:
        return ()
    return [TradeCount(producer="", ranges=[0, state.next], latest_us=state.watermark_us)]
