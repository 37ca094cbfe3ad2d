"""A window: the newest records of one partition, in memory, bounded in bytes.

Invariant: every record of the log from `start` up to `next_offset` is in the window, except for the
log's own holes, so a reader at an offset between the two needs only the window. Each record is
rendered once, when a reader first needs it.

Records of one key are linked, so that a reader of one key touches no others.
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence

from sse_edge.log.record import Batch, Record
from sse_edge.streams.channels import Channel
from sse_edge.streams.render import Frame, Renderer

_ENTRY_BYTES = 588
"""The cost of an entry with a unique key, without key, value and frame, by tracemalloc."""

_COMPACT_FROM = 256

_Mark = tuple[bytes | None, bytes, bytes]


class Entry:
    """A record, and its frame once it is rendered."""

    __slots__ = ("_channel", "_frame", "_others", "is_repeat", "newer", "older", "record")

    def __init__(self, record: Record, *, is_repeat: bool = False) -> None:
        self.record = record
        self.is_repeat = is_repeat
        """Whether a retry of its producer or processor wrote the record a second time."""
        self.older: Entry | None = None
        """The previous record of the same key; None if the window does not have it."""
        self.newer: Entry | None = None
        self._channel: Channel | None = None
        """The channel of `_frame`; nearly every topic has one channel only."""
        self._frame: Frame | None = None
        self._others: dict[str, Frame | None] | None = None
        """The frames of other channels over the same topic."""

    def frame(self, channel: Channel, render: Renderer) -> Frame | None:
        """Return the record as a channel renders it; None if it has no event or is unreadable."""
        if self._channel is channel:
            return self._frame
        if self._others is not None and channel.key in self._others:
            return self._others[channel.key]
        frame = render(channel, self.record)
        self.set_frame(channel, frame)
        return frame

    def set_frame(self, channel: Channel, frame: Frame | None) -> None:
        """Store the frame that a channel has rendered."""
        if self._channel is None or self._channel is channel:
            self._channel, self._frame = channel, frame
        else:
            self._others = self._others or {}
            self._others[channel.key] = frame


class RepeatFilter:
    """Recognizes a record that was written twice, by its tenant, key and CloudEvents id.

    It remembers at least the last `remembered` records, and at most twice as many.
    """

    def __init__(self, remembered: int = 1024) -> None:
        self._remembered = remembered
        self._young: set[_Mark] = set()
        self._old: set[_Mark] = set()

    def is_repeat(self, record: Record) -> bool:
        """Whether a recent record had the same identity; this record is remembered."""
        if record.event_id is None:
            return False
        mark = (record.key, record.event_id, record.tenant)
        if mark in self._young or mark in self._old:
            return True
        self._young.add(mark)
        if len(self._young) >= self._remembered:
            self._old, self._young = self._young, set()
        return False

    def copy(self) -> "RepeatFilter":
        """Return an independent filter that remembers the same records."""
        copied = RepeatFilter(self._remembered)
        copied._young, copied._old = self._young.copy(), self._old
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
        self._evicted = 0  # entries at the front that are evicted but not yet cut off
        self._newest: dict[bytes | None, Entry] = {}
        self._repeats = RepeatFilter()

    @property
    def oldest(self) -> Record | None:
        """The first record that the window still has."""
        return self._entries[self._evicted].record if self._evicted < len(self._entries) else None

    def append(self, batch: Batch) -> None:
        """Append the records from `next_offset` on; evict the oldest if there are too many."""
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
        while self.bytes > self._bytes_max and self._evicted < len(self._entries):
            self._evict_oldest()
        if self._evicted > _COMPACT_FROM and self._evicted > len(self._entries) // 4:
            del self._entries[: self._evicted], self._offsets[: self._evicted]
            self._evicted = 0

    def covers(self, offset: int) -> bool:
        """Whether the window has every record from an offset on."""
        return offset >= self.start

    def between(self, offset: int, until: int, count: int) -> Sequence[Entry]:
        """Return up to `count` entries from a covered offset on, before another offset."""
        first = bisect_left(self._offsets, offset, lo=self._evicted)
        last = len(self._offsets)
        if until < self.next_offset:
            last = bisect_left(self._offsets, until, lo=first)
        return self._entries[first : min(last, first + count)]

    def newest(self, key: bytes) -> Entry | None:
        """Return the newest entry of a key; None if the window has none."""
        return self._newest.get(key)

    def between_of(self, keys: Iterable[bytes], offset: int, until: int) -> Sequence[Entry]:
        """Return all entries of some keys between two covered offsets, in their order."""
        found: list[Entry] = []
        for key in keys:
            entry = self._newest.get(key)
            while entry is not None and entry.record.offset >= offset:
                if entry.record.offset < until:
                    found.append(entry)
                entry = entry.older
        if len(found) > 1:
            found.sort(key=lambda entry: entry.record.offset)
        return found

    def last(self, count: int) -> Sequence[Record]:
        """Return the newest records, at most `count`, in their order."""
        return [entry.record for entry in self._entries[max(self._evicted, len(self) - count) :]]

    def __len__(self) -> int:
        return len(self._entries)

    def _evict_oldest(self) -> None:
        entry = self._entries[self._evicted]
        record = entry.record
        # A link to an evicted entry would keep it and all before it in memory.
        if entry.newer is None:
            del self._newest[record.key]
        else:
            entry.newer.older = None
        self.bytes -= size_of(record)
        self.start = record.offset + 1
        self._evicted += 1


def size_of(record: Record) -> int:
    """Return about how many bytes a record takes in memory, with its frame."""
    # JSON in its envelope is about 2.3 times as large as the Avro value that it is made from.
    size = _ENTRY_BYTES + len(record.key or b"") + 33 * len(record.value or b"") // 10
    return size + len(record.traceparent)
