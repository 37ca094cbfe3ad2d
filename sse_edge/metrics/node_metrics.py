"""The meter: what a node has done and is doing, as numbers, and as Prometheus reads them.

What happens a hundred thousand times a second is counted in plain integers, once for all members of
an audience, and becomes a metric only when somebody looks.
"""

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric

LAG_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0)


class StreamMetrics:
    """What was sent on streams of one name."""

    def __init__(self) -> None:
        self.events = 0
        self.bytes = 0
        self.lag_counts = [0] * (len(LAG_BUCKETS_S) + 1)
        self.lag_sum_s = 0.0

    def saw_lags(self, lags_s: Iterable[float], clients: int) -> None:
        """Count how long events took from the log to the sockets of so many clients."""
        for lag_s in lags_s:
            self.lag_counts[bisect_left(LAG_BUCKETS_S, lag_s)] += clients
            self.lag_sum_s += lag_s * clients


class NodeMetrics:
    """What one node counts."""

    def __init__(self) -> None:
        self._streams: defaultdict[str, StreamMetrics] = defaultdict(StreamMetrics)
        self.opened: Counter[str] = Counter()
        """Connections, by how they began: latest, earliest, time, or exact, gap for a cursor."""
        self.gaps: Counter[str] = Counter()
        """By reason."""
        self.refused: Counter[str] = Counter()
        """By HTTP's status."""
        self.skipped: Counter[str] = Counter()
        """Records that cannot become an event, by topic."""
        self.merged = 0
        """Events that a client did not get, since a newer one of the same key was there."""
        self.slow_closes = 0
        self.drained = 0

    @property
    def sent(self) -> int:
        """How many events were sent, of all streams."""
        return sum(one.events for one in self._streams.values())

    def of(self, stream: str) -> StreamMetrics:
        """The meter of a stream's name."""
        return self._streams[stream]

    def families(self, gauges: "Gauges") -> Iterator[Metric]:
        """Everything, as Prometheus reads it."""
        yield from _sent(self._streams)
        yield _counter(
            "tapewire_streams_opened", "Streams by where they began", "start", self.opened
        )
        yield _counter("tapewire_gaps", "Gaps told to clients, by reason", "reason", self.gaps)
        yield _counter("tapewire_refused", "Requests refused, by status", "status", self.refused)
        yield _counter(
            "tapewire_records_skipped", "Records that are no events", "topic", self.skipped
        )
        for name, help_text, value in (
            ("conflated_events", "Events left out for a newer one of their key", self.merged),
            ("slow_closes", "Streams ended because their client was slow", self.slow_closes),
            ("drained_streams", "Streams ended by a drain", self.drained),
            ("tail_records", "Records that the tail has brought", gauges.tail_records),
            ("catch_up_reads", "Pieces of the log read behind the windows", gauges.reads),
            ("catch_up_records", "Records in those pieces", gauges.read_records),
        ):
            yield CounterMetricFamily(f"tapewire_{name}", help_text, value=value)
        yield _gauge(
            "tapewire_connections", "Open streams", ("stream", "dialect"), gauges.connections
        )
        for name, help_text, number in (
            ("paused_clients", "Clients that do not read what waits for them", gauges.paused),
            ("catching_up_clients", "Clients that are behind the windows", gauges.catching_up),
            ("catch_up_depth_records", "Records that those have before them", gauges.depth),
            ("catch_up_reads_waiting", "Reads behind the windows under way", gauges.reads_waiting),
            ("draining", "Whether the node is on its way out", gauges.draining),
            ("kafka_connected", "Whether Kafka answered when last asked", gauges.connected),
        ):
            yield GaugeMetricFamily(f"tapewire_{name}", help_text, value=number)
        partition = ("topic", "partition")
        for name, help_text, values in (
            ("window_bytes", "Size of a partition's window", gauges.window_bytes),
            ("window_age_seconds", "Age of a window's oldest record", gauges.window_age_s),
            ("partition_connected", "Whether the partition has a leader", gauges.leaders),
        ):
            yield _gauge(f"tapewire_{name}", help_text, partition, values)


class Gauges:
    """What is so now, and what others count; filled in when somebody looks."""

    def __init__(self) -> None:
        self.connections: Mapping[tuple[str, ...], float] = {}
        self.paused = self.catching_up = self.depth = self.reads_waiting = 0
        self.reads = self.read_records = self.tail_records = 0
        self.draining = self.connected = False
        self.window_bytes: dict[tuple[str, ...], float] = {}
        self.window_age_s: dict[tuple[str, ...], float] = {}
        self.leaders: dict[tuple[str, ...], float] = {}


class Collector:
    """What Prometheus' registry asks."""

    def __init__(self, collect: Callable[[], Iterable[Metric]]) -> None:
        self.collect = collect


def _sent(streams: Mapping[str, StreamMetrics]) -> Iterator[Metric]:
    events = CounterMetricFamily("tapewire_events_sent", "Events sent", labels=["stream"])
    size = CounterMetricFamily("tapewire_sent_bytes", "Bytes of events sent", labels=["stream"])
    lag = HistogramMetricFamily(
        "tapewire_delivery_lag_seconds",
        "From an event's time in the log to its write to a caught-up client's socket",
        labels=["stream"],
    )
    for name, metrics in streams.items():
        events.add_metric([name], metrics.events)
        size.add_metric([name], metrics.bytes)
        lag.add_metric([name], _cumulated(metrics.lag_counts), sum_value=metrics.lag_sum_s)
    yield from (events, size, lag)


def _cumulated(counts: Sequence[int]) -> list[tuple[str, float]]:
    buckets, total = [], 0
    for bound, count in zip((*map(str, LAG_BUCKETS_S), "+Inf"), counts, strict=True):
        total += count
        buckets.append((bound, float(total)))
    return buckets


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
