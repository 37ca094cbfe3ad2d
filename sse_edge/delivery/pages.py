"""Pages: a stream's events in answers of bounded size, for clients that ask instead of following.

A page is read like a connection that catches up: by the same resolver, windows, cached pieces of
the log, filters and cursors. So the events of successive pages are those of the stream, whatever
their sizes, and a cursor of a page continues on a stream and the other way round. A reader has a
position and no queue, and reads at most a page's worth ahead.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from operator import le

from sse_edge.delivery import control_events
from sse_edge.delivery.broadcast import BroadcastGroup
from sse_edge.delivery.feed import NOTHING, Delivery
from sse_edge.delivery.history import Position
from sse_edge.delivery.node import Node
from sse_edge.delivery.start import Gap, Start, StartPoint
from sse_edge.errors import LogUnavailable
from sse_edge.streams.dialect import ClientInfo
from sse_edge.streams.stream import Stream

_BYTES_MAX = 4 << 20
"""About the most bytes of a page; a page that reaches them is short, and says that more follows."""
_SLICE = 500
"""How many records that were read are considered before a yield to the loop."""


@dataclass(frozen=True, slots=True)
class Page:
    """Events of a stream, and the cursor after them."""

    data: bytes
    """The blocks of the events and gaps, as the stream has them."""
    events: int
    """How many events `data` holds."""
    cursor: str
    gaps: Sequence[Gap] = ()
    is_full: bool = False
    """Whether it has as many events as were asked for."""
    has_more: bool = False
    """Whether more events may follow already."""
    ended: bool = False
    """Whether the stream's last event is delivered."""


