"""Tumbling windows over what is told: how much of it in each second, ten seconds, a minute.

Time is when a record was told (`ce_recordedtime`, its producer's clock), not what it tells of: a
replay of 2008 happens today. Counting takes two stages, so that any number of workers can share
it: what a take of records contributes to each of the narrowest windows is tallied where they are
read, and a board, of which there is one for each tenant, adds tallies up.

A board's watermark is how far all sources have come that say anything; in silence it goes on at the
clock's pace. A window's total is told when the watermark has passed its end, and told again, under
the same id, where a tally of it comes later still. When the watermark has passed by the allowed
lateness, too, the window is closed: what comes after that is counted as late, in the window that
is open then.

A board's state carries the offset up to which it has read. Tallies of one source and window lie
one behind the other in its partition: a tally that begins at an offset takes the place of all that
began there or later, which a reader had sent that was lost before it could acknowledge.
"""

import heapq
from collections import ChainMap, Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from schemas.events import (
    BoardState,
    DashboardUpdate,
    SourceState,
    WindowSlice,
    WindowTally,
    WindowTotal,
)

LATE = "late"
_WORST = 10
"""How many of the worst utilisations an update shows."""
_SILENT_US = 1_000_000
"""A source that says nothing for so long holds nobody up."""

_US = 1_000_000


class Partition(NamedTuple):
    """A partition of a topic."""

    topic: str
    partition: int


class Tallying:
    """The first stage: what one take of records contributes to each window."""

    def __init__(self, window_us: int) -> None:
        self._window_us = window_us
        self._counts: dict[tuple[Partition, str | None, int], _Count] = {}
        self._newest_us: dict[tuple[Partition, str | None], int] = {}

    def add(
        self,
        where: Partition,
        tenant: str | None,
        offset: int,
        at_us: int,
        name: str,
        count: int = 1,
    ) -> None:
        """Count something of a record under a name; records come in their partition's order."""
        start = at_us - at_us % self._window_us
        found = self._counts.get((where, tenant, start))
        if found is None:
            found = self._counts[where, tenant, start] = _Count(offset)
        found.last_offset = offset
        found.counts[name] += count
        self._newest_us[where, tenant] = max(at_us, self._newest_us.get((where, tenant), 0))

    def add_newest(self, where: Partition, tenant: str | None, name: str, count: int) -> None:
        """Count what follows from a take in its newest window; without one, nowhere."""
        newest_us = self._newest_us.get((where, tenant))
        if newest_us is not None:
            start = newest_us - newest_us % self._window_us
            self._counts[where, tenant, start].counts[name] += count

    def clear(self) -> None:
        """Have counted nothing."""
        self._counts.clear()
        self._newest_us.clear()

    def tallies(self) -> Iterable[WindowTally]:
        """What was counted."""
        for (where, tenant, start), found in self._counts.items():
            yield WindowTally(
                window_start_us=start,
                window_us=self._window_us,
                counts=found.counts,
                source_topic=where.topic,
                source_partition=where.partition,
                first_offset=found.first_offset,
                last_offset=found.last_offset,
                newest_us=self._newest_us[where, tenant],
                tenant=tenant,
            )


class _Count:
    __slots__ = ("counts", "first_offset", "last_offset")

    def __init__(self, first_offset: int) -> None:
        self.first_offset = self.last_offset = first_offset
        self.counts: Counter[str] = Counter()


def gauges(
    where: Partition,
    tenant: str | None,
    values: Mapping[str, float],
    worst: Mapping[str, float] | None = None,
) -> WindowTally:
    """A tally that counts nothing: how things stand now in a source's partition."""
    return WindowTally(
        window_start_us=0,
        window_us=0,
        counts={},
        source_topic=where.topic,
        source_partition=where.partition,
        first_offset=0,
        last_offset=0,
        gauges=values,
        worst=_worst(worst or {}),
        tenant=tenant,
    )


@dataclass(slots=True)
class _Source:
    newest_us: int = 0
    gauges: Mapping[str, float] = field(default_factory=dict)
    worst: Mapping[str, float] = field(default_factory=dict)
    heard_us: int = 0


_Slices = dict[Partition, dict[int, Mapping[str, int]]]
"""Of a window: by source, and by the first offset of each tally."""


