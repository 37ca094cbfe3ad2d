"""A window: the newest records of one partition, in memory, bounded in bytes.

What holds for ever: every record of the log from `start` up to `next_offset` is in the window, but
for the log's own holes; so a position between the two needs nothing but the window. Each record is
worded once, when somebody first asks for it, however many read it.
"""

from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from sse_edge.record import Batch, Record
from sse_edge.stream import Frame

_ENTRY_BYTES = 400
"""What an entry costs besides its key, value and frame; measured with tracemalloc."""

_COMPACT_FROM = 256


@dataclass(slots=True, eq=False)
class Entry:
    """A record, and its frame once it has one."""

    record: Record
    is_repeat: bool
    """Written again by a producer or processor that could not know that it stood there."""
    frame: Frame | None = None
    framed: bool = False


class RepeatFilter:
    """Recognizes a record that was written twice: by its key and CloudEvents id, among the last."""

    def __init__(self, remembered: int = 1024) -> None:
        self._remembered = remembered
        self._seen: OrderedDict[tuple[bytes | None, bytes], None] = OrderedDict()

    def is_repeat(self, record: Record) -> bool:
        """Whether a record with the same id was seen a little while ago; remembers this one."""
        if record.event_id is None:
            return False
        mark = (record.key, record.event_id)
        if mark in self._seen:
            return True
        self._seen[mark] = None
        if len(self._seen) > self._remembered:
            self._seen.popitem(last=False)
        return False


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
        self._repeats = RepeatFilter()

    def append(self, batch: Batch) -> None:
        """Take in what follows `next_offset`; the oldest records make room."""
        for record in batch.records:
            if record.offset < self.next_offset:
                continue
            self._entries.append(Entry(record, self._repeats.is_repeat(record)))
            self._offsets.append(record.offset)
            self.next_offset = record.offset + 1
            self.bytes += _size_of(record)
        self.next_offset = max(self.next_offset, batch.next_offset)
        while self.bytes > self._bytes_max and self._gone < len(self._entries):
            self._let_go_of_oldest()
        if self._gone > _COMPACT_FROM and self._gone > len(self._entries) // 4:
            del self._entries[: self._gone], self._offsets[: self._gone]
            self._gone = 0

    def covers(self, offset: int) -> bool:
        """Whether a reader at a position can go on from this window."""
        return offset >= self.start

    def after(self, offset: int, count: int) -> Sequence[Entry]:
        """Up to `count` entries from a covered position on."""
        first = bisect_left(self._offsets, offset, lo=self._gone)
        return self._entries[first : first + count]

    def _let_go_of_oldest(self) -> None:
        record = self._entries[self._gone].record
        self.bytes -= _size_of(record)
        self.start = record.offset + 1
        self._gone += 1


def _size_of(record: Record) -> int:
    # A frame is about as large as its value, hence twice.
    return _ENTRY_BYTES + len(record.key or b"") + 2 * len(record.value or b"")
