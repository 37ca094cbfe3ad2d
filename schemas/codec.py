"""Records to bytes and back, in Avro's single-object encoding.

A value is a two-byte marker, the schema's 64-bit fingerprint and the Avro body, so that a reader
needs no registry service. Every version of every record's schema is on disk; writers use the newest
version, and readers resolve the version that a value was written in.

A value is either decoded or refused with a reason. fastavro checks neither the fingerprint nor the
bytes after the body, and an array of zero-size items takes gigabytes of memory from 41 bytes. So
this module checks the marker, the size and the end, and refuses a schema with such an array.
Pydantic checks each field by the bounds that its class declares, unless `checked_writers` is sure.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from io import BytesIO
from struct import Struct
from typing import Any, NamedTuple, TypeVar, cast

import fastavro
from avro.schema import parse as parse_strictly
from fastavro.schema import fingerprint, parse_schema, to_parsing_canonical_form
from pydantic import TypeAdapter, ValidationError

from schemas.avro_writers import Write, compile_writer
from schemas.bounds import NAME_CHARS_MAX
from schemas.checked_writers import UNSURE, compile_checked_writer
from schemas.errors import OutOfBounds, RefusedValue, TooLarge, Undecodable
from schemas.events import Record, Return, ReturnBatch
from schemas.registry import Registration, field_names, part_fields
from schemas.releases import RELEASES
from schemas.topics import REGISTRY  # from there, since its rows fill the registry

MARKER = b"\xc3\x01"
_HEAD_BYTES = len(MARKER) + 8

VALUE_BYTES_MAX = 1 << 20
"""The largest value that is decoded, in bytes; Kafka's own default limit for a message."""

_DOUBLE = Struct("<d")
_LONE_BYTES_MIN = _HEAD_BYTES + 18
_ERRORS_MAX = 3
"""The most fields that the text of a refusal names."""
_SHOWN_CHARS = 60
_INPUT = re.compile("^[A-Z][a-z]+ should")
"""How Pydantic begins a sentence about a value."""

R = TypeVar("R", bound=Record)


class _Part(NamedTuple):
    """A class that is nested in records, the names of its fields, and the classes in them."""

    kind: type[Any]
    names: tuple[str, ...]
    parts: Mapping[str, "_Part"]


class _Writer(NamedTuple):
    head: bytes
    schema: Any
    write: Write | None
    """Writes a record without the head; None where fastavro writes its data."""
    write_checked: Write | None
    """The same for a record that is in bounds; None where Pydantic checks all records first."""
    names: tuple[str, ...]
    parts: Mapping[str, _Part]
    opened: Mapping[str, _Part]
    """The parts that are checked as data, since Pydantic does not look into their objects."""


class _Reader(NamedTuple):
    kind: type[Record]
    written: Any
    newest: Any


def write_as(release: str | None) -> None:
    """Write the schema versions of an earlier release from now on, in the whole process.

    Fields that the release does not have are left out. A reader finds their defaults.

    Args:
        release: a key of `RELEASES`; None for the newest versions.
    """
    _written.clear()
    if release is not None:
        _written.update(RELEASES[release])
    _encoder.cache_clear()


def encode(record: Record) -> bytes:
    """Encode a record in the newest version of its schema, or in that of `write_as`.

    Raises:
        UnknownEvent: the record's class is not registered.
        OutOfBounds: the value of a field is out of its bounds.
        ValueError, TypeError: a field's value does not fit the schema.
    """
    writer = _encoder(type(record))
    if isinstance(record, ReturnBatch):
        datum = _as_datum(record, writer)
        _check_names(datum["portfolio_ids"])
        return writer.head + _written_by_fastavro(writer.schema, datum)
    written = None if writer.write_checked is None else _if_sure(record, writer.write_checked)
    if written is not None:
        return writer.head + written
    _check(record, writer)
    if writer.write is not None:
        return writer.head + writer.write(record)
    return writer.head + _written_by_fastavro(writer.schema, _as_datum(record, writer))


