"""The bounds of the fields of records: how long a text is, how large a number, how deep JSON is.

Each field of a record has one of these types. `schemas.codec` refuses a value that is out of bounds
when it decodes a record and when it encodes one, so code behind it can rely on them.
"""

from collections.abc import Mapping, Sequence
from json import dumps
from typing import Annotated, Any, TypeVar, get_args

from annotated_types import Ge, Le, MaxLen
from pydantic import AfterValidator, AllowInfNan, GetCoreSchemaHandler, StringConstraints
from pydantic_core import core_schema, from_json

from schemas.instants import EARLIEST_US, LATEST_US

NAME_CHARS_MAX = 256
TEXT_CHARS_MAX = 16_384
JSON_CHARS_MAX = 65_536
"""An event that clients get has at most 64 KiB."""
ITEMS_MAX = 100_000
"""The most items of a list whose records have no bound of their own."""
EVENT_JSON_BYTES_MAX = 65_500
"""The most bytes of JSON in an event of 64 KiB, which also holds its name."""
EVENT_NAMES_BYTES_MAX = 64_000
"""The most bytes of names in an event of 64 KiB, which also has members of its own."""
JSON_DEPTH_MAX = 100
BYTES_MAX = 1 << 20
_INT32_MAX = (1 << 31) - 1
_INT64_MAX = (1 << 63) - 1

T = TypeVar("T")


def parse_json(text: str) -> object:
    """Return the value of a text in JSON that is not too deep and has no lone surrogates.

    Raises:
        ValueError: the text is no such JSON; the message says why.
    """
    value: object = from_json(text)
    level, depth = [value], 0
    while level:
        if depth == JSON_DEPTH_MAX:
            raise ValueError(f"the JSON is more than {JSON_DEPTH_MAX} levels deep")
        depth += 1
        level = [child for parent in level for child in _children(parent)]
    return value


def _checked_event_json(text: str) -> str:
    """Check that clients can be shown a value, whole or without its largest members."""
    value = parse_json(text)
    size = _shown_bytes(value)
    if size <= EVENT_JSON_BYTES_MAX:
        return text
    if not isinstance(value, dict):
        raise ValueError(  # noqa: TRY004  # Pydantic takes a ValueError for a value out of bounds
            f"clients would get {size} bytes, since JSON is ASCII-escaped; a value that is no "
            f"object has at most {EVENT_JSON_BYTES_MAX}"
        )
    least = _shown_bytes({**dict.fromkeys(value), "left_out": list(value)})
    if least > EVENT_JSON_BYTES_MAX:
        raise ValueError(
            f"the names of its members alone would take {least} bytes, since JSON is "
            f"ASCII-escaped; an object of more than {EVENT_JSON_BYTES_MAX} bytes has fewer members"
        )
    return text


def _checked_event_names(values: Mapping[str, T]) -> Mapping[str, T]:
    """Check that clients can be shown a table, if only its names."""
    least = _shown_bytes({**dict.fromkeys(values), "left_out": list(values)})
    if least > EVENT_NAMES_BYTES_MAX:
        raise ValueError(
            f"the names of {len(values)} values would take {least} bytes of an event, since JSON "
            f"is ASCII-escaped and clients get each name twice where values are left out; they "
            f"may take {EVENT_NAMES_BYTES_MAX}"
        )
    return values


def _shown_bytes(value: object) -> int:
    return len(dumps(value, separators=(",", ":")))


def _checked_json(text: str) -> str:
    parse_json(text)
    return text


def _children(value: object) -> Sequence[object]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else ()


class Observed:
    """Marks a time that must not be far ahead of the time at which the log got its record."""


class Paced:
    """Marks a number that grows by at most one a second, as `schemas.gate` checks."""


Name = Annotated[str, MaxLen(NAME_CHARS_MAX)]
"""A name, an id, or a word of a vocabulary."""
Prefix = Annotated[str, MaxLen(64), StringConstraints(pattern=r"^[a-zA-Z0-9_-]*$")]
"""A part of the names of topics."""
DerivedId = Annotated[str, MaxLen(4 * NAME_CHARS_MAX)]
"""An id that is made of several names."""
Text = Annotated[str, MaxLen(TEXT_CHARS_MAX)]
"""A text for people."""
Json = Annotated[str, MaxLen(JSON_CHARS_MAX), AfterValidator(_checked_json)]
"""A text in JSON."""
EventJson = Annotated[str, MaxLen(JSON_CHARS_MAX), AfterValidator(_checked_event_json)]
"""A text in JSON that is all of an event's data. ASCII-escaped it has at most 65,500 bytes, or it
is an object, which clients get without its largest members."""
JsonOrDamaged = Annotated[str, MaxLen(JSON_CHARS_MAX)]
"""A text that should be JSON. Its readers say so where it is not, so that the rest of its record is
not lost with it."""

Bytes = Annotated[bytes, MaxLen(BYTES_MAX)]
"""Packed numbers, or a part of another record."""

InstantUs = Annotated[int, Ge(EARLIEST_US), Le(LATEST_US)]
"""Microseconds since 1970 UTC, in a year from 1 to 9998."""
ObservedUs = Annotated[InstantUs, Observed()]
"""An `InstantUs` that its producer has observed."""
DurationUs = Annotated[int, Ge(0), Le(LATEST_US)]
"""A number of microseconds."""
Count = Annotated[int, Ge(0), Le(1 << 62)]
"""A number of things, or an index. The sum of two of them still has 64 bits."""
Increment = Annotated[int, Ge(0), Le(1 << 40)]
"""A number that is added to others."""
Offset = Annotated[int, Ge(-1), Le(_INT64_MAX)]
"""An offset; -1 if there is none."""
SmallCount = Annotated[int, Ge(0), Le(_INT32_MAX)]
"""A `Count` that Avro keeps in 32 bits."""
Lap = Annotated[SmallCount, Paced()]
"""A `SmallCount` that is at most the number of seconds since 2020, when the log gets its record. So
a true higher one can always follow the highest that somebody writes."""
SmallOffset = Annotated[int, Ge(-1), Le(_INT32_MAX)]
"""A partition, an index or an epoch, in 32 bits; -1 if there is none."""
SmallInteger = Annotated[int, Ge(-_INT32_MAX - 1), Le(_INT32_MAX)]
"""Any integer of 32 bits."""
Integer = Annotated[int, Ge(-_INT64_MAX - 1), Le(_INT64_MAX)]
"""Any integer of 64 bits."""
Finite = Annotated[float, AllowInfNan(allow_inf_nan=False)]
"""A number that is neither infinite nor NaN."""
Percentage = Annotated[Finite, Ge(0), Le(100)]
"""A number from 0 to 100."""
Real = Annotated[float, AllowInfNan(allow_inf_nan=True)]
"""Any number of 64 bits. JSON shows NaN and infinities as null."""


class AsList:
    """Lets Pydantic check a list as such: it checks other sequences in Python, ten times slower."""

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        (item,) = get_args(source)
        return core_schema.list_schema(handler.generate_schema(item))


Items = Annotated[Sequence[T], AsList(), MaxLen(ITEMS_MAX)]
"""A list of some items."""
Table = Annotated[Mapping[Name, T], MaxLen(ITEMS_MAX)]
"""Values by name."""
EventTable = Annotated[Mapping[Name, T], MaxLen(ITEMS_MAX), AfterValidator(_checked_event_names)]
"""Values by name that are members of an event's data. So few or short are the names that an event
has room for all of them."""
