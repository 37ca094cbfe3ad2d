"""Add tallies up: the second of two stages of the dashboard's tumbling windows. Pure.

Tallies arrive from `stream_processors.windowing.tallies`; a window's total leaves as a
`DashboardUpdate`. There is one board for each tenant.

The watermark is the time up to which every active source has counted its events. When no source is
active, it advances at the clock's pace. A window's total is published when the watermark has passed
its end, and again, under the same id, when a later tally changes it. When the watermark has passed
the end by the allowed lateness too, the window is closed: later events count as late, in the window
that the watermark is in.

A board's state carries the offset up to which it has read, so a tally that is read again changes
nothing. Tallies of one source and window follow each other in the source's partition: a tally whose
first offset is n replaces all earlier tallies from n on, which a worker had sent before it crashed
without acknowledging what it had counted.
"""

from collections import ChainMap, Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from schemas.events import (
    BoardState,
    DashboardUpdate,
    SourceState,
    WindowSlice,
    WindowTally,
    WindowTotal,
)
from schemas.topics import TopicPartition
from stream_processors.windowing.tallies import highest

LATE = "late"
_SILENT_US = 1_000_000
"""A source without a tally for this long no longer holds the watermark back."""

_US = 1_000_000

_RATED = ("returns", "risk_measures", "training_events")
"""Counts that an update also gives per second."""


@dataclass(slots=True)
class _Source:
    newest_us: int = 0
    gauges: Mapping[str, float] = field(default_factory=dict)
    worst: Mapping[str, float] = field(default_factory=dict)
    last_tally_us: int = 0
    """When the board took in its last tally, by the board's clock."""


_Slices = dict[TopicPartition, dict[int, Mapping[str, int]]]
"""A window's counts by source and by the first offset of each tally."""


