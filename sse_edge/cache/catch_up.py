"""What lies before the windows: pieces of the log, read by offset, for all who need them.

A thousand clients that come back at once ask for the same stretch of the log. So a piece is read
once, begins where others will look for it too, and is kept for a while, its records worded once.
Reading is bounded by the log's readers; a partition that does not answer holds up itself alone.
"""

import asyncio
from bisect import bisect_right, insort
from collections import OrderedDict, defaultdict
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

from sse_edge.cache.render_pool import PART, RenderPool
from sse_edge.cache.window import Entry, RepeatFilter, size_of
from sse_edge.errors import OffsetOutOfRange
from sse_edge.log.protocol import Log
from sse_edge.log.record import Partition
from sse_edge.streams.stream import Channel

_ALIGNED = 1_000
"""Pieces begin at multiples of it, so that clients at a thousand offsets share them."""

Place = tuple[bytes, Partition]
"""A partition of one history of a log: offsets mean something only there."""


class Piece(NamedTuple):
    """A stretch of a partition, from an offset that was asked for."""

    entries: Sequence[Entry]
    next_offset: int
    framing: Sequence[asyncio.Future[None]] = ()
    skipped: int = 0

    async def rendered(self, upto: int) -> None:
        """Wait until the entries up to one are worded, where that is done beside the loop."""
        part = min((self.skipped + upto - 1) // PART, len(self.framing) - 1)
        if part >= 0 and not self.framing[part].done():
            await asyncio.wait(self.framing[: part + 1])  # it is waited for by others, too


class _Kept(NamedTuple):
    start: int
    next_offset: int
    entries: list[Entry]
    offsets: list[int]
    bytes: int
    repeats: RepeatFilter
    framing: Sequence[asyncio.Future[None]]
    """For each `PART` of the entries, what is done when they are worded."""


class CatchUp:
    """Reads pieces of the log, each for as many as ask for it."""

    def __init__(self, log: Log, bytes_max: int, framers: RenderPool | None = None) -> None:
        """Read a log.

        Args:
            log: what is read.
            bytes_max: how much of it is kept for others.
            framers: word what is read, where all of it is needed.
        """
        self._log = log
        self._render_pool = framers or RenderPool(0)
        self._bytes_max = bytes_max
        self._bytes = 0
        self._kept: defaultdict[Place, dict[int, _Kept]] = defaultdict(dict)
        self._starts: defaultdict[Place, list[int]] = defaultdict(list)
        self._by_use: OrderedDict[tuple[Place, int], None] = OrderedDict()
        self._locks: defaultdict[Place, asyncio.Lock] = defaultdict(asyncio.Lock)
        self.waiting = 0
        """How many reads are waited for."""
        self.reads = 0
        """How many pieces were read from the log."""
        self.records = 0
        """How many records stood in them."""

    async def read(self, place: Place, offset: int, channel: Channel | None = None) -> Piece:
        """Records from an offset on; none, and the same offset, where nothing came in time.

        Args:
            place: whose.
            offset: where to begin.
            channel: how all of them will be worded; None where most are not needed.

        Raises:
            OffsetOutOfRange: the offset is not in the log.
            LogUnavailable: Kafka is away.
        """
        self.waiting += 1
        try:
            async with self._locks[place]:
                kept = self._covering(place, offset) or await self._read(place, offset, channel)
        finally:
            self.waiting -= 1
        if kept is None:
            return Piece((), offset)
        first = bisect_right(kept.offsets, offset - 1)
        return Piece(kept.entries[first:], kept.next_offset, kept.framing, first)

    async def _read(self, place: Place, offset: int, channel: Channel | None) -> _Kept | None:
        before = self._ending_at(place, offset)
        start, batch = offset - offset % _ALIGNED, None
        if before is None and start < offset:
            with suppress(OffsetOutOfRange):  # the log may begin between the two
                batch = await self._log.read(place[1], start)
        if batch is None or batch.next_offset <= offset:
            start, batch = offset, await self._log.read(place[1], offset)
        if batch.next_offset <= offset:
            return None
        repeats = RepeatFilter() if before is None else before.repeats.copy()
        entries = [Entry(one, is_repeat=repeats.is_repeat(one)) for one in batch.records]
        self.reads += 1
        self.records += len(entries)
        kept = _Kept(
            start,
            batch.next_offset,
            entries,
            [one.offset for one in batch.records],
            sum(map(size_of, batch.records)),
            repeats,
            () if channel is None else self._render_pool.frame(channel, entries),
        )
        self._keep(place, kept)
        return kept

    def _covering(self, place: Place, offset: int) -> _Kept | None:
        starts = self._starts.get(place, [])
        at = bisect_right(starts, offset) - 1
        if at < 0:
            return None
        kept = self._kept[place][starts[at]]
        if offset >= kept.next_offset:
            return None
        self._by_use.move_to_end((place, kept.start))
        return kept

    def _ending_at(self, place: Place, offset: int) -> _Kept | None:
        starts = self._starts.get(place, [])
        at = bisect_right(starts, offset - 1) - 1
        kept = self._kept[place][starts[at]] if at >= 0 else None
        return kept if kept is not None and kept.next_offset == offset else None

    def _keep(self, place: Place, kept: _Kept) -> None:
        if kept.start in self._kept[place]:
            self._forget(place, kept.start)
        self._kept[place][kept.start] = kept
        insort(self._starts[place], kept.start)
        self._by_use[place, kept.start] = None
        self._bytes += kept.bytes
        while self._bytes > self._bytes_max and len(self._by_use) > 1:
            self._forget(*next(iter(self._by_use)))

    def _forget(self, place: Place, start: int) -> None:
        del self._by_use[place, start]
        self._bytes -= self._kept[place].pop(start).bytes
        self._starts[place].remove(start)
        if not self._kept[place]:
            del self._kept[place], self._starts[place]
