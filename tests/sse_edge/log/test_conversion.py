"""Kafka's records become the edge's: headers, times that are believed, and tenants."""

from types import SimpleNamespace

import pytest

from kafka_io.clock import now_us
from schemas.headers import ID, ORIGIN, TENANT
from schemas.keys import encode_key
from sse_edge.log.conversion import AHEAD_MS, records_of
from sse_edge.log.record import Partition, Record

HERE = Partition("t", 1)
TRACE = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TIME_MS = 1_700_000_000_000


def converted(
    *headers: tuple[str, bytes | None], key: bytes | None = b"k", timestamp_ms: int = TIME_MS
) -> Record:
    found = SimpleNamespace(
        offset=5, timestamp=timestamp_ms, key=key, value=b"v", headers=list(headers)
    )
    (record,) = records_of(HERE, [found])
    return record


def test_headers_are_fields() -> None:
    record = converted(
        (ID, b"id"), (TENANT, b"acme"), (ORIGIN, b"here"), ("traceparent", TRACE), ("x", None)
    )
    assert record == Record(HERE, 5, TIME_MS, b"k", b"v", b"id", b"acme", b"here", TRACE)


def test_without_headers_the_tenant_is_that_of_the_key() -> None:
    key = encode_key("id", "acme")
    assert converted(key=key) == Record(HERE, 5, TIME_MS, key, b"v", None, b"acme", b"", b"")
    assert converted(key=None) == Record(HERE, 5, TIME_MS, None, b"v", None, b"", b"", b"")
    assert converted((TENANT, None), key=b"k").tenant == b""


@pytest.mark.parametrize("trace", [None, b"", b"nonsense", TRACE[:-1]])
def test_a_trace_that_cannot_be_read_is_none(trace: bytes | None) -> None:
    assert converted(("traceparent", trace)).traceparent == b""


def test_a_time_that_no_broker_has_set_is_unknown() -> None:
    ahead_ms = now_us() // 1000 + AHEAD_MS
    times_ms = (-1, 0, TIME_MS, ahead_ms - 60_000, ahead_ms + 60_000)
    found = [converted(timestamp_ms=time_ms).timestamp_ms for time_ms in times_ms]
    assert found == [0, 0, TIME_MS, ahead_ms - 60_000, 0]