class Board:
    """The windows of one tenant's dashboard."""

    def __init__(self, state: BoardState, windows_us: Sequence[int], lateness_us: int) -> None:
        """Continue from a packed state, or start from an empty one.

        Args:
            state: the state.
            windows_us: the lengths of the windows; all are multiples of the first.
            lateness_us: how much later than its window's end a tally may arrive.
        """
        self.tenant = state.board or None
        self.partition = state.partition
        """The partition that the board's tallies are in."""
        self._narrow, *self._wide = windows_us
        self._lateness_us = lateness_us
        self._offset = state.offset
        self._watermark_us = state.watermark_us
        self._last_tally_us = 0
        self._sources: dict[TopicPartition, _Source] = {}
        self._open: dict[int, _Slices] = {}
        """The slices of each narrow window that is not closed, by its start."""
        self._totals: dict[tuple[int, int], Counter[str]] = {}
        """The closed narrow windows' counts in each wide window, by its length and start."""
        self._changed: set[tuple[int, int]] = set()
        """Length and start of each window that has changed since its total was published."""
        self._unpack(state)

    def add(self, tally: WindowTally, offset: int, now_us: int) -> None:
        """Add a tally.

        Args:
            tally: a source's counts or gauges.
            offset: its own offset; a tally that was added before changes nothing.
            now_us: the clock.
        """
        if offset <= self._offset:
            return
        self._offset = offset
        name = TopicPartition(tally.source_topic, tally.source_partition)
        source = self._sources.setdefault(name, _Source())
        if not tally.counts:
            source.gauges, source.worst = tally.gauges, tally.worst
            return
        self._last_tally_us = source.last_tally_us = now_us
        source.newest_us = max(source.newest_us, tally.newest_us)
        start = tally.window_start_us - tally.window_start_us % self._narrow
        first, counts = tally.first_offset, tally.counts
        is_late = start + self._narrow + self._lateness_us <= self._watermark_us
        if is_late:
            # A negative number of its own replaces no tally of the window that it is added to.
            start, first, counts = self._current_start(), -1 - offset, {LATE: sum(counts.values())}
        slices = self._open.setdefault(start, {}).setdefault(name, {})
        if not is_late:
            for replaced in [other for other in slices if other >= first]:
                del slices[replaced]
        slices[first] = counts
        for length in (self._narrow, *self._wide):
            self._changed.add((length, start - start % length))

    @property
    def is_due_later(self) -> bool:
        """Whether a window has changed since its total was published."""
        return bool(self._changed)

    def advance(self, now_us: int) -> list[DashboardUpdate]:
        """Advance the watermark; return the totals that are due and not published yet."""
        self._watermark_us = max(self._watermark_us, self._reached_us(now_us))
        due = sorted(
            (length, start)
            for length, start in self._changed
            if start + length <= self._watermark_us
        )
        self._changed.difference_update(due)
        updates = [self._update(length, start) for length, start in due]
        self._close()
        return updates

    def pack(self) -> BoardState:
        """Return the whole state of the board."""
        sources = list(self._sources)
        return BoardState(
            board=self.tenant or "",
            partition=self.partition,
            offset=self._offset,
            watermark_us=self._watermark_us,
            sources=[
                SourceState(*name, source.newest_us, source.gauges, source.worst)
                for name, source in self._sources.items()
            ],
            slices=[
                WindowSlice(start, sources.index(name), first, counts)
                for start, by_source in self._open.items()
                for name, slices in by_source.items()
                for first, counts in slices.items()
            ],
            totals=[
                WindowTotal(start, length, counts)
                for (length, start), counts in self._totals.items()
            ],
        )

    def _unpack(self, state: BoardState) -> None:
        names = [TopicPartition(source.topic, source.partition) for source in state.sources]
        for name, source in zip(names, state.sources, strict=True):
            self._sources[name] = _Source(source.newest_us, source.gauges, source.worst)
        for packed in state.slices:
            start = packed.start_us - packed.start_us % self._narrow
            slices = self._open.setdefault(start, {}).setdefault(names[packed.source], {})
            slices[packed.first_offset] = packed.counts
            for length in (self._narrow, *self._wide):
                # A window before the watermark was published before the state was packed.
                if start - start % length + length > self._watermark_us:
                    self._changed.add((length, start - start % length))
        for total in state.totals:
            if total.length_us in self._wide:
                key = total.length_us, total.start_us
                self._totals[key] = Counter(total.counts)
                if total.start_us + total.length_us > self._watermark_us:
                    self._changed.add(key)

    def _reached_us(self, now_us: int) -> int:
        """Return the time that all active sources have reached; without any, the clock decides."""
        sources = [source for source in self._sources.values() if source.newest_us]
        if not sources:
            return 0
        # After a restart no tally has arrived yet: silence counts from now.
        self._last_tally_us = self._last_tally_us or now_us
        active = [
            source.newest_us for source in sources if now_us - source.last_tally_us < _SILENT_US
        ]
        if active:
            return min(active)
        newest_us = max(source.newest_us for source in sources)
        return newest_us + max(0, now_us - self._last_tally_us - _SILENT_US)

    def _current_start(self) -> int:
        """Return the start of the narrow window that the watermark is in."""
        return self._watermark_us - self._watermark_us % self._narrow

    def _close(self) -> None:
        """Close the windows that no tally can be added to any more."""
        closed_us = self._watermark_us - self._lateness_us
        for start in [start for start in self._open if start + self._narrow <= closed_us]:
            counts = _total(self._open.pop(start))
            for length in self._wide:
                key = length, start - start % length
                self._totals.setdefault(key, Counter()).update(counts)
        for key in [key for key in self._totals if sum(key) <= closed_us]:
            del self._totals[key]

    def _update(self, length: int, start: int) -> DashboardUpdate:
        counts = Counter(self._totals.get((length, start), ()))
        for narrow, slices in self._open.items():
            if start <= narrow < start + length:
                counts.update(_total(slices))
        gauges: Counter[str] = Counter()
        for source in self._sources.values():
            gauges.update(source.gauges)
        utilisations = ChainMap(*(dict(source.worst) for source in self._sources.values()))
        seconds = length / _US
        rates = {f"{name}_per_s": counts[name] / seconds for name in _RATED if name in counts}
        return DashboardUpdate(
            window_id=f"{start}+{length}",
            update_type="window",
            values={**counts, **rates, **gauges},
            event_time_us=start + length,
            window_start_us=start,
            window_end_us=start + length,
            worst=highest(dict(utilisations)),
        )


def _total(slices: _Slices) -> Counter[str]:
    total: Counter[str] = Counter()
    for by_offset in slices.values():
        for counts in by_offset.values():
            total.update(counts)
    return total
