"""Skipped records: counted once, and logged at a bounded rate."""

import logging

import pytest

from sse_edge.delivery.skips import Skips
from sse_edge.errors import Unframable
from sse_edge.log.record import Partition, Record


def record(offset: int) -> Record:
    return Record(Partition("alerts", 0), offset, 0, None, None, b"")


def test_a_record_is_new_once_for_each_reason() -> None:
    skips = Skips()
    assert skips.is_first(record(1), "invalid")
    assert not skips.is_first(record(1), "invalid")
    assert skips.is_first(record(1), "too_large")
    assert skips.is_first(record(2), "invalid")


def test_many_skipped_records_of_a_kind_have_one_line(caplog: pytest.LogCaptureFixture) -> None:
    skips = Skips()
    with caplog.at_level(logging.WARNING):
        for offset in range(100):
            skips.log(record(offset), Unframable("invalid", "why"))
        skips.log(record(100), Unframable("too_large", "how"))
    assert [line.getMessage() for line in caplog.records] == [
        "skipping the record at offset 0 of alerts/0 (invalid): why",
        "skipping the record at offset 100 of alerts/0 (too_large): how",
    ]
