from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest
from opentelemetry import trace
from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.exposition import generate_latest

from schemas.topics import TopicPartition
from stream_processors.metrics import Progress, WorkerMetrics


def test_transactions_are_counted_in_their_buckets() -> None:
    metrics = WorkerMetrics()
    for took_s in (0.001, 0.03, 9.0):
        metrics.observe_transaction(took_s, 10)
    metrics.fenced = 2
    metrics.recovery_s.extend([0.5, 3.0, 1.0])
    samples = {
        (sample.name, sample.labels.get("le")): sample.value
        for family in metrics.families()
        for sample in family.samples
    }
    assert samples["tapewire_worker_transaction_seconds_bucket", "0.005"] == 1
    assert samples["tapewire_worker_transaction_seconds_bucket", "0.05"] == 2
    assert samples["tapewire_worker_transaction_seconds_bucket", "+Inf"] == 3
    assert samples["tapewire_worker_records_total", None] == 30
    assert samples["tapewire_worker_fenced_total", None] == 2
    assert samples["tapewire_worker_recovery_seconds", None] == 3.0


def test_every_metric_is_described() -> None:
    assert all(family.documentation for family in WorkerMetrics().families())


def samples(metrics: WorkerMetrics) -> dict[tuple[str, ...], float]:
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in metrics.families()
        for sample in family.samples
    }


class Read(NamedTuple):
    topic: str


def test_a_committed_round_counts_its_messages_and_its_dead_letters() -> None:
    metrics = WorkerMetrics()
    metrics.expect(["returns", "limits"])
    metrics.observe_round([Read("returns"), Read("returns")], [("returns", "late")])  # type: ignore[list-item]  # the topic is all that counts
    found = samples(metrics)
    assert found["tapewire_worker_messages_total", "returns"] == 2
    assert found["tapewire_worker_messages_total", "limits"] == 0
    assert found["tapewire_dead_letters_total", "returns", "late"] == 1
    assert found["tapewire_dead_letters_total", "returns", "failed"] == 0


def test_a_partition_shows_what_is_left_and_what_holds_it_back() -> None:
    metrics = WorkerMetrics()
    metrics.progress = lambda: {
        TopicPartition("returns", 0): Progress(done=7, end=10),
        TopicPartition("returns", 1): Progress(done=9, end=8),  # the end is of an earlier fetch
    }
    metrics.stuck_s = lambda: {("returns", 0): 12.5}
    found = samples(metrics)
    assert found["tapewire_worker_lag_records", "returns", "0"] == 3
    assert found["tapewire_worker_lag_records", "returns", "1"] == 0
    assert found["tapewire_worker_offset", "returns", "1"] == 9
    assert found["tapewire_log_stuck_seconds", "returns", "0"] == 12.5
    assert found["tapewire_log_stuck_seconds", "returns", "1"] == 0


def test_open_alerts_show_whether_they_are_acknowledged() -> None:
    metrics = WorkerMetrics()
    metrics.open_alerts = lambda: {("high", False): 2, ("high", True): 1}
    found = samples(metrics)
    assert found["tapewire_open_alerts", "high", "false"] == 2
    assert found["tapewire_open_alerts", "high", "true"] == 1


@pytest.mark.parametrize("is_sampled", [True, False])
def test_a_transaction_leads_to_its_trace_if_that_is_kept(*, is_sampled: bool) -> None:
    context = trace.SpanContext(
        trace_id=0xABC, span_id=1, is_remote=False, trace_flags=trace.TraceFlags(int(is_sampled))
    )
    metrics = WorkerMetrics()
    with trace.use_span(trace.NonRecordingSpan(context)):
        metrics.observe_transaction(0.03, 1)
    registry = CollectorRegistry()
    registry.register(Collected(metrics))
    lines = generate_latest(registry).decode().splitlines()
    [line] = [line for line in lines if 'transaction_seconds_bucket{le="0.05"}' in line]
    assert (f'trace_id="{0xABC:032x}"' in line) == is_sampled


class Collected:
    def __init__(self, metrics: WorkerMetrics) -> None:
        self.collect: Callable[[], Iterator[Metric]] = metrics.families