def decode(value: bytes | None) -> Record:
    """Decode a record of any version.

    Raises:
        Undecodable: the marker, the fingerprint, the body or its end is wrong; the message says
            which.
        TooLarge: the value exceeds `VALUE_BYTES_MAX`.
        OutOfBounds: the value of a field is out of its bounds.
        UnresolvedSchema: the value is a `RefusedValue` of this error, or of another `Refused`.
    """
    if value is None or value[:2] != MARKER or len(value) < _HEAD_BYTES:
        if isinstance(value, RefusedValue):
            raise type(value.error)(*value.error.args)  # anew, without the traces of earlier raises
        found = "nothing" if value is None else (value[:_HEAD_BYTES].hex(" ") or "no bytes")
        raise Undecodable(f"expected Avro's single-object marker c3 01, found {found}")
    if len(value) > VALUE_BYTES_MAX:
        raise TooLarge(f"{len(value)} bytes are over the limit of {VALUE_BYTES_MAX}")
    reader = _reader(value[2:_HEAD_BYTES])
    if reader is None:
        raise Undecodable(f"no schema has the fingerprint {value[2:_HEAD_BYTES].hex()}")
    if reader.kind is ReturnBatch and reader.newest is None:
        lone = _lone_return(value)
        if lone is not None:
            return lone
    body = BytesIO(value)
    body.seek(_HEAD_BYTES)
    try:
        datum: Any = fastavro.schemaless_reader(body, reader.written, reader.newest)
    except Exception as error:  # fastavro raises whatever its C code meets
        raise Undecodable(f"the body is no {reader.kind.__name__}: {error!r}") from error
    if body.tell() != len(value):
        raise Undecodable(f"{len(value) - body.tell()} bytes follow the {reader.kind.__name__}")
    return _return_batch(datum) if reader.kind is ReturnBatch else _checked(reader.kind, datum)


def versions(name: str) -> list[dict[str, Any]]:
    """Return every version of a record's schema, oldest first, as JSON objects."""
    return _versions(next(known for known in REGISTRY if known.record.__name__ == name))


def fingerprint_of(kind: type[Record]) -> bytes:
    """Return the CRC-64-AVRO of the newest version of a record's schema, as a value has it."""
    return _writer(kind).head[len(MARKER) :]


def fingerprint_of_schema(schema: dict[str, Any]) -> bytes:
    """Return the CRC-64-AVRO of a schema, as values have it."""
    return _fingerprint(schema)


def parse_bare(schema: Any) -> Any:
    """Return a schema for fastavro, without logical types, so that times stay integers.

    Raises:
        Exception: whatever avro's or fastavro's parser raises; or a ValueError, since an array in
            it has items without a size.
    """
    bare = without_logical_types(schema)
    parse_strictly(json.dumps(bare))  # avro's own parser is the stricter one
    _refuse_zero_size_items(bare)
    return parse_schema(bare)


def encode_datum(kind: type[Record], datum: Mapping[str, Any]) -> bytes:
    """Encode the values of a record's fields in the newest version of its schema, unchecked.

    Raises:
        Exception: whatever fastavro raises for values that do not fit the schema.
    """
    writer = _writer(kind)
    return writer.head + _written_by_fastavro(writer.schema, datum)


def newest_schema(kind: type[Record]) -> Any:
    """Return the newest version of a record's schema as `parse_bare` returns it."""
    return _writer(kind).schema


class Written(NamedTuple):
    """The schema that a value was written with."""

    record: str
    """The name of the record's class."""
    version: int
    newest: int
    """The version that this software writes."""


def version_of(value: bytes) -> Written | None:
    """Return the schema that a value was written with; None if no known schema has its mark."""
    return _by_fingerprint().get(value[len(MARKER) : _HEAD_BYTES]) if value[:2] == MARKER else None


