"""Schemas of others: which are resolved, and what is said of the rest."""

import json
from copy import deepcopy
from io import BytesIO
from typing import Any

import fastavro
import pytest
from hypothesis import given, strategies as st

from schemas.codec import MARKER, decode, encode, record_names, versions
from schemas.errors import ForeignSchema, RefusedValue, TooLarge, Undecodable, UnresolvedSchema
from schemas.events import AlertAck
from schemas.foreign import SCHEMA_CHARS_MAX, resolve

ACK = AlertAck(
    entity_type="portfolio",
    entity_id="pf-1",
    alert_id="a-1",
    by="ada",
    event_time_us=1_700_000_000_000_000,
)
NEWEST = versions("AlertAck")[-1]


def own(**changes: Any) -> dict[str, Any]:
    """Return the newest schema of an acknowledgement, changed."""
    return {**deepcopy(NEWEST), **changes}


def body_of(schema: dict[str, Any], datum: dict[str, Any]) -> bytes:
    stream = BytesIO()
    fastavro.schemaless_writer(stream, fastavro.parse_schema(schema), datum)
    return stream.getvalue()


@pytest.mark.parametrize("name", record_names())
def test_each_version_of_ours_needs_another_head_only(name: str) -> None:
    for schema in versions(name):
        made = resolve(json.dumps(schema))(b"body")
        assert made[:2] == MARKER
        assert made[10:] == b"body"


def test_fields_in_another_order_and_others_namespace_are_read() -> None:
    schema = own(namespace="desk.v1")
    schema["fields"] = [{"name": "room", "type": "int"}, *reversed(schema["fields"])]
    datum = fastavro.schemaless_reader(BytesIO(encode(ACK)[10:]), fastavro.parse_schema(own()))
    assert isinstance(datum, dict)
    value = resolve(json.dumps(schema))(body_of(schema, {"room": 7, **datum}))
    assert decode(value) == ACK
    assert value == encode(ACK)


def missing_key() -> dict[str, Any]:
    schema = own()
    schema["fields"] = [field for field in schema["fields"] if field["name"] != "alert_id"]
    return schema


def with_field(kind: Any, name: str = "more") -> dict[str, Any]:
    schema = own()
    schema["fields"] = [*schema["fields"], {"name": name, "type": kind}]
    return schema


def in_milliseconds() -> dict[str, Any]:
    text = json.dumps(NEWEST).replace("timestamp-micros", "timestamp-millis")
    found: dict[str, Any] = json.loads(text)
    return found


REFUSED = {
    "garbage": ("{", "is no JSON: '{'"),
    "nesting": ("[" * 100_000, "is no JSON"),
    "a number": ("7", "is not that of a record: '7'"),
    "another type": ('"string"', "is not that of a record"),
    "no schema": ('{"type": "record", "name": "AlertAck"}', "is no valid Avro schema"),
    "too long": (" " * SCHEMA_CHARS_MAX + "{}", "at most 262144 are read"),
    "a stranger": (json.dumps(own(name="Invoice")), "a record Invoice, which no topic"),
    "a lack": (json.dumps(missing_key()), "cannot be read as AlertAck: .*alert_id"),
    "another unit": (json.dumps(in_milliseconds()), "has timestamp-millis in the field event_time"),
    "a bomb": (json.dumps(with_field({"type": "array", "items": "null"})), "can be a bomb"),
    "a bomb by name": (
        json.dumps(
            with_field(
                [
                    {"type": "fixed", "name": "Empty", "size": 0},
                    {"type": "array", "items": "Empty"},
                ]
            )
        ),
        "is no valid Avro schema",
    ),
    "a bomb of nulls": (
        json.dumps(
            with_field(
                {
                    "type": "array",
                    "items": {
                        "type": "record",
                        "name": "Nulls",
                        "fields": [{"name": "a", "type": "null"}],
                    },
                }
            )
        ),
        "can be a bomb",
    ),
    "itself": (
        json.dumps(
            with_field(
                {
                    "type": "record",
                    "name": "Tree",
                    "fields": [{"name": "parts", "type": {"type": "array", "items": "Tree"}}],
                }
            )
        ),
        "the type Tree has itself as a part",
    ),
}


@pytest.mark.parametrize(("text", "reason"), REFUSED.values(), ids=REFUSED)
def test_a_schema_that_cannot_be_resolved_is_refused_before_any_value(
    text: str, reason: str
) -> None:
    with pytest.raises(ForeignSchema, match=reason):
        resolve(text)


@given(body=st.binary(max_size=60))
def test_any_body_is_translated_or_refused(body: bytes) -> None:
    translate = resolve(json.dumps(with_field("bytes")))
    try:
        value = translate(body)
    except Undecodable:
        return
    assert value[:2] == MARKER


def test_a_body_with_a_rest_and_one_that_is_too_large_are_refused() -> None:
    schema = with_field("bytes")
    datum = fastavro.schemaless_reader(BytesIO(encode(ACK)[10:]), fastavro.parse_schema(own()))
    assert isinstance(datum, dict)
    body = body_of(schema, {**datum, "more": b""})
    translate = resolve(json.dumps(schema))
    assert decode(translate(body)) == ACK
    with pytest.raises(Undecodable, match="1 bytes follow the AlertAck"):
        translate(body + b"!")
    with pytest.raises(TooLarge):
        translate(bytes(1 << 20) + body)


def test_a_value_that_was_refused_raises_its_error_anew() -> None:
    value = RefusedValue.of(b"\0\0\0\0\7", UnresolvedSchema("the registry has no schema 7"))
    assert value == b"\0\0\0\0\7"
    for _ in range(2):
        with pytest.raises(UnresolvedSchema, match=r"^the registry has no schema 7$") as raised:
            decode(value)
        assert raised.value is not value.error
