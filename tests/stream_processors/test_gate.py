"""The processors' gate: who is admitted, and the dead letters about the others."""

import pytest

from kafka_io.client import partition_of
from schemas.codec import encode
from schemas.events import Book, DeadLetter, Record, Return, ReturnBatch, RiskLimits
from schemas.topics import PORTFOLIO_RETURNS, RISK_BOOKS, RISK_LIMITS, Topic
from stream_processors.gate import RecordGate
from stream_processors.messages import Admitted
from tests.support.messages import FakeMessage, message

COUNT = 6
TOPICS = {f"x.{topic.name}": topic for topic in (PORTFOLIO_RETURNS, RISK_LIMITS, RISK_BOOKS)}
GATE = RecordGate(TOPICS, lambda _: COUNT, 1e6)
HOME = partition_of(b"p", COUNT)
LIMITS = RiskLimits(portfolio_id="p", limits=[], event_time_us=0)


def received(topic: Topic, record: Record | bytes, partition: int = HOME) -> FakeMessage:
    return message(topic, record, 7, partition=partition)._replace(topic=f"x.{topic.name}")


def letter_about(message: FakeMessage) -> DeadLetter:
    letter = GATE.admit(message)
    assert isinstance(letter, DeadLetter)
    assert (letter.topic, letter.partition, letter.offset) == message[:3]
    return letter


def test_a_record_in_its_place_is_admitted() -> None:
    admitted = GATE.admit(received(RISK_LIMITS, LIMITS))
    assert isinstance(admitted, Admitted)
    assert (admitted.record, admitted.offset, admitted.letter) == (LIMITS, 7, None)


@pytest.mark.parametrize(
    ("value", "reason", "error"),
    [
        (b"nonsense", "undecodable", "expected Avro's single-object marker"),
        (b"\xc3\x01" + bytes(1 << 20), "too_large", "over the limit"),
        (encode(ReturnBatch(returns=[])), "unexpected_record", "expected RiskLimits"),
        (
            encode(RiskLimits(portfolio_id="p", limits=(), event_time_us=10**9)),
            "future",
            "at most 1 s ahead are allowed",
        ),
    ],
)
def test_what_the_gate_refuses_is_a_dead_letter(value: bytes, reason: str, error: str) -> None:
    letter = letter_about(received(RISK_LIMITS, value))
    assert letter.reason == reason
    assert error in letter.error


def test_a_record_with_another_key_is_misplaced() -> None:
    letter = letter_about(received(RISK_LIMITS, LIMITS)._replace(key=b"k" * 1_000))
    assert letter.reason == "misplaced"
    assert letter.error == f"the key is {b'k' * 80!r}... of 1000 bytes; it must be b'p'"


def test_a_record_in_another_partition_names_both() -> None:
    letter = letter_about(received(RISK_LIMITS, LIMITS, partition=(HOME + 1) % COUNT))
    assert letter.reason == "wrong_partition"
    assert f"b'p' is in partition {(HOME + 1) % COUNT}; it belongs in partition {HOME}" in (
        letter.error
    )


def test_a_book_belongs_where_the_root_of_its_tree_does() -> None:
    book = Book(root="p", book_id="desk", holdings=(), event_time_us=0)
    assert isinstance(GATE.admit(received(RISK_BOOKS, book)), Admitted)
    assert letter_about(received(RISK_BOOKS, book, (HOME + 1) % COUNT)).reason == "wrong_partition"


def test_the_returns_of_portfolios_that_belong_elsewhere_are_left_out() -> None:
    strangers = [name for name in "abcdefghij" if partition_of(name.encode(), COUNT) != HOME]
    returns = [Return(name, 0, 0.5) for name in ("p", *strangers)]
    admitted = GATE.admit(received(PORTFOLIO_RETURNS, ReturnBatch(returns=returns)))
    assert isinstance(admitted, Admitted)
    assert admitted.left_out == frozenset(strangers)
    assert admitted.letter is not None
    assert admitted.letter.reason == "wrong_partition"
    assert f"returns of {len(strangers)} portfolios are in partition {HOME}" in (
        admitted.letter.error
    )
    assert admitted.letter.error.endswith(f", and {len(strangers) - 3} more")
    letter = letter_about(received(PORTFOLIO_RETURNS, ReturnBatch(returns=returns[1:])))
    assert letter.error == admitted.letter.error


def test_the_long_name_of_a_tenant_is_refused() -> None:
    letter = letter_about(received(RISK_LIMITS, LIMITS)._replace(headers=[("tenant", b"t" * 257)]))
    assert (letter.reason, letter.error) == (
        "invalid",
        "the name of its tenant has more than 256 characters",
    )