class PageReader:
    """Reads successive pages of one stream."""

    def __init__(self, node: Node, stream: Stream, start: StartPoint, until: Position) -> None:
        self.arrived = asyncio.Event()
        """Set when a record of the stream has arrived, or a topic has changed, since `read`."""
        self.position = start.position
        self._node = node
        self._stream = stream
        self._group: BroadcastGroup = start.group
        self._until = until
        self._gaps: list[Gap] = list(start.gaps)
        self._unsent_gaps: list[Gap] = list(start.gaps)

    @property
    def partitions(self) -> int:
        """How many partitions it reads."""
        return len(self._group.feed.partitions)

    @property
    def total(self) -> int:
        """The sum of the next offsets, which grows with each event."""
        return sum(self.position)

    @property
    def is_at_end(self) -> bool:
        """Whether it has read all that this node has of the log."""
        return all(map(le, self._group.feed.ends, self.position))

    @property
    def is_replaced(self) -> bool:
        """Whether a topic has changed, so that only another reader reads on."""
        return self._group.feed.replaced

    @property
    def has_passed_end(self) -> bool:
        """Whether the windows have the last event of its one entity before the position."""
        return self._group.feed.has_end_before(self.position)

    async def is_after_end(self) -> bool:
        """Return whether the record before the position is the last event of its one entity.

        Raises:
            LogUnavailable: Kafka is away, and the windows do not have the record.
        """
        feed = self._group.feed
        if self.has_passed_end or not feed.stream.has_end:
            return self.has_passed_end
        for index, offset in enumerate(self.position):
            if offset == 0 or feed.covers(index, offset - 1):
                continue
            read = await self._node.read(feed, index, offset - 1)
            if not isinstance(read, Gap) and feed.has_end_among(index, read.entries[:1], offset):
                return True
        return False

    def is_past(self, partition: int, offset: int) -> bool:
        """Return whether it has read the record at an offset of a partition."""
        numbers = (partition.number for partition in self._group.feed.partitions)
        return any(
            number == partition and after > offset
            for number, after in zip(numbers, self.position, strict=True)
        )

    def return_to(self, partition: int, offset: int) -> None:
        """Move back to the record after an offset of a partition, if it has read more of it."""
        numbers = (partition.number for partition in self._group.feed.partitions)
        self.position = tuple(
            min(after, offset + 1) if number == partition else after
            for number, after in zip(numbers, self.position, strict=True)
        )

    def cursor(self, *, ended: bool = False) -> str:
        """Return the cursor of its position."""
        return self._group.feed.cursor(self.position, ended=ended).decode()

    async def read(self, limit: int) -> Page:
        """Return the events after the position, and move it.

        A page may be short or empty though more follows: where `broker_patience_s` have passed,
        where it is large, or where a topic has changed.

        Raises:
            LogUnavailable: Kafka is away, and there is nothing to return.
        """
        self.arrived.clear()
        feed, clock = self._group.feed, asyncio.get_running_loop().time
        deadline_s = clock() + self._node.settings.broker_patience_s
        blocks, events, size = self._take_gaps(), 0, 0
        last_sent, ended, has_more = self.position, False, True
        while not feed.replaced and size < _BYTES_MAX and clock() < deadline_s:
            await self._node.fair_queue.slot()
            try:
                delivery = await self._next(limit - events)
            except LogUnavailable:
                if blocks:
                    break
                raise
            blocks += [*self._take_gaps(), delivery.data]
            events, size = events + delivery.events, size + len(delivery.data)
            self.position, ended = delivery.position, delivery.ended
            last_sent = delivery.last_sent if delivery.events else last_sent
            if ended or events >= limit:
                break
            if not (delivery.moved or delivery.behind):
                has_more = False
                break
        if events >= limit:
            # Records that the stream leaves out may follow; the cursor does not depend on them.
            self.position = last_sent
        gaps, self._gaps = self._gaps, []
        return Page(
            b"".join(blocks),
            events,
            self.cursor(ended=ended),
            gaps,
            is_full=events >= limit,
            has_more=has_more and not ended,
            ended=ended,
        )

    async def _next(self, limit: int) -> Delivery:
        """Return what the windows hold next, or else a piece of a partition behind them."""
        feed = self._group.feed
        until = tuple(map(min, self._until, feed.ends))
        delivery = feed.take_page(self.position, until, limit)
        if delivery.events or delivery.ended or not delivery.behind:
            return delivery
        position = delivery.position
        index = min(delivery.behind, key=lambda behind: position[behind] - until[behind])
        read = await self._node.read(feed, index, position[index])
        if isinstance(read, Gap):
            self._gaps.append(read)
            self._unsent_gaps.append(read)
            moved = (*position[:index], read.to_offset, *position[index + 1 :])
            return Delivery(NOTHING, moved, moved, behind=delivery.behind)
        entries = read.entries[:_SLICE]
        is_cut = len(read.entries) > _SLICE
        end = read.entries[_SLICE].record.offset if is_cut else read.next_offset
        if entries:
            await read.rendered(len(entries))
        of_piece = feed.take_read_page(position, index, entries, min(end, until[index]), limit)
        # A read that brought nothing in time is repeated.
        return of_piece if of_piece.moved else delivery

    def _take_gaps(self) -> list[bytes]:
        """Return the blocks of the gaps that no page has yet."""
        gaps, self._unsent_gaps = self._unsent_gaps, []
        client_info = ClientInfo("", self._stream.name, self._stream.entities)
        prefix = self._node.settings.topic_prefix
        events = control_events.gap_events(self._stream.dialect, client_info, gaps, prefix)
        return [events] if gaps else []


@asynccontextmanager
async def open_pages(
    node: Node, stream: Stream, start: Start, until_ms: int | None = None
) -> AsyncGenerator[PageReader]:
    """Open a reader of a stream's pages; what it needs is kept while the context lasts.

    Args:
        node: the node.
        stream: the stream, of only those records that the caller may read.
        start: where the first page begins.
        until_ms: before which time of the log the pages end; None for no end.

    Raises:
        LogUnavailable: Kafka does not say in time where the pages begin.
    """
    try:
        async with asyncio.timeout(node.settings.broker_patience_s):
            resolved = await node.resolver.resolve(stream, start)
            feed = resolved.group.feed
            until = tuple(_NO_END for _ in feed.partitions)
            if until_ms is not None:
                offsets = await node.log.offsets_at(feed.partitions, until_ms)
                until = tuple(offsets[partition] for partition in feed.partitions)
    except TimeoutError as error:
        raise LogUnavailable("Kafka does not say in time where the pages begin") from error
    reader = PageReader(node, stream, resolved, until)
    with node.groups.listening(resolved.group, reader.arrived.set):
        yield reader


_NO_END = 2**63 - 1
