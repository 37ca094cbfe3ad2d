from stream_processors.metrics import WorkerMetrics


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
