"""Messages: decoding, dead letters, tenants and times."""

from collections.abc import Sequence

from hypothesis import given, strategies as st

from schemas.codec import encode
from schemas.events import AlertAck, DeadLetter, DeadLetterReason, Return, ReturnBatch
from schemas.instants import to_rfc3339
from stream_processors.messages import (
    dead_letter,
    decode_message,
    log_time_us,
    recorded_us,
    tenant_of,
)
from tests.support.messages import FakeMessage

BATCH = ReturnBatch(returns=[Return("p", 1, 0.5)])


Headers = Sequence[tuple[str, bytes | None]]


def received(value: bytes | None, headers: Headers | None = None) -> FakeMessage:
    return FakeMessage("portfolio.returns", 3, 7, b"p", value, headers)


def test_a_message_is_decoded_into_a_record_of_an_expected_kind() -> None:
    assert decode_message(received(encode(BATCH)), AlertAck, ReturnBatch) == BATCH


def test_a_record_of_another_kind_is_a_dead_letter() -> None:
    letter = decode_message(received(encode(BATCH)), AlertAck, DeadLetter)
    assert isinstance(letter, DeadLetter)
    assert letter.reason == "unexpected_record"
    assert letter.error == "expected AlertAck or DeadLetter, found ReturnBatch"


@given(st.none() | st.binary(max_size=40))
def test_an_undecodable_message_is_a_dead_letter_about_it(value: bytes | None) -> None:
    letter = decode_message(received(value), ReturnBatch)
    assert isinstance(letter, DeadLetter)
    assert (letter.reason, letter.value) == ("undecodable", value)
    assert (letter.topic, letter.partition, letter.offset) == ("portfolio.returns", 3, 7)
    assert (letter.key, letter.event_time_us) == (b"p", 100_500_000)


def test_a_dead_letter_holds_the_beginning_of_a_large_value() -> None:
    letter = dead_letter(received(b"x" * 1_000_000), DeadLetterReason.INVALID, "why", index=4)
    assert letter.value == b"x" * 512 * 1024
    assert letter.index == 4


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
