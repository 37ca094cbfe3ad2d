"""A feed: one stream's view of its windows, shared by all connections that read it.

This is where records become bytes: what lies between two positions is merged by the log's time,
what the stream wants is kept, and each event gets the cursor after it.

A feed has a horizon: the position up to which its live connections have been told. `advance` moves
it on, and is the one place where new events are finished; `take` serves those who are behind it.
What is told beyond the horizon to nobody keeps everybody's next bytes the same.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain

from sse_edge.cache.tail import TopicTail
from sse_edge.cache.window import Entry, Window
from sse_edge.cursor import Cursor, CursorCodec, TopicPosition
from sse_edge.delivery.history import History, Position
from sse_edge.frame import with_id
from sse_edge.log.record import Partition
from sse_edge.streams.stream import Channel, Renderer, Source, Stream

_TAKEN_ENTRIES_MAX = 1_000
_REMEMBERED_MAX = 32

Found = list[tuple[int, Entry]]
"""Entries in the order in which they are told, each with the place of its partition."""


_Asked = tuple[Position, Position, int | None]
"""From where to where, and of which partition's pieces; of the windows' where it is None."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What a connection at some position needs next."""

    data: bytes
    position: Position
    told: Position
    """Where the last of the events stands; `position` may lie beyond what the client wants."""
    events: int = 0
    """How many events `data` holds."""
    moved: bool = True
    """Whether anything was read at all."""
    ended: bool = False
    behind: tuple[int, ...] = ()
    """Partitions, by place, whose position lies before the window."""
    stamps_ms: tuple[int, ...] = ()
    """When the events were appended to the log."""
    merged: int = 0
    """How many events were left out because a newer one of the same key is there."""


