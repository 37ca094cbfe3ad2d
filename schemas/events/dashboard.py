"""Counts by time window, for dashboards."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple


@dataclass(frozen=True, slots=True, kw_only=True)
class DashboardUpdate:
    """Counts and gauges of one time window. `window_end_us` is exclusive."""

    window_id: str
    update_type: str
    values: Mapping[str, float]
    event_time_us: int
    window_start_us: int | None = None
    window_end_us: int | None = None
    worst: Mapping[str, float] = field(default_factory=dict)
    """The portfolios with the highest utilisation: VaR as a fraction of its limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowTally:
    """The counts that one partition adds to a window. They are increments, not totals."""

    window_start_us: int
    window_us: int
    counts: Mapping[str, int]
    source_topic: str
    source_partition: int
    last_offset: int
    first_offset: int = -1
    """The offset of the first counted record."""
    newest_us: int = 0
    """The time that the source has reached; 0 for a tally of gauges only."""
    gauges: Mapping[str, float] = field(default_factory=dict)
    """Current values in the source's partition, by name."""
    worst: Mapping[str, float] = field(default_factory=dict)
    """The portfolios there with the highest utilisation: VaR as a fraction of its limit."""
    tenant: str | None = None

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

    topic: str
    partition: int
    newest_us: int
    gauges: Mapping[str, float]
    worst: Mapping[str, float]


class WindowSlice(NamedTuple):
    """The counts that one tally added to a window."""

    start_us: int
    source: int
    """The index of the source in the dashboard's list of sources."""
    first_offset: int
    counts: Mapping[str, int]


class WindowTotal(NamedTuple):
    """The sum of the closed parts of a wide window."""

    start_us: int
    length_us: int
    counts: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class BoardState:
    """A dashboard's open windows, and the offset up to which its tallies are read."""

    board: str
    """The tenant; empty for events without a tenant."""
    partition: int
    """The partition of its tallies."""
    offset: int = -1
    watermark_us: int = 0
    sources: Sequence[SourceState] = ()
    slices: Sequence[WindowSlice] = ()
    totals: Sequence[WindowTotal] = ()
