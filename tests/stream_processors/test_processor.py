from schemas.codec import decode
from schemas.events import CandleState, DeadLetter, UserUpdate
from schemas.topics import MARKET_FORMING, RISK_OPEN
from stream_processors.processor import Round

UPDATE = UserUpdate(user_id="u", kind="update", data="1", event_time_us=0)


def state(total: int) -> CandleState:
    return CandleState(symbol="S", next=total, watermark_us=0, forming=[], late=0)


def test_events_keep_their_order_and_go_to_the_partition_of_their_key() -> None:
    this_round = Round(4, "x.")
    this_round.send(UPDATE, "acme")
    this_round.send_all([(UPDATE, None)])
    first, second = this_round.records
    assert (first.topic, first.key, first.partition) == ("x.user.updates", b"u", None)
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
    this_round.delete(RISK_OPEN, ["a", "b"])
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
