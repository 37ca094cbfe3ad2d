import pytest

from cli.errors import InvalidArgument
from cli.record_json import describe
from cli.topics import (
    Filter,
    line_of_record,
    lines_of_list,
    lines_of_topic,
    parse_where,
    topic_named,
)
from kafka_io.reader import ConsumedRecord
from schemas.codec import encode
from schemas.events import Return, ReturnBatch
from schemas.topics import RISK_ALERTS

RECORD = ConsumedRecord(
    *("t", 3, 9, 1_800_000_000.5, b"acme\xffp", encode(ReturnBatch(returns=[Return("p", 5, 0.5)]))),
    [],
)


@pytest.mark.parametrize(
    ("chosen", "is_included"),
    [
        (Filter(), True),
        (Filter("p"), True),
        (Filter("acme/p"), True),
        (Filter("other/p"), False),
        (Filter("p", [("returns.portfolio_id", "p"), ("lap", "0")]), True),
        (Filter("p", [("returns.portfolio_id", "p"), ("lap", "1")]), False),
    ],
)
def test_records_are_chosen_by_key_and_fields(chosen: Filter, *, is_included: bool) -> None:
    assert chosen.includes(describe(RECORD), RECORD.key) is is_included


def test_a_record_without_a_key_has_none_of_the_keys() -> None:
    assert not Filter("p").includes(describe(RECORD), None)


def test_a_field_without_a_value_is_refused() -> None:
    assert parse_where(["a.b=c=d"]) == [("a.b", "c=d")]
    for text in ("status", "=x"):
        with pytest.raises(InvalidArgument, match="names no field and value"):
            parse_where([text])


def test_topics_are_named_with_and_without_the_prefix() -> None:
    assert topic_named("risk.alerts", "x.") is topic_named("x.risk.alerts", "x.") is RISK_ALERTS
    with pytest.raises(InvalidArgument, match=r"'alerts' is no topic .*; there are risk.alerts$"):
        topic_named("alerts", "")


def test_a_record_is_a_line_whatever_it_holds() -> None:
    line = line_of_record(describe(RECORD))
    assert line.startswith("2027-01-15T08:00:00.500000Z 3/9          0x61636d65ff70  ReturnBatch {")
    assert "deleted" in line_of_record(describe(RECORD._replace(value=None)))
    broken = line_of_record(describe(RECORD._replace(value=b"\n", key=b"a", timestamp=0)))
    assert "not readable expected Avro's" in broken
    assert "\n" not in broken


def test_lists_name_what_is_missing_and_what_differs() -> None:
    there = {"topic": "a", "exists": True, "partitions": 6, "offsets": 1_200, "record": "R"}
    lines = lines_of_list(
        [
            there | {"differences": []},
            there | {"differences": ["has too few"]},
            {"topic": "b", "exists": False},
        ]
    )
    assert lines[0].split() == ["a", "6", "partitions", "1,200", "offsets", "R"]
    assert lines[1].endswith("R  differs: has too few")
    assert lines[2].endswith("is missing; `tapewire topics create` makes it")


def test_a_described_topic_has_its_settings_and_partitions() -> None:
    part = {"partition": 0, "leader": 1, "replicas": [1], "in_sync": [1], "begin": 0, "end": 5}
    row = {
        "topic": "a",
        "records": ["R"],
        "key": None,
        "settings": {"retention.ms": "5"},
        "partitions": [part],
        "differences": [{"text": "has x", "mends": "do y"}],
    }
    assert lines_of_topic(row) == [
        "a: R, key of the writer",
        "  retention.ms=5",
        "  partition 0: offsets 0 to 5, leader 1, replicas [1], in sync [1]",
        "  has x; this mends it: do y",
    ]
