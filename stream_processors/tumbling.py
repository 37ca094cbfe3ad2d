"""Tumbling windows over the log: how much of what happened in each second.

Time is the log's own (the broker's timestamps), which a replay finds unchanged. Counting takes two
stages, so that any number of workers can share it: each source partition's contribution to a window
is tallied where the partition is read, and a window's tallies, which share a key and so a
partition, are added up.

What is worked on in rounds anyway is tallied round by round, and each round's tally is one of
several. Else neither stage keeps state in Kafka: a record is acknowledged only when what it
contributed to has been written. After a crash the records of open windows are read again, and the
tallies that were written twice have the same source and replace each other.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

from schemas.events import DashboardUpdate, WindowTally

E = TypeVar("E")


class Partition(NamedTuple):
    """A partition of a topic."""

    topic: str
    partition: int


@dataclass(slots=True)
class _Open(Generic[E]):
    counts: Counter[str] = field(default_factory=Counter)
    last_offset: int = -1
    held: list[E] = field(default_factory=list)


class Tallying(Generic[E]):
    """The first stage: what each partition contributes to each window."""

    def __init__(self, window_us: int) -> None:
        self._window_us = window_us
        self._open: dict[tuple[Partition, int], _Open[E]] = {}
        self._seen_us: dict[Partition, int] = {}
        self._read: dict[Partition, int] = {}

    def add(self, where: Partition, offset: int, at_us: int, name: str, held: E) -> None:
        """Count a record under a name; `held` is given back when its window closes."""
        # A partition's timestamps may step back when its leader changes; its windows do not.
        at_us = max(at_us, self._seen_us.get(where, 0))
        self._seen_us[where] = at_us
        start = at_us - at_us % self._window_us
        window = self._open.setdefault((where, start), _Open())
        window.held.append(held)
        if offset > self._read.get(where, -1):  # else it is read a second time
            self._read[where] = offset
            window.counts[name] += 1
            window.last_offset = offset

    def close(
        self, now_us: int, caught_up: Callable[[Partition, int], bool]
    ) -> list[tuple[WindowTally, list[E]]]:
        """Take out the windows that nothing can be added to any more.

        Args:
            now_us: the clock, less the time that a record may be under way.
            caught_up: whether an offset is the last of its partition.
        """
        closed = []
        for (where, start), window in sorted(self._open.items(), key=lambda item: item[0]):
            end = start + self._window_us
            passed = self._seen_us[where] >= end
            if passed or (now_us >= end and caught_up(where, window.last_offset)):
                del self._open[where, start]
                tally = WindowTally(
                    window_start_us=start,
                    window_us=self._window_us,
                    counts=dict(window.counts),
                    source_topic=where.topic,
                    source_partition=where.partition,
                    last_offset=window.last_offset,
                )
                closed.append((tally, window.held))
        return closed

    def forget(self) -> None:
        """Drop everything: the partitions may be somebody else's now."""
        self._open.clear()
        self._seen_us.clear()
        self._read.clear()


class Totalling(Generic[E]):
    """The second stage: a window's tallies become its total."""

    def __init__(self, kept: int = 600) -> None:
        self._kept = kept
        self._counts: dict[int, dict[tuple[str, int, int], Mapping[str, int]]] = {}
        self._held: dict[int, list[E]] = {}
        self._length_us: dict[int, int] = {}

    def add(self, tally: WindowTally, held: E) -> None:
        """Take a tally in; one of the same source and window replaces the earlier one."""
        start = tally.window_start_us
        source = (tally.source_topic, tally.source_partition, tally.first_offset)
        self._counts.setdefault(start, {})[source] = tally.counts
        self._held.setdefault(start, []).append(held)
        self._length_us[start] = tally.window_us

    def close(self, now_us: int) -> list[tuple[DashboardUpdate, list[E]]]:
        """The totals of windows that ended before `now_us` and have changed since last time.

        A tally that comes late changes its window's total once more: the update has the same id.
        """
        closed = []
        for start in sorted(self._held):
            end = start + self._length_us[start]
            if end <= now_us:
                closed.append((self._total(start, end), self._held.pop(start)))
        for start in sorted(self._counts)[: -self._kept]:
            if start not in self._held:
                del self._counts[start], self._length_us[start]
        return closed

    def forget(self) -> None:
        """Drop everything: the partitions may be somebody else's now."""
        self._counts.clear()
        self._held.clear()
        self._length_us.clear()

    def _total(self, start: int, end: int) -> DashboardUpdate:
        total: Counter[str] = Counter()
        for counts in self._counts[start].values():
            total.update(counts)
        return DashboardUpdate(
            window_id=f"{start}+{end - start}",
            update_type="window",
            values=dict(total),
            event_time_us=end,
            window_start_us=start,
            window_end_us=end,
        )
