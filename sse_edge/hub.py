"""The hub: a node's tail, feeds and connections, and where a connection begins.

A connection begins at the cursor that its client kept, at one end of the log, or at a time. What
the cursor asks for and the log cannot give any more is a gap, which the client is told.
"""

import asyncio
import random
from collections import defaultdict
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from itertools import chain
from weakref import WeakValueDictionary

from sse_edge.cursor import Cursor, CursorCodec, TopicPosition
from sse_edge.errors import OffsetOutOfRange, TooManyConnections
from sse_edge.feed import Feed, Position
from sse_edge.log import Log
from sse_edge.record import Batch, Partition
from sse_edge.settings import EdgeSettings
from sse_edge.stream import CHANNELS, Source, Stream
from sse_edge.tail import Tail, TopicTail


class End(StrEnum):
    """An end of the log."""

    EARLIEST = "earliest"
    LATEST = "latest"


@dataclass(frozen=True, slots=True)
class At:
    """A moment, by the log's own clock."""

    timestamp_ms: int


Start = Cursor | End | At
"""Where a client wants to begin."""


class GapReason(StrEnum):
    """Why events that a cursor asks for cannot be had."""

    EXPIRED = "expired"
    TOPIC_RECREATED = "topic_recreated"
    FUTURE = "future"


@dataclass(frozen=True, slots=True)
class Gap:
    """A stretch of a partition that a client asked for and does not get."""

    reason: GapReason
    partition: Partition
    from_offset: int
    to_offset: int


