from io import BytesIO
from typing import Any

import fastavro
import pytest
from hypothesis import given, strategies as st

from schemas.avro_writers import compile_writer
from schemas.codec import parse_bare, record_names, versions

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "null": st.none(),
    "boolean": st.booleans(),
    "int": st.integers(-(2**31), 2**31 - 1),
    "long": st.integers(-(2**63), 2**63 - 1),
    "double": st.floats(),
    "bytes": st.binary(max_size=300) | st.just(bytes(1_024)),
    "string": texts | st.just("\N{EURO SIGN}" * 400),
}


class Datum(dict[str, Any]):
    """The values of a record's fields, by name and as attributes."""

    def __getattribute__(self, name: str) -> Any:
        """Return the value of a field, also of one that has the name of a method, or a method."""
        return self[name] if name in self else super().__getattribute__(name)


def data_of(schema: Any, known: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[Any]:
    """Return the data that a schema describes."""
    if isinstance(schema, list):
        return st.one_of([data_of(branch, known) for branch in schema])
    if not isinstance(schema, dict):
        return VALUES[schema] if schema in VALUES else known[schema]
    match schema["type"]:
        case "record":
            fields = {field["name"]: data_of(field["type"], known) for field in schema["fields"]}
            known[schema["name"]] = st.builds(Datum, st.fixed_dictionaries(fields))
            return known[schema["name"]]
        case "array":
            return st.lists(data_of(schema["items"], known), max_size=3)
        case "map":
            return st.dictionaries(texts, data_of(schema["values"], known), max_size=3)
        case inner:
            return data_of(inner, known)


def by_fastavro(schema: Any, datum: Any) -> bytes:
    body = BytesIO()
    fastavro.schemaless_writer(body, schema, datum)
    return body.getvalue()


COMPILED = {
    (name, version): schema
    for name in record_names()
    for version, schema in enumerate(map(parse_bare, versions(name)), 1)
    if compile_writer(schema) is not None
}
"""The schemas that are compiled, by record and version."""


def test_nearly_every_schema_is_compiled() -> None:
    assert len(COMPILED) > 0.9 * sum(len(versions(name)) for name in record_names())


@given(st.sampled_from(list(COMPILED)), st.data())
def test_the_bytes_are_those_that_fastavro_writes(
    which: tuple[str, int], data: st.DataObject
) -> None:
    schema = COMPILED[which]
    datum = data.draw(data_of(schema, {}))
    write = compile_writer(schema)
    assert write is not None
    assert write(datum) == by_fastavro(schema, datum)


def test_a_named_type_may_be_used_again_and_null_may_be_second() -> None:
    fields = [{"name": name, "type": "int"} for name in "xy"]
    point = {"type": "record", "name": "Point", "fields": fields}
    schema = fastavro.parse_schema(
        {
            "type": "record",
            "name": "Line",
            "fields": [
                {"name": "start", "type": point},
                {"name": "end", "type": ["Point", "null"]},
                {"name": "labels", "type": {"type": "map", "values": {"type": "string"}}},
            ],
        }
    )
    write = compile_writer(schema)
    assert write is not None
    for end in (None, Datum(x=-1, y=1)):
        datum = Datum(start=Datum(x=64, y=0), end=end, labels={"a": "b"})
        assert write(datum) == by_fastavro(schema, datum)


@pytest.mark.parametrize(
    "kind", [["null", "long", "double"], ["null"], {"type": "array", "items": ["int", "string"]}]
)
def test_a_union_of_several_types_is_left_to_fastavro(kind: Any) -> None:
    fields = [{"name": "first", "type": "int"}, {"name": "second", "type": kind}]
    schema = {"type": "record", "name": "Outer", "fields": fields}
    assert compile_writer(fastavro.parse_schema(schema)) is None


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1])
def test_a_number_that_does_not_fit_in_64_bits_is_refused(number: int) -> None:
    fields = [{"name": name, "type": "long"} for name in ("first", "second")]
    schema = {"type": "record", "name": "Outer", "fields": fields}
    write = compile_writer(fastavro.parse_schema(schema))
    assert write is not None
    with pytest.raises(OverflowError, match="does not fit in 64 bits"):
        write(Datum(first=0, second=number))
