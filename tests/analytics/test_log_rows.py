"""The log's rows are those of its records, in batches that stay small."""

import pytest

from analytics import log_rows
from analytics.log_rows import Interval, read_rows
from analytics.names import find_table
from kafka_io.log_ranges import LogRange
from tests.support.alerts import raised_alert
from tests.support.table_log import TableLog

ALERTS = find_table("risk_alert")


def log_of(count: int, partitions: int = 2) -> TableLog:
    log = TableLog("risk.alerts", partitions=partitions)
    for number in range(count):
        log.write(raised_alert(f"t{number}"), 1_000 * number, partition=number % partitions)
    return log


async def test_rows_come_in_batches_of_bounded_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_rows, "BATCH_ROWS", 4)
    log = log_of(18)
    batches = [b async for b in read_rows(log, ALERTS, await log.ranges(["risk.alerts"]))]
    assert [batch.rows.num_rows for batch in batches] == [4, 4, 4, 4, 2]
    monkeypatch.setattr(log_rows, "BATCH_BYTES", 1)
    batches = [b async for b in read_rows(log, ALERTS, await log.ranges(["risk.alerts"]))]
    assert {batch.rows.num_rows for batch in batches} == {1}


async def test_only_rows_of_the_interval_are_taken_though_a_range_has_more() -> None:
    log = log_of(10, partitions=1)
    (whole,) = await log.ranges(["risk.alerts"])
    found = [b async for b in read_rows(log, ALERTS, [whole], Interval(3_000, 6_000))]
    assert found[0].rows.column("_offset").to_pylist() == [3, 4, 5]


async def test_rows_of_an_epoch_carry_it_alone() -> None:
    log = TableLog("risk.alerts", partitions=2)
    log.write(raised_alert("a"), partition=0)
    log.write(raised_alert("b"), partition=1)
    ranges = [LogRange("risk.alerts", epoch, number, 0, 1) for number, epoch in enumerate("ab")]
    found = [b async for b in read_rows(log, ALERTS, ranges)]
    assert [batch.rows.column("_epoch").to_pylist() for batch in found] == [["a"], ["b"]]
