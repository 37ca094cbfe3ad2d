"""Messages: decoding, dead letters, tenants and times."""

from collections.abc import Sequence

from hypothesis import given, strategies as st

from kafka_io.dead_letters import log_time_us
from schemas.events import Return, ReturnBatch
from schemas.instants import to_rfc3339
from stream_processors.messages import recorded_us, tenant_of
from tests.support.messages import FakeMessage

BATCH = ReturnBatch(returns=[Return("p", 1, 0.5)])


Headers = Sequence[tuple[str, bytes | None]]


def received(value: bytes | None, headers: Headers | None = None) -> FakeMessage:
    return FakeMessage("portfolio.returns", 3, 7, b"p", value, headers)


def test_the_tenant_is_in_a_header() -> None:
    assert tenant_of(received(None)) is None
    assert tenant_of(received(None, [("other", b"x"), ("tenant", b"acme")])) == "acme"


def recorded_at(value: bytes | None) -> int:
    return recorded_us(received(None, [("ce_recordedtime", value)]))


@given(st.integers(0, 200_000_000))
def test_the_recorded_time_is_never_after_the_log_time(time_us: int) -> None:
    assert recorded_at(to_rfc3339(time_us).encode()) == min(time_us, 100_500_000)


def test_without_a_readable_recorded_time_the_log_time_counts() -> None:
    assert recorded_us(received(None)) == log_time_us(received(None)) == 100_500_000
    assert [recorded_at(value) for value in (b"yesterday", b"\xff", None)] == [100_500_000] * 3
