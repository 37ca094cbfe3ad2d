"""Records that strangers could write: by the schemas alone, and within all bounds but absurd."""

import math
import os
from collections.abc import Mapping, Sequence
from enum import StrEnum
from functools import cache
from io import BytesIO
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import fastavro
from annotated_types import Ge, Le, MaxLen
from fastavro.schema import fingerprint, parse_schema, to_parsing_canonical_form
from hypothesis import strategies as st
from pydantic import AfterValidator, AllowInfNan, StringConstraints

from schemas import vocabularies
from schemas.codec import MARKER, versions
from schemas.events import Record
from schemas.registry import field_names

EXAMPLES = int(os.environ.get("TAPEWIRE_FUZZ_EXAMPLES", "15"))
"""The examples of each test; `make fuzz` sets more."""

_WORDS = sorted(
    {
        str(word)
        for vocabulary in vars(vocabularies).values()
        if isinstance(vocabulary, type) and issubclass(vocabulary, StrEnum)
        for word in vocabulary
    }
)
_NAMES = (
    *("", "p", "q", "p/q", "BTCUSD", "historical", "0.95", "var_95"),
    *("a\nb", "\u2028", "\u00e9\U0001f600"),
)
_INTEGERS = (-(2**63), -1, 0, 1, 2, 60_000_000, 1_700_000_000_000_000, 2**31, 2**62, 2**63 - 1)
_NUMBERS = (
    *(0.0, -0.0, 1.0, 0.95, -1.0, 100.0, 5e-324, 1e308, -1e308),
    *(math.inf, -math.inf, math.nan),
)
_JSON = (
    *("{}", "[]", "null", '"text"', "[1, 2]", '{"a": NaN}', "{", '"\\ud800"', '[{"b": 1e999}]'),
    "[" * 1_100 + "]" * 1_100,
)

texts = st.sampled_from([*_NAMES, *_WORDS]) | st.text(
    st.characters(exclude_categories=["Cs"]), max_size=300
)
integers = st.sampled_from(_INTEGERS) | st.integers(-(2**63), 2**63 - 1)
numbers = st.sampled_from(_NUMBERS) | st.floats()


def by_schema(kind: type[Record]) -> st.SearchStrategy[bytes]:
    """Return values of a record class with whatever its newest schema allows."""
    head, parsed = _writer(kind)
    return _of_schema(versions(kind.__name__)[-1]).map(lambda datum: _encoded(head, parsed, datum))


def within_bounds(kind: type[Record]) -> st.SearchStrategy[bytes]:
    """Return values of a record class whose fields are within their bounds."""
    head, parsed = _writer(kind)
    return _fields(kind).map(lambda datum: _encoded(head, parsed, datum))


@cache
def _writer(kind: type[Record]) -> tuple[bytes, Any]:
    parsed = parse_schema(_without_logical_types(versions(kind.__name__)[-1]))
    canonical = to_parsing_canonical_form(parsed)
    return MARKER + bytes.fromhex(fingerprint(canonical, "CRC-64-AVRO")), parsed


def encoded(kind: type[Record], datum: Mapping[str, Any]) -> bytes:
    """Return a record with these fields, which may be out of their bounds."""
    return _encoded(*_writer(kind), datum)


def _encoded(head: bytes, parsed: Any, datum: Any) -> bytes:
    body = BytesIO()
    fastavro.schemaless_writer(body, parsed, datum)
    return head + body.getvalue()


def _without_logical_types(schema: Any) -> Any:
    if isinstance(schema, dict):
        items = schema.items()
        return {name: _without_logical_types(part) for name, part in items if name != "logicalType"}
    if isinstance(schema, list):
        return [_without_logical_types(branch) for branch in schema]
    return schema


def _of_schema(  # noqa: PLR0911  # a table of types
    schema: Any, named: dict[str, Any] | None = None
) -> st.SearchStrategy[Any]:
    named = {} if named is None else named
    if isinstance(schema, list):
        return st.one_of([_of_schema(branch, named) for branch in schema])
    kind = schema["type"] if isinstance(schema, dict) else schema
    if isinstance(kind, (dict, list)):
        return _of_schema(kind, named)
    simple: Mapping[str, st.SearchStrategy[Any]] = {
        "null": st.none(),
        "boolean": st.booleans(),
        "int": st.sampled_from([-(2**31), -1, 0, 1, 2**31 - 1]) | st.integers(-(2**31), 2**31 - 1),
        "long": integers,
        "float": numbers,
        "double": numbers,
        "string": texts | st.sampled_from(_JSON),
        "bytes": st.binary(max_size=64),
    }
    if kind in simple:
        return simple[kind]
    if kind == "array":
        return st.lists(_of_schema(schema["items"], named), max_size=3)
    if kind == "map":
        return st.dictionaries(texts, _of_schema(schema["values"], named), max_size=3)
    if kind == "record":
        named[schema["name"]] = schema
        of_fields = {part["name"]: _of_schema(part["type"], named) for part in schema["fields"]}
        return st.fixed_dictionaries(of_fields)
    return _of_schema(named[kind], named)


