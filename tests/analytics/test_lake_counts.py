"""Counts of a lake's writer, as Prometheus sees them."""

from analytics.lake_counts import LakeCounts


def samples(counts: LakeCounts) -> dict[tuple[str, ...], float]:
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in counts.families()
        for sample in family.samples
    }


def test_rows_and_lags_are_shown_by_table_and_topic() -> None:
    counts = LakeCounts(gaps=3, overtaken=2, committed_us=1_500_000)
    counts.rows["risk_alert"] += 5
    counts.lag["risk.alerts"] = 7
    assert samples(counts) == {
        ("tapewire_lake_rows_total", "risk_alert"): 5,
        ("tapewire_lake_lag_records", "risk.alerts"): 7,
        ("tapewire_lake_missing_offsets_total",): 3,
        ("tapewire_lake_overtaken_total",): 2,
        ("tapewire_lake_last_commit_timestamp_seconds",): 1.5,
    }


def test_a_writer_that_has_written_nothing_yet_shows_so() -> None:
    assert samples(LakeCounts())["tapewire_lake_last_commit_timestamp_seconds",] == 0
