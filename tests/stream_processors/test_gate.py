"""The processors' gate: who is admitted, and the dead letters about the others."""

import pytest

from kafka_io.client import partition_of
from schemas.codec import encode
from schemas.events import Book, DeadLetter, Record, Return, ReturnBatch, RiskLimits
from schemas.keys import encode_key
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


def test_a_tombstone_of_what_edges_show_by_key_is_no_message_and_no_dead_letter() -> None:
    for topic, record in (
        (RISK_LIMITS, LIMITS),
        (RISK_BOOKS, Book(root="p", book_id="desk", holdings=(), event_time_us=0)),
    ):
        assert GATE.admit(received(topic, record)._replace(value=None)) is None
    batch = ReturnBatch(returns=[Return("p", 0, 0.5)])
    letter = letter_about(received(PORTFOLIO_RETURNS, batch)._replace(value=None))
    assert letter.reason == "undecodable"


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


@pytest.mark.parametrize(
    ("headers", "error"),
    [
        ([("tenant", b"t" * 257)], "the name of its tenant has more than 256 characters"),
        ([("tenant", b"t\xff")], "the name of its tenant is not UTF-8: b't\\xff'"),
        ([("tenant", b"t"), ("tenant", b"u")], "it names 2 tenants"),
    ],
)
def test_the_name_of_a_tenant_that_is_none_is_refused(
    headers: list[tuple[str, bytes | None]], error: str
) -> None:
    letter = letter_about(received(RISK_LIMITS, LIMITS)._replace(headers=headers))
    assert (letter.reason, letter.error) == ("invalid", error)


OF_TENANT: list[tuple[str, bytes | None]] = [("tenant", b"acme")]


def test_a_tenants_record_has_the_key_and_the_partition_of_the_tenant() -> None:
    key = encode_key("p", "acme")
    home = partition_of(key, COUNT)
    of_tenant = received(RISK_LIMITS, LIMITS, home)._replace(key=key, headers=OF_TENANT)
    assert isinstance(GATE.admit(of_tenant), Admitted)
    elsewhere = of_tenant._replace(partition=(home + 1) % COUNT)
    assert letter_about(elsewhere).reason == "wrong_partition"
    other = of_tenant._replace(key=encode_key("q", "acme"))
    assert letter_about(other).reason == "misplaced"


@pytest.mark.parametrize("topic", [RISK_LIMITS, PORTFOLIO_RETURNS])
@pytest.mark.parametrize(
    ("key", "headers", "error"),
    [
        (b"p", OF_TENANT, "its key is of no tenant, and its header of the tenant 'acme'"),
        (b"acme\xffp", [], "its key is of the tenant 'acme', and its header of no tenant"),
        (b"b\xffp", OF_TENANT, "its key is of the tenant 'b', and its header of the tenant 'acme'"),
    ],
)
def test_a_key_and_a_header_of_two_tenants_are_refused(
    topic: Topic, key: bytes, headers: list[tuple[str, bytes | None]], error: str
) -> None:
    record = LIMITS if topic is RISK_LIMITS else ReturnBatch(returns=[Return("p", 0, 0.5)])
    letter = letter_about(received(topic, record)._replace(key=key, headers=headers))
    assert (letter.reason, letter.error) == ("foreign", error)


def test_an_empty_tenant_is_none_and_keys_of_returns_may_be_anything_else() -> None:
    of_none = received(RISK_LIMITS, LIMITS)._replace(headers=[("tenant", b"")])
    assert isinstance(GATE.admit(of_none), Admitted)
    returns = received(PORTFOLIO_RETURNS, ReturnBatch(returns=[Return("p", 0, 0.5)]))
    for key in (None, b"p", b"\xc3\x28", b""):
        assert isinstance(GATE.admit(returns._replace(key=key)), Admitted)


def test_a_tenants_returns_belong_where_its_portfolios_do() -> None:
    names = [f"p{number}" for number in range(40)]
    of_tenant = [name for name in names if partition_of(encode_key(name, "acme"), COUNT) == HOME]
    batch = ReturnBatch(returns=[Return(name, 0, 0.5) for name in names])
    admitted = GATE.admit(received(PORTFOLIO_RETURNS, batch)._replace(headers=OF_TENANT))
    assert isinstance(admitted, Admitted)
    assert admitted.left_out == set(names) - set(of_tenant)
    books = Book(root="p", book_id="desk", holdings=(), event_time_us=0)
    key, home = encode_key("p/desk", "acme"), partition_of(encode_key("p", "acme"), COUNT)
    found = received(RISK_BOOKS, books, home)._replace(key=key, headers=OF_TENANT)
    assert isinstance(GATE.admit(found), Admitted)
