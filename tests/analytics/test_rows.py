"""Records become rows with the place where the log has them."""

from typing import Any

import pytest

from analytics.columns import is_event
from analytics.rows import decode_rows
from kafka_io.reader import ConsumedRecord
from schemas.codec import encode
from schemas.events import Record, Return, ReturnBatch, RiskAlert, RiskMeasure
from sse_edge.streams.channels import CHANNELS
from tests.support.alerts import raised_alert

EXAMPLES = [
    example
    for channel in CHANNELS.values()
    for example in channel.examples
    if is_event(type(example))
]


def record(value: bytes | None, offset: int = 7, tenant: bytes | None = None) -> ConsumedRecord:
    headers = [] if tenant is None else [("tenant", tenant)]
    return ConsumedRecord("t", 3, offset, 1.234, None, value, headers)


def rows_of(kind: type[Record], *records: ConsumedRecord, tenant: str | None = None) -> list[Any]:
    found: list[Any] = decode_rows(kind, "e1", records, tenant).rows.to_pylist()
    return found


def test_a_row_has_the_events_columns_and_its_place() -> None:
    (row,) = rows_of(RiskAlert, record(encode(raised_alert("x", utilisation=1.5)), 7, b"acme"))
    assert (row["transition_id"], row["utilisation"], row["comment"]) == ("x", 1.5, "")
    assert row["event_time_us"].isoformat() == "1970-01-01T00:00:00.000001+00:00"
    place = [row[name] for name in ("_topic", "_partition", "_offset", "_epoch", "_tenant")]
    assert place == ["t", 3, 7, "e1", "acme"]
    assert row["_ingested_at"].isoformat() == "1970-01-01T00:00:01.234000+00:00"


@pytest.mark.parametrize("event", EXAMPLES, ids=lambda event: type(event).__name__)
def test_each_example_of_a_channel_is_a_row(event: Record) -> None:
    (row,) = rows_of(type(event), record(encode(event)))
    assert row["_offset"] == 7


def test_returns_are_columns_and_a_batch_may_be_empty() -> None:
    batch = ReturnBatch(returns=[Return("p", 5, 0.25, 2), Return("q", 6, -0.5)], lap=1)
    full, empty = rows_of(
        ReturnBatch, record(encode(batch)), record(encode(ReturnBatch(returns=[])))
    )
    assert (full["portfolio_ids"], full["values"], full["lap"]) == (["p", "q"], [0.25, -0.5], 1)
    assert (full["versions"], empty["values"]) == ([2, 1], [])


def test_refused_records_are_counted_and_other_classes_and_deletions_are_not() -> None:
    records = [
        record(encode(raised_alert("x")), 1),
        record(b"no event", 2),
        record(None, 3),
        record(encode(raised_alert("y")), 4, b"\xff"),
    ]
    found = decode_rows(RiskAlert, "e", records)
    assert (found.rows.column("_offset").to_pylist(), found.refused) == ([1], 2)
    others = decode_rows(RiskMeasure, "e", records[:1])
    assert (others.rows.num_rows, others.refused) == (0, 0)


def test_rows_of_one_tenant_or_of_none_are_taken() -> None:
    records = [
        record(encode(raised_alert("x")), 1, b"acme"),
        record(encode(raised_alert("y")), 2),
        record(encode(raised_alert("z")), 3, b"globex"),
    ]
    offsets = {
        tenant: [row["_offset"] for row in rows_of(RiskAlert, *records, tenant=tenant)]
        for tenant in ("acme", "", None)
    }
    assert offsets == {"acme": [1], "": [2], None: [1, 2, 3]}
