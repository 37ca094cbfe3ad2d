import pytest

from schemas.codec import decode
from schemas.errors import TooLarge
from schemas.events import Book, CandleState, DeadLetter, OpenAlert, Record, UserUpdate
from schemas.topics import MARKET_FORMING, RISK_BOOKS, RISK_OPEN
from stream_processors.processor import RECORD_BYTES_MAX, Round, restored

UPDATE = UserUpdate(user_id="u", kind="update", data="1", event_time_us=0)


def state(total: int) -> CandleState:
    return CandleState(symbol="S", next=total, watermark_us=0, forming=[], late=0)


def test_events_keep_their_order_and_go_to_the_partition_of_their_key() -> None:
    this_round = Round(4, "x.")
    this_round.send(UPDATE, "acme")
    this_round.send_all([(UPDATE, None)])
    first, second = this_round.records
    assert (first.topic, first.key, first.partition) == ("x.user.updates", b"acme\xffu", None)
    assert ("tenant", b"acme") in first.headers
    assert "tenant" not in dict(second.headers)


def test_the_last_row_of_a_key_is_written_in_the_rounds_partition() -> None:
    this_round = Round(4, "")
    this_round.put(MARKET_FORMING, b"S", state(1))
    this_round.put(MARKET_FORMING, b"S", state(2))
    this_round.put(MARKET_FORMING, b"T", None)
    first, second = this_round.records
    assert decode(first.value) == state(2)
    assert (first.partition, second.partition, second.value) == (4, 4, None)
    assert len(this_round) == 2


def test_deleted_rows_of_other_tables_are_tombstones_by_key() -> None:
    this_round = Round(4, "")
    this_round.delete(RISK_OPEN, [b"a", b"b"])
    assert [(record.key, record.value, record.partition) for record in this_round.records] == [
        (b"a", None, None),
        (b"b", None, None),
    ]


def test_a_dead_letter_has_the_key_of_its_record() -> None:
    this_round = Round(4, "")
    letter = DeadLetter(
        reason="late", error="", topic="t", partition=0, offset=0, key=b"k", event_time_us=0
    )
    this_round.send(letter)
    assert this_round.records[0].key == b"k"


def test_a_row_that_cannot_be_restored_costs_its_own_state_only(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def restore(row: Record) -> tuple[str, float] | None:
        if not isinstance(row, OpenAlert):
            return None
        return row.alert_id, 1 / row.event_time_us

    rows = {
        name.encode(): OpenAlert(
            alert_id=name,
            entity_id="p",
            alert_type="var_exceeded",
            state="raised",
            severity="high",
            message="",
            acknowledged=False,
            event_time_us=time_us,
        )
        for name, time_us in (("a", 1), ("b", 0), ("c", 2))
    }
    assert restored(RISK_OPEN, rows, restore) == {"a": 1.0, "c": 0.5}
    assert "the row b'b' of risk.open cannot be restored" in caplog.text


def test_a_record_that_kafka_does_not_take_is_refused_before_the_transaction() -> None:
    book = Book(root="r", book_id="b", holdings=(), event_time_us=0)
    with pytest.raises(TooLarge, match=r"a record for risk\.books has \d+ bytes; Kafka takes"):
        Round(4, "").put(RISK_BOOKS, b"k" * RECORD_BYTES_MAX, book)
