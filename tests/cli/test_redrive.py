"""A re-drive writes the same record, or only the returns that were refused."""

from math import nan

import pytest

from cli.errors import NotRedriven
from cli.redrive import Home, Original, check_original, records_of, topic_of_letter
from kafka_io.client import partition_of
from kafka_io.dead_letters import dead_letter
from kafka_io.reader import ConsumedRecord
from schemas.codec import decode, encode
from schemas.events import (
    DeadLetter,
    DeadLetterReason,
    Return,
    ReturnBatch,
    RiskLimits,
    TrainingCommand,
)
from schemas.topics import PORTFOLIO_RETURNS, RISK_LIMITS, RISK_STATE, TRAINING_COMMANDS, Topic

COUNT = 6
NOW_US = 1_800_000_000_000_000
DAY_US = 86_400_000_000
HEADERS = [("ce_id", b"id-1"), ("ce_type", b"tapewire.X")]
LIMITS = encode(RiskLimits(portfolio_id="p", limits=[], event_time_us=5))
FOREIGN = [name for name in "abcdefgh" if partition_of(name.encode(), COUNT) != 2]


def original(topic: Topic, key: bytes | None, value: bytes | None) -> ConsumedRecord:
    return ConsumedRecord(f"x.{topic.name}", 2, 7, 1.0, key, value, HEADERS)


def letter_of(
    record: ConsumedRecord,
    reason: DeadLetterReason = DeadLetterReason.FAILED,
    index: int | None = None,
) -> DeadLetter:
    return dead_letter(record, reason, "why", index=index)


def home(topic: Topic) -> Home:
    return Home(topic, f"x.{topic.name}", COUNT)


def test_a_record_is_written_as_it_is_to_the_partition_of_its_key() -> None:
    record = original(RISK_LIMITS, b"p", LIMITS)
    (made,) = records_of(letter_of(record), record, home(RISK_LIMITS), NOW_US)
    assert made[:4] == ("x.risk.limits", b"p", LIMITS, partition_of(b"p", COUNT))
    assert made.headers == [*HEADERS, ("redrive", b"x.risk.limits/2/7")]


def test_a_record_that_was_redriven_before_names_its_last_letter_only() -> None:
    record = original(RISK_LIMITS, b"p", LIMITS)
    again = record._replace(headers=[*HEADERS, ("redrive", b"x.risk.limits/2/1")], offset=9)
    (made,) = records_of(letter_of(again), again, home(RISK_LIMITS), NOW_US)
    assert made.headers == [*HEADERS, ("redrive", b"x.risk.limits/2/9")]


def test_a_return_that_was_ahead_is_written_alone_when_its_time_has_come() -> None:
    values = [Return("p", 5, 0.1), Return("p", NOW_US, 0.2), Return("q", 6, 0.3)]
    record = original(PORTFOLIO_RETURNS, None, encode(ReturnBatch(returns=values, lap=3)))
    letter = letter_of(record, DeadLetterReason.INVALID, index=1)
    (made,) = records_of(letter, record, home(PORTFOLIO_RETURNS), NOW_US)
    assert made.value is not None
    assert decode(made.value) == ReturnBatch(returns=[values[1]], lap=3)
    assert made.partition == partition_of(b"p", COUNT)
    assert dict(made.headers)["ce_id"] == b"id-1"
    with pytest.raises(NotRedriven, match=r"a dead letter again: the return of p has the time"):
        records_of(letter, record, home(PORTFOLIO_RETURNS), NOW_US - 2 * DAY_US)


def test_a_return_that_is_no_number_stays_a_dead_letter() -> None:
    record = original(PORTFOLIO_RETURNS, None, encode(ReturnBatch(returns=[Return("p", 5, nan)])))
    letter = letter_of(record, DeadLetterReason.INVALID, index=0)
    with pytest.raises(NotRedriven, match="the return of p is nan"):
        records_of(letter, record, home(PORTFOLIO_RETURNS), NOW_US)


