"""Every record becomes a row or is refused, and many at once become what each alone would."""

import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from io import BytesIO
from typing import Any

import fastavro
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from analytics.columns import PLACE, event_classes, event_schema
from analytics.decoding import TOMBSTONE, Decoded, decode, structs_of
from kafka_io.reader import ConsumedRecord
from schemas.codec import MARKER, encode, fingerprint_of_schema, versions
from schemas.errors import Refused
from schemas.events import (
    InputGap,
    Record,
    Return,
    ReturnBatch,
    RiskAlert,
    RiskEstimate,
    RiskMeasure,
)
from schemas.gate import admit
from tests.support.alerts import raised_alert
from tests.support.strangers import (
    EXAMPLES,
    _of_schema,
    _without_logical_types,
    within_bounds,
)

LOGGED_US = 1_790_000_000_000_000
CLASSES = sorted(event_classes().values(), key=lambda kind: kind.__name__)


def consumed(values: Sequence[bytes | None], headers: Any = ()) -> list[ConsumedRecord]:
    return [
        ConsumedRecord("t", 3, offset, LOGGED_US / 1e6, b"key", value, headers)
        for offset, value in enumerate(values)
    ]


def written(schema: dict[str, Any], datum: Any) -> bytes:
    body = BytesIO()
    fastavro.schemaless_writer(body, fastavro.parse_schema(_without_logical_types(schema)), datum)
    return MARKER + fingerprint_of_schema(schema) + body.getvalue()


def check_equal(kind: type[Record], values: Sequence[bytes | None]) -> Decoded:
    """Check that the tables of values are what the gate says of each alone."""
    found = decode([kind], "e1", consumed(values))
    events, refused = [], {}
    for offset, value in enumerate(values):
        try:
            event = admit(value, kind, logged_us=LOGGED_US)
        except Refused as error:
            refused[offset] = str(error.reason)
        else:
            events.append((offset, event))
    if events:
        table = found.events[kind]
        assert table.column("_offset").to_pylist() == [offset for offset, _ in events]
        expected = structs_of(kind, [event for _, event in events])
        rows = table.select(event_schema(kind).names).to_struct_array().combine_chunks()
        plain = _numbers(expected.type)
        assert repr(rows.cast(plain).to_pylist()) == repr(expected.cast(plain).to_pylist())
    else:
        assert not found.events
    reasons = dict(
        zip(*found.refused.select(["_offset", "reason"]).to_pydict().values(), strict=True)
    )
    nothing = {offset: TOMBSTONE for offset, value in enumerate(values) if value is None}
    assert reasons == refused | nothing
    return found


def _numbers(kind: pa.DataType) -> pa.DataType:
    """Return a type with numbers in the place of times, which Python may not be able to show."""
    if pa.types.is_timestamp(kind):
        return pa.int64()
    if pa.types.is_struct(kind):
        return pa.struct([pa.field(part.name, _numbers(part.type)) for part in kind])
    if pa.types.is_list(kind):
        return pa.list_(_numbers(kind.value_type))
    return kind


