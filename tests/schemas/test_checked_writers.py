from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from enum import IntEnum, StrEnum
from types import NoneType, UnionType
from typing import Annotated, Any, NamedTuple, Union, get_args, get_origin, get_type_hints

import numpy as np
import pytest
from annotated_types import Ge, Le, MaxLen
from fastavro.schema import parse_schema
from hypothesis import given, settings, strategies as st
from pydantic import AllowInfNan

from schemas import codec
from schemas.avro_writers import compile_writer
from schemas.bounds import Finite
from schemas.checked_writers import UNSURE, compile_checked_writer
from schemas.codec import encode
from schemas.events import Record, RiskEstimate
from schemas.registry import field_names
from schemas.topics import REGISTRY

LONG = 2**63


class Word(StrEnum):
    """A text that is a member of a vocabulary."""

    OK = "ok"


class Level(IntEnum):
    """A number that is a member of a vocabulary."""

    HIGH = 2


KINDS = [
    registration.record
    for registration in REGISTRY
    if codec._writer(registration.record).write_checked is not None
]


def opened(hint: Any) -> tuple[Any, Sequence[Any]]:
    """Return a type without its bounds, and these."""
    if get_origin(hint) is Annotated:
        base, *bounds = get_args(hint)
        return base, bounds
    return hint, ()


def limits(bounds: Sequence[Any]) -> tuple[int, int, int, bool]:
    """Return the least and the most of a number, the most items, and whether NaN is in bounds."""
    least, most, items, is_free = -LONG, LONG - 1, 400, True
    for bound in bounds:
        match bound:
            case Ge(ge=int(number)):
                least = number
            case Le(le=int(number)):
                most = number
            case MaxLen(max_length=number):
                items = number
            case AllowInfNan(allow_inf_nan=is_allowed):
                is_free = is_allowed
            case _:
                pass
    return least, most, items, is_free


