"""The columns of a class of events: Avro schemas, all versions, as one Arrow schema.

A record of Avro is a struct, an array a list, a map a map, and a time a timestamp in microseconds,
UTC. Every column may be null, since a later version of the schema may add it. Beside the
event's own columns stand those of `PLACE`: where the log has the record.

A union of numbers is a column of 64-bit floats; a union with a text among others is a column of
texts, in which a number is written as in JSON.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any

import pyarrow as pa

from analytics.table_names import is_event, table_name
from schemas.codec import versions
from schemas.events import Record
from schemas.registry import REGISTRY

TIMESTAMP = pa.timestamp("us", "UTC")

PLACE = pa.schema(
    [
        pa.field("_topic", pa.string()),
        pa.field("_partition", pa.int32()),
        pa.field("_offset", pa.int64()),
        pa.field("_ingested_at", TIMESTAMP),
        pa.field("_epoch", pa.string()),
        pa.field("_tenant", pa.string()),
    ]
)
"""The columns of every table. `_ingested_at` is when the log got the record, by the broker's clock.
`_epoch` is the topic's id in hexadecimal: a topic that is deleted and made again has another one,
and its offsets begin anew. `_tenant` is null where the record names none."""

PRIMITIVES = {
    "null": pa.null(),
    "boolean": pa.bool_(),
    "int": pa.int32(),
    "long": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "string": pa.string(),
    "bytes": pa.binary(),
}
"""The types of values without parts, by Avro's names."""
_NUMBERS = {"int", "long", "float", "double"}


@cache
def event_classes() -> Mapping[str, type[Record]]:
    """Return the classes that have a table, by the table's name.

    They are the registered events: the records with a time when something happened. The states of
    processors are none.
    """
    kinds = [row.record for row in REGISTRY if is_event(row.record)]
    return {table_name(kind): kind for kind in kinds}


@cache
def schema_of(kind: type[Record]) -> pa.Schema:
    """Return the columns of a class over all versions of its schema, with those of `PLACE`."""
    return pa.schema([*event_schema(kind), *PLACE])


@cache
def event_schema(kind: type[Record]) -> pa.Schema:
    """Return the event's own columns. A column has the type of the newest version that has it."""
    found: dict[str, pa.Field] = {}
    for version in versions(kind.__name__):
        struct = arrow_type(version)
        found |= {field.name: field for field in struct}
    return pa.schema(list(found.values()))


def arrow_type(schema: Any, names: dict[str, Any] | None = None) -> pa.DataType:
    """Return the Arrow type of values of an Avro schema.

    Args:
        schema: the schema, as a JSON value.
        names: the named types that stand before it in the same schema.
    """
    names = {} if names is None else names
    if isinstance(schema, list):
        return _union_type([branch for branch in schema if branch != "null"], names)
    if isinstance(schema, str):
        return PRIMITIVES[schema] if schema in PRIMITIVES else names[schema]
    kind = schema["type"]
    if kind == "record":
        fields = [pa.field(row["name"], arrow_type(row["type"], names)) for row in schema["fields"]]
        names[schema["name"]] = struct = pa.struct(fields)
        return struct
    if kind == "array":
        return pa.list_(arrow_type(schema["items"], names))
    if kind == "map":
        return pa.map_(pa.string(), arrow_type(schema["values"], names))
    return TIMESTAMP if "logicalType" in schema else arrow_type(kind, names)


def has_union(schema: Any) -> bool:
    """Return whether an Avro schema has a union of several types beside null."""
    if isinstance(schema, list):
        return len([b for b in schema if b != "null"]) > 1 or any(map(has_union, schema))
    return isinstance(schema, dict) and any(map(has_union, schema.values()))


def _union_type(branches: list[Any], names: dict[str, Any]) -> pa.DataType:
    if len(branches) == 1:
        return arrow_type(branches[0], names)
    return pa.float64() if set(map(str, branches)) <= _NUMBERS else pa.string()
