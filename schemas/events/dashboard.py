"""Counts by time window, for dashboards."""

from dataclasses import dataclass, field
from typing import NamedTuple

from schemas.bounds import (
    Count,
    DerivedId,
    DurationUs,
    EventTable,
    Increment,
    InstantUs,
    Integer,
    Items,
    Name,
    ObservedUs,
    Offset,
    Real,
    SmallCount,
    SmallOffset,
    Table,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DashboardUpdate:
    """Counts and gauges of one time window. `window_end_us` is exclusive."""

    window_id: DerivedId
    update_type: Name
    values: EventTable[Real]
    event_time_us: ObservedUs
    window_start_us: InstantUs | None = None
    window_end_us: InstantUs | None = None
    worst: Table[Real] = field(default_factory=dict)
    """The portfolios with the highest utilisation: VaR as a fraction of its limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowTally:
    """The counts that one partition adds to a window. They are increments, not totals."""

    window_start_us: ObservedUs
    window_us: DurationUs
    counts: Table[Increment]
    source_topic: Name
    source_partition: SmallOffset
    last_offset: Offset
    first_offset: Offset = -1
    """The offset of the first counted record."""
    newest_us: ObservedUs = 0
    """The time that the source has reached; 0 for a tally of gauges only."""
    gauges: Table[Real] = field(default_factory=dict)
    """Current values in the source's partition, by name."""
    worst: Table[Real] = field(default_factory=dict)
    """The portfolios there with the highest utilisation: VaR as a fraction of its limit."""
    tenant: Name | None = None

    @property
    def board(self) -> str:
        """The dashboard that adds the tally; the tallies of one tenant share a partition."""
        return self.tenant or ""

    @property
    def event_time_us(self) -> int:
        """The end of the window."""
        return self.window_start_us + self.window_us

    @property
    def event_id(self) -> str:
        """The CloudEvents id, the same when the same records are counted again; none for gauges."""
        window = f"{self.window_start_us}+{self.window_us}@{self.board}"
        where = f"{self.source_topic}/{self.source_partition}/{self.first_offset}"
        return f"tally:{window}:{where}-{self.last_offset}" if self.counts else ""


class SourceState(NamedTuple):
    """A dashboard's state of one of its sources."""

    topic: Name
    partition: SmallOffset
    newest_us: InstantUs
    gauges: Table[Real]
    worst: Table[Real]


class WindowSlice(NamedTuple):
    """The counts that one tally added to a window."""

    start_us: InstantUs
    source: SmallCount
    """The index of the source in the dashboard's list of sources."""
    first_offset: Integer
    """A negative number of its own for a tally that was late."""
    counts: Table[Count]


class WindowTotal(NamedTuple):
    """The sum of the closed parts of a wide window."""

    start_us: InstantUs
    length_us: InstantUs
    counts: Table[Count]


@dataclass(frozen=True, slots=True, kw_only=True)
class BoardState:
    """A dashboard's open windows, and the offset up to which its tallies are read."""

    board: DerivedId
    """The tenant; empty for events without a tenant."""
    partition: SmallOffset
    """The partition of its tallies."""
    offset: Offset = -1
    watermark_us: InstantUs = 0
    sources: Items[SourceState] = ()
    slices: Items[WindowSlice] = ()
    totals: Items[WindowTotal] = ()
