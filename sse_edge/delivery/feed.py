"""A feed: one stream's view of its windows, shared by all connections that read it.

Here records become bytes: the records between two positions are merged by the log's time, those
that the stream does not want are left out, and each event gets the cursor after it.

A feed has a horizon: the position that its caught-up connections have reached. `advance` moves the
horizon and is the only place where new events are rendered for them; `take` serves connections
behind it. No connection gets anything beyond the horizon, so all at the horizon need the same
bytes next.
"""

from collections.abc import Callable, Sequence
from itertools import chain
from sys import maxsize
from typing import NamedTuple

from schemas.run_ids import may_follow
from sse_edge.cache.topic_tail import TopicTail
from sse_edge.cache.window import Entry, Window
from sse_edge.cursor import Cursor, CursorCodec, TopicPosition
from sse_edge.delivery.history import History, Position
from sse_edge.delivery.merge import IndexedEntry, merge_by_time, newest_of_each_key
from sse_edge.frame import with_id, with_member, with_members
from sse_edge.log.record import Partition, Record, id_of_key
from sse_edge.streams.channels import Channel
from sse_edge.streams.render import Frame, Renderer
from sse_edge.streams.stream import ChannelSelection, Stream
from sse_edge.transport import Chunk

_ENTRIES_MAX = 1_000
"""How many entries of a partition one delivery considers."""
_MEMOIZED_MAX = 32

_Range = tuple[Position, Position, int | None]
"""From where to where, and the partition whose pieces were read; None for the windows."""


NOTHING = Chunk(b"")


