"""Where a connection starts: a cursor, an end of the log, a time or offsets become a position.

`Resolver` is given the stream and the client's wish. It returns the broadcast group of the stream's
partitions, the position in each partition, and the gaps: what the cursor asks for and the log
cannot deliver any more. It asks Kafka only for what the windows do not know.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from schemas.vocabularies import GapReason
from sse_edge.cache.tail import Tail
from sse_edge.cache.topic_tail import FAR_AWAY, Cut, TopicTail
from sse_edge.cursor import Cursor, TopicPosition
from sse_edge.delivery.broadcast import BroadcastGroup
from sse_edge.delivery.feed import Feed
from sse_edge.delivery.history import Position
from sse_edge.log.protocol import Log
from sse_edge.log.record import Partition
from sse_edge.streams.stream import ChannelSelection, Stream

_LEADER_RETRY_S = 0.2

GroupOf = Callable[[Stream, Sequence[TopicTail], Sequence[Sequence[Partition]]], BroadcastGroup]
"""Returns the broadcast group of a stream over the given partitions of each source's topic."""


class FromEdge(StrEnum):
    """An end of the log."""

    EARLIEST = "earliest"
    LATEST = "latest"


@dataclass(frozen=True, slots=True)
class FromTime:
    """The first records that were appended at this time or later, by the broker's clock."""

    timestamp_ms: int


@dataclass(frozen=True, slots=True)
class FromOffsets:
    """The first offset to read of each partition number; the end of every other partition."""

    offsets: Mapping[int, int]


Start = Cursor | FromEdge | FromTime | FromOffsets
"""Where a client wants to start."""


@dataclass(frozen=True, slots=True)
class Gap:
    """A range of a partition that a client asked for and does not get."""

    reason: GapReason
    partition: Partition
    from_offset: int
    to_offset: int


class StartPoint(NamedTuple):
    """Where a connection starts."""

    group: BroadcastGroup
    position: Position
    gaps: Sequence[Gap] = ()


class Resolver:
    """Finds the position at which a connection starts."""

    def __init__(self, log: Log, tail: Tail, topic_prefix: str, group_of: GroupOf) -> None:
        self._log = log
        self._tail = tail
        self._topic_prefix = topic_prefix
        self._group_of = group_of

    async def resolve(
        self, stream: Stream, start: Start, previous: Feed | None = None
    ) -> StartPoint:
        """Find where a connection starts, in every partition that it reads.

        Args:
            stream: what the connection reads.
            start: where the client wants to start.
            previous: the feed that the connection has read so far, if `start` is its position
                there; where the log lost its end since, the position becomes a gap.

        Raises:
            LogUnavailable: Kafka had to be asked and did not answer.
        """
        tails, partitions = await self._follow(stream, start)
        group = self._group_of(stream, tails, partitions)
        if isinstance(start, Cursor):
            position, gaps = await self._at_cursor(group.feed, tails, partitions, start, previous)
            return StartPoint(group, position, gaps)
        return StartPoint(group, await self._position(group, start))

    async def _position(
        self, group: BroadcastGroup, start: FromEdge | FromTime | FromOffsets
    ) -> Position:
        feed = group.feed
        match start:
            case FromEdge.LATEST:
                return feed.horizon if len(group) else feed.ends
            case FromEdge.EARLIEST:
                begins = await self._log.begin_offsets(feed.partitions)
                return tuple(begins[partition] for partition in feed.partitions)
            case FromTime(timestamp_ms):
                offsets = await self._log.offsets_at(feed.partitions, timestamp_ms)
                return tuple(offsets[partition] for partition in feed.partitions)
            case FromOffsets(offsets):
                begins = await self._log.begin_offsets(feed.partitions)
                return tuple(
                    max(begins[partition], offsets.get(partition.number, end))
                    for partition, end in zip(feed.partitions, feed.ends, strict=True)
                )

    async def _follow(
        self, stream: Stream, start: Start
    ) -> tuple[list[TopicTail], list[list[Partition]]]:
        """Return the topic of each source and the partitions to read, each with a window."""
        tails = await self._tails(stream)
        if isinstance(start, Cursor) and _is_newer(start, tails):
            # The cursor is of a node that has seen a topic change before this one has.
            await self._tail.check_now()
        while True:
            tails = await self._tails(stream)
            partitions = self._partitions(stream, tails, start)
            for tail, of_topic in zip(tails, partitions, strict=True):
                await self._tail.follow(tail, of_topic)
            if any(tail.replaced for tail in tails):
                continue
            if start is not FromEdge.LATEST or not _is_leaderless(tails, partitions):
                return tails, partitions
            # A partition without a leader has no known end to start from.
            await asyncio.sleep(_LEADER_RETRY_S)
            await self._tail.check_now()

    async def _tails(self, stream: Stream) -> list[TopicTail]:
        return [await self._tail.topic(self.topic_name(source)) for source in stream.selections]

    def topic_name(self, source: ChannelSelection) -> str:
        """Return the name of a source's topic in Kafka."""
        return self._topic_prefix + source.channel.topic.name

    def _partitions(
        self, stream: Stream, tails: Sequence[TopicTail], start: Start
    ) -> list[list[Partition]]:
        """Return the partitions to read of each source: those of its entities, or all."""
        read = []
        for source_index, (keys, tail) in enumerate(zip(stream.keys, tails, strict=True)):
            count = tail.info.partitions
            numbers = {self._log.partition_of(key, count) for key in keys} or set(range(count))
            if isinstance(start, Cursor):
                # Before partitions were added, an entity's events went to another partition.
                in_cursor = {number for number, _ in start.topics[source_index].offsets}
                numbers |= {number for number in in_cursor if number < count}
            elif isinstance(start, FromOffsets):
                numbers |= set(start.offsets)
            read.append([Partition(tail.info.name, number) for number in sorted(numbers)])
        return read

    async def _at_cursor(
        self,
        feed: Feed,
        tails: Sequence[TopicTail],
        partitions: Sequence[Sequence[Partition]],
        cursor: Cursor,
        previous: Feed | None,
    ) -> tuple[Position, Sequence[Gap]]:
        positions: dict[Partition, int] = {}
        gaps: list[Gap] = []
        for tail, of_topic, known in zip(tails, partitions, cursor.topics, strict=True):
            if known.incarnation == tail.incarnation:
                offsets = dict(known.offsets)
                positions |= {partition: offsets.get(partition.number, 0) for partition in of_topic}
                gaps += _of_missing_partitions(tail, known)
            else:
                begins, lost = await self._from_new_beginning(of_topic, known)
                positions |= begins
                gaps += lost
        if previous is not None:
            for cut in _cuts_since(previous, tails):
                gaps += _limit(positions, cut.partition, cut.offset)
        ahead = [
            partition
            for partition, end in zip(feed.partitions, feed.ends, strict=True)
            if positions[partition] > end
        ]
        if ahead:
            # Another node may be ahead of this node's tail, but no node is ahead of the log.
            ends = await self._log.end_offsets(ahead)
            for partition in ahead:
                gaps += _limit(positions, partition, ends[partition])
        return tuple(positions[partition] for partition in feed.partitions), gaps

    async def _from_new_beginning(
        self, partitions: Sequence[Partition], known: TopicPosition
    ) -> tuple[Mapping[Partition, int], list[Gap]]:
        begins = await self._log.begin_offsets(partitions)
        offsets = dict(known.offsets)
        gaps = [
            Gap(
                GapReason.TOPIC_RECREATED,
                partition,
                offsets.get(partition.number, 0),
                begins[partition],
            )
            for partition in partitions
        ]
        return begins, gaps


