"""Compile a schema and the bounds of its fields to a function that writes what is in bounds. Pure.

Pydantic makes objects of all that it checks, and `schemas.avro_writers` looks at each value again.
An event of risk has a hundred values, so both took twice as long as its bytes need. Here one
function does both for values of the exact types that code normally has.

A writer that is not sure of a value raises one of `UNSURE`. Pydantic is asked then, so it alone
decides what is refused, and says why. A writer returns bytes only where Pydantic would have let the
value pass, and they are those of `schemas.avro_writers`.
"""

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from math import isfinite
from operator import attrgetter
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from annotated_types import Ge, Le, MaxLen
from pydantic import AllowInfNan

from schemas.avro_writers import Write, encode_long
from schemas.bounds import AsList, Observed, Paced
from schemas.registry import field_names

_TEXT_CACHED_MAX = 256
"""The longest bound of texts whose bytes are remembered: those of names, which are few."""
_END = b"\x00"
_FALSE, _TRUE = b"\x00", b"\x01"
_NULL, _OTHER = b"\x00", b"\x02"
"""The branches of a union of null and another type, in this order."""
_ONE_DOUBLE = struct.Struct("<d").pack
_float = float.__pos__
"""Returns a float; raises TypeError for anything else, also for an int."""
_encode: Callable[[Any], bytes] = str.encode


class Doubtful(Exception):
    """A value may be out of bounds, or is of a type that is seldom."""


UNSURE = (Doubtful, TypeError, ValueError, AttributeError, OverflowError, struct.error)
"""The exceptions of a writer that is not sure of a value."""

Named = dict[str, Any]
"""The records of a schema that are described so far, by name."""


@dataclass(frozen=True, slots=True)
class _Field:
    """A value to write: its schema, its type, and the bounds of the type."""

    schema: Any
    base: Any
    is_optional: bool = False
    most_items: int | None = None
    """The most characters, bytes or items."""
    least: int | None = None
    most: int | None = None
    is_finite: bool = False

    @property
    def is_plain_double(self) -> bool:
        """Whether it is a float without bounds, apart from NaN and infinity."""
        bounds = (self.most_items, self.least, self.most)
        return self.schema == "double" and self.base is float and bounds == (None, None, None)


def compile_checked_writer(schema: Any, kind: type[Any]) -> Write | None:
    """Return what writes objects of a class that are in bounds.

    Args:
        schema: the schema of the class, as `fastavro.parse_schema` returns it, without logical
            types.
        kind: the class, a dataclass or a named tuple.

    Returns:
        The function; None if the schema or a bound is of a form that is not known here.
    """
    return _record(schema, kind, {})


def _record(schema: Any, kind: type[Any], named: Named) -> Write | None:
    """Return what writes objects of a class, of which no subclass is sure to be checked alike."""
    if not isinstance(schema, dict) or schema.get("type") != "record" or not field_names(kind):
        return None
    hints = get_type_hints(kind, include_extras=True)
    names = [field["name"] for field in schema["fields"]]
    if len(names) < 2 or not hints.keys() >= set(names):  # noqa: PLR2004  # as attrgetter needs
        return None
    fields = [_field(field["type"], hints[field["name"]]) for field in schema["fields"]]
    steps = _steps(fields, named)
    if steps is None or hasattr(kind, "__post_init__"):
        return None
    named[schema["name"]] = schema
    is_in_order = issubclass(kind, tuple) and field_names(kind) == tuple(names)
    attributes = None if is_in_order else attrgetter(*names)

    def write_record(record: Any) -> bytes:
        if record.__class__ is not kind:
            raise Doubtful
        values = record if attributes is None else attributes(record)
        return b"".join([write(values[place]) for place, write in steps])

    return write_record


def _steps(
    fields: Sequence[_Field | None], named: Named
) -> Sequence[tuple[int | slice, Write]] | None:
    """Return writers with the places of their values; doubles that follow each other share one."""
    steps: list[tuple[int | slice, Write]] = []
    start = 0
    while start < len(fields):
        field = fields[start]
        if field is None:
            return None
        end = start + 1
        while end < len(fields) and field.is_plain_double and fields[end] == field:
            end += 1
        if end > start + 1:
            steps.append((slice(start, end), _doubles(field, end - start)))
        elif (write := _writer(field, named)) is not None:
            steps.append((start, write))
        else:
            return None
        start = end
    return steps


def _field(schema: Any, hint: Any) -> _Field | None:
    """Return what is known of a value of a type; None if the type has bounds of another kind."""
    if get_origin(hint) in (Union, UnionType):
        inner = [argument for argument in get_args(hint) if argument is not NoneType]
        is_union = isinstance(schema, list) and len(schema) == 2 and schema[0] == "null"  # noqa: PLR2004  # null and another
        if len(inner) != 1 or not is_union:
            return None
        field = _field(schema[1], inner[0])
        if field is None or field.is_optional:
            return None
        return replace(field, is_optional=True)
    bounds: Sequence[Any] = ()
    if get_origin(hint) is Annotated:
        hint, *bounds = get_args(hint)
    if isinstance(schema, dict) and set(schema) == {"type"}:
        schema = schema["type"]
    found = _known(bounds)
    return None if found is None else _Field(schema, hint, **found)


