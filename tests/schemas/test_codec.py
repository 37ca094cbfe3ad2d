import json
from contextlib import suppress
from dataclasses import fields
from io import BytesIO
from typing import Any

import fastavro
import pytest
from avro.compatibility import ReaderWriterCompatibilityChecker, SchemaCompatibilityType
from avro.schema import parse
from fastavro.schema import fingerprint, parse_schema, to_parsing_canonical_form
from hypothesis import given, strategies as st

from schemas import codec
from schemas.codec import (
    MARKER,
    VALUE_BYTES_MAX,
    decode,
    encode,
    record_names,
    version_of,
    versions,
)
from schemas.errors import OutOfBounds, Refused, TooLarge, Undecodable, UnknownEvent
from schemas.events import Return, ReturnBatch, TaskStep, TrainingProgress
from schemas.instants import EARLIEST_US, LATEST_US
from schemas.topics import REGISTRY

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=256)
numbers = st.floats(allow_nan=False)
integers = st.integers(-(2**62), 2**62)
instants = st.integers(EARLIEST_US, LATEST_US)

steps = st.builds(
    TaskStep,
    stage=texts,
    attempt=st.integers(1, 2**31 - 1),
    estimated_completion_us=st.none() | instants,
    details=st.dictionaries(texts, integers | numbers | texts),
    error=st.none() | texts,
    error_details=st.none() | texts,
)
progress = st.builds(
    TrainingProgress,
    task_id=texts,
    progress=st.floats(0, 100),
    status=texts,
    message=texts,
    metrics=st.dictionaries(texts, numbers),
    event_time_us=instants,
    task=st.none() | steps,
)
batches = st.builds(
    ReturnBatch,
    returns=st.lists(
        st.builds(
            Return,
            portfolio_id=texts,
            event_time_us=integers,
            value=numbers,
            version=st.integers(1, 2**31 - 1),
        )
    ),
)


@given(progress | batches)
def test_what_is_encoded_is_decoded(event: TrainingProgress | ReturnBatch) -> None:
    assert decode(encode(event)) == event


@given(st.binary(max_size=200) | st.binary(max_size=100).map(lambda tail: MARKER + tail))
def test_any_bytes_decode_or_are_refused_by_name(value: bytes) -> None:
    with suppress(Refused):
        decode(value)


@given(progress, st.data())
def test_a_cut_or_lengthened_record_is_refused(
    event: TrainingProgress, data: st.DataObject
) -> None:
    value = encode(event)
    cut = data.draw(st.integers(0, len(value) - 1))
    with pytest.raises(Undecodable):
        decode(value[:cut])
    with pytest.raises(Undecodable, match="1 bytes follow the TrainingProgress"):
        decode(value + b"\x00")


def written_as(name: str, version: int, datum: dict[str, Any]) -> bytes:
    """A record as a version of its schema has it."""
    schema, body = parse_schema(versions(name)[version]), BytesIO()
    fastavro.schemaless_writer(body, schema, datum)
    mark = bytes.fromhex(fingerprint(to_parsing_canonical_form(schema), "CRC-64-AVRO"))
    return MARKER + mark + body.getvalue()


def test_what_the_first_version_wrote_is_read() -> None:
    written: dict[str, Any] = {
        "task_id": "t",
        "progress": 1.0,
        "status": "running",
        "message": "m",
        "metrics": {"loss": 0.5},
        "event_time_us": 7,
    }
    assert decode(written_as("TrainingProgress", 0, written)) == TrainingProgress(**written)


@pytest.mark.parametrize("at_us", [EARLIEST_US - 1, LATEST_US + 1, 1_700_000_000_000_000_000])
def test_a_time_that_has_no_name_is_refused(at_us: int) -> None:
    """Such as nanoseconds that were taken for microseconds; no RFC 3339 text has such a time."""
    event = TrainingProgress(
        task_id="t", progress=1.0, status="running", message="m", metrics={}, event_time_us=at_us
    )
    with pytest.raises(OutOfBounds, match=f"event_time_us is {at_us}: it must be"):
        encode(event)


def test_returns_that_were_written_one_by_one_are_read() -> None:
    returns = [Return("p", 1, 0.5), Return("q", 2, -0.25, 3)]
    value = written_as(
        "ReturnBatch", 0, {"returns": [observation._asdict() for observation in returns]}
    )
    assert decode(value) == ReturnBatch(returns=returns)


@pytest.mark.parametrize("wrong", ["portfolio_ids", "times_us", "values", "versions"])
def test_columns_that_are_not_of_one_length_are_refused(wrong: str) -> None:
    columns: dict[str, list[Any]] = {
        "returns": [],
        "portfolio_ids": ["p", "q"],
        "times_us": [1, 2],
        "values": [0.5, -0.25],
        "versions": [1, 3],
    }
    assert decode(written_as("ReturnBatch", 1, columns)) == ReturnBatch(
        returns=[Return("p", 1, 0.5), Return("q", 2, -0.25, 3)]
    )
    with pytest.raises(Undecodable, match="not of one length"):
        decode(written_as("ReturnBatch", 1, columns | {wrong: columns[wrong][:1]}))