@cache
def _by_fingerprint() -> Mapping[bytes, Written]:
    found = {}
    for registration in REGISTRY:
        known, name = _versions(registration), registration.record.__name__
        for version, schema in enumerate(known, 1):
            found[_fingerprint(schema)] = Written(name, version, len(known))
    return found


def record_names() -> list[str]:
    """Return the names of the registered records."""
    return sorted(known.record.__name__ for known in REGISTRY)


def _versions(registration: Registration) -> list[dict[str, Any]]:
    paths = {
        int(path.name.removesuffix(".avsc")): path
        for path in registration.schemas.iterdir()
        if path.name.endswith(".avsc")
    }
    return [json.loads(paths[version].read_text(encoding="utf-8")) for version in sorted(paths)]


def _if_sure(record: Record, write_checked: Write) -> bytes | None:
    """Return the bytes of a record that is in bounds; None where Pydantic has to say if it is."""
    try:
        return write_checked(record)
    except UNSURE:
        return None


def _check(record: Record, writer: _Writer) -> None:
    """Check a record before it is written.

    Raises:
        OutOfBounds: a value is out of its field's bounds.
    """
    kind = type(record)
    values = {name: getattr(record, name) for name in writer.names}
    _put_parts(values, writer.opened)
    try:
        _validator(kind)(values)
    except ValidationError:
        # Once more with named tuples as data, so that the text names their fields.
        _checked(kind, _as_datum(record, writer))
        raise


def _checked(kind: type[R], datum: Mapping[str, Any]) -> R:
    """Make a record of the values of its fields.

    Raises:
        OutOfBounds: a value is out of its field's bounds.
    """
    try:
        return cast("R", _validator(kind)(datum))
    except ValidationError as error:
        raise OutOfBounds(_explained(kind, error)) from None


@cache
def _validator(kind: type[Record]) -> Callable[[Any], Any]:
    """Return what makes objects of a class; the adapter itself looks at options each time."""
    return TypeAdapter(kind).validator.validate_python


def _explained(kind: type[Record], error: ValidationError) -> str:
    """Return which fields are out of bounds, with their values and why."""
    found = error.errors(include_url=False, include_context=False)
    texts = []
    for fault in found[:_ERRORS_MAX]:
        path = ".".join(map(str, fault["loc"]))[:_SHOWN_CHARS]
        value = repr(fault["input"])
        shown = value if len(value) <= _SHOWN_CHARS else f"{value[:_SHOWN_CHARS]}..."
        reason = _INPUT.sub("it must", fault["msg"].removeprefix("Value error, "))
        texts.append(f"{path} is {shown}: {reason}")
    more = len(found) - len(texts)
    return f"{kind.__name__}: {'; '.join(texts)}{f'; and {more} more' if more else ''}"


def _check_names(portfolio_ids: Sequence[str]) -> None:
    longest = max(map(len, portfolio_ids), default=0)
    if longest > NAME_CHARS_MAX:
        raise OutOfBounds(
            f"ReturnBatch: a portfolio's id has {longest} characters; at most {NAME_CHARS_MAX} fit"
        )


