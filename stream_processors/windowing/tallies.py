"""Count events by window: the first of two stages of the dashboard's tumbling windows. Pure.

Two stages let any number of workers share the counting. Here, the agents that read events count
them: a tally says how many events of one batch, of one partition and tenant, fell into one of the
narrowest windows. In `stream_processors.windowing.board` a tenant's board adds the tallies up.

An event belongs to the window of its recorded time (`ce_recordedtime`, its producer's clock) and
not of its event time, so a replay of 2008 is counted today.
"""

import heapq
from collections import Counter
from collections.abc import Iterable, Mapping

from schemas.events import WindowTally
from schemas.topics import TopicPartition

_WORST_MAX = 10
"""A dashboard update lists this many of the highest utilisations."""


class WindowCounter:
    """Counts the events of one batch by partition, tenant and window."""

    def __init__(self, window_us: int) -> None:
        self._window_us = window_us
        self._windows: dict[tuple[TopicPartition, str | None, int], _Window] = {}
        self._newest_us: dict[tuple[TopicPartition, str | None], int] = {}

    def add(
        self,
        source: TopicPartition,
        tenant: str | None,
        offset: int,
        recorded_us: int,
        name: str,
        count: int = 1,
    ) -> None:
        """Count events of one record under a name. Offsets of a partition must not decrease."""
        start_us = recorded_us - recorded_us % self._window_us
        window = self._windows.get((source, tenant, start_us))
        if window is None:
            window = self._windows[source, tenant, start_us] = _Window(offset)
        window.last_offset = offset
        window.counts[name] += count
        newest_us = self._newest_us.get((source, tenant), 0)
        self._newest_us[source, tenant] = max(recorded_us, newest_us)

    def extend_to(
        self, source: TopicPartition, tenant: str | None, offset: int, recorded_us: int
    ) -> None:
        """Note the last offset of records that were counted together by the first one's offset."""
        start_us = recorded_us - recorded_us % self._window_us
        self._windows[source, tenant, start_us].last_offset = offset

    def add_to_newest(
        self, source: TopicPartition, tenant: str | None, name: str, count: int
    ) -> None:
        """Count results of the batch in its newest window, if it has any."""
        newest_us = self._newest_us.get((source, tenant))
        if newest_us is not None:
            start_us = newest_us - newest_us % self._window_us
            self._windows[source, tenant, start_us].counts[name] += count

    def clear(self) -> None:
        """Forget all counts."""
        self._windows.clear()
        self._newest_us.clear()

    def tallies(self) -> Iterable[WindowTally]:
        """Return a tally for each window that was counted in."""
        for (source, tenant, start_us), window in self._windows.items():
            yield WindowTally(
                window_start_us=start_us,
                window_us=self._window_us,
                counts=window.counts,
                source_topic=source.topic,
                source_partition=source.partition,
                first_offset=window.first_offset,
                last_offset=window.last_offset,
                newest_us=self._newest_us[source, tenant],
                tenant=tenant,
            )


class _Window:
    __slots__ = ("counts", "first_offset", "last_offset")

    def __init__(self, first_offset: int) -> None:
        self.first_offset = self.last_offset = first_offset
        self.counts: Counter[str] = Counter()


def gauge_tally(
    source: TopicPartition,
    tenant: str | None,
    values: Mapping[str, float],
    utilisations: Mapping[str, float] | None = None,
) -> WindowTally:
    """Return a tally that counts nothing and carries the current gauges of a partition.

    Args:
        source: the partition that the gauges are of.
        tenant: the tenant that they are of.
        values: the gauges by name; they replace the partition's previous ones.
        utilisations: of portfolios, by name; the tally keeps the highest.
    """
    return WindowTally(
        window_start_us=0,
        window_us=0,
        counts={},
        source_topic=source.topic,
        source_partition=source.partition,
        first_offset=0,
        last_offset=0,
        gauges=values,
        worst=highest(utilisations or {}),
        tenant=tenant,
    )


def highest(utilisations: Mapping[str, float]) -> dict[str, float]:
    """Return the highest utilisations by name, the highest first."""
    names = heapq.nlargest(_WORST_MAX, utilisations, key=lambda name: (utilisations[name], name))
    return {name: utilisations[name] for name in names}
