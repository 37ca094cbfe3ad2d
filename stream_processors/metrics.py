"""The metrics of a worker, and their rendering for Prometheus."""

import time
from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from opentelemetry import trace
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.samples import Exemplar

from kafka_io.dead_letters import Message
from kafka_io.part_metrics import dead_letter_family, labelled, with_exemplars
from schemas.events import DeadLetterReason
from schemas.topics import TopicPartition

TRANSACTION_BUCKETS_S = (0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
_RECOVERIES_MAX = 100


class Progress(NamedTuple):
    """How far a partition is processed."""

    done: int
    """The offset after the last record whose results are committed."""
    end: int
    """The offset after the last record that there is for readers of committed records."""


class WorkerMetrics:
    """Counts of one worker."""

    def __init__(self) -> None:
        self.fenced = 0
        """Tasks that were fenced by a later owner of their partition number."""
        self.log_faults = 0
        """Partitions that were found made anew, cut off, deleted unread or reset."""
        self.refused: Counter[tuple[str, str]] = Counter()
        """Messages that have become dead letters, by topic and reason."""
        self.messages: Counter[str] = Counter()
        """Messages whose results are committed, by topic."""
        self.dead_letters: Counter[tuple[str, str]] = Counter()
        """Committed dead letters, by topic and reason."""
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
        self.progress: Callable[[], Mapping[TopicPartition, Progress]] = dict
        """Returns how far each partition is processed."""
        self.open_alerts: Callable[[], Mapping[tuple[str, bool], int]] = dict
        """Returns the number of open alerts, by severity and acknowledgement."""
        self._exemplars: dict[int, Exemplar] = {}
        """The trace of the last transaction in each bucket that had one."""
        self._transaction_counts = [0] * (len(TRANSACTION_BUCKETS_S) + 1)
        self._transaction_sum_s = 0.0

    def expect(self, topics: Iterable[str]) -> None:
        """Show topics from the start: a counter that begins at 1 has no increase."""
        for topic in topics:
            self.messages[topic] += 0
            for reason in DeadLetterReason:
                self.dead_letters[topic, reason] += 0

    def observe_round(
        self, messages: Sequence[Message], letters: Iterable[tuple[str, str]]
    ) -> None:
        """Count what a committed round has read, and its dead letters."""
        self.messages.update(message.topic for message in messages)
        self.dead_letters.update(letters)

    def observe_transaction(self, took_s: float, records: int) -> None:
        """Count a committed transaction, and keep its trace if it is sampled."""
        bucket = bisect_left(TRANSACTION_BUCKETS_S, took_s)
        self._transaction_counts[bucket] += 1
        context = trace.get_current_span().get_span_context()
        if context.is_valid and context.trace_flags.sampled:
            labels = {"trace_id": trace.format_trace_id(context.trace_id)}
            self._exemplars[bucket] = Exemplar(labels, took_s, time.time())
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
        yield labelled(
            CounterMetricFamily(
                "tapewire_worker_refused",
                "Messages that the gate refused; tapewire_dead_letters_total replaces it",
                labels=["topic", "reason"],
            ),
            dict(self.refused).items(),
        )
        yield dead_letter_family(self.dead_letters)
        yield labelled(
            CounterMetricFamily(
                "tapewire_worker_messages",
                "Messages whose results are committed, by topic",
                labels=["topic"],
            ),
            (((topic,), count) for topic, count in dict(self.messages).items()),
        )
        yield from self._of_progress()
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
        yield labelled(
            GaugeMetricFamily(
                "tapewire_open_alerts",
                "Open alerts of the portfolios and books of this worker, by severity and by "
                "whether somebody has acknowledged them",
                labels=["severity", "acknowledged"],
            ),
            (
                ((severity, "true" if is_acknowledged else "false"), count)
                for (severity, is_acknowledged), count in self.open_alerts().items()
            ),
        )
        transactions = HistogramMetricFamily(
            "tapewire_worker_transaction_seconds", "Duration of a committed transaction", labels=[]
        )
        buckets = with_exemplars(TRANSACTION_BUCKETS_S, self._transaction_counts, self._exemplars)
        transactions.add_metric([], buckets, sum_value=self._transaction_sum_s)
        yield transactions

    def _of_progress(self) -> Iterator[Metric]:
        """Return the metrics of partitions."""
        labels = ["topic", "partition"]
        progress = {
            (where.topic, str(where.partition)): found for where, found in self.progress().items()
        }
        yield labelled(
            GaugeMetricFamily(
                "tapewire_worker_offset",
                "Offset after the last record of a partition whose results are committed",
                labels=labels,
            ),
            ((where, found.done) for where, found in progress.items()),
        )
        yield labelled(
            GaugeMetricFamily(
                "tapewire_worker_lag_records",
                "Offsets between the results that are committed and the end of a partition",
                labels=labels,
            ),
            ((where, max(0, found.end - found.done)) for where, found in progress.items()),
        )
        stuck = {(topic, str(number)): age_s for (topic, number), age_s in self.stuck_s().items()}
        yield labelled(
            GaugeMetricFamily(
                "tapewire_log_stuck_seconds",
                "How long an open transaction of a producer has held a partition back",
                labels=labels,
            ),
            (dict.fromkeys(progress, 0.0) | stuck).items(),
        )
