"""The metrics of a node, and their rendering for Prometheus.

An event that happens a hundred thousand times a second is counted in plain integers, once for all
clients of a broadcast group. The counts become metrics only when Prometheus scrapes them.
"""

import time
from bisect import bisect_left
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import StrEnum

from opentelemetry.trace import format_trace_id
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.samples import Exemplar

from kafka_io.part_metrics import with_exemplars
from kafka_io.tracing import parsed
from schemas.vocabularies import GapReason

_LOOP_LAGS = 15
LAG_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0)


class StreamStart(StrEnum):
    """Where a stream started, as the metric of opened streams counts it."""

    LATEST = "latest"
    EARLIEST = "earliest"
    TIME = "time"
    OFFSETS = "story"
    """At offsets that the edge chose, such as that of a task's first event."""
    EXACT = "exact"
    """At a cursor."""
    GAP = "gap"
    """At a cursor, with a gap after it."""


class StreamMetrics:
    """Counts of one stream name."""

    def __init__(self) -> None:
        self.events = 0
        self.bytes = 0
        self.lag_counts = [0] * (len(LAG_BUCKETS_S) + 1)
        self.lag_sum_s = 0.0
        self.exemplars: dict[int, Exemplar] = {}
        """For each bucket, the trace of the last event in it that had one."""

    def add(self, other: "StreamMetrics") -> None:
        """Add other counts to these."""
        self.events += other.events
        self.bytes += other.bytes
        self.lag_sum_s += other.lag_sum_s
        pairs = zip(self.lag_counts, other.lag_counts, strict=True)
        self.lag_counts = [own + others for own, others in pairs]
        self.exemplars |= other.exemplars

    def observe_lag(self, seconds: float, clients: int) -> None:
        """Count the seconds that an event took from the log to the sockets of some clients.

        A broker whose clock is ahead gives less than nothing, which is counted as 0.
        """
        lag_s = max(seconds, 0.0)
        self.lag_counts[bisect_left(LAG_BUCKETS_S, lag_s)] += clients
        self.lag_sum_s += lag_s * clients

    def observe_trace(self, lag_s: float, traceparent: bytes) -> None:
        """Keep the trace of an event beside its lag, if the trace is sampled.

        Args:
            lag_s: the seconds that the event took from the log to the sockets.
            traceparent: the W3C trace context of its writer.
        """
        found = parsed(traceparent)
        if found is not None and found.trace_flags.sampled:
            lag_s = max(0.0, lag_s)
            labels = {"trace_id": format_trace_id(found.trace_id)}
            exemplar = Exemplar(labels, lag_s, time.time())
            self.exemplars[bisect_left(LAG_BUCKETS_S, lag_s)] = exemplar


class KeySetReads:
    """Counts of the reads of the issuer's key set."""

    def __init__(self) -> None:
        self.failures = 0
        self.is_failing = False
        """Whether the last read has failed."""
        self.succeeded_s: float | None = None
        """When a read succeeded last, in seconds since 1970; None before the first."""

    def families(self) -> Iterator[Metric]:
        """Return the metrics for Prometheus."""
        yield CounterMetricFamily(
            "tapewire_jwks_failures",
            "Reads of the key set of the tokens' issuer that have failed",
            value=self.failures,
        )
        yield GaugeMetricFamily(
            "tapewire_jwks_failing",
            "Whether the last read of the key set of the tokens' issuer has failed",
            value=self.is_failing,
        )
        if self.succeeded_s is not None:
            yield GaugeMetricFamily(
                "tapewire_jwks_last_success_timestamp_seconds",
                "When the key set of the tokens' issuer was read last, in seconds since 1970",
                value=self.succeeded_s,
            )


