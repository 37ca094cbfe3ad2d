import pytest

from cli.tenant_shares import Share, Shares, tenants_in
from kafka_io.reader import ConsumedRecord
from schemas.codec import encode
from schemas.events import BoardState, DeadLetter, Record, Return, ReturnBatch, WindowTally
from schemas.keys import encode_key, scenario_key
from schemas.topics import (
    DASHBOARD_BOARDS,
    DASHBOARD_TALLIES,
    DEAD_LETTERS,
    PORTFOLIO_RETURNS,
    RISK_ALERTS,
    RISK_LIMITS,
    RISK_STATE,
    Topic,
)

BATCH = encode(ReturnBatch(returns=[Return("p", 0, 0.5)]))
HEADER = [("tenant", b"acme")]


def record(
    topic: Topic,
    key: bytes | None,
    value: bytes | None = BATCH,
    offset: int = 0,
    headers: list[tuple[str, bytes]] | None = None,
) -> ConsumedRecord:
    return ConsumedRecord(topic.name, 1, offset, 100.0 + offset, key, value, headers or [])


def taken(topic: Topic, *records: ConsumedRecord) -> Share:
    shares, share = Shares("acme"), Share(topic.name, topic)
    for each in records:
        shares.take(share, each)
    return share


@pytest.mark.parametrize(
    ("key", "headers", "is_own"),
    [
        (encode_key("p", "acme"), [], True),
        (scenario_key("crash", "acme"), [], True),
        (None, HEADER, True),
        (encode_key("p"), HEADER, True),
        (encode_key("p", "other"), [], False),
        (encode_key("p", "acme2"), [], False),
        (scenario_key("acme"), [], False),
        (encode_key("acme"), [], False),
    ],
)
def test_a_record_is_a_tenants_by_its_key_or_its_header(
    key: bytes | None, headers: list[tuple[str, bytes]], *, is_own: bool
) -> None:
    share = taken(RISK_ALERTS, record(RISK_ALERTS, key, headers=headers))
    assert (share.records, share.is_empty) == (int(is_own), not is_own)


def test_a_share_says_how_much_there_is_and_since_when() -> None:
    key = encode_key("p", "acme")
    share = taken(
        RISK_STATE,
        record(RISK_STATE, key, offset=5),
        record(RISK_STATE, key, None, offset=3),
        record(RISK_STATE, encode_key("p", "other"), offset=1),
    )
    assert (share.records, share.tombstones) == (1, 1)
    assert (share.oldest_ms, share.newest_ms) == (103_000, 105_000)
    assert share.size_bytes == 2 * len(key) + len(BATCH)


@pytest.mark.parametrize(
    ("topic", "row"),
    [
        (
            DASHBOARD_TALLIES,
            WindowTally(
                window_start_us=0,
                window_us=1_000_000,
                counts={},
                source_topic="t",
                source_partition=0,
                last_offset=0,
                tenant="acme",
            ),
        ),
        (DASHBOARD_BOARDS, BoardState(board="acme", partition=0)),
    ],
)
def test_rows_of_earlier_releases_name_a_tenant_in_a_field_only(topic: Topic, row: Record) -> None:
    assert list(tenants_in(topic, encode(row))) == ["acme"]
    assert taken(topic, record(topic, b"row", encode(row))).records == 1
    assert list(tenants_in(topic, b"nonsense")) == list(tenants_in(topic, None)) == []
    assert list(tenants_in(PORTFOLIO_RETURNS, encode(row))) == []


def test_only_rows_whose_newest_record_is_the_tenants_are_deleted() -> None:
    own, old, foreign = encode_key("p", "acme"), encode_key("q"), encode_key("p", "other")
    share = taken(
        RISK_STATE,
        record(RISK_STATE, own),
        record(RISK_STATE, old, headers=HEADER),
        record(RISK_STATE, foreign, headers=HEADER),  # its header and its key disagree
    )
    assert share.records == 3
    assert share.rows == {(1, own): True, (1, old): True}
    share = taken(
        RISK_STATE,
        record(RISK_STATE, old, headers=HEADER),
        record(RISK_STATE, old),
        record(RISK_STATE, own),
        record(RISK_STATE, own, None),
    )
    assert share.rows == {(1, own): True}  # the value is in the log until Kafka compacts it
    deleted = taken(
        RISK_STATE,
        record(RISK_STATE, old, headers=HEADER),
        record(RISK_STATE, old, None),
        record(RISK_STATE, own, None),
    )
    assert deleted.rows == {(1, old): True, (1, own): False}


def test_topics_that_edges_show_by_key_have_rows_and_topics_of_events_have_none() -> None:
    key = encode_key("p", "acme")
    assert taken(RISK_LIMITS, record(RISK_LIMITS, key)).rows == {(1, key): True}
    assert taken(RISK_ALERTS, record(RISK_ALERTS, key)).rows == {}


def letter(key: bytes | None, offset: int) -> bytes:
    return encode(
        DeadLetter(
            reason="invalid",
            error="",
            topic=PORTFOLIO_RETURNS.name,
            partition=1,
            offset=offset,
            key=key,
            event_time_us=0,
        )
    )


def test_a_dead_letter_is_a_tenants_if_the_record_that_it_is_about_was() -> None:
    shares = Shares("acme")
    letters, returns = (Share(topic.name, topic) for topic in (DEAD_LETTERS, PORTFOLIO_RETURNS))
    for key, offset in (
        (encode_key("p", "acme"), 1),
        (encode_key("p", "other"), 2),
        (None, 3),
        (None, 4),
    ):
        shares.take(letters, record(DEAD_LETTERS, None, letter(key, offset)))
    shares.take(letters, record(DEAD_LETTERS, None, b"nonsense"))
    assert letters.records == 1
    shares.take(returns, record(PORTFOLIO_RETURNS, None, offset=3, headers=HEADER))
    shares.take(returns, record(PORTFOLIO_RETURNS, None, offset=4))
    assert letters.records == 2
    assert letters.size_bytes == len(letter(encode_key("p", "acme"), 1)) + len(letter(None, 3))