class Feed:
    """One stream, over certain partitions of certain incarnations of its topics."""

    def __init__(
        self,
        stream: Stream,
        tails: Sequence[TopicTail],
        partitions: Sequence[Sequence[Partition]],
        codec: CursorCodec,
        render: Renderer,
        *,
        write_bytes_max: int,
        history_bytes_max: int,
    ) -> None:
        """Bring a stream and its windows together.

        Args:
            stream: what is read.
            tails: the topic of each of the stream's sources.
            partitions: for each source, which partitions of the topic.
            codec: of the stream's cursors.
            render: renders a record, or skips one that cannot be rendered.
            write_bytes_max: about how much one `take` gives.
            history_bytes_max: how much of what was told is kept for those who come back.
        """
        self.stream = stream
        self.tails = tuple(tails)
        self.partitions = tuple(chain.from_iterable(partitions))
        self._layout = [
            (tail.incarnation, [one.number for one in ones])
            for tail, ones in zip(tails, partitions, strict=True)
        ]
        self._writer = codec.writer(self._layout)
        self._render = render
        self._tenant = None if stream.tenant is None else stream.tenant.encode()
        self._bytes_max = write_bytes_max
        self._sources: list[tuple[Source, frozenset[bytes]]] = []
        self._windows: list[Window] = []
        for source, keys, tail, ones in zip(
            stream.sources, stream.keys, tails, partitions, strict=True
        ):
            self._sources += [(source, keys)] * len(ones)
            self._windows += [tail.windows[one] for one in ones]
        self.horizon = self.ends
        # What has few readers is found by its key as fast; a history pays where many read.
        self._history_bytes_max = 0 if all(stream.keys) else history_bytes_max
        self._history = History(self.horizon, self._history_bytes_max)
        self._remembered: dict[_Asked, Taken] = {}

    @property
    def replaced(self) -> bool:
        """Whether a topic is not what it was when the feed was made."""
        return any(tail.replaced for tail in self.tails)

    @property
    def ends(self) -> Position:
        """Where a connection is when it has read everything that there is."""
        return tuple(window.next_offset for window in self._windows)

    def cursor(self, position: Position, *, ended: bool = False) -> bytes:
        """A position as the text that the client keeps."""
        return self._writer.write(position, ended=ended)

    def as_cursor(self, position: Position) -> Cursor:
        """A position as a cursor."""
        topics, rest = [], iter(position)
        for incarnation, numbers in self._layout:
            offsets = tuple((number, next(rest)) for number in numbers)
            topics.append(TopicPosition(incarnation, offsets))
        return Cursor(tuple(topics))

    def channel_of_all(self, at: int) -> Channel | None:
        """The channel of the `at`-th partition where the stream wants all of it."""
        source, keys = self._sources[at]
        filters = self.stream.events and not source.channel.events <= self.stream.events
        return None if keys or filters else source.channel

    def covers(self, at: int, offset: int) -> bool:
        """Whether the `at`-th partition's window has what follows an offset."""
        return self._windows[at].covers(offset)

    def advance(self) -> Taken:
        """Move the horizon towards the windows' ends, by one write's worth at most.

        Where a window has already let go of what comes next, there is nothing to tell: `behind`
        says so, and the horizon is at the ends.
        """
        upto = self.ends
        if upto == self.horizon:
            return Taken(b"", self.horizon, self.horizon, moved=False)
        found, cut, behind = self._found(self.horizon, upto)
        if behind:
            lost, self.horizon = self.horizon, upto
            self._history = History(upto, self._history_bytes_max)
            return Taken(b"", lost, lost, moved=False, behind=behind)
        taken = self._finished(self.horizon, upto, found, cut, history=self._history)
        self.horizon = taken.position
        return taken

    def take(self, position: Position) -> Taken:
        """What lies between a position and the horizon, up to a bounded size."""
        if position == self.horizon:
            return Taken(b"", position, position, moved=False)
        index = self._history.find(position, self.horizon) if self._history_bytes_max else None
        if index is not None:
            if index == len(self._history):
                return Taken(b"", self.horizon, position)
            blocks, told = self._history.after(index, self._bytes_max)
            at_end = index + len(blocks) == len(self._history)
            return Taken(
                b"".join(blocks), self.horizon if at_end else told, told, events=len(blocks)
            )
        return self._shared((position, self.horizon, None), lambda: self._merged(position))

    def take_newest(self, position: Position) -> Taken:
        """As `take`, but of each key only the newest event of what is taken at a time."""
        found, cut, behind = self._found(position, self.horizon)
        kept = _newest(found)
        return self._finished(
            position, self.horizon, kept, cut, behind=behind, merged=len(found) - len(kept)
        )

    def _merged(self, position: Position) -> Taken:
        found, cut, behind = self._found(position, self.horizon)
        return self._finished(position, self.horizon, found, cut, behind=behind)

    def take_read(
        self,
        position: Position,
        at: int,
        entries: Sequence[Entry],
        upto: int,
        *,
        newest_only: bool = False,
    ) -> Taken:
        """What records that were read from Kafka, for one partition, mean for a connection.

        Args:
            position: where it is.
            at: the partition's place.
            entries: what was read, from the position on.
            upto: where reading goes on.
            newest_only: leave out what has a newer event of its key among them.
        """
        keys = self._sources[at][1]
        found = [(at, entry) for entry in entries if not keys or entry.record.key in keys]
        ends = (*position[:at], max(position[at], upto), *position[at + 1 :])
        if newest_only:
            kept, merged = _newest(found), len(found) - len(_newest(found))
            return self._finished(position, ends, kept, frozenset(), bytes_max=None, merged=merged)
        return self._shared(
            (position, ends, at),
            lambda: self._finished(position, ends, found, frozenset(), bytes_max=None),
        )

    def _shared(self, what: _Asked, take: Callable[[], Taken]) -> Taken:
        """Take once what several connections need next."""
        taken = self._remembered.get(what)
        if taken is None:
            taken = take()
            if len(self._remembered) >= _REMEMBERED_MAX:
                del self._remembered[next(iter(self._remembered))]
            self._remembered[what] = taken
        return taken

    def _found(
        self, position: Position, upto: Position
    ) -> tuple[Found, frozenset[int], tuple[int, ...]]:
        """What the windows hold between two positions.

        Returns:
            the entries; the places of which there is more; the places whose window begins later.
        """
        behind, cut = [], set()
        found: list[tuple[int, Sequence[Entry]]] = []
        for at, (offset, end) in enumerate(zip(position, upto, strict=True)):
            if offset >= end:
                continue
            window, keys = self._windows[at], self._sources[at][1]
            if not window.covers(offset):
                behind.append(at)
                continue
            if keys:
                entries = window.between_of(keys, offset, end)
            else:
                entries = window.between(offset, end, _TAKEN_ENTRIES_MAX)
                if len(entries) == _TAKEN_ENTRIES_MAX:
                    cut.add(at)
            if entries:
                found.append((at, entries))
        return _in_time(found), frozenset(cut), tuple(behind)

    def _finished(
        self,
        position: Position,
        upto: Position,
        found: Found,
        cut: frozenset[int],
        *,
        behind: tuple[int, ...] = (),
        bytes_max: int | None = -1,
        history: History | None = None,
        merged: int = 0,
    ) -> Taken:
        """Word what was found, and give each event its id."""
        if bytes_max == -1:
            bytes_max = self._bytes_max
        moved, cells = list(position), self._writer.start(position)
        blocks: list[bytes] = []
        stamps_ms: list[int] = []
        size, read = 0, 0
        told = position
        for at, entry in found:
            if bytes_max is not None and size >= bytes_max:
                break
            read += 1
            record = entry.record
            moved[at] = record.offset + 1
            self._writer.move(cells, at, moved[at])
            if entry.is_repeat or self._tenant not in (None, record.tenant):
                continue
            frame = entry.frame(self._sources[at][0].channel, self._render)
            if frame is None or (self.stream.events and frame.event not in self.stream.events):
                continue
            ended = frame.ends and self.stream.has_end
            block = with_id(frame.body, self._writer.finish(cells, ended=ended))
            told = tuple(moved)
            blocks.append(block)
            stamps_ms.append(record.timestamp_ms)
            size += len(block)
            if history is not None and self._history_bytes_max:
                history.append(block, told, at)
            if ended:
                return Taken(
                    b"".join(blocks), told, told, len(blocks), ended=True,
                    stamps_ms=tuple(stamps_ms),
                )  # fmt: skip
        unread = {at for at, _ in found[read:]} | cut | set(behind)
        for at, end in enumerate(upto):
            # Past the last record there may be holes, and the window has seen that.
            if at not in unread and end > moved[at]:
                moved[at] = end
        reached = tuple(moved)
        return Taken(
            b"".join(blocks),
            reached,
            told,
            len(blocks),
            moved=reached != position,
            behind=behind,
            stamps_ms=tuple(stamps_ms),
            merged=merged,
        )


def _newest(found: Found) -> Found:
    """Of each key the newest only."""
    newest = {(at, entry.record.key): entry for at, entry in found}
    return [(at, entry) for at, entry in found if newest[at, entry.record.key] is entry]


def _in_time(found: Sequence[tuple[int, Sequence[Entry]]]) -> Found:
    """Merge by the log's time; within a partition by offset, whatever its clock did."""
    if len(found) == 1:
        ((at, entries),) = found
        return [(at, entry) for entry in entries]
    stamped: list[tuple[int, int, int, Entry]] = []
    for at, entries in found:
        latest = 0
        for entry in entries:
            latest = max(latest, entry.record.timestamp_ms)
            stamped.append((latest, at, entry.record.offset, entry))
    stamped.sort(key=lambda one: one[:3])
    return [(at, entry) for _, at, _, entry in stamped]