def _known(bounds: Sequence[Any]) -> dict[str, Any] | None:
    """Return bounds by the names of `_Field`; None if one is not known."""
    found: dict[str, Any] = {}
    for bound in bounds:
        match bound:
            case MaxLen(max_length=most_items):
                found["most_items"] = min(most_items, found.get("most_items", most_items))
            case Ge(ge=int(least)):
                found["least"] = max(least, found.get("least", least))
            case Le(le=int(most)):
                found["most"] = min(most, found.get("most", most))
            case AllowInfNan(allow_inf_nan=is_free):
                found["is_finite"] = not is_free
            case AsList() | Observed() | Paced():
                pass
            case _:
                return None
    return found


def _writer(field: _Field, named: Named) -> Write | None:
    """Return what writes one value."""
    sized = field.most_items
    write: Write | None = None
    match field.schema, field.base:
        case ("int" | "long", base) if base is int and sized is None:
            return _number(field.least, field.most, is_optional=field.is_optional)
        case ("string", base) if base is str:
            return _text(sized, is_optional=field.is_optional)
        case ("double", base) if base is float and sized is None:
            write = _double(field.least, field.most, is_finite=field.is_finite)
        case ("boolean", base) if base is bool:
            write = _boolean
        case ("bytes", base) if base is bytes:
            write = _bytes(sized)
        case ({"type": "array", "items": items}, base) if get_origin(base) is Sequence:
            write = _array(_inner(items, get_args(base)[0], named), sized)
        case ({"type": "map", "values": values}, base) if get_origin(base) is Mapping:
            name, value = get_args(base)
            write = _map(_inner("string", name, named), _inner(values, value, named), sized)
        case schema, base:
            write = _record(
                named.get(schema, schema) if isinstance(schema, str) else schema, base, named
            )
    return _optional(write) if write is not None and field.is_optional else write


def _inner(schema: Any, hint: Any, named: Named) -> Write | None:
    field = _field(schema, hint)
    return None if field is None else _writer(field, named)


def _optional(inner: Write) -> Write:
    def write_optional(value: Any) -> bytes:
        return _NULL if value is None else _OTHER + inner(value)

    return write_optional


@cache
def _number(least: int | None, most: int | None, *, is_optional: bool) -> Write:
    """Return what writes an integer. Those of an event come again in its parts and its states."""
    head = _OTHER if is_optional else b""

    @lru_cache(maxsize=4_096)
    def write_number(value: Any) -> bytes:
        if value is None and is_optional:
            return _NULL
        if not isinstance(value, int):
            raise Doubtful
        if (least is not None and value < least) or (most is not None and value > most):
            raise Doubtful
        return head + encode_long(value)

    return write_number


@cache
def _text(most: int | None, *, is_optional: bool) -> Write:
    head = _OTHER if is_optional else b""

    def write_text(value: Any) -> bytes:
        if value is None and is_optional:
            return _NULL
        encoded = _encode(value)
        size = len(encoded)
        if most is not None and size > most:  # it may have fewer characters
            raise Doubtful
        return head + encode_long(size) + encoded

    is_short = most is not None and most <= _TEXT_CACHED_MAX
    return lru_cache(maxsize=4_096)(write_text) if is_short else write_text


def _double(least: int | None, most: int | None, *, is_finite: bool) -> Write:
    def write_double(value: Any) -> bytes:
        if is_finite and not isfinite(value):
            raise Doubtful
        # NaN is within no bounds.
        if not ((least is None or value >= least) and (most is None or value <= most)):
            raise Doubtful
        return _ONE_DOUBLE(_float(value))

    return write_double


def _doubles(field: _Field, count: int) -> Write:
    """Return what writes several floats, all of one field's type, from a tuple."""
    pack, is_finite = struct.Struct(f"<{count}d").pack, field.is_finite

    def write_doubles(values: Sequence[Any]) -> bytes:
        if is_finite and not isfinite(sum(values)):
            raise Doubtful
        return pack(*map(_float, values))

    if not field.is_optional:
        return write_doubles
    pack_optional = struct.Struct("<" + "cd" * count).pack
    nulls, template = _NULL * count, [_OTHER, 0.0] * count

    def write_optionals(values: Sequence[Any]) -> bytes:
        absent = values.count(None)
        if absent == count:
            return nulls
        if is_finite and not isfinite(sum(value for value in values if value is not None)):
            raise Doubtful
        if not absent:
            parts = template.copy()
            parts[1::2] = map(_float, values)
            return pack_optional(*parts)
        return b"".join(
            [_NULL if value is None else _OTHER + _ONE_DOUBLE(_float(value)) for value in values]
        )

    return write_optionals


def _boolean(value: Any) -> bytes:
    if value is True:
        return _TRUE
    if value is False:
        return _FALSE
    raise Doubtful


def _bytes(most: int | None) -> Write:
    def write_bytes(value: Any) -> bytes:
        if value.__class__ is not bytes or (most is not None and len(value) > most):
            raise Doubtful
        return encode_long(len(value)) + value

    return write_bytes


def _array(item: Write | None, most: int | None) -> Write | None:
    if item is None:
        return None

    def write_array(values: Any) -> bytes:
        if values.__class__ not in _LISTS or (most is not None and len(values) > most):
            raise Doubtful
        return encode_long(len(values)) + b"".join(map(item, values)) + _END if values else _END

    return write_array


_LISTS = (list, tuple)


def _map(name: Write | None, value: Write | None, most: int | None) -> Write | None:
    if name is None or value is None:
        return None

    def write_map(values: Any) -> bytes:
        if values.__class__ is not dict or (most is not None and len(values) > most):
            raise Doubtful
        if not values:
            return _END
        pairs = [name(key) + value(inside) for key, inside in values.items()]
        return encode_long(len(values)) + b"".join(pairs) + _END

    return write_map