def right(hint: Any) -> st.SearchStrategy[Any]:  # noqa: PLR0911  # one for each type
    """Return values of a type, most of which are in bounds."""
    base, bounds = opened(hint)
    least, most, items, is_free = limits(bounds)
    if get_origin(base) in (Union, UnionType):
        return st.one_of(
            [st.none() if branch is NoneType else right(branch) for branch in get_args(base)]
        )
    if get_origin(base) is Sequence:
        return st.lists(right(get_args(base)[0]), max_size=2) | st.just(())
    if get_origin(base) is Mapping:
        return st.dictionaries(*map(right, get_args(base)), max_size=2)
    if base is str:
        texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
        return texts | st.sampled_from([Word.OK, "\N{EURO SIGN}" * (min(items, 500) // 2)])
    if base is int:
        near = [least, most, min(max(0, least), most)]
        return st.integers(least, most) | st.sampled_from(near)
    if base is float:
        numbers = st.floats(allow_nan=is_free, allow_infinity=is_free)
        return st.floats(least, most) if bounds and least > -LONG else numbers
    if base is bool:
        return st.booleans()
    if base is bytes:
        return st.binary(max_size=20)
    return made(base, {})


def odd(hint: Any) -> st.SearchStrategy[Any]:
    """Return values that are out of bounds, just within them, or of another type."""
    base, bounds = opened(hint)
    least, most, items, _ = limits(bounds)
    seldom: list[Any] = [
        None,
        "5",
        b"5",
        5,
        -1,
        True,
        5.0,
        5.5,
        Level.HIGH,
        Word.OK,
        (),
        {},
        "\ud800",
    ]
    seldom += [np.int64(3), np.float64(1.5), Decimal("1.5"), bytearray(b"x"), memoryview(b"x")]
    if get_origin(base) in (Union, UnionType):
        return st.one_of([odd(branch) for branch in get_args(base) if branch is not NoneType])
    if base is str:
        seldom += [sign * count for sign in "x\N{EURO SIGN}" for count in (items, items + 1)]
    elif base is int:
        seldom += [least - 1, most + 1, float(least), LONG, -LONG - 1]
    elif base is float:
        seldom += [float("nan"), float("inf"), -float("inf"), -0.0, least - 0.5, most + 0.5, 1e308]
    elif base is bool:
        seldom += [0, 1, "yes"]
    elif base is bytes:
        seldom += [b"x" * (items + 1), "text"]
    elif get_origin(base) is Sequence:
        inner = get_args(base)[0]
        seldom += [{1}, iter(()), "text"]
        return st.sampled_from(seldom) | st.lists(odd(inner), max_size=2).map(tuple)
    elif get_origin(base) is Mapping:
        name, value = get_args(base)
        seldom += [Counter("a"), [("a", 1)]]
        inside = st.dictionaries(
            right(name) | st.just("x" * 257), odd(value) | right(value), max_size=2
        )
        return st.sampled_from(seldom) | inside
    elif field_names(base):
        hints = get_type_hints(base, include_extras=True)
        one = st.sampled_from(sorted(hints)).flatmap(
            lambda name: made(base, {name: odd(hints[name])})
        )
        return st.sampled_from(seldom) | one | one.map(lambda inside: _other_form(base, inside))
    return st.sampled_from(seldom)


def _other_form(kind: type[Any], inside: Any) -> Any:
    return tuple(inside) if issubclass(kind, tuple) else {"of": kind}


def made(kind: type[Any], others: Mapping[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[Any]:
    """Return objects of a class, with some fields of other strategies."""
    hints = get_type_hints(kind, include_extras=True)
    fields = {name: others.get(name, right(hints[name])) for name in field_names(kind)}
    return st.builds(kind, **fields)


def outcome(record: Record) -> tuple[str, object]:
    """Return what a record is encoded to, or why it is not."""
    try:
        return "bytes", encode(record)
    except Exception as error:  # noqa: BLE001  # whatever it is, it must be the same
        return type(error).__name__, str(error)


def by_pydantic(record: Record, monkeypatch: pytest.MonkeyPatch) -> tuple[str, object]:
    """Return the outcome of a record that Pydantic checks first."""
    with monkeypatch.context() as patched:
        patched.setattr(codec, "_if_sure", lambda *_: None)
        return outcome(record)


def test_nearly_every_record_is_written_at_once() -> None:
    assert len(KINDS) > 0.8 * len(REGISTRY)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: str(kind.__name__))
def test_what_is_refused_and_what_is_written_are_as_by_pydantic(
    kind: type[Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    hints = get_type_hints(kind, include_extras=True)

    @settings(max_examples=25)
    @given(st.data())
    def check(data: st.DataObject) -> None:
        names = data.draw(st.lists(st.sampled_from(sorted(hints)), max_size=2))
        record = data.draw(made(kind, {name: odd(hints[name]) for name in names}))
        assert outcome(record) == by_pydantic(record, monkeypatch)

    check()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: str(kind.__name__))
def test_a_record_in_bounds_is_not_checked_again(kind: type[Record]) -> None:
    write = codec._writer(kind).write_checked
    assert write is not None
    assert encode(plain(kind)).endswith(write(plain(kind)))


def plain(hint: Any) -> Any:
    """Return a value of a type in bounds: the simplest that there is."""
    base, bounds = opened(hint)
    if get_origin(base) in (Union, UnionType):
        return None
    if get_origin(base) is Sequence:
        return ()
    if get_origin(base) is Mapping:
        return {}
    if field_names(base):
        hints = get_type_hints(base, include_extras=True)
        return base(**{name: plain(hints[name]) for name in field_names(base)})
    return {str: "x", int: max(0, limits(bounds)[0]), float: 0.5, bool: True, bytes: b"x"}[base]


class Point(NamedTuple):
    """A part of a record."""

    x: Finite
    y: Finite


_ORIGIN = Point(0.0, 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A record with a field of each form."""

    name: Annotated[str, MaxLen(3)] = "abc"
    count: Annotated[int, Ge(-1), Le(9)] = 9
    width: Finite = 1.0
    height: Finite = 1.0
    share: Annotated[float, Ge(0), Le(1)] = 0.5
    is_open: bool = False
    packed: Annotated[bytes, MaxLen(3)] = b"abc"
    point: Point | None = _ORIGIN
    points: Annotated[Sequence[Point], MaxLen(2)] = (_ORIGIN, _ORIGIN)
    table: Annotated[Mapping[Annotated[str, MaxLen(3)], int], MaxLen(1)] = field(
        default_factory=lambda: {"abc": 1}
    )


LINE = parse_schema(
    {
        "type": "record",
        "name": "Line",
        "fields": [
            {"name": "name", "type": "string"},
            {"name": "count", "type": "int"},
            {"name": "width", "type": "double"},
            {"name": "height", "type": "double"},
            {"name": "share", "type": "double"},
            {"name": "is_open", "type": "boolean"},
            {"name": "packed", "type": "bytes"},
            {
                "name": "point",
                "type": [
                    "null",
                    {
                        "type": "record",
                        "name": "Point",
                        "fields": [
                            {"name": "x", "type": "double"},
                            {"name": "y", "type": "double"},
                        ],
                    },
                ],
            },
            {"name": "points", "type": {"type": "array", "items": "Point"}},
            {"name": "table", "type": {"type": "map", "values": "long"}},
        ],
    }
)
NAN = float("nan")


def test_a_value_at_its_bounds_is_written() -> None:
    write, unchecked = compile_checked_writer(LINE, Line), compile_writer(LINE)
    assert write is not None
    assert unchecked is not None
    for line in (Line(), Line(count=-1, share=1.0, point=None, points=[], table={})):
        assert write(line) == unchecked(line)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("name", "abcd"),
        ("name", b"abc"),
        ("name", "\ud800"),
        ("name", None),
        ("count", 10),
        ("count", -2),
        ("count", 5.0),
        ("count", np.int64(5)),
        ("width", NAN),
        ("width", 1),
        ("height", float("inf")),
        ("share", 1.1),
        ("share", -0.1),
        ("share", NAN),
        ("is_open", 1),
        ("packed", b"abcd"),
        ("packed", bytearray(b"abc")),
        ("packed", memoryview(b"abc")),
        ("point", (0.0, 0.0)),
        ("point", Point(NAN, 0.0)),
        ("points", [Point(0.0, 0.0)] * 3),
        ("points", [Point(0.0, NAN)]),
        ("points", {Point(0.0, 0.0)}),
        ("points", None),
        ("table", {"abc": 1, "abd": 1}),
        ("table", {"abcd": 1}),
        ("table", {"abc": None}),
        ("table", Counter(abc=1)),
    ],
)
def test_what_may_be_out_of_bounds_is_left_to_pydantic(name: str, value: Any) -> None:
    write = compile_checked_writer(LINE, Line)
    assert write is not None
    with pytest.raises(UNSURE):
        write(Line(**{name: value}))


def test_an_object_of_another_class_is_left_to_pydantic() -> None:
    write = compile_checked_writer(LINE, Line)
    assert write is not None
    with pytest.raises(UNSURE):
        write(Point(0.0, 0.0))


def test_a_bound_that_is_not_known_is_left_to_pydantic() -> None:
    schema = codec._writer(next(kind for kind in KINDS)).schema
    assert compile_checked_writer(schema, RiskEstimate) is None
