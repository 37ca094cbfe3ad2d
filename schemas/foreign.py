"""Values whose schema a registry names, as values in single-object encoding.

A writer of others may have any schema that Avro resolves to one of ours: fields in another order,
further ones, or none where ours have a default. `resolve` judges a schema once, before any value:
whatever it returns can read each valid body. Where the schema is a version of ours, only the head
of a value changes. Else the values are read by the rules of Avro and encoded in the newest version.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from io import BytesIO
from typing import Any

import fastavro
from avro.compatibility import ReaderWriterCompatibilityChecker, SchemaCompatibilityType
from avro.schema import parse as parse_strictly

from schemas.codec import (
    MARKER,
    VALUE_BYTES_MAX,
    encode_datum,
    fingerprint_of_schema,
    newest_schema,
    parse_bare,
    version_of,
    versions,
    without_logical_types,
)
from schemas.errors import ForeignSchema, TooLarge, Undecodable
from schemas.events import Record
from schemas.topics import REGISTRY

SCHEMA_CHARS_MAX = 256 * 1024
"""The longest text of a schema that is parsed; the longest of ours has 10,000 characters."""

_SHOWN_CHARS = 300

Translate = Callable[[bytes], bytes]
"""Returns a body in single-object encoding.

Raises:
    Undecodable: the body is none of the schema.
    TooLarge: it exceeds `VALUE_BYTES_MAX`.
"""


def resolve(text: str) -> Translate:
    """Return what makes values of bodies that have a schema.

    Args:
        text: the schema, in JSON.

    Raises:
        ForeignSchema: it is no schema of a record of ours, or cannot be resolved to one; the
            message is a clause that follows "the schema ...".
    """
    schema = _parsed(text)
    name = str(schema["name"]).rpartition(".")[2]
    kinds = {known.record.__name__: known.record for known in REGISTRY}
    if name not in kinds:
        raise ForeignSchema(f"is of a record {name}, which no topic of this system carries")
    _check_times(schema, versions(name)[-1])
    head = MARKER + fingerprint_of_schema(schema)
    if version_of(head) is not None:
        return lambda body: head + body
    return _translation(schema, kinds[name])


def _parsed(text: str) -> dict[str, Any]:
    if len(text) > SCHEMA_CHARS_MAX:
        raise ForeignSchema(f"has {len(text)} characters; at most {SCHEMA_CHARS_MAX} are read")
    try:
        schema = json.loads(text)
    except (ValueError, RecursionError):
        raise ForeignSchema(f"is no JSON: {text[:_SHOWN_CHARS]!r}") from None
    if not isinstance(schema, dict) or schema.get("type") != "record":
        raise ForeignSchema(f"is not that of a record: {text[:_SHOWN_CHARS]!r}")
    try:
        parse_bare(schema)
    except Exception as error:
        raise ForeignSchema(f"is no valid Avro schema: {_shown(error)}") from error
    return schema


def _check_times(schema: Mapping[str, Any], ours: Mapping[str, Any]) -> None:
    """Refuse another unit of a time: Avro resolves by types alone, and both units are longs."""
    expected = dict(_logical_types(ours, ()))
    for path, found in _logical_types(schema, ()):
        if expected.get(path, found) != found:
            raise ForeignSchema(
                f"has {found} in the field {'.'.join(path)}; it must be {expected[path]}"
            )


def _logical_types(schema: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield the logical types of the fields in a schema, with their paths."""
    if isinstance(schema, list):
        for branch in schema:
            yield from _logical_types(branch, path)
    if not isinstance(schema, Mapping):
        return
    if "logicalType" in schema:
        yield path, str(schema["logicalType"])
    for field in schema.get("fields", ()):
        yield from _logical_types(field["type"], (*path, field["name"]))
    for inner in ("items", "values", "type"):
        yield from _logical_types(schema.get(inner), path)


def _translation(schema: dict[str, Any], kind: type[Record]) -> Translate:
    """Return what reads bodies of a schema, and encodes them in the newest version of ours."""
    written, name = parse_bare(schema), kind.__name__
    reader, writer = (
        parse_strictly(json.dumps(without_logical_types(known)))
        for known in (versions(name)[-1], schema)
    )
    checker: Any = ReaderWriterCompatibilityChecker  # it has no types
    found = checker().get_compatibility(reader, writer)
    if found.compatibility is not SchemaCompatibilityType.compatible:
        reasons = "; ".join(sorted(found.messages))
        raise ForeignSchema(f"cannot be read as {name}: {reasons[:_SHOWN_CHARS]}")
    newest = newest_schema(kind)

    def translate(body: bytes) -> bytes:
        if len(body) > VALUE_BYTES_MAX:
            raise TooLarge(f"{len(body)} bytes are over the limit of {VALUE_BYTES_MAX}")
        stream = BytesIO(body)
        try:
            datum: Any = fastavro.schemaless_reader(stream, written, newest)
            value = encode_datum(kind, datum)
        except Exception as error:  # fastavro raises whatever its C code meets
            raise Undecodable(f"the body is no {name} of its schema: {_shown(error)}") from error
        if stream.tell() != len(body):
            raise Undecodable(f"{len(body) - stream.tell()} bytes follow the {name}")
        return value

    return translate


def _shown(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:_SHOWN_CHARS]
