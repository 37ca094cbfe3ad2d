"""Counts of what a process writes to a lake, and their rendering for Prometheus."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from kafka_io.part_metrics import labelled


@dataclass(slots=True)
class LakeCounts:
    """Counts of the rows that a process has written, and of what it has met."""

    rows: Counter[str] = field(default_factory=Counter)
    """Rows by table."""
    gaps: int = 0
    """The offsets that were missing."""
    overtaken: int = 0
    """The batches that another writer has written first."""
    lag: dict[str, int] = field(default_factory=dict)
    """The offsets that were still to be read at the last look, by topic."""
    committed_us: int = 0
    """When the last batch was written, in microseconds since 1970 UTC."""

    def families(self) -> Iterator[Metric]:
        """Return all metrics for Prometheus."""
        yield labelled(
            CounterMetricFamily(
                "tapewire_lake_rows", "Rows written to a lake, by table", labels=["table"]
            ),
            (((table,), rows) for table, rows in dict(self.rows).items()),
        )
        yield labelled(
            GaugeMetricFamily(
                "tapewire_lake_lag_records",
                "Offsets of a topic that were still to be written at the last look",
                labels=["topic"],
            ),
            (((topic,), offsets) for topic, offsets in dict(self.lag).items()),
        )
        yield CounterMetricFamily(
            "tapewire_lake_missing_offsets",
            "Offsets that the log had lost before they were read; the table log_gap names them",
            value=self.gaps,
        )
        yield CounterMetricFamily(
            "tapewire_lake_overtaken",
            "Batches that another writer of the same lake has written first",
            value=self.overtaken,
        )
        yield GaugeMetricFamily(
            "tapewire_lake_last_commit_timestamp_seconds",
            "When the last batch was written, in seconds since 1970; 0 if none was",
            value=self.committed_us / 1_000_000,
        )