class Hub:
    """What the connections of one node share."""

    def __init__(self, log: Log, settings: EdgeSettings) -> None:
        self.log = log
        self.settings = settings
        self.tail = Tail(log, settings)
        self.draining = False
        """Whether the node is on its way out."""
        self._leave: set[Callable[[float], None]] = set()
        self._feeds: WeakValueDictionary[tuple[str, tuple[Partition, ...]], Feed] = (
            WeakValueDictionary()
        )
        self._clients: dict[str, list[str]] = {name: [] for name in CHANNELS}
        self._per_address: defaultdict[str, int] = defaultdict(int)

    @property
    def connections(self) -> int:
        """How many streams are open."""
        return sum(self._per_address.values())

    @property
    def unavailable_for(self) -> str | None:
        """Why streams cannot be served now; None where they can."""
        if self.draining:
            return "draining"
        return None if self.tail.connected else "no_broker"

    @property
    def clients(self) -> Mapping[str, Sequence[str]]:
        """Who is connected, by channel."""
        return self._clients

    def refuse_over_limit(self, address: str) -> None:
        """See whether an address may open one more.

        Raises:
            TooManyConnections: it holds as many as it may.
        """
        limit = self.settings.connections_per_ip_max
        if self._per_address.get(address, 0) >= limit:
            raise TooManyConnections(f"{address} holds {limit} connections; no more are allowed")

    @contextmanager
    def admitted(self, stream: Stream, client_id: str, address: str) -> Generator[None]:
        """Count a connection while it lasts."""
        self._per_address[address] += 1
        channels = [source.channel.name for source in stream.sources]
        for name in channels:
            self._clients[name].append(client_id)
        try:
            yield
        finally:
            for name in channels:
                self._clients[name].remove(client_id)
            self._per_address[address] -= 1
            if not self._per_address[address]:
                del self._per_address[address]

    @contextmanager
    def leaving(self, leave_by: Callable[[float], None]) -> Generator[None]:
        """Tell a connection, while it lasts, when it is to leave: a time of the event loop."""
        self._leave.add(leave_by)
        if self.draining:  # since it was let in
            leave_by(asyncio.get_running_loop().time())
        try:
            yield
        finally:
            self._leave.discard(leave_by)

    def drain(self) -> None:
        """Take no more connections, and let those that there are leave, spread over `drain_s`."""
        self.draining = True
        now_s = asyncio.get_running_loop().time()
        for leave_by in tuple(self._leave):
            leave_by(now_s + random.uniform(0.0, self.settings.drain_s))  # noqa: S311

    def codec(self, stream: Stream) -> CursorCodec:
        """How cursors of a stream are written."""
        secret = self.settings.cursor_secret
        key = b"" if secret is None else secret.get_secret_value().encode()
        return CursorCodec(stream.identity, len(stream.sources), key)

    def topic_name(self, source: Source) -> str:
        """A source's topic, as Kafka knows it."""
        return self.settings.topic_prefix + source.channel.topic.name

    async def resolve(self, stream: Stream, start: Start) -> tuple[Feed, Position, Sequence[Gap]]:
        """Find where a connection begins, for every partition it reads.

        Raises:
            LogUnavailable: Kafka is away, and had to be asked.
        """
        tails = await self._follow(stream)
        if isinstance(start, Cursor) and _knows_more(start, tails):
            # It comes from a node that has seen a topic change before this one has.
            await self.tail.look_again()
            tails = await self._follow(stream)
        partitions = self._partitions(stream, tails, start)
        feed = self._feed(stream, tails, partitions)
        match start:
            case End.LATEST:
                return feed, feed.ends, ()
            case End.EARLIEST:
                begins = await self.log.begin_offsets(feed.partitions)
                return feed, tuple(begins[one] for one in feed.partitions), ()
            case At(timestamp_ms):
                found = await self.log.offsets_at(feed.partitions, timestamp_ms)
                return feed, tuple(found[one] for one in feed.partitions), ()
            case Cursor():
                position, gaps = await self._at_cursor(feed, tails, partitions, start)
                return feed, position, gaps

    async def read(self, partition: Partition, offset: int) -> Batch | Gap | None:
        """A piece of the log, the gap that is there instead, or None where nothing came in time.

        Raises:
            LogUnavailable: Kafka is away.
        """
        try:
            piece = await self.log.read(partition, offset)
        except OffsetOutOfRange:
            return await self._gap_at(partition, offset)
        return piece if piece.next_offset > offset else None

    async def _gap_at(self, partition: Partition, offset: int) -> Gap:
        begin = (await self.log.begin_offsets([partition]))[partition]
        if offset < begin:
            return Gap(GapReason.EXPIRED, partition, offset, begin)
        end = (await self.log.end_offsets([partition]))[partition]
        return Gap(GapReason.FUTURE, partition, offset, min(offset, end))

    async def _follow(self, stream: Stream) -> list[TopicTail]:
        return [await self.tail.follow(self.topic_name(source)) for source in stream.sources]

    def _partitions(
        self, stream: Stream, tails: Sequence[TopicTail], start: Start
    ) -> list[list[Partition]]:
        """For each source, the partitions to read: its entities', or all."""
        read = []
        for place, (keys, tail) in enumerate(zip(stream.keys, tails, strict=True)):
            count = tail.info.partitions
            numbers = {self.log.partition_of(key, count) for key in keys} or set(range(count))
            if isinstance(start, Cursor):
                # Before partitions were added, an entity's events went to another one.
                known = {number for number, _ in start.topics[place].offsets}
                numbers |= {number for number in known if number < count}
            read.append([Partition(tail.info.name, number) for number in sorted(numbers)])
        return read

    def _feed(
        self,
        stream: Stream,
        tails: Sequence[TopicTail],
        partitions: Sequence[Sequence[Partition]],
    ) -> Feed:
        name = (stream.identity, tuple(chain.from_iterable(partitions)))
        feed = self._feeds.get(name)
        if feed is None or feed.replaced:
            bytes_max = self.settings.write_bytes_max
            feed = Feed(stream, tails, partitions, self.codec(stream), bytes_max)
            self._feeds[name] = feed
        return feed

    async def _at_cursor(
        self,
        feed: Feed,
        tails: Sequence[TopicTail],
        partitions: Sequence[Sequence[Partition]],
        cursor: Cursor,
    ) -> tuple[Position, Sequence[Gap]]:
        wanted: dict[Partition, int] = {}
        gaps: list[Gap] = []
        for tail, ones, known in zip(tails, partitions, cursor.topics, strict=True):
            if known.incarnation == tail.incarnation:
                at = dict(known.offsets)
                wanted |= {one: at.get(one.number, 0) for one in ones}
                gaps += [
                    Gap(GapReason.FUTURE, Partition(tail.info.name, number), offset, 0)
                    for number, offset in known.offsets
                    if number >= tail.info.partitions
                ]
            else:
                again, lost = await self._from_the_new_beginning(ones, known)
                wanted |= again
                gaps += lost
        ahead = [
            one for one, end in zip(feed.partitions, feed.ends, strict=True) if wanted[one] > end
        ]
        if ahead:
            # Another node may be ahead of this one's tail; nobody is ahead of the log.
            ends = await self.log.end_offsets(ahead)
            for one in ahead:
                if wanted[one] > ends[one]:
                    gaps.append(Gap(GapReason.FUTURE, one, wanted[one], ends[one]))
                    wanted[one] = ends[one]
        return tuple(wanted[one] for one in feed.partitions), gaps

    async def _from_the_new_beginning(
        self, partitions: Sequence[Partition], known: TopicPosition
    ) -> tuple[Mapping[Partition, int], list[Gap]]:
        begins = await self.log.begin_offsets(partitions)
        at = dict(known.offsets)
        gaps = [
            Gap(GapReason.TOPIC_RECREATED, one, at.get(one.number, 0), begins[one])
            for one in partitions
        ]
        return begins, gaps


def _knows_more(cursor: Cursor, tails: Sequence[TopicTail]) -> bool:
    """Whether a cursor names an incarnation or a partition that a topic is not known to have."""
    return any(
        known.incarnation != tail.incarnation
        or any(number >= tail.info.partitions for number, _ in known.offsets)
        for known, tail in zip(cursor.topics, tails, strict=True)
    )