def _lone_return(value: bytes) -> ReturnBatch | None:
    """Return a batch of one return of version 1, in the form that `encode` gives it; else None.

    Producers that send each return by itself need three quarters of the gate's time for the reader
    of any schema. The form is: no records (00), one id (02, its size, its bytes, 00), one time (02,
    a number of up to 9 bytes, 00), one value (02, 8 bytes, 00), no versions (00), and the lap 0.
    """
    size = value[_HEAD_BYTES + 2] if len(value) > _LONE_BYTES_MIN else 1
    end = _HEAD_BYTES + 3 + size // 2
    if (
        size & 0x81
        or value[_HEAD_BYTES : _HEAD_BYTES + 2] != b"\x00\x02"
        or value[end : end + 2] != b"\x00\x02"
        or value[-13:-11] != b"\x00\x02"
        or value[-3:] != b"\x00\x00\x00"
    ):
        return None
    digits = value[end + 2 : -13]
    if not 0 < len(digits) < 10 or digits[-1] > 0x7F:  # noqa: PLR2004  # as said above
        return None
    number = 0
    for digit in reversed(digits[:-1]):
        if digit < 0x80:  # noqa: PLR2004  # it is the last digit of a number
            return None
        number = number << 7 | digit & 0x7F
    number |= digits[-1] << 7 * (len(digits) - 1)
    try:
        portfolio_id = value[_HEAD_BYTES + 3 : end].decode()
    except UnicodeDecodeError:
        return None
    time_us = number >> 1 ^ -(number & 1)
    return ReturnBatch(returns=[Return(portfolio_id, time_us, *_DOUBLE.unpack(value[-11:-3]))])


def _return_batch(datum: Any) -> ReturnBatch:
    """Make returns of columns, or of the list of records that the first version has."""
    listed, *columns, versions, lap = datum.values()
    if lap < 0:
        raise OutOfBounds(f"ReturnBatch: lap is {lap}: it must be 0 or more")
    if listed:
        _check_names([values["portfolio_id"] for values in listed])
        return ReturnBatch(returns=[Return(*values.values()) for values in listed], lap=lap)
    portfolio_ids, times_us, values = columns
    count = len(portfolio_ids)
    if not len(times_us) == len(values) == count or len(versions) not in (0, count):
        raise Undecodable("the columns of the ReturnBatch are not of one length")
    _check_names(portfolio_ids)
    with_versions = (*columns, versions) if versions else columns
    return ReturnBatch(returns=list(map(Return, *with_versions)), lap=lap)


def _columns(returns: Sequence[Return]) -> dict[str, Any]:
    portfolio_ids, times_us, values, versions = zip(*returns, strict=True) if returns else [()] * 4
    return {
        "returns": (),
        "portfolio_ids": portfolio_ids,
        "times_us": times_us,
        "values": values,
        "versions": () if set(versions) == {1} else versions,
    }


def _as_datum(record: Record, writer: _Writer) -> dict[str, Any]:
    if isinstance(record, ReturnBatch):
        return _columns(record.returns) | {"lap": record.lap}
    datum = {name: getattr(record, name) for name in writer.names}
    _put_parts(datum, writer.parts)
    return datum


def _put_parts(datum: dict[str, Any], parts: Mapping[str, _Part]) -> None:
    """Replace the values of nested classes by their data."""
    for name, part in parts.items():
        inside = datum[name]
        if isinstance(inside, Sequence) and not hasattr(inside, "_fields"):
            datum[name] = [_as_part(value, part) for value in inside]
        elif inside is not None:
            datum[name] = _as_part(inside, part)


def _as_part(value: object, part: _Part) -> dict[str, Any]:
    if isinstance(value, tuple):
        datum = dict(zip(part.names, value, strict=True))
    else:
        datum = {name: getattr(value, name) for name in part.names}
    if part.parts:
        _put_parts(datum, part.parts)
    return datum


@cache
def _writer(kind: type[Record]) -> _Writer:
    """Return the writer of a class, for the newest version of its schema."""
    newest = _versions(REGISTRY.find(kind))[-1]
    head = MARKER + _fingerprint(newest)
    schema, parts = parse_bare(newest), _parts(kind)
    opened = {name: part for name, part in parts.items() if _has_objects(part)}
    return _Writer(
        head,
        schema,
        compile_writer(schema),
        compile_checked_writer(schema, kind),
        field_names(kind),
        parts,
        opened,
    )


def _has_objects(part: _Part) -> bool:
    """Return whether a class, or one in it, is no named tuple."""
    return not issubclass(part.kind, tuple) or any(map(_has_objects, part.parts.values()))