class Delivery(NamedTuple):
    """The bytes that a connection at some position needs next."""

    chunk: Chunk
    position: Position
    """Where the connection is afterwards."""
    last_sent: Position
    """The position after the last event in `chunk`; `position` may be past filtered records."""
    events: int = 0
    """How many events `chunk` holds."""
    moved: bool = True
    """Whether `position` is another one than before."""
    ended: bool = False
    """Whether the last event ends the stream."""
    behind: tuple[int, ...] = ()
    """The indexes of the partitions whose window begins after the position."""
    timestamps_ms: tuple[int, ...] = ()
    """When each event was appended to the log."""
    traced: Record | None = None
    """The last of the records whose writer was traced; None if there is none."""
    merged: int = 0
    """How many events were left out because a newer one of the same key follows."""

    @property
    def data(self) -> bytes:
        """The bytes of its events, as whole blocks."""
        return self.chunk.data


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
        """Make a feed whose horizon is at the ends of its windows.

        Args:
            stream: what is read.
            tails: the topic of each of the stream's sources.
            partitions: for each source, the partitions of the topic.
            codec: of the stream's cursors.
            render: renders a record, or skips one that cannot be rendered.
            write_bytes_max: about how much one `take` returns.
            history_bytes_max: how much of what was sent is kept for clients that come back.
        """
        self.stream = stream
        self.tails = tuple(tails)
        self.partitions = tuple(chain.from_iterable(partitions))
        self._layout = [
            (tail.incarnation, [partition.number for partition in of_topic])
            for tail, of_topic in zip(tails, partitions, strict=True)
        ]
        self._writer = codec.writer(self._layout)
        self._render = render
        self._tenant = None if stream.tenant is None else stream.tenant.encode()
        self._owner = stream.owner
        self._context = stream.dialect.context
        self._adds = stream.with_traceparent or self._context is not None
        """Whether events have members besides what is rendered once for all streams."""
        self._bytes_max = write_bytes_max
        self._sources: list[tuple[ChannelSelection, frozenset[bytes]]] = []
        self._windows: list[Window] = []
        for source, keys, tail, of_topic in zip(
            stream.selections, stream.keys, tails, partitions, strict=True
        ):
            self._sources += [(source, keys)] * len(of_topic)
            self._windows += [tail.windows[partition] for partition in of_topic]
        self.horizon = self.ends
        self.is_narrow = len(self._windows) == 1 and all(stream.keys) and not self._adds
        """Whether it is of few keys in one partition, and its events have no more members than are
        rendered once for all streams."""
        # A stream of few keys has few readers, and its records are found as fast by their keys.
        self._history_bytes_max = 0 if all(stream.keys) else history_bytes_max
        self._history = History(self.horizon, self._history_bytes_max)
        self._memoized: dict[_Range, Delivery] = {}

    @property
    def replaced(self) -> bool:
        """Whether a topic has changed since the feed was made."""
        for tail in self.tails:  # noqa: SIM110  # a generator costs more, and every event asks
            if tail.replaced:
                return True
        return False

    @property
    def ends(self) -> Position:
        """The position after everything that the windows hold."""
        return tuple([window.next_offset for window in self._windows])

    def cursor(self, position: Position, *, ended: bool = False) -> bytes:
        """Return a position as the text that the client keeps."""
        return self._writer.write(position, ended=ended)

    def as_cursor(self, position: Position) -> Cursor:
        """Return a position as a cursor."""
        topics, offsets = [], iter(position)
        for incarnation, numbers in self._layout:
            of_topic = tuple((number, next(offsets)) for number in numbers)
            topics.append(TopicPosition(incarnation, of_topic))
        return Cursor(tuple(topics))

    def channel_of_all(self, index: int) -> Channel | None:
        """Return a partition's channel if the stream wants all of its events, else None."""
        source, keys = self._sources[index]
        filters = self.stream.events and not source.channel.events <= self.stream.events
        return None if keys or filters else source.channel

    def covers(self, index: int, offset: int) -> bool:
        """Whether a partition's window holds every record from an offset on."""
        return self._windows[index].covers(offset)

    def advance(self) -> Delivery:
        """Move the horizon towards the windows' ends, by one write's worth at most.

        If a window has already evicted what comes next, the delivery has no events and names the
        partitions in `behind`, and the horizon moves to the ends.
        """
        until = self.ends
        if until == self.horizon:
            return Delivery(NOTHING, self.horizon, self.horizon, moved=False)
        entries, truncated, behind = self._entries(self.horizon, until)
        if behind:
            before, self.horizon = self.horizon, until
            self._history = History(until, self._history_bytes_max)
            return Delivery(NOTHING, before, before, moved=False, behind=behind)
        delivery = self._deliver(self.horizon, until, entries, truncated, history=self._history)
        self.horizon = delivery.position
        return delivery

    def advance_by_one(self) -> tuple[bytes, Record | None] | None:
        """Move the horizon of a narrow feed to its window's end, past at most one event.

        It is a third of the work of `advance`, since nothing is merged, joined or kept.

        Returns:
            The event's block and its record; no bytes and None if no record has come. None if
            there is more than one plain event, which `advance` delivers.
        """
        window, keys = self._windows[0], self._sources[0][1]
        (offset,) = self.horizon
        if not window.covers(offset):
            return None
        found: Entry | None = None
        for key in keys:
            newest = window.newest(key)
            if newest is None or newest.record.offset < offset:
                continue
            older = newest.older
            if found is not None or (older is not None and older.record.offset >= offset):
                return None
            found = newest
        block, record = b"", None
        if found is not None:
            record, frame = found.record, self._frame(0, found)
            if frame is None or frame.ends or record.traceparent:
                return None
            block = with_id(frame.body, self._writer.write((record.offset + 1,)))
        self.horizon = (max(offset, window.next_offset),)
        return block, record

    def take(self, position: Position) -> Delivery:
        """Return what lies between a position and the horizon, up to about one write's size."""
        if position == self.horizon:
            return Delivery(NOTHING, position, position, moved=False)
        return self._memoize((position, self.horizon, None), lambda: self._take(position))

    def take_newest(self, position: Position) -> Delivery:
        """As `take`, with only the newest event of each key among those taken at a time."""
        entries, truncated, behind = self._entries(position, self.horizon)
        kept, merged = self._newest(entries)
        return self._deliver(position, self.horizon, kept, truncated, behind=behind, merged=merged)

    def _take(self, position: Position) -> Delivery:
        index = self._history.find(position, self.horizon) if self._history_bytes_max else None
        if index is not None:
            return self._take_blocks(position, index)
        entries, truncated, behind = self._entries(position, self.horizon)
        return self._deliver(position, self.horizon, entries, truncated, behind=behind)

    def _take_blocks(self, position: Position, index: int) -> Delivery:
        """Return what the history has from the block of an index on."""
        if index == len(self._history):
            return Delivery(NOTHING, self.horizon, position)
        blocks, last_sent = self._history.after(index, self._bytes_max)
        at_end = index + len(blocks) == len(self._history)
        reached = self.horizon if at_end else last_sent
        return Delivery(Chunk(b"".join(blocks)), reached, last_sent, events=len(blocks))

    def take_read(
        self,
        position: Position,
        index: int,
        entries: Sequence[Entry],
        until: int,
        *,
        newest_only: bool = False,
    ) -> Delivery:
        """Return what a connection needs of records that were read from Kafka, for one partition.

        Args:
            position: where the connection is.
            index: the partition's index.
            entries: what was read, from the position on.
            until: the offset at which the next read begins.
            newest_only: keep only the newest event of each key.
        """
        keys = self._sources[index][1]
        selected = [(index, entry) for entry in entries if not keys or entry.record.key in keys]
        ends = (*position[:index], max(position[index], until), *position[index + 1 :])
        if newest_only:
            kept, merged = self._newest(selected)
            return self._deliver(position, ends, kept, frozenset(), bytes_max=None, merged=merged)
        return self._memoize(
            (position, ends, index),
            lambda: self._deliver(position, ends, selected, frozenset(), bytes_max=None),
        )

    def has_end_before(self, position: Position) -> bool:
        """Return whether the windows have a last event of the stream's entity before a position."""
        return self.stream.has_end and any(
            self.has_end_among(index, window.between_of(self._sources[index][1], 0, offset), offset)
            for index, (window, offset) in enumerate(zip(self._windows, position, strict=True))
        )

    def has_end_among(self, index: int, entries: Sequence[Entry], until: int) -> bool:
        """Return whether a last event is among entries of a partition, before an offset."""
        keys = self._sources[index][1]
        return any(
            (frame := self._frame(index, entry)) is not None and frame.ends
            for entry in entries
            if entry.record.offset < until and entry.record.key in keys
        )

    def take_page(self, position: Position, until: Position, events_max: int) -> Delivery:
        """Return what the windows hold between two positions, up to a number of events.

        It depends on no horizon: pages are read by one request each, and join no group.
        """
        entries, truncated, behind = self._entries(position, until)
        return self._deliver(
            position, until, entries, truncated, behind=behind, events_max=events_max
        )

    def take_read_page(
        self,
        position: Position,
        index: int,
        entries: Sequence[Entry],
        until: int,
        events_max: int,
    ) -> Delivery:
        """As `take_read`, up to a number of events, and nothing from offset `until` on."""
        keys = self._sources[index][1]
        selected = [
            (index, entry)
            for entry in entries
            if entry.record.offset < until and (not keys or entry.record.key in keys)
        ]
        ends = (*position[:index], max(position[index], until), *position[index + 1 :])
        return self._deliver(position, ends, selected, frozenset(), events_max=events_max)

    def _is_readable(self, record: Record) -> bool:
        """Return whether the stream's tenant may read a record."""
        return self._tenant is None or record.tenant == self._tenant

    def _owns(self, index: int, record: Record, frame: Frame) -> bool:
        """Return whether a record of the tenant is for the stream's user, or for all users."""
        assert self._owner is not None
        if self._sources[index][0].channel.has_owned_ids and record.key is not None:
            return may_follow(id_of_key(record.key), self._owner)
        return frame.owner in (None, self._owner.subject)

    def _memoize(self, range_: _Range, take: Callable[[], Delivery]) -> Delivery:
        """Take once what several connections need next."""
        delivery = self._memoized.get(range_)
        if delivery is None:
            delivery = take()
            if len(self._memoized) >= _MEMOIZED_MAX:
                del self._memoized[next(iter(self._memoized))]
            self._memoized[range_] = delivery
        return delivery

    def _entries(
        self, position: Position, until: Position
    ) -> tuple[list[IndexedEntry], frozenset[int], tuple[int, ...]]:
        """Return what the windows hold between two positions.

        Returns:
            The entries in their order; the indexes of partitions that have more of them; the
            indexes of partitions whose window begins after the position.
        """
        behind, truncated = [], set()
        of_partitions: list[tuple[int, Sequence[Entry]]] = []
        for index, (offset, end) in enumerate(zip(position, until, strict=True)):
            if offset >= end:
                continue
            window, keys = self._windows[index], self._sources[index][1]
            if not window.covers(offset):
                behind.append(index)
                continue
            if keys:
                entries = window.between_of(keys, offset, end)
            else:
                entries = window.between(offset, end, _ENTRIES_MAX)
                if len(entries) == _ENTRIES_MAX:
                    truncated.add(index)
            if entries:
                of_partitions.append((index, entries))
        return merge_by_time(of_partitions), frozenset(truncated), tuple(behind)

    def _frame(self, index: int, entry: Entry) -> Frame | None:
        """Return the event of an entry; None if the stream's readers do not get it."""
        if entry.is_repeat or not self._is_readable(entry.record):
            return None
        frame = entry.frame(self._sources[index][0].channel, self._render)
        if frame is None or (self.stream.events and frame.event not in self.stream.events):
            return None
        if self._owner is not None and not self._owns(index, entry.record, frame):
            return None
        return frame

    def _newest(self, entries: Sequence[IndexedEntry]) -> tuple[Sequence[IndexedEntry], int]:
        """Leave out the events that a newer one of the same key follows, and count them.

        Only events that the readers get supersede others, and are counted. Other entries stay,
        since the position moves by them.
        """
        visible = [(index, entry) for index, entry in entries if self._frame(index, entry)]
        superseded = {entry for _, entry in visible}
        superseded -= {entry for _, entry in newest_of_each_key(visible)}
        return [item for item in entries if item[1] not in superseded], len(superseded)

    def _with_more(self, body: bytes, record: Record) -> bytes:
        """Return a block with what its data have besides what is rendered once for all streams."""
        context = self._context
        if context is not None:
            body = with_members(body, lambda part: context(record, part))
        if self.stream.with_traceparent and record.traceparent:
            body = with_member(body, "traceparent", record.traceparent)
        return body

    def _deliver(
        self,
        position: Position,
        until: Position,
        entries: Sequence[IndexedEntry],
        truncated: frozenset[int],
        *,
        behind: tuple[int, ...] = (),
        bytes_max: int | None = -1,
        history: History | None = None,
        merged: int = 0,
        events_max: int = maxsize,
    ) -> Delivery:
        """Render entries, and give each event its id; `bytes_max` is -1 for the feed's own."""
        if bytes_max == -1:
            bytes_max = self._bytes_max
        moved, cells = list(position), self._writer.start(position)
        keeps = history if self._history_bytes_max else None
        blocks: list[bytes] = []
        timestamps_ms: list[int] = []
        traced: Record | None = None
        size, read = 0, 0
        last_sent = position
        for index, entry in entries:
            if (bytes_max is not None and size >= bytes_max) or len(blocks) >= events_max:
                break
            read += 1
            record = entry.record
            moved[index] = record.offset + 1
            self._writer.move(cells, index, moved[index])
            frame = self._frame(index, entry)
            if frame is None:
                continue
            ended = frame.ends and self.stream.has_end
            body = self._with_more(frame.body, record) if self._adds else frame.body
            block = with_id(body, self._writer.finish(cells, ended=ended))
            last_sent = tuple(moved)
            blocks.append(block)
            timestamps_ms.append(record.timestamp_ms)
            traced = record if record.traceparent else traced
            size += len(block)
            if keeps is not None:
                keeps.append(block, last_sent, index)
            if ended:
                return Delivery(
                    Chunk(b"".join(blocks)), last_sent, last_sent, len(blocks), ended=True,
                    timestamps_ms=tuple(timestamps_ms), traced=traced,
                )  # fmt: skip
        unread = truncated.union(behind)
        if read < len(entries):
            unread = unread.union(index for index, _ in entries[read:])
        for index, end in enumerate(until):
            # The window has seen that no record lies between the last one and its end.
            if index not in unread and end > moved[index]:
                moved[index] = end
        reached = tuple(moved)
        return Delivery(
            Chunk(b"".join(blocks)),
            reached,
            last_sent,
            len(blocks),
            moved=reached != position,
            behind=behind,
            timestamps_ms=tuple(timestamps_ms),
            traced=traced,
            merged=merged,
        )
