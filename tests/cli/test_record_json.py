import json
from math import nan

import pytest

from cli.record_json import describe, json_of, matches
from kafka_io.reader import ConsumedRecord
from schemas.codec import encode, versions
from schemas.events import Return, ReturnBatch, RiskLimits

BATCH = ReturnBatch(returns=[Return("p", 5, 0.5), Return("q", 6, nan)], lap=2)
RECORD = ConsumedRecord(
    *("t", 3, 9, 1.5, b"acme\xffp", encode(BATCH)), [("ce_id", b"i"), ("x", b"\x00")]
)


def test_a_record_is_decoded_with_its_place_time_and_headers() -> None:
    described = describe(RECORD)
    assert described == {
        "topic": "t",
        "partition": 3,
        "offset": 9,
        "at": "1970-01-01T00:00:01.500000Z",
        "key": {"hex": b"acme\xffp".hex()},
        "headers": {"ce_id": "i", "x": {"hex": "00"}},
        "record": "ReturnBatch",
        "schema_version": len(versions("ReturnBatch")),
        "value": {
            "lap": 2,
            "returns": [
                {"portfolio_id": "p", "event_time_us": 5, "value": 0.5, "version": 1},
                {"portfolio_id": "q", "event_time_us": 6, "value": None, "version": 1},
            ],
        },
    }
    json.dumps(described, allow_nan=False)


def test_what_cannot_be_decoded_says_why_and_a_tombstone_is_none() -> None:
    broken = describe(RECORD._replace(value=b"x", timestamp=0))
    assert "marker" in broken["error"]
    assert (broken["record"], broken["at"]) == (None, None)
    assert describe(RECORD._replace(value=None))["value"] is None


@pytest.mark.parametrize(
    ("path", "value", "is_there"),
    [
        ("lap", "2", True),
        ("lap", "3", False),
        ("returns.portfolio_id", "q", True),
        ("returns.value", "null", True),
        ("returns.portfolio_id", "r", False),
        ("headers.ce_id", "i", True),
        ("partition", "3", True),
        ("no.such", "x", False),
    ],
)
def test_fields_are_compared_by_their_text(path: str, value: str, *, is_there: bool) -> None:
    assert matches(describe(RECORD), path, value) is is_there


def test_all_kinds_of_values_have_a_form() -> None:
    limits = RiskLimits(portfolio_id="p", limits=[], event_time_us=0)
    assert json_of(limits)["limits"] == []
    assert json_of({"a": (True, b"\xff", "x")}) == {"a": [True, {"hex": "ff"}, "x"]}