class NodeMetrics:
    """Counts of one node."""

    def __init__(self) -> None:
        self._streams: defaultdict[tuple[str, str], StreamMetrics] = defaultdict(StreamMetrics)
        """By the stream's name, and the tenant of its readers."""
        self.opened: Counter[str] = Counter()
        """Streams by their `StreamStart`."""
        self.gaps: Counter[str] = Counter()
        """Gaps by reason."""
        self.refused: Counter[str] = Counter()
        """Refused requests by HTTP status."""
        self.refused_to: Counter[str] = Counter()
        """Refused requests by tenant; empty for callers without one, or without a valid token."""
        self.skipped: Counter[tuple[str, str]] = Counter()
        """Records that could not be rendered, by topic and reason."""
        # A counter that begins at 1 has no increase, so those that alerts watch begin at 0.
        for reason in GapReason:
            self.gaps[reason] += 0
        for status in ("401", "429", "503"):
            self.refused[status] += 0
        for start in StreamStart:
            self.opened[start] += 0
        self.merged = 0
        """Events that conflation left out for a newer event of the same key."""
        self.slow_closes = 0
        self.drained = 0
        self.expired_tokens = 0
        """Streams that ended since no fresh token came in time."""
        self.key_set: KeySetReads | None = None
        """None where tokens are not verified by a key set."""
        self._loop_lags_s: deque[float] = deque(maxlen=_LOOP_LAGS)

    def observe_loop_lag(self, late_s: float) -> None:
        """Note how late the event loop called what was due; call it once a second."""
        self._loop_lags_s.append(max(0.0, late_s))

    @property
    def sent(self) -> int:
        """The number of events sent on all streams."""
        return sum(stream.events for stream in self._streams.values())

    def sent_to(self, tenant: str) -> int:
        """Return the number of events sent to a tenant; "" for callers without one."""
        of_tenant = (found for (_, named), found in self._streams.items() if named == tenant)
        return sum(stream.events for stream in of_tenant)

    def of(self, stream: str, tenant: str | None = None) -> StreamMetrics:
        """Return the counts of a stream name, and of the tenant of its readers."""
        return self._streams[stream, tenant or ""]

    def _by_stream(self) -> Mapping[str, StreamMetrics]:
        """Return the counts of each stream name, of all tenants together."""
        found: defaultdict[str, StreamMetrics] = defaultdict(StreamMetrics)
        for (name, _), stream in self._streams.items():
            found[name].add(stream)
        return found

    def families(self, gauges: "Gauges") -> Iterator[Metric]:
        """Return all metrics for Prometheus."""
        yield from _sent(self._by_stream())
        yield _counter(
            "tapewire_streams_opened",
            "Streams opened, by where they started: latest, earliest, time, story (offsets); "
            "exact or gap for a cursor",
            "start",
            self.opened,
        )
        yield _counter(
            "tapewire_gaps", "Gaps that clients were notified of, by reason", "reason", self.gaps
        )
        yield _counter(
            "tapewire_refused", "Requests refused, by HTTP status", "status", self.refused
        )
        skipped = CounterMetricFamily(
            "tapewire_records_skipped",
            "Records skipped because they could not be rendered, by topic and reason",
            labels=("topic", "reason"),
        )
        for labels, count in self.skipped.items():
            skipped.add_metric(labels, count)
        yield skipped
        for name, help_text, value in (
            (
                "conflated_events",
                "Events that conflation left out for a newer event of the same key",
                self.merged,
            ),
            ("slow_closes", "Streams closed because their client was slow", self.slow_closes),
            ("drained_streams", "Streams ended because the node drained", self.drained),
            (
                "expired_token_streams",
                "Streams ended because their client's token expired without a fresh one",
                self.expired_tokens,
            ),
            ("tail_records", "Records that the tail has read", gauges.tail_records),
            (
                "sockets_refused",
                "Connections refused at the process's limit of open files",
                gauges.sockets_refused,
            ),
            (
                "catch_up_reads",
                "Reads of the log for clients that are behind the windows",
                gauges.reads,
            ),
            (
                "catch_up_records",
                "Records in the reads for clients that are behind the windows",
                gauges.read_records,
            ),
        ):
            yield CounterMetricFamily(f"tapewire_{name}", help_text, value=value)
        yield _gauge(
            "tapewire_connections",
            "Open streams, by stream and dialect",
            ("stream", "dialect"),
            gauges.connections,
        )
        for name, help_text, number in (
            (
                "ended_streams",
                "Open streams that have sent their last event, whose client has not left",
                gauges.ended,
            ),
            (
                "paused_clients",
                "Clients that do not read the bytes that wait for them",
                gauges.paused,
            ),
            (
                "catching_up_clients",
                "Clients that are behind the windows and read the log",
                gauges.catching_up,
            ),
            ("catch_up_depth_records", "Records that these clients have yet to read", gauges.depth),
            (
                "catch_up_reads_waiting",
                "Reads of the log that clients wait for",
                gauges.reads_waiting,
            ),
            ("sockets", "Open sockets of clients", gauges.sockets),
            (
                "memory_full",
                "Whether the process takes no more streams since it uses much memory",
                gauges.memory_full,
            ),
            ("draining", "Whether the node is draining", gauges.draining),
            ("kafka_connected", "Whether Kafka answered the last request", gauges.connected),
            ("ready", "Whether streams can be served, as `/health/ready` says", gauges.ready),
            (
                "event_loop_lag_seconds",
                "How late the event loop was at most in the last 15 seconds",
                max(self._loop_lags_s, default=0.0),
            ),
        ):
            yield GaugeMetricFamily(f"tapewire_{name}", help_text, value=number)
        if self.key_set is not None:
            yield from self.key_set.families()
        partition = ("topic", "partition")
        for name, help_text, values in (
            (
                "window_bytes",
                "Size of the in-memory window of a partition, in bytes",
                gauges.window_bytes,
            ),
            (
                "window_age_seconds",
                "Age of the oldest record in the window of a partition",
                gauges.window_age_s,
            ),
            (
                "log_end_offset",
                "Offset after the last record that was read of a partition",
                gauges.log_ends,
            ),
            ("partition_connected", "Whether the partition has a leader", gauges.leaders),
            (
                "log_stuck_seconds",
                "How long an open transaction of a producer has held a partition back",
                gauges.stuck_s,
            ),
        ):
            yield _gauge(f"tapewire_{name}", help_text, partition, values)