@pytest.mark.strangers
@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
@settings(
    max_examples=max(EXAMPLES // 3, 3),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(data=st.data())
def test_all_versions_are_decoded_together_as_alone(
    kind: type[Record], data: st.DataObject
) -> None:
    schema = data.draw(st.sampled_from(versions(kind.__name__)))
    whatever = data.draw(st.lists(_of_schema(schema), min_size=1, max_size=2))
    valid = data.draw(st.lists(within_bounds(kind), max_size=2))
    check_equal(kind, [*(written(schema, datum) for datum in whatever), *valid])


def measures(count: int) -> list[bytes]:
    estimate = RiskEstimate("historical", 0.95, 1, "ok", 1, 0.02, 0.03, reason="")
    return [
        encode(
            RiskMeasure(
                portfolio_id=f"p{number}",
                as_of_us=number,
                method="historical",
                status="ok",
                observations=250,
                var_95=0.02,
                event_id=f"p{number}:{number}",
                source_topic="portfolio.returns",
                source_partition=1,
                source_offset=number,
                estimates=[estimate] * 3,
            )
        )
        for number in range(count)
    ]


def test_bytes_that_are_changed_at_random_are_taken_or_refused_as_alone() -> None:
    dice = random.Random(20)
    values = measures(60)
    for _ in range(4):
        changed: list[bytes] = []
        for value in values:
            some = bytearray(value)
            for _ in range(dice.choice([0, 0, 1, 3])):
                some[dice.randrange(10, len(some))] = dice.randrange(256)
            end = dice.choice([0, 0, 0, -1, -5])
            more = dice.choice([b"", b"", b"", b"\0", value[10:]])
            changed.append(bytes(some[: len(some) + end]) + more)
        found = check_equal(RiskMeasure, changed)
        assert 0 < found.refused.num_rows < len(changed)


def test_a_body_that_lacks_a_byte_takes_none_of_the_next() -> None:
    values = measures(40)
    values[20] = values[20][:-1]
    values[21] = b"\0" + values[21]
    assert check_equal(RiskMeasure, values).refused.column("_offset").to_pylist() == [20, 21]


def test_a_text_that_is_not_utf_8_is_refused() -> None:
    values = measures(30)
    values[7] = values[7].replace(b"historical", b"h\xff\xfeorical", 1)
    assert check_equal(RiskMeasure, values).refused.column("_offset").to_pylist() == [7]


def test_a_time_ahead_of_the_log_and_a_lap_that_is_too_high_are_refused() -> None:
    alert = raised_alert("t", event_time_us=LOGGED_US)
    ahead = replace(alert, event_time_us=LOGGED_US + 2 * 86_400_000_000)
    found = check_equal(RiskAlert, [encode(alert)] * 20 + [encode(ahead)])
    assert found.refused.column("reason").to_pylist() == ["future"]
    batch = ReturnBatch(returns=[Return("p", 1, 0.1)])
    high = replace(batch, lap=2**31 - 1)
    found = check_equal(ReturnBatch, [encode(batch)] * 20 + [encode(high)])
    assert found.refused.column("_offset").to_pylist() == [20]


def test_returns_have_a_version_each() -> None:
    first = Return("p", 1, 0.1)
    batches = [[first, first], [first, Return("p", 1, 0.2, 2)], []]
    values = [encode(ReturnBatch(returns=batch)) for batch in batches]
    table = check_equal(ReturnBatch, values).events[ReturnBatch]
    assert table.column("versions").to_pylist() == [[1, 1], [1, 2], []]


def test_records_of_several_classes_are_rows_of_their_own_tables() -> None:
    gap = InputGap(
        topic="t", partition=1, reason="expired", from_offset=5, to_offset=9, event_time_us=1
    )
    (measure,) = measures(1)
    alert = encode(raised_alert("t", event_time_us=LOGGED_US))
    values = [measure, encode(gap), None, alert, b"x"]
    found = decode([RiskMeasure, InputGap], "e1", consumed(values, [("tenant", b"acme")]))
    assert {kind: table.num_rows for kind, table in found.events.items()} == {
        RiskMeasure: 1,
        InputGap: 1,
    }
    assert found.events[InputGap].select(PLACE.names).to_pylist() == [
        {
            "_topic": "t",
            "_partition": 3,
            "_offset": 1,
            "_ingested_at": datetime.fromtimestamp(LOGGED_US / 1e6, UTC),
            "_epoch": "e1",
            "_tenant": "acme",
        }
    ]
    refused = found.refused.select(["_offset", "reason", "value"]).to_pylist()
    assert [(row["_offset"], row["reason"], row["value"]) for row in refused] == [
        (2, TOMBSTONE, None),
        (3, "unexpected_record", alert),
        (4, "undecodable", b"x"),
    ]


def test_a_record_that_names_two_tenants_is_refused() -> None:
    (measure,) = measures(1)
    headers = [("tenant", b"a"), ("tenant", b"b")]
    found = decode([RiskMeasure], "e1", consumed([measure], headers))
    assert not found.events
    assert "2 tenants" in found.refused.column("message")[0].as_py()