def test_a_lap_is_kept_and_0_where_an_earlier_version_had_none() -> None:
    batch = ReturnBatch(returns=[Return("p", 1, 0.5)], lap=7)
    assert decode(encode(batch)) == batch
    columns = {"portfolio_ids": ["p"], "times_us": [1], "values": [0.5]}
    earlier = decode(written_as("ReturnBatch", 1, {"returns": [], "versions": []} | columns))
    assert earlier == ReturnBatch(returns=batch.returns, lap=0)


lone = st.builds(
    lambda name, time_us, value, version, lap: encode(
        ReturnBatch(returns=[Return(name, time_us, value, version)], lap=lap)
    ),
    st.text(max_size=40) | st.text("\u20ac", min_size=20, max_size=22),
    st.sampled_from([0, 1, -1, 63, 64, 8191, -(2**63), 2**62, EARLIEST_US, LATEST_US])
    | st.integers(-(2**63), 2**63 - 1),
    st.floats(),
    st.sampled_from([1, 1, 1, 2]),
    st.sampled_from([0, 0, 0, 1]),
).filter(bool)


@given(lone, st.lists(st.tuples(st.integers(0, 80), st.integers(0, 255), st.integers(0, 2))))
def test_a_return_by_itself_is_decoded_as_by_the_reader_of_any_schema(
    value: bytes, edits: list[tuple[int, int, int]]
) -> None:
    changed = bytearray(value)
    for place, byte, kind in edits[:2]:
        at = 10 + place % max(len(changed) - 10, 1)
        changed[at : at + (kind > 0)] = bytes([byte][: kind != 2])  # 2 deletes
    found = codec._lone_return(bytes(changed))
    if found is None:
        return
    stream = BytesIO(bytes(changed[10:]))
    datum = fastavro.schemaless_reader(stream, codec.newest_schema(ReturnBatch), None)
    assert stream.tell() == len(changed) - 10
    assert repr(found) == repr(codec._return_batch(datum))  # NaN equals nothing


def test_most_returns_by_themselves_have_the_short_way() -> None:
    batch = ReturnBatch(returns=[Return("pf-1", 1_790_000_000_000_000, -0.01)])
    assert codec._lone_return(encode(batch)) == batch
    late = ReturnBatch(returns=[Return("pf-1", -1, -0.01)])
    assert codec._lone_return(encode(late)) == late


def test_the_head_is_avros_single_object_encoding() -> None:
    event = TrainingProgress(
        task_id="t", progress=1.0, status="running", message="", metrics={}, event_time_us=0
    )
    value = encode(event)
    canonical = to_parsing_canonical_form(parse_schema(versions("TrainingProgress")[-1]))
    assert value[:2].hex() == "c301"
    assert value[2:10].hex() == fingerprint(canonical, "CRC-64-AVRO")


def test_none_an_unknown_fingerprint_and_a_huge_value_are_refused_by_name() -> None:
    with pytest.raises(Undecodable, match="found nothing"):
        decode(None)
    with pytest.raises(Undecodable, match="no schema has the fingerprint 0000000000000000"):
        decode(MARKER + bytes(20))
    with pytest.raises(TooLarge, match=f"over the limit of {VALUE_BYTES_MAX}"):
        decode(MARKER + bytes(VALUE_BYTES_MAX))


def test_an_object_without_a_schema_cannot_be_encoded() -> None:
    with pytest.raises(UnknownEvent, match="no topic carries a object"):
        encode(object())  # type: ignore[arg-type]


def test_arrays_of_items_without_a_size_are_not_let_in() -> None:
    bomb = {
        "type": "record",
        "name": "Bomb",
        "fields": [{"name": "many", "type": {"type": "array", "items": "null"}}],
    }
    with pytest.raises(ValueError, match="can be a bomb"):
        codec.parse_bare(bomb)


@pytest.mark.parametrize("name", record_names())
def test_every_version_on_disk_can_read_every_earlier_one(name: str) -> None:
    schemas = [parse(json.dumps(version)) for version in versions(name)]
    assert schemas
    for place, reader in enumerate(schemas):
        for writer in schemas[: place + 1]:
            checker: Any = ReaderWriterCompatibilityChecker  # it has no types
            found = checker().get_compatibility(reader, writer)
            assert found.compatibility is SchemaCompatibilityType.compatible, found.messages


@pytest.mark.parametrize("name", record_names())
def test_a_record_and_its_newest_schema_have_the_same_fields(name: str) -> None:
    written = {field["name"] for field in versions(name)[-1]["fields"]}
    (record,) = (known.record for known in REGISTRY if known.record.__name__ == name)
    if name == "ReturnBatch":  # its returns are columns, on the wire
        written -= {"portfolio_ids", "times_us", "values", "versions"}
    assert sorted(field.name for field in fields(record)) == sorted(written)


def test_the_schema_of_a_value_is_known_by_its_mark() -> None:
    value = encode(ReturnBatch(returns=[]))
    count = len(versions("ReturnBatch"))
    assert version_of(value) == ("ReturnBatch", count, count)
    first = fingerprint(to_parsing_canonical_form(versions("ReturnBatch")[0]), "CRC-64-AVRO")
    assert version_of(MARKER + bytes.fromhex(first)) == ("ReturnBatch", 1, count)
    assert version_of(MARKER + bytes(8)) is None
    assert version_of(b"no mark") is None
