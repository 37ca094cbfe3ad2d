"""The log's rows are those of its records, in batches that stay small."""

import pytest

from analytics import log_rows
from analytics.columns import schema_of
from analytics.log_rows import Interval, read_rows, rows_of
from analytics.names import find_table
from kafka_io.log_ranges import LogRange
from kafka_io.reader import ConsumedRecord
from schemas.codec import encode
from schemas.events import InputGap, RiskMeasure
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


def record(value: bytes | None, offset: int, tenant: bytes | None = None) -> ConsumedRecord:
    headers = [] if tenant is None else [("tenant", tenant)]
    return ConsumedRecord("t", 3, offset, 1.234, None, value, headers)


def test_a_row_has_the_events_columns_and_its_place() -> None:
    alert = raised_alert("x", utilisation=1.5)
    (row,) = rows_of(ALERTS, "e1", [record(encode(alert), 7, b"acme")]).rows.to_pylist()
    assert (row["transition_id"], row["utilisation"], row["comment"]) == ("x", 1.5, "")
    assert row["event_time_us"].isoformat() == "1970-01-01T00:00:00.000001+00:00"
    place = [row[name] for name in ("_topic", "_partition", "_offset", "_epoch", "_tenant")]
    assert place == ["t", 3, 7, "e1", "acme"]
    assert row["_ingested_at"].isoformat() == "1970-01-01T00:00:01.234000+00:00"


def test_refused_records_are_counted_and_deletions_are_not() -> None:
    records = [
        record(encode(raised_alert("x")), 1),
        record(b"no event", 2),
        record(None, 3),
        record(encode(raised_alert("y")), 4, b"\xff"),
        record(encode(raised_alert("z", event_time_us=10**15)), 5),
    ]
    found = rows_of(ALERTS, "e", records)
    assert (found.rows.column("_offset").to_pylist(), found.refused) == ([1], 3)
    assert rows_of(ALERTS, "e", records, ahead_us=1e18).refused == 2


def test_other_classes_of_the_topic_are_no_rows_and_none_refused() -> None:
    gap = InputGap(
        topic="t",
        partition=0,
        reason="expired",
        from_offset=1,
        to_offset=2,
        event_time_us=1,
    )
    found = rows_of(find_table("risk_measure"), "e", [record(encode(gap), 1)])
    assert (found.rows.num_rows, found.refused) == (0, 0)
    assert found.rows.schema == schema_of(RiskMeasure)


def test_rows_of_one_tenant_or_of_none_are_taken() -> None:
    records = [
        record(encode(raised_alert("x")), 1, b"acme"),
        record(encode(raised_alert("y")), 2),
        record(encode(raised_alert("z")), 3, b"globex"),
    ]
    offsets = {
        tenant: rows_of(ALERTS, "e", records, tenant).rows.column("_offset").to_pylist()
        for tenant in ("acme", "", None)
    }
    assert offsets == {"acme": [1], "": [2], None: [1, 2, 3]}