async def gap_at(log: Log, partition: Partition, offset: int) -> Gap:
    """Return the gap at an offset that the log does not have.

    Raises:
        LogUnavailable: Kafka did not answer.
    """
    begin = (await log.begin_offsets([partition]))[partition]
    if offset < begin:
        return Gap(GapReason.EXPIRED, partition, offset, begin)
    end = (await log.end_offsets([partition]))[partition]
    return Gap(GapReason.FUTURE, partition, offset, min(offset, end))


def _limit(positions: dict[Partition, int], partition: Partition, end: int) -> Iterator[Gap]:
    """Move a positions offset back to the log's end; yield the gap where it lay beyond."""
    offset = positions.get(partition, 0)
    if offset > end:
        positions[partition] = end
        yield Gap(GapReason.FUTURE, partition, offset, end)


def _of_missing_partitions(tail: TopicTail, known: TopicPosition) -> Iterator[Gap]:
    """Yield a gap for each partition of a cursor that the topic does not have."""
    for number, offset in known.offsets:
        if number >= tail.info.partitions:
            yield Gap(GapReason.FUTURE, Partition(tail.info.name, number), offset, 0)


def _cuts_since(previous: Feed, tails: Sequence[TopicTail]) -> Iterator[Cut]:
    """Yield where the log lost its end since a feed was made."""
    for before, now in zip(previous.tails, tails, strict=True):
        if before.incarnation == now.incarnation:
            yield from now.cuts[len(before.cuts) :]


def _is_leaderless(tails: Sequence[TopicTail], partitions: Sequence[Sequence[Partition]]) -> bool:
    return any(
        tail.windows[partition].start == FAR_AWAY
        for tail, of_topic in zip(tails, partitions, strict=True)
        for partition in of_topic
    )


def _is_newer(cursor: Cursor, tails: Sequence[TopicTail]) -> bool:
    """Whether a cursor names an incarnation or a partition that a topic is not known to have."""
    return any(
        known.incarnation != tail.incarnation
        or any(number >= tail.info.partitions for number, _ in known.offsets)
        for known, tail in zip(cursor.topics, tails, strict=True)
    )
