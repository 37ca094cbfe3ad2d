"""Pieces of the log before the windows, read by offset and shared by all clients that need them.

A thousand clients that come back at once ask for the same stretch of the log. So a piece is read
once, starts at an offset where the others look for it too, and stays cached for a while; its
records are rendered once. The log bounds how many reads run at a time, and a partition that does
not answer delays no other.

A piece of which every event is needed is read as record batches, and a process unpacks and renders
them. While one does, the batches after them go to another one, for a client that reads on. What
cannot be read so is read by a consumer: few records, other framings, and whatever is wrong.
"""

import asyncio
from bisect import bisect_right, insort
from collections import OrderedDict, defaultdict
from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from typing import NamedTuple

from sse_edge.cache.render_pool import PART, RenderPool, Unpacked
from sse_edge.cache.window import Entry, RepeatFilter, size_of
from sse_edge.errors import OffsetOutOfRange
from sse_edge.log.protocol import Log
from sse_edge.log.record import Partition
from sse_edge.streams.channels import Channel

_ALIGNMENT = 1_000
"""Pieces start at multiples of this offset, so that clients at different offsets share them."""

_AHEAD = 3
"""How many pieces are unpacked before a client that reads on asks for them."""
_AHEAD_MAX = 8
"""How many there may be for all clients."""
_AHEAD_S = 10.0
"""How long such a piece is kept."""

PartitionHistory = tuple[bytes, Partition]
"""A partition, and an id of its history: the same offset in another history is another record."""


