import pytest
from prometheus_client.core import HistogramMetricFamily

from sse_edge.metrics.node_metrics import LAG_BUCKETS_S, Gauges, KeySetReads, NodeMetrics


def samples(metrics: NodeMetrics, name: str) -> dict[tuple[str, ...], float]:
    return {
        tuple(sample.labels.values()): sample.value
        for family in metrics.families(Gauges())
        for sample in family.samples
        if sample.name == name
    }


def test_a_lag_is_counted_in_its_bucket_once_for_each_client() -> None:
    metrics = NodeMetrics()
    for lag_s in (0.003, 0.003, 70.0):
        metrics.of("alerts").observe_lag(lag_s, 5)
    buckets = samples(metrics, "tapewire_delivery_lag_seconds_bucket")
    by_bound = {bound: value for (_, bound), value in buckets.items()}
    assert by_bound["0.0025"] == 0
    assert by_bound["0.005"] == 10
    assert by_bound["+Inf"] == 15
    assert len(by_bound) == len(LAG_BUCKETS_S) + 1


def test_a_lag_is_never_negative() -> None:
    """The broker's clock may be ahead of this node's."""
    metrics = NodeMetrics()
    for lag_s in (-3.0, -0.001, 0.5):
        metrics.of("alerts").observe_lag(lag_s, 2)
    name = "tapewire_delivery_lag_seconds"
    assert samples(metrics, f"{name}_sum") == {("alerts",): 1.0}
    assert samples(metrics, f"{name}_bucket")["alerts", "0.001"] == 4


def test_counters_have_their_labels() -> None:
    metrics = NodeMetrics()
    metrics.gaps["expired"] += 2
    metrics.refused["429"] += 1
    metrics.of("alerts").events += 7
    assert samples(metrics, "tapewire_gaps_total") == {
        ("expired",): 2.0,
        ("topic_recreated",): 0.0,  # from the start: a counter that begins at 1 has no increase
        ("future",): 0.0,
    }
    assert samples(metrics, "tapewire_refused_total")["429",] == 1.0
    assert samples(metrics, "tapewire_events_sent_total") == {("alerts",): 7.0}
    assert metrics.sent == 7


def test_the_reads_of_a_key_set_are_shown_where_there_is_one() -> None:
    metrics = NodeMetrics()
    assert not samples(metrics, "tapewire_jwks_failing")
    metrics.key_set = KeySetReads()
    metrics.key_set.failures, metrics.key_set.is_failing = 2, True
    assert samples(metrics, "tapewire_jwks_failures_total") == {(): 2}
    assert samples(metrics, "tapewire_jwks_failing") == {(): 1}
    assert not samples(metrics, "tapewire_jwks_last_success_timestamp_seconds")
    metrics.key_set.succeeded_s = 5.0
    assert samples(metrics, "tapewire_jwks_last_success_timestamp_seconds") == {(): 5.0}


def test_every_metric_is_described() -> None:
    metrics = NodeMetrics()
    metrics.key_set = KeySetReads()
    for family in metrics.families(Gauges()):
        assert family.documentation, family.name
        assert family.name.startswith("tapewire_")
        assert isinstance(family, HistogramMetricFamily) == family.name.endswith("_seconds") or (
            "seconds" in family.name
        )


def test_the_longest_lag_of_the_event_loop_is_forgotten_after_a_while() -> None:
    metrics = NodeMetrics()
    metrics.observe_loop_lag(0.7)
    metrics.observe_loop_lag(-0.1)
    assert samples(metrics, "tapewire_event_loop_lag_seconds") == {(): 0.7}
    for _ in range(15):
        metrics.observe_loop_lag(0.0)
    assert samples(metrics, "tapewire_event_loop_lag_seconds") == {(): 0.0}


@pytest.mark.parametrize("flags", ["01", "00"])
def test_a_lag_leads_to_the_trace_of_its_event_if_that_is_kept(flags: str) -> None:
    metrics = NodeMetrics()
    stream = metrics.of("alerts", "tenant")
    stream.observe_lag(0.03, 1)
    stream.observe_trace(0.03, f"00-{0xABC:032x}-{1:016x}-{flags}".encode())
    stream.observe_trace(0.03, b"nonsense")
    found = [
        sample.exemplar.labels
        for family in metrics.families(Gauges())
        for sample in family.samples
        if sample.exemplar is not None
    ]
    assert found == ([{"trace_id": f"{0xABC:032x}"}] if flags == "01" else [])
