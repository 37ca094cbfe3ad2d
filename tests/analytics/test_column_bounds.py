"""Columns hold the bounds that the gate checks value by value."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import pyarrow as pa
import pytest

from analytics.column_bounds import Unbounded, bounds_of
from schemas.bounds import Finite, Items, Json, Name, Percentage, Prefix, Real, SmallOffset


class Point(NamedTuple):
    x: Finite
    name: Name | None = None


@pytest.mark.parametrize(
    ("hint", "values", "holds"),
    [
        (Name, ["a" * 256], True),
        (Name, ["é" * 256], True),
        (Name, ["é" * 257], False),
        (Name, [None], False),
        (Name | None, [None, "a"], True),
        (Prefix, ["v2", "a-b"], True),
        (Prefix, ["v2", "a b"], False),
        (Json, ["{}", "[1]"], True),
        (Json, ["{}", "{"], False),
        (SmallOffset, [-1, 0], True),
        (SmallOffset, [-2], False),
        (Finite, [1.0, float("nan")], False),
        (Real, [1.0, float("nan"), float("inf")], True),
        (Percentage, [0.0, 100.0], True),
        (Percentage, [100.1], False),
        (Items[Name], [["a"], []], True),
        (Items[Name], [["a"], ["b" * 257]], False),
        (Items[Name], [["a"] * 100_001], False),
        (Items[Name], [], True),
        (Point, [{"x": 1.0, "name": None}], True),
        (Point, [{"x": None, "name": None}], False),
        (Items[Point] | None, [None, [{"x": 1.0, "name": "n" * 257}]], False),
    ],
)
def test_a_column_holds_what_each_value_holds(hint: Any, values: list[Any], holds: bool) -> None:  # noqa: FBT001  # a row of the table
    assert bounds_of(hint).hold(pa.array(values)) is holds


def test_bounds_of_tables_and_of_unions_are_not_known() -> None:
    for hint in (Mapping[Name, Finite], int | str, object):
        with pytest.raises(Unbounded):
            bounds_of(hint)
