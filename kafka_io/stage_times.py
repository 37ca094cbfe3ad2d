"""How long events take on their way: to the log, to a part that reads it, and out of that part.

Every part takes samples, such as one record of a read, and adds them to the histograms of
`kafka_io.counts`.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import NamedTuple

from schemas.headers import RECORDED
from schemas.instants import from_rfc3339

BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


class Stage(StrEnum):
    """A part of an event's way."""

    WRITER_TO_LOG = "writer_to_log"
    """From its writing, as its header says, to its append to the log, by the broker's clock."""
    LOG_TO_EDGE = "log_to_edge"
    """From the append until an edge has read it."""
    EDGE_TO_SOCKET = "edge_to_socket"
    """From then until it is written to the sockets of live clients."""
    LOG_TO_PROCESSOR = "log_to_processor"
    """From the append until a processor takes it up."""
    PROCESSOR_TO_LOG = "processor_to_log"
    """From then until what follows from it is committed."""


class StageTimes(NamedTuple):
    """The histogram of a stage."""

    counts: tuple[int, ...]
    """The number of times in each bucket of `BUCKETS_S`, and above all."""
    sum_s: float


class StageClock:
    """Histograms of the times that samples of events took for each stage."""

    def __init__(self) -> None:
        """Begin without samples."""
        self._counts: dict[Stage, list[int]] = {}
        self._sums_s: dict[Stage, float] = {}

    def observe(self, stage: Stage, seconds: float) -> None:
        """Add a sample. Less than nothing, of clocks that differ, counts as nothing."""
        counts = self._counts.get(stage)
        if counts is None:
            counts = self._counts[stage] = [0] * (len(BUCKETS_S) + 1)
            self._sums_s[stage] = 0.0
        seconds = max(0.0, seconds)
        counts[bisect_left(BUCKETS_S, seconds)] += 1
        self._sums_s[stage] += seconds

    def observe_record(
        self,
        stage: Stage,
        appended_s: float,
        headers: Iterable[tuple[str, bytes | None]],
        now_s: float,
    ) -> None:
        """Add a record that was read: its way to the log, and from there to this part.

        Args:
            stage: the way from the log to this part.
            appended_s: when the log got it, in seconds since 1970; 0 if that is unknown.
            headers: its headers, of which one says when it was written.
            now_s: the time, in seconds since 1970.
        """
        if appended_s <= 0:
            return
        self.observe(stage, now_s - appended_s)
        for name, value in headers:
            if name == RECORDED and value is not None:
                try:
                    written_us = from_rfc3339(value.decode())
                except ValueError:  # a foreign writer's
                    return
                self.observe(Stage.WRITER_TO_LOG, appended_s - written_us / 1_000_000)
                return

    def times(self) -> Iterator[tuple[Stage, StageTimes]]:
        """Return the histograms of all stages that have samples."""
        for stage, counts in list(self._counts.items()):
            yield stage, StageTimes(tuple(counts), self._sums_s[stage])
