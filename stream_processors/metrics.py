"""The metrics of a worker, and their rendering for Prometheus."""

from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

TRANSACTION_BUCKETS_S = (0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
_RECOVERIES_MAX = 100


class WorkerMetrics:
    """Counts of one worker."""

    def __init__(self) -> None:
        self.fenced = 0
        """Tasks that were fenced by a later owner of their partition number."""
        self.log_faults = 0
        """Partitions that were found made anew, cut off, deleted unread or reset."""
        self.refused: Counter[tuple[str, str]] = Counter()
        """Messages that have become dead letters, by topic and reason."""
        self.failures = 0
        """Rounds that were dropped because a processor failed."""
        self.recovery_s: deque[float] = deque(maxlen=_RECOVERIES_MAX)
        """The durations of the last recoveries."""
        self.transactions = 0
        """Committed transactions."""
        self.records = 0
        """Records written in transactions."""
        self.stuck_s: Callable[[], Mapping[tuple[str, int], float]] = dict
        """Returns for how long open transactions have held partitions back."""
        self._transaction_counts = [0] * (len(TRANSACTION_BUCKETS_S) + 1)
        self._transaction_sum_s = 0.0

    def observe_transaction(self, took_s: float, records: int) -> None:
        """Count a committed transaction."""
        self._transaction_counts[bisect_left(TRANSACTION_BUCKETS_S, took_s)] += 1
        self._transaction_sum_s += took_s
        self.transactions += 1
        self.records += records

    def families(self) -> Iterator[Metric]:
        """Return all metrics for Prometheus."""
        yield CounterMetricFamily(
            "tapewire_worker_fenced",
            "Partition numbers that another worker took over from this one",
            value=self.fenced,
        )
        yield CounterMetricFamily(
            "tapewire_worker_log_faults",
            "Partitions found made anew, cut off, deleted unread or reset",
            value=self.log_faults,
        )
        refused = CounterMetricFamily(
            "tapewire_worker_refused",
            "Messages that have become dead letters",
            labels=["topic", "reason"],
        )
        for labels, count in sorted(self.refused.items()):
            refused.add_metric(labels, count)
        yield refused
        yield CounterMetricFamily(
            "tapewire_worker_failures",
            "Rounds that were dropped because a processor failed",
            value=self.failures,
        )
        yield CounterMetricFamily(
            "tapewire_worker_records", "Records written in transactions", value=self.records
        )
        yield GaugeMetricFamily(
            "tapewire_worker_recovery_seconds",
            "Duration of the slowest of the last recoveries of a partition number",
            value=max(self.recovery_s, default=0.0),
        )
        stuck = GaugeMetricFamily(
            "tapewire_log_stuck_seconds",
            "How long an open transaction of a producer has held a partition back",
            labels=["topic", "partition"],
        )
        for (topic, number), age_s in self.stuck_s().items():
            stuck.add_metric([topic, str(number)], age_s)
        yield stuck
        transactions = HistogramMetricFamily(
            "tapewire_worker_transaction_seconds", "Duration of a committed transaction", labels=[]
        )
        buckets, total = [], 0
        bounds = (*map(str, TRANSACTION_BUCKETS_S), "+Inf")
        for bound, count in zip(bounds, self._transaction_counts, strict=True):
            total += count
            buckets.append((bound, float(total)))
        transactions.add_metric([], buckets, sum_value=self._transaction_sum_s)
        yield transactions


class WorkerCollector(Collector):
    """An adapter for a Prometheus registry."""

    def __init__(self, metrics: WorkerMetrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        """Return all metrics."""
        return self._metrics.families()
