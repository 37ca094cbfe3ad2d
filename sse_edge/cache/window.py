"""A window: the newest records of one partition, in memory, bounded in bytes.

What holds for ever: every record of the log from `start` up to `next_offset` is in the window, but
for the log's own holes; so a position between the two needs nothing but the window. Each record is
worded once, when somebody first asks for it, however many read it.

Records of one key are linked, so that whoever follows a key touches no others.
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence

from sse_edge.log.record import Batch, Record
from sse_edge.streams.stream import Channel, Frame, Renderer

_ENTRY_BYTES = 588
"""What an entry of a key of its own costs besides key, value and frame, by tracemalloc."""

_COMPACT_FROM = 256


class Entry:
    """A record, and its frame once somebody has asked for it."""

    __slots__ = ("_channel", "_frame", "_others", "is_repeat", "newer", "older", "record")

    def __init__(self, record: Record, *, is_repeat: bool = False) -> None:
        self.record = record
        self.is_repeat = is_repeat
        """Written again by a producer or processor that could not know that it stood there."""
        self.older: Entry | None = None
        """The record of the same key before this one, where the window still has it."""
        self.newer: Entry | None = None
        self._channel: Channel | None = None
        """Whose words `_frame` is: nearly always there is one."""
        self._frame: Frame | None = None
        self._others: dict[str, Frame | None] | None = None
        """The frames of other channels over the same topic."""

    def frame(self, channel: Channel, render: Renderer) -> Frame | None:
        """The record as a channel words it; None where it says nothing, or cannot be read."""
        if self._channel is channel:
            return self._frame
        if self._others is not None and channel.key in self._others:
            return self._others[channel.key]
        frame = render(channel, self.record)
        self.set_frame(channel, frame)
        return frame

    def set_frame(self, channel: Channel, frame: Frame | None) -> None:
        """Have a frame that was made elsewhere."""
        if self._channel is None or self._channel is channel:
            self._channel, self._frame = channel, frame
        else:
            self._others = self._others or {}
            self._others[channel.key] = frame


class RepeatFilter:
    """Recognizes a record that was written twice: by its key and CloudEvents id, among the last."""

    def __init__(self, remembered: int = 1024) -> None:
        self._remembered = remembered
        self._young: set[tuple[bytes | None, bytes]] = set()
        self._old: set[tuple[bytes | None, bytes]] = set()

    def is_repeat(self, record: Record) -> bool:
        """Whether a record with the same id was seen a little while ago; remembers this one."""
        if record.event_id is None:
            return False
        mark = (record.key, record.event_id)
        if mark in self._young or mark in self._old:
            return True
        self._young.add(mark)
        if len(self._young) >= self._remembered:
            self._old, self._young = self._young, set()
        return False

    def copy(self) -> "RepeatFilter":
        """One that remembers the same, and goes on by itself."""
        copied = RepeatFilter(self._remembered)
        copied._young, copied._old = self._young.copy(), self._old  # its own kind
        return copied


class Window:
    """The newest records of a partition."""

    def __init__(self, start: int, bytes_max: int) -> None:
        self.start = start
        self.next_offset = start
        self.bytes = 0
        self._bytes_max = bytes_max
        self._entries: list[Entry] = []
        self._offsets: list[int] = []
        self._gone = 0  # entries at the front that are let go of, but not yet cut off
        self._newest: dict[bytes | None, Entry] = {}
        self._repeats = RepeatFilter()

    @property
    def oldest(self) -> Record | None:
        """The first record that is still there."""
        return self._entries[self._gone].record if self._gone < len(self._entries) else None

    def append(self, batch: Batch) -> None:
        """Take in what follows `next_offset`; the oldest records make room."""
        for record in batch.records:
            if record.offset < self.next_offset:
                continue
            entry = Entry(record, is_repeat=self._repeats.is_repeat(record))
            older = self._newest.get(record.key)
            if older is not None:
                entry.older, older.newer = older, entry
            self._newest[record.key] = entry
            self._entries.append(entry)
            self._offsets.append(record.offset)
            self.next_offset = record.offset + 1
            self.bytes += size_of(record)
        self.next_offset = max(self.next_offset, batch.next_offset)
        while self.bytes > self._bytes_max and self._gone < len(self._entries):
            self._let_go_of_oldest()
        if self._gone > _COMPACT_FROM and self._gone > len(self._entries) // 4:
            del self._entries[: self._gone], self._offsets[: self._gone]
            self._gone = 0

    def covers(self, offset: int) -> bool:
        """Whether a reader at a position can go on from this window."""
        return offset >= self.start

    def between(self, offset: int, upto: int, count: int) -> Sequence[Entry]:
        """Up to `count` entries from a covered position on, before another one."""
        first = bisect_left(self._offsets, offset, lo=self._gone)
        last = len(self._offsets)
        if upto < self.next_offset:
            last = bisect_left(self._offsets, upto, lo=first)
        return self._entries[first : min(last, first + count)]

    def between_of(self, keys: Iterable[bytes], offset: int, upto: int) -> Sequence[Entry]:
        """All entries of certain keys between two covered positions, in their order."""
        found: list[Entry] = []
        for key in keys:
            entry = self._newest.get(key)
            while entry is not None and entry.record.offset >= offset:
                if entry.record.offset < upto:
                    found.append(entry)
                entry = entry.older
        found.sort(key=lambda one: one.record.offset)
        return found

    def last(self, count: int) -> Sequence[Record]:
        """The newest records, at most so many, in their order."""
        return [entry.record for entry in self._entries[max(self._gone, len(self) - count) :]]

    def __len__(self) -> int:
        return len(self._entries)

    def _let_go_of_oldest(self) -> None:
        entry = self._entries[self._gone]
        record = entry.record
        # A link to what is gone would keep it, and everything before it.
        if entry.newer is None:
            del self._newest[record.key]
        else:
            entry.newer.older = None
        self.bytes -= size_of(record)
        self.start = record.offset + 1
        self._gone += 1


def size_of(record: Record) -> int:
    """About what a record costs in memory, with its frame; in bytes."""
    # JSON in its envelope is about 2.3 times as large as the Avro value that it words.
    return _ENTRY_BYTES + len(record.key or b"") + 33 * len(record.value or b"") // 10