def test_returns_in_the_wrong_partition_go_to_those_of_their_portfolios() -> None:
    at_home = next(name for name in map(str, range(99)) if partition_of(name.encode(), COUNT) == 2)
    values = [Return(name, 5, 0.1) for name in (at_home, *FOREIGN)]
    record = original(PORTFOLIO_RETURNS, None, encode(ReturnBatch(returns=values)))
    letter = letter_of(record, DeadLetterReason.WRONG_PARTITION)
    found: dict[str, int | None] = {}
    for made in records_of(letter, record, home(PORTFOLIO_RETURNS), NOW_US):
        assert made.value is not None
        batch = decode(made.value)
        assert isinstance(batch, ReturnBatch)
        found |= {value.portfolio_id: made.partition for value in batch.returns}
    assert found == {name: partition_of(name.encode(), COUNT) for name in FOREIGN}


@pytest.mark.parametrize(
    ("topic", "key", "value", "text"),
    [
        (RISK_LIMITS, b"q", LIMITS, "the key is b'q'; it must be b'p'"),
        (RISK_LIMITS, b"p", b"nonsense", "expected Avro's single-object marker"),
        (TRAINING_COMMANDS, b"a\xffp", None, "found nothing"),
    ],
)
def test_what_the_gate_still_refuses_is_not_written(
    topic: Topic, key: bytes, value: bytes | None, text: str
) -> None:
    record = original(topic, key, value)
    with pytest.raises(NotRedriven, match="a dead letter again") as refused:
        records_of(letter_of(record), record, home(topic), NOW_US)
    assert text in str(refused.value)


def test_a_command_of_another_tenant_than_its_key_is_not_written() -> None:
    command = TrainingCommand(task_id="t", meter_id="m", meter_type="gas", event_time_us=5)
    good = original(TRAINING_COMMANDS, b"t", encode(command))
    (made,) = records_of(letter_of(good), good, home(TRAINING_COMMANDS), NOW_US)
    assert (made.key, made.partition) == (b"t", partition_of(b"t", COUNT))
    foreign = good._replace(key=b"acme\xfft")
    with pytest.raises(NotRedriven, match="of the tenant 'acme'"):
        records_of(letter_of(foreign), foreign, home(TRAINING_COMMANDS), NOW_US)


def test_parts_of_other_records_and_late_ones_are_for_their_producer() -> None:
    record = original(RISK_LIMITS, b"p", LIMITS)
    with pytest.raises(NotRedriven, match="part 3 of a RiskLimits"):
        records_of(letter_of(record, index=3), record, home(RISK_LIMITS), NOW_US)
    late = letter_of(record, DeadLetterReason.LATE)
    with pytest.raises(NotRedriven, match="later now"):
        records_of(late, record, home(RISK_LIMITS), NOW_US)


def test_the_log_must_have_the_same_record() -> None:
    record = original(RISK_LIMITS, b"p", LIMITS * 100_000)
    letter = letter_of(record)
    assert check_original(letter, Original(record, record.value)) is record
    with pytest.raises(NotRedriven, match=r"keeps 524288 of the \d+ bytes of its value"):
        check_original(letter, None)
    for other, name in (
        (record._replace(value=(record.value or b"") + b"x"), "value"),
        (record._replace(key=None), "key"),
    ):
        with pytest.raises(NotRedriven, match=f"SHA-256 of its {name} is not that of the letter"):
            check_original(letter, Original(other, other.value))


def test_a_letter_about_a_value_that_could_not_be_read_is_about_the_bytes_in_the_log() -> None:
    logged = b"\0\0\0\0\7" + LIMITS[10:]
    letter = letter_of(original(RISK_LIMITS, b"p", logged), DeadLetterReason.UNRESOLVED_SCHEMA)
    record = original(RISK_LIMITS, b"p", LIMITS)
    assert check_original(letter, Original(record, logged)) is record
    with pytest.raises(NotRedriven, match="SHA-256 of its value"):
        check_original(letter, Original(record, LIMITS))


def test_only_topics_whose_records_are_read_are_written_to() -> None:
    record = original(RISK_STATE, b"p", LIMITS)
    for letter, prefix in ((letter_of(record), "x."), (letter_of(record), "y.")):
        with pytest.raises(NotRedriven, match="no topic whose records this system reads"):
            topic_of_letter(letter, prefix)
    assert topic_of_letter(letter_of(original(RISK_LIMITS, b"p", b"")), "x.") is RISK_LIMITS