def _fields(kind: type[Any]) -> st.SearchStrategy[Any]:
    if kind.__name__ == "ReturnBatch":
        return _columns()
    hints = get_type_hints(kind, include_extras=True)
    return st.fixed_dictionaries({name: _of_type(hints[name]) for name in field_names(kind)})


def _columns() -> st.SearchStrategy[Any]:
    rows = st.lists(
        st.tuples(
            st.sampled_from(_NAMES) | texts.map(lambda text: text[:256]),
            st.sampled_from([0, 1, 1_700_000_000_000_000]) | integers,
            st.sampled_from([0.01, -0.02]) | numbers,
            st.sampled_from([1, 2, -(2**31), 2**31 - 1]),
        ),
        max_size=4,
    ) | st.lists(
        st.tuples(  # of one portfolio, and enough to be measured
            st.just("p"),
            st.integers(0, 40).map(lambda day: 1_600_000_000_000_000 + day * 86_400_000_000),
            st.sampled_from([0.01, 0.01, -0.02, 0.0, 1e308, 1e-308]) | st.floats(-0.1, 0.1),
            st.just(1),
        ),
        max_size=40,
    )
    laps = st.sampled_from([0, 0, 1, 2**31 - 1])
    return st.tuples(rows, laps).map(
        lambda drawn: {
            "returns": [],
            "portfolio_ids": [row[0] for row in drawn[0]],
            "times_us": [row[1] for row in drawn[0]],
            "values": [row[2] for row in drawn[0]],
            "versions": [row[3] for row in drawn[0]],
            "lap": drawn[1],
        }
    )


def _of_type(hint: Any) -> st.SearchStrategy[Any]:  # noqa: C901, PLR0911  # a table of types
    bounds: Sequence[Any] = ()
    if get_origin(hint) is Annotated:
        hint, *bounds = get_args(hint)
    arguments = [argument for argument in get_args(hint) if argument is not type(None)]
    if type(None) in get_args(hint):
        return st.none() | st.one_of([_of_type(argument) for argument in arguments])
    if get_origin(hint) is Sequence:
        return st.lists(_of_type(arguments[0]), max_size=3)
    if get_origin(hint) is Mapping:
        keys = texts.map(lambda text: text[:256])
        return st.dictionaries(keys, _of_type(arguments[1]), max_size=3)
    if len(arguments) > 1:
        return st.one_of([_of_type(argument) for argument in arguments])
    if hint is str:
        if any(isinstance(bound, AfterValidator) for bound in bounds):
            return st.sampled_from(["{}", "[]", "null", "1e999", '[{"type": "BUY"}]', '{"a": [1]}'])
        if any(isinstance(bound, StringConstraints) for bound in bounds):
            return st.sampled_from(["", "v2", "a-b_c"])
        longest = next(bound.max_length for bound in bounds if isinstance(bound, MaxLen))
        return texts.map(lambda text: text[:longest])
    if hint is bytes:
        return st.binary(max_size=64)
    if hint is int:
        low, high = _limits(bounds, -(2**63), 2**63 - 1)
        likely = (low, 0, 1, 2, 60_000_000, 1_700_000_000_000_000, high)
        return st.sampled_from([number for number in likely if low <= number <= high])
    if hint is float:
        least, most = _limits(bounds, -math.inf, math.inf)
        is_finite = AllowInfNan(allow_inf_nan=False) in bounds
        return st.sampled_from(
            [
                number
                for number in _NUMBERS
                if (math.isnan(number) or least <= number <= most)
                and (math.isfinite(number) or not is_finite)
            ]
        )
    if hint is bool:
        return st.booleans()
    assert isinstance(hint, type)
    return _fields(hint)


def _limits(bounds: Sequence[Any], low: Any, high: Any) -> tuple[Any, Any]:
    """Return the least and the largest number within some bounds."""
    for bound in bounds:
        if isinstance(bound, Ge):
            low = bound.ge
        if isinstance(bound, Le):
            high = bound.le
    return low, high
