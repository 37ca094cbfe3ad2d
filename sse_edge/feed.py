"""A feed: one stream's view of its windows, shared by all connections that read it.

`take` is where records become bytes: it merges what lies between a position and the windows' ends
by the log's time, keeps what the stream wants, and gives each event the cursor after it. What
caught-up connections need next is the same for all of them, so it is made once and remembered until
something new comes.
"""

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain

from sse_edge.cursor import Cursor, CursorCodec, TopicPosition
from sse_edge.frame import with_id
from sse_edge.record import Partition
from sse_edge.stream import Channel, Frame, Source, Stream, frame_of
from sse_edge.tail import TopicTail
from sse_edge.window import Entry, Window

Position = tuple[int, ...]
"""The next offset wanted of each partition of a feed, in the feed's order."""

_TAKEN_ENTRIES_MAX = 500
_REMEMBERED_MAX = 16


@dataclass(frozen=True, slots=True)
class Taken:
    """What a connection at some position needs next."""

    data: bytes
    position: Position
    events: int
    """How many events `data` holds."""
    passed: int
    """How many offsets were read for it."""
    told: Position
    """Where the last of the events stands; `position` may lie beyond what the client wants."""
    ended: bool = False
    behind: tuple[int, ...] = ()
    """Partitions, by place, whose position lies before the window."""

    @property
    def moved(self) -> bool:
        """Whether anything was read at all."""
        return self.passed > 0


class Feed:
    """One stream, over certain partitions of certain incarnations of its topics."""

    def __init__(
        self,
        stream: Stream,
        tails: Sequence[TopicTail],
        partitions: Sequence[Sequence[Partition]],
        codec: CursorCodec,
        bytes_max: int,
    ) -> None:
        """Bring a stream and its windows together.

        Args:
            stream: what is read.
            tails: the topic of each of the stream's sources.
            partitions: for each source, which partitions of the topic.
            codec: of the stream's cursors.
            bytes_max: about how much one `take` gives.
        """
        self.stream = stream
        self.tails = tuple(tails)
        self.partitions = tuple(chain.from_iterable(partitions))
        self._codec = codec
        self._bytes_max = bytes_max
        self._sources: list[tuple[Source, frozenset[bytes]]] = []
        self._windows: list[Window] = []
        self._topic_sizes = [len(ones) for ones in partitions]
        for source, keys, tail, ones in zip(
            stream.sources, stream.keys, tails, partitions, strict=True
        ):
            self._sources += [(source, keys)] * len(ones)
            self._windows += [tail.windows[one] for one in ones]
        self._remembered: dict[Position, tuple[Position, Taken]] = {}

    @property
    def replaced(self) -> bool:
        """Whether a topic is not what it was when the feed was made."""
        return any(tail.replaced for tail in self.tails)

    @property
    def ends(self) -> Position:
        """Where a connection is when it has read everything."""
        return tuple(window.next_offset for window in self._windows)

    def cursor(self, position: Sequence[int], *, ended: bool = False) -> str:
        """A position as the text that the client keeps."""
        return self._codec.encode(self.as_cursor(position, ended=ended))

    def as_cursor(self, position: Sequence[int], *, ended: bool = False) -> Cursor:
        """A position as a cursor."""
        topics, at = [], 0
        for tail, size in zip(self.tails, self._topic_sizes, strict=True):
            numbers = (partition.number for partition in self.partitions[at : at + size])
            offsets = zip(numbers, position[at : at + size], strict=True)
            topics.append(TopicPosition(tail.incarnation, tuple(offsets)))
            at += size
        return Cursor(tuple(topics), ended=ended)

    def take(self, position: Position) -> Taken:
        """What lies between a position and the windows' ends, up to a bounded size."""
        ends = self.ends
        remembered = self._remembered.get(position)
        if remembered is not None and remembered[0] == ends:
            return remembered[1]
        taken = self._take(position)
        if len(self._remembered) >= _REMEMBERED_MAX:
            self._remembered.clear()
        self._remembered[position] = (ends, taken)
        return taken

    def take_read(self, position: Position, at: int, entries: Sequence[Entry], upto: int) -> Taken:
        """What records that were read from Kafka, for one partition, mean for a connection.

        Args:
            position: where it is.
            at: the partition's place.
            entries: what was read, from the position on.
            upto: where reading goes on.
        """
        taken = self._joined(position, [(at, entry) for entry in entries], bytes_max=None)
        if taken.ended:
            return taken
        moved = _with(taken.position, at, max(taken.position[at], upto))
        passed = max(taken.passed, upto - position[at])
        return replace(taken, position=moved, passed=passed)

    def _take(self, position: Position) -> Taken:
        behind, found = [], []
        for at, (offset, window) in enumerate(zip(position, self._windows, strict=True)):
            if not window.covers(offset):
                behind.append(at)
                continue
            entries = window.after(offset, _TAKEN_ENTRIES_MAX)
            found.append([(at, entry) for entry in entries])
        in_time = heapq.merge(*found, key=lambda one: (one[1].record.timestamp_ms, one[0]))
        taken = self._joined(position, in_time, bytes_max=self._bytes_max)
        moved = list(taken.position)
        if not taken.ended:
            for at, window in enumerate(self._windows):
                # Past the last record there may be holes, and the window has seen that.
                rest = () if at in behind else window.after(moved[at], 1)
                if at not in behind and not rest:
                    moved[at] = max(moved[at], window.next_offset)
        passed = sum(moved) - sum(position)
        return replace(taken, position=tuple(moved), passed=passed, behind=tuple(behind))

    def _joined(
        self, position: Position, found: Iterable[tuple[int, Entry]], *, bytes_max: int | None
    ) -> Taken:
        moved = list(position)
        blocks: list[bytes] = []
        size = passed = 0
        told = position
        for at, entry in found:
            if bytes_max is not None and size >= bytes_max:
                break
            moved[at] = entry.record.offset + 1
            passed += 1
            source, keys = self._sources[at]
            if entry.is_repeat or (keys and entry.record.key not in keys):
                continue
            frame = _frame(source.channel, entry)
            if frame is None or (self.stream.events and frame.event not in self.stream.events):
                continue
            ended = frame.ends and self.stream.has_end
            block = with_id(frame.body, self.cursor(moved, ended=ended))
            told = tuple(moved)
            blocks.append(block)
            size += len(block)
            if ended:
                return Taken(b"".join(blocks), told, len(blocks), passed, told, ended=True)
        return Taken(b"".join(blocks), tuple(moved), len(blocks), passed, told)


def _frame(channel: Channel, entry: Entry) -> Frame | None:
    if not entry.framed:
        entry.frame = frame_of(channel, entry.record)
        entry.framed = True
    return entry.frame


def _with(position: Position, at: int, offset: int) -> Position:
    return (*position[:at], offset, *position[at + 1 :])
