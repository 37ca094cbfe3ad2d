"""Compile Avro schemas to functions that write objects, faster than a general writer. Pure.

fastavro takes dictionaries, looks at the schema anew for each value, and tries the branches of each
union. Events of risk have some forty optional numbers, so this took most of the time in which they
were encoded. Here each schema becomes a function from an object to its bytes, once.

The bytes are those that fastavro writes. Schemas with a union of more than null and one type are
left to it.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from operator import attrgetter
from struct import Struct
from typing import Any

Write = Callable[[Any], bytes]

_LONG_MAX = 1 << 63
_SMALL = 1 << 10
_BOOLEANS = (b"\x00", b"\x01")
_END = b"\x00"
"""The end of an array or a map, and the branch of a union that is first."""


def compile_writer(schema: Any) -> Write | None:
    """Return what writes objects that have a record's fields as attributes.

    Args:
        schema: as `fastavro.parse_schema` returns it, without logical types.

    Returns:
        The function; None if the schema has a union of several types.
    """
    return _compiled(schema, {})


def _compiled(schema: Any, known: dict[str, Write | None]) -> Write | None:
    """Return what writes a schema, of which the named types before it are known."""
    if isinstance(schema, list):
        return _compiled_union(schema, known)
    if not isinstance(schema, dict):
        return _PRIMITIVES.get(schema) or known.get(schema)
    match schema["type"]:
        case "record":
            writers = {field["name"]: _compiled(field["type"], known) for field in schema["fields"]}
            known[schema["name"]] = _record(writers)
            return known[schema["name"]]
        case "array":
            item = _compiled(schema["items"], known)
            return None if item is None else _array(item)
        case "map":
            value = _compiled(schema["values"], known)
            return None if value is None else _map(value)
        case inner:
            return _compiled(inner, known)


def _compiled_union(schema: Sequence[Any], known: dict[str, Write | None]) -> Write | None:
    others = [branch for branch in schema if branch != "null"]
    inner = _compiled(others[0], known) if len(others) == 1 else None
    if inner is None or len(schema) != 2:  # noqa: PLR2004  # null and another
        return None
    null, other = (encode_long(schema.index(branch)) for branch in ("null", others[0]))
    return _optional(inner, null=null, other=other)


def _record(writers: Mapping[str, Write | None]) -> Write | None:
    fields = {name: write for name, write in writers.items() if write is not None}
    if len(fields) < max(len(writers), 2):  # attrgetter returns a tuple of two attributes or more
        return None
    attributes, of_fields = attrgetter(*fields), tuple(fields.values())

    def write_record(record: object) -> bytes:
        values = attributes(record)
        return b"".join([write(value) for write, value in zip(of_fields, values, strict=True)])

    return write_record


def _optional(inner: Write, *, null: bytes, other: bytes) -> Write:
    def write_optional(value: Any) -> bytes:
        return null if value is None else other + inner(value)

    return write_optional


def _array(item: Write) -> Write:
    def write_array(values: Sequence[Any]) -> bytes:
        return encode_long(len(values)) + b"".join(map(item, values)) + _END if values else _END

    return write_array


def _map(value: Write) -> Write:
    def write_map(values: Mapping[str, Any]) -> bytes:
        if not values:
            return _END
        pairs = [_string(name) + value(inside) for name, inside in values.items()]
        return encode_long(len(values)) + b"".join(pairs) + _END

    return write_map


@lru_cache(maxsize=4_096)
def encode_long(number: int) -> bytes:
    """Return a number in zigzag order, 7 bits a byte, the lowest first.

    Times, offsets and small numbers come again and again: in an event, its states and its parts.
    """
    if not -_LONG_MAX <= number < _LONG_MAX:
        raise OverflowError(f"{number} does not fit in 64 bits")
    rest = number << 1 ^ number >> 63
    digits = bytearray()
    while rest > 0x7F:  # noqa: PLR2004  # what fits in 7 bits
        digits.append(rest & 0x7F | 0x80)
        rest >>= 7
    digits.append(rest)
    return bytes(digits)


_SIZES = tuple(encode_long(size) for size in range(_SMALL))


def _bytes(value: bytes) -> bytes:
    size = len(value)
    return (_SIZES[size] if size < _SMALL else encode_long(size)) + value


def _string(value: str) -> bytes:
    encoded = value.encode()
    size = len(encoded)
    return (_SIZES[size] if size < _SMALL else encode_long(size)) + encoded


def _null(_: None) -> bytes:
    return b""


_PRIMITIVES: Mapping[str, Write] = {
    "null": _null,
    "boolean": _BOOLEANS.__getitem__,
    "int": encode_long,
    "long": encode_long,
    "double": Struct("<d").pack,
    "bytes": _bytes,
    "string": _string,
}
