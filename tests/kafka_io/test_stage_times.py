"""Tests of the histograms of stages."""

import pytest

from kafka_io.counts import Counts
from kafka_io.part_metrics import count_families
from kafka_io.stage_times import BUCKETS_S, Stage, StageClock
from schemas.headers import RECORDED
from schemas.instants import to_rfc3339

APPENDED_S = 1_700_000_000.0


def recorded(before_s: float) -> list[tuple[str, bytes | None]]:
    """Return the headers of a record that was written some time before its append."""
    text = to_rfc3339(int((APPENDED_S - before_s) * 1_000_000))
    return [("ce_id", b"1"), (RECORDED, text.encode())]


def test_a_record_shows_its_way_to_the_log_and_from_there() -> None:
    clock = StageClock()
    clock.observe_record(Stage.LOG_TO_EDGE, APPENDED_S, recorded(0.02), APPENDED_S + 0.3)
    times = dict(clock.times())
    assert times[Stage.WRITER_TO_LOG].sum_s == pytest.approx(0.02, abs=1e-3)
    assert times[Stage.LOG_TO_EDGE].sum_s == pytest.approx(0.3, abs=1e-3)
    [bucket] = [number for number, count in enumerate(times[Stage.LOG_TO_EDGE].counts) if count]
    assert BUCKETS_S[bucket - 1] < 0.3 <= BUCKETS_S[bucket]


@pytest.mark.parametrize("header", [None, b"yesterday", b"\xff", b"2026-01-01T00:00:00"])
def test_a_header_of_others_that_is_no_time_hides_only_the_way_to_the_log(
    header: bytes | None,
) -> None:
    clock = StageClock()
    clock.observe_record(Stage.LOG_TO_EDGE, APPENDED_S, [(RECORDED, header)], APPENDED_S + 1)
    assert [stage for stage, _ in clock.times()] == [Stage.LOG_TO_EDGE]


def test_a_record_whose_append_has_no_time_shows_nothing() -> None:
    clock = StageClock()
    clock.observe_record(Stage.LOG_TO_EDGE, 0.0, recorded(1), APPENDED_S)
    assert list(clock.times()) == []


def test_clocks_that_differ_count_as_no_time() -> None:
    clock = StageClock()
    clock.observe(Stage.EDGE_TO_SOCKET, -5.0)
    clock.observe(Stage.EDGE_TO_SOCKET, 100.0)
    [(_, times)] = clock.times()
    assert (times.counts[0], times.counts[-1], times.sum_s) == (1, 1, 100.0)


def test_all_stages_are_one_metric_of_every_part() -> None:
    counts = Counts()
    counts.stages.observe(Stage.PROCESSOR_TO_LOG, 0.03)
    [family] = [found for found in count_families(counts) if found.name == "tapewire_stage_seconds"]
    last = next(sample for sample in family.samples if sample.labels.get("le") == "+Inf")
    assert (last.labels["stage"], last.value) == ("processor_to_log", 1)
