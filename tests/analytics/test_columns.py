"""The columns of a class of events hold what any version of its schema can say."""

import pyarrow as pa
import pytest

from analytics.columns import PLACE, TIMESTAMP, arrow_type, event_classes, has_union, schema_of
from schemas.codec import versions
from schemas.registry import REGISTRY


def test_every_registered_event_has_a_table_and_no_state_has() -> None:
    timed = {row.record for row in REGISTRY if hasattr(row.record, "event_time_us")}
    assert timed
    assert set(event_classes().values()) == timed
    assert event_classes()["risk_alert"].__name__ == "RiskAlert"


@pytest.mark.parametrize("name", sorted(event_classes()))
def test_a_table_has_the_fields_of_all_versions_and_the_place(name: str) -> None:
    kind = event_classes()[name]
    fields = {part["name"] for version in versions(kind.__name__) for part in version["fields"]}
    schema = schema_of(kind)
    assert sorted(schema.names) == sorted([*fields, *PLACE.names])
    assert all(field.nullable for field in schema)


def test_records_lists_and_maps_stay_nested() -> None:
    point = {"type": "record", "name": "Point", "fields": [{"name": "x", "type": "double"}]}
    schema = {
        "type": "record",
        "name": "Path",
        "fields": [
            {"name": "points", "type": {"type": "array", "items": point}},
            {"name": "last", "type": ["null", "Point"]},
            {"name": "tags", "type": {"type": "map", "values": "string"}},
            {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
        ],
    }
    struct = pa.struct([pa.field("x", pa.float64())])
    assert arrow_type(schema) == pa.struct(
        [
            pa.field("points", pa.list_(struct)),
            pa.field("last", struct),
            pa.field("tags", pa.map_(pa.string(), pa.string())),
            pa.field("at", TIMESTAMP),
        ]
    )


def test_a_union_of_numbers_is_a_float_and_one_with_a_text_is_a_text() -> None:
    assert arrow_type(["null", "long", "double"]) == pa.float64()
    assert arrow_type(["long", "string"]) == pa.string()
    assert has_union(["null", "long", "double"])
    assert not has_union(["null", "long"])