class Board:
    """The second stage: the windows of one tenant's dashboard."""

    def __init__(self, state: BoardState, windows_us: Sequence[int], lateness_us: int) -> None:
        """Go on from a state, which may be a board's first.

        Args:
            state: where it stood.
            windows_us: the lengths of its windows; the others are multiples of the first.
            lateness_us: how much later than its window's end a tally may come.
        """
        self.tenant = state.board or None
        self.partition = state.partition
        """Of its tallies."""
        self._narrow, *self._wide = windows_us
        self._lateness_us = lateness_us
        self._offset = state.offset
        self._watermark_us = state.watermark_us
        self._heard_us = 0
        self._sources: dict[Partition, _Source] = {}
        self._open: dict[int, _Slices] = {}
        """By the start of a narrow window."""
        self._totals: dict[tuple[int, int], Counter[str]] = {}
        """By length and start of a wide window: what came of its narrow ones that are closed."""
        self._untold: set[tuple[int, int]] = set()
        """Length and start of the windows that have changed since they were told."""
        self._unpack(state)

    def add(self, tally: WindowTally, offset: int, now_us: int) -> None:
        """Take a tally in.

        Args:
            tally: what a source contributed.
            offset: where that stands; what was read before changes nothing.
            now_us: the clock.
        """
        if offset <= self._offset:
            return
        self._offset = offset
        where = Partition(tally.source_topic, tally.source_partition)
        source = self._sources.setdefault(where, _Source())
        if not tally.counts:
            source.gauges, source.worst = tally.gauges, tally.worst
            return
        self._heard_us = source.heard_us = now_us
        source.newest_us = max(source.newest_us, tally.newest_us)
        start = tally.window_start_us - tally.window_start_us % self._narrow
        first, counts = tally.first_offset, tally.counts
        is_late = start + self._narrow + self._lateness_us <= self._watermark_us
        if is_late:
            # Under a number of its own: it takes nobody's place in a window that is another's.
            start, first, counts = self._open_now(), -1 - offset, {LATE: sum(counts.values())}
        slices = self._open.setdefault(start, {}).setdefault(where, {})
        if not is_late:
            for replaced in [other for other in slices if other >= first]:
                del slices[replaced]
        slices[first] = counts
        for length in (self._narrow, *self._wide):
            self._untold.add((length, start - start % length))

    def advance(self, now_us: int) -> list[DashboardUpdate]:
        """The totals that can be told now, and were not told so before."""
        self._watermark_us = max(self._watermark_us, self._reached_us(now_us))
        due = sorted(
            (length, start)
            for length, start in self._untold
            if start + length <= self._watermark_us
        )
        self._untold.difference_update(due)
        updates = [self._update(length, start) for length, start in due]
        self._close()
        return updates

    def pack(self) -> BoardState:
        """Everything that is needed to go on elsewhere."""
        sources = list(self._sources)
        return BoardState(
            board=self.tenant or "",
            partition=self.partition,
            offset=self._offset,
            watermark_us=self._watermark_us,
            sources=[
                SourceState(*where, source.newest_us, source.gauges, source.worst)
                for where, source in self._sources.items()
            ],
            slices=[
                WindowSlice(start, sources.index(where), first, counts)
                for start, by_source in self._open.items()
                for where, slices in by_source.items()
                for first, counts in slices.items()
            ],
            totals=[
                WindowTotal(start, length, counts)
                for (length, start), counts in self._totals.items()
            ],
        )

    def _unpack(self, state: BoardState) -> None:
        homes = [Partition(one.topic, one.partition) for one in state.sources]
        for where, one in zip(homes, state.sources, strict=True):
            self._sources[where] = _Source(one.newest_us, one.gauges, one.worst)
        for a_slice in state.slices:
            start = a_slice.start_us - a_slice.start_us % self._narrow
            by_source = self._open.setdefault(start, {})
            slices = by_source.setdefault(homes[a_slice.source], {})
            slices[a_slice.first_offset] = a_slice.counts
            for length in (self._narrow, *self._wide):
                # What the watermark has passed had been told before the state was packed.
                if start - start % length + length > self._watermark_us:
                    self._untold.add((length, start - start % length))
        for total in state.totals:
            if total.length_us in self._wide:
                key = total.length_us, total.start_us
                self._totals[key] = Counter(total.counts)
                if total.start_us + total.length_us > self._watermark_us:
                    self._untold.add(key)

    def _reached_us(self, now_us: int) -> int:
        """How far the sources are that were heard lately; in silence the clock goes on."""
        told = [one for one in self._sources.values() if one.newest_us]
        if not told:
            return 0
        self._heard_us = self._heard_us or now_us  # after a restart nobody has been heard yet
        lately = [one.newest_us for one in told if now_us - one.heard_us < _SILENT_US]
        if lately:
            return min(lately)
        newest_us = max(one.newest_us for one in told)
        return newest_us + max(0, now_us - self._heard_us - _SILENT_US)

    def _open_now(self) -> int:
        """The window that the watermark is in."""
        return self._watermark_us - self._watermark_us % self._narrow

    def _close(self) -> None:
        """Let go of the windows that nothing can be added to any more."""
        over_us = self._watermark_us - self._lateness_us
        for start in [start for start in self._open if start + self._narrow <= over_us]:
            counts = _sum(self._open.pop(start))
            for length in self._wide:
                key = length, start - start % length
                self._totals.setdefault(key, Counter()).update(counts)
        for key in [key for key in self._totals if sum(key) <= over_us]:
            del self._totals[key]

    def _update(self, length: int, start: int) -> DashboardUpdate:
        counts = Counter(self._totals.get((length, start), ()))
        for narrow, slices in self._open.items():
            if start <= narrow < start + length:
                counts.update(_sum(slices))
        stands: Counter[str] = Counter()
        for source in self._sources.values():
            stands.update(source.gauges)
        seconds = length / _US
        rates = {f"{name}_per_s": counts[name] / seconds for name in _RATED if name in counts}
        board = f"@{self.tenant}" if self.tenant else ""
        return DashboardUpdate(
            window_id=f"{start}+{length}{board}",
            update_type="window",
            values={**counts, **rates, **stands},
            event_time_us=start + length,
            window_start_us=start,
            window_end_us=start + length,
            worst=_worst(dict(ChainMap(*(dict(one.worst) for one in self._sources.values())))),
        )


_RATED = ("returns", "risk_measures", "training_events")
"""What is told by the second, too."""


def _sum(slices: _Slices) -> Counter[str]:
    total: Counter[str] = Counter()
    for by_offset in slices.values():
        for counts in by_offset.values():
            total.update(counts)
    return total


def _worst(utilisations: Mapping[str, float]) -> dict[str, float]:
    names = heapq.nlargest(_WORST, utilisations, key=lambda name: (utilisations[name], name))
    return {name: utilisations[name] for name in names}