class Gauges:
    """Present values, filled in when Prometheus scrapes them."""

    def __init__(self) -> None:
        self.connections: Mapping[tuple[str, ...], float] = {}
        self.ended = self.paused = self.catching_up = self.depth = self.reads_waiting = 0
        self.reads = self.read_records = self.tail_records = 0
        self.sockets = self.sockets_refused = 0
        self.draining = self.connected = self.memory_full = self.ready = False
        self.window_bytes: dict[tuple[str, ...], float] = {}
        self.window_age_s: dict[tuple[str, ...], float] = {}
        self.log_ends: dict[tuple[str, ...], float] = {}
        self.leaders: dict[tuple[str, ...], float] = {}
        self.stuck_s: dict[tuple[str, ...], float] = {}


class Collector:
    """An adapter for a Prometheus registry."""

    def __init__(self, collect: Callable[[], Iterable[Metric]]) -> None:
        self.collect = collect


def _sent(streams: Mapping[str, StreamMetrics]) -> Iterator[Metric]:
    events = CounterMetricFamily(
        "tapewire_events_sent", "Events sent to clients", labels=["stream"]
    )
    size = CounterMetricFamily(
        "tapewire_sent_bytes", "Bytes of the events sent to clients", labels=["stream"]
    )
    lag = HistogramMetricFamily(
        "tapewire_delivery_lag_seconds",
        "Time from an event's append to the log to its write to the socket of a live client",
        labels=["stream"],
    )
    for name, metrics in streams.items():
        events.add_metric([name], metrics.events)
        size.add_metric([name], metrics.bytes)
        lag.add_metric([name], _buckets(metrics), sum_value=metrics.lag_sum_s)
    yield from (events, size, lag)


def _buckets(stream: StreamMetrics) -> list[tuple[str, float] | tuple[str, float, Exemplar]]:
    return with_exemplars(LAG_BUCKETS_S, stream.lag_counts, stream.exemplars)


def _counter(name: str, help_text: str, label: str, counts: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(name, help_text, labels=[label])
    for value, count in counts.items():
        family.add_metric([value], count)
    return family


def _gauge(
    name: str, help_text: str, labels: Sequence[str], values: Mapping[tuple[str, ...], float]
) -> Metric:
    family = GaugeMetricFamily(name, help_text, labels=labels)
    for key, value in values.items():
        family.add_metric(key, value)
    return family