def _written_by_fastavro(schema: Any, datum: Any) -> bytes:
    body = BytesIO()
    fastavro.schemaless_writer(body, schema, datum)
    return body.getvalue()


_written: dict[str, int] = {}
"""The versions to write, by the record's name; the newest one of others."""


@cache
def _encoder(kind: type[Record]) -> _Writer:
    """Return the writer of a class, for the version of its schema that is written."""
    newest = _writer(kind)
    version = _written.get(kind.__name__)
    if version is None:
        return newest
    written = _versions(REGISTRY.find(kind))[version - 1]
    schema = parse_bare(written)
    head = MARKER + _fingerprint(written)
    return newest._replace(
        head=head, schema=schema, write=compile_writer(schema), write_checked=None
    )


_READERS: dict[bytes, _Reader] = {}
"""By fingerprint, of all registered records whose schemas have been read."""


def _reader(mark: bytes) -> _Reader | None:
    """Return the reader of the values that have a fingerprint; None if no schema has it."""
    found = _READERS.get(mark)
    if found is None:
        read = {reader.kind for reader in _READERS.values()}
        for registration in REGISTRY:
            if registration.record not in read:
                _READERS.update(_readers(registration))
        found = _READERS.get(mark)
    return found


def _readers(registration: Registration) -> dict[bytes, _Reader]:
    readers = {}
    kind = registration.record
    newest = _writer(kind)
    for version in _versions(registration):
        mark = _fingerprint(version)
        target = None if mark == newest.head[2:] else newest.schema
        readers[mark] = _Reader(kind, parse_bare(version), target)
    return readers


def _parts(kind: type[Record]) -> dict[str, _Part]:
    return {
        name: _Part(part, field_names(part), _parts(part))
        for name, part in part_fields(kind).items()
    }


def _fingerprint(schema: dict[str, Any]) -> bytes:
    return bytes.fromhex(fingerprint(to_parsing_canonical_form(schema), "CRC-64-AVRO"))


def without_logical_types(schema: Any) -> Any:
    """Keep times as integers. The canonical form, and so the fingerprint, has no logical types."""
    if isinstance(schema, dict):
        return {
            key: without_logical_types(value)
            for key, value in schema.items()
            if key != "logicalType"
        }
    return (
        [without_logical_types(branch) for branch in schema] if isinstance(schema, list) else schema
    )


def _refuse_zero_size_items(schema: Any) -> None:
    """Check that no array has items that take no byte, of which a few bytes could name billions."""
    _has_size(schema, {}, ())


def _has_size(schema: Any, known: dict[str, bool], inside: tuple[str, ...]) -> bool:
    """Return whether each value of a schema takes a byte at least.

    Args:
        schema: the schema, or a part of it.
        known: what was returned for the named types before it, by their full and short names.
        inside: the names of the types that it is a part of.

    Raises:
        ValueError: an array has items without a size, or a type has itself as a part.
    """
    if isinstance(schema, list):
        for branch in schema:
            _has_size(branch, known, inside)
        return True
    if not isinstance(schema, dict):
        name = str(schema).rpartition(".")[2]
        if name in inside:
            raise ValueError(f"the type {name} has itself as a part")
        return known.get(name, str(schema) != "null")
    match schema["type"]:
        case "record" | "error" | "fixed" | "enum":
            name = str(schema["name"]).rpartition(".")[2]
            parts: list[bool] = [
                _has_size(field["type"], known, (*inside, name))
                for field in schema.get("fields", ())
            ]
            is_sized = schema["type"] == "enum" or any(parts) or int(schema.get("size", 0)) > 0
            known[name] = is_sized
            return is_sized
        case "array":
            if not _has_size(schema["items"], known, inside):
                raise ValueError(f"an array of items without a size can be a bomb: {schema}")
            return True
        case "map":
            return _has_size(schema["values"], known, inside) or True
        case kind:
            return _has_size(kind, known, inside)