class Piece(NamedTuple):
    """A stretch of a partition, from the offset that was asked for."""

    entries: Sequence[Entry]
    next_offset: int
    rendering: Sequence[asyncio.Future[None]] = ()
    skipped: int = 0
    """How many entries of the cached piece come before these."""

    async def rendered(self, count: int) -> None:
        """Wait until the first `count` entries are rendered, if the render pool does it."""
        part = min((self.skipped + count - 1) // PART, len(self.rendering) - 1)
        if part >= 0 and not self.rendering[part].done():
            await asyncio.wait(self.rendering[: part + 1])  # others wait for the same futures


class _CachedPiece(NamedTuple):
    start: int
    next_offset: int
    entries: Sequence[Entry]
    offsets: list[int]
    bytes: int
    repeats: RepeatFilter
    rendering: Sequence[asyncio.Future[None]]
    """For each `PART` of the entries, a future that is done when they are rendered."""


class _Unpacking(NamedTuple):
    """Record batches that a process unpacks and renders."""

    began_s: float
    next_offset: int
    channel: Channel
    unpacked: asyncio.Future[Unpacked | None]


class CatchUp:
    """Reads pieces of the log, each once for all clients that ask for it."""

    def __init__(self, log: Log, bytes_max: int, render_pool: RenderPool | None = None) -> None:
        """Cache nothing yet.

        Args:
            log: where pieces are read from.
            bytes_max: the size of the cache; the piece that was read last always fits.
            render_pool: renders pieces of which every event is needed; None for the loop.
        """
        self._log = log
        self._render_pool = render_pool or RenderPool(0)
        self._bytes_max = bytes_max
        self._bytes = 0
        self._pieces: defaultdict[PartitionHistory, dict[int, _CachedPiece]] = defaultdict(dict)
        self._starts: defaultdict[PartitionHistory, list[int]] = defaultdict(list)
        self._by_use: OrderedDict[tuple[PartitionHistory, int], None] = OrderedDict()
        self._locks: defaultdict[PartitionHistory, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._ahead: OrderedDict[tuple[PartitionHistory, int], _Unpacking] = OrderedDict()
        """Pieces that are unpacked before a client asks for them, by their first offsets."""
        self.waiting = 0
        """How many callers wait for a read."""
        self.reads = 0
        """How many pieces were read from the log."""
        self.records = 0
        """How many records those pieces had."""

    async def read(
        self, history: PartitionHistory, offset: int, channel: Channel | None = None
    ) -> Piece:
        """Return records from an offset on; an empty piece if none arrived in time.

        Args:
            history: which partition.
            offset: where the piece begins.
            channel: renders every event of the piece; None if most are not needed.

        Raises:
            OffsetOutOfRange: the offset is not in the log.
            LogUnavailable: Kafka is away.
        """
        self.waiting += 1
        try:
            async with self._locks[history]:
                piece = self._cached(history, offset)
                piece = piece or await self._read(history, offset, channel)
        finally:
            self.waiting -= 1
        if piece is None:
            return Piece((), offset)
        first = bisect_right(piece.offsets, offset - 1)
        return Piece(piece.entries[first:], piece.next_offset, piece.rendering, first)

    async def _read(
        self, history: PartitionHistory, offset: int, channel: Channel | None
    ) -> _CachedPiece | None:
        previous = self._ending_at(history, offset)
        repeats = RepeatFilter() if previous is None else previous.repeats.copy()
        start = offset if previous is not None else offset - offset % _ALIGNMENT
        piece = None
        if start < offset:
            with suppress(OffsetOutOfRange):  # the log may begin between the two
                piece = await self._read_from(history, start, offset, channel, repeats)
        if piece is None or piece.next_offset <= offset:
            repeats = RepeatFilter() if previous is None else previous.repeats.copy()
            piece = await self._read_from(
                history, offset, offset, channel, repeats, reads_on=previous is not None
            )
        if piece.next_offset <= offset:
            return None
        self.reads += 1
        self.records += len(piece.entries)
        self._add(history, piece)
        return piece

    async def _read_from(
        self,
        history: PartitionHistory,
        start: int,
        offset: int,
        channel: Channel | None,
        repeats: RepeatFilter,
        *,
        reads_on: bool = False,
    ) -> _CachedPiece:
        """Return a piece, which is not cached yet.

        Args:
            history: which partition.
            start: where the piece begins.
            offset: an offset that should be in it.
            channel: renders every event of the piece; None if most are not needed.
            repeats: knows the records before the piece.
            reads_on: whether somebody has read the piece before it.
        """
        entries: Sequence[Entry]
        rendering: Sequence[asyncio.Future[None]] = ()
        unpacked = None
        if channel is not None and self._render_pool.has_processes:
            unpacked = await self._unpacked(history, start, offset, channel, reads_on=reads_on)
        if channel is not None and unpacked is not None:
            next_offset = unpacked.next_offset
            entries = await unpacked.entries(channel, repeats)
        else:
            batch = await self._log.read(history[1], start)
            next_offset = batch.next_offset
            entries = [
                Entry(record, is_repeat=repeats.is_repeat(record)) for record in batch.records
            ]
            if channel is not None:
                rendering = self._render_pool.render(channel, entries)
        records = [entry.record for entry in entries]
        return _CachedPiece(
            start,
            next_offset,
            entries,
            [record.offset for record in records],
            sum(map(size_of, records)),
            repeats,
            rendering,
        )

    async def _unpacked(
        self,
        history: PartitionHistory,
        start: int,
        offset: int,
        channel: Channel,
        *,
        reads_on: bool,
    ) -> Unpacked | None:
        """Return what a process has unpacked; None if a consumer has to read it."""
        found = self._ahead.pop((history, start), None)
        if found is None or found.channel is not channel:
            found = await self._begin_to_unpack(history, start, offset, channel)
        if found is None:
            return None
        if reads_on:
            await self._unpack_ahead(history, found.next_offset, channel)
        try:
            return await found.unpacked
        except BrokenProcessPool as error:
            self._render_pool.note_break(error)
            return None

    async def _unpack_ahead(self, history: PartitionHistory, start: int, channel: Channel) -> None:
        """Keep the processes busy with the pieces from an offset on."""
        now_s = asyncio.get_running_loop().time()
        while self._ahead and next(iter(self._ahead.values())).began_s < now_s - _AHEAD_S:
            self._ahead.popitem(last=False)
        for _ in range(_AHEAD):
            following = self._ahead.get((history, start))
            if following is None:
                if len(self._ahead) >= _AHEAD_MAX:
                    return
                following = await self._begin_to_unpack(history, start, start, channel)
                if following is None:
                    return
                self._ahead[history, start] = following
            start = following.next_offset

    async def _begin_to_unpack(
        self, history: PartitionHistory, start: int, offset: int, channel: Channel
    ) -> _Unpacking | None:
        """Begin to unpack the batches from `start` on; None if they are few or end too early."""
        packed = await self._log.read_packed(history[1], start)
        if packed is None or packed.records < PART or packed.next_offset <= offset:
            return None
        try:
            unpacked = self._render_pool.unpack(channel, packed)
        except BrokenProcessPool as error:
            self._render_pool.note_break(error)
            return None
        now_s = asyncio.get_running_loop().time()
        return _Unpacking(now_s, packed.next_offset, channel, unpacked)

    def _cached(self, history: PartitionHistory, offset: int) -> _CachedPiece | None:
        """Return the cached piece that an offset lies in."""
        starts = self._starts.get(history, [])
        index = bisect_right(starts, offset) - 1
        if index < 0:
            return None
        piece = self._pieces[history][starts[index]]
        if offset >= piece.next_offset:
            return None
        self._by_use.move_to_end((history, piece.start))
        return piece

    def _ending_at(self, history: PartitionHistory, offset: int) -> _CachedPiece | None:
        starts = self._starts.get(history, [])
        index = bisect_right(starts, offset - 1) - 1
        piece = self._pieces[history][starts[index]] if index >= 0 else None
        return piece if piece is not None and piece.next_offset == offset else None

    def _add(self, history: PartitionHistory, piece: _CachedPiece) -> None:
        if piece.start in self._pieces[history]:
            self._evict(history, piece.start)
        self._pieces[history][piece.start] = piece
        insort(self._starts[history], piece.start)
        self._by_use[history, piece.start] = None
        self._bytes += piece.bytes
        while self._bytes > self._bytes_max and len(self._by_use) > 1:
            self._evict(*next(iter(self._by_use)))

    def _evict(self, history: PartitionHistory, start: int) -> None:
        del self._by_use[history, start]
        self._bytes -= self._pieces[history].pop(start).bytes
        self._starts[history].remove(start)
        if not self._pieces[history]:
            del self._pieces[history], self._starts[history]
