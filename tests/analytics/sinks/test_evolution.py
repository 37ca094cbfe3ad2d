"""Rows fit their table, or are refused with the column that does not."""

import pyarrow as pa
import pytest

from analytics.sinks.errors import TypeChanged
from analytics.sinks.evolution import conform, merged, plain, with_day


def one(name: str, kind: pa.DataType) -> pa.Schema:
    return pa.schema([pa.field(name, kind)])


@pytest.mark.parametrize(
    ("before", "rows", "after"),
    [
        (pa.int64(), pa.int32(), pa.int64()),
        (pa.float64(), pa.float32(), pa.float64()),
        (pa.string(), pa.large_string(), pa.string()),
        (pa.string(), pa.null(), pa.string()),
        (pa.list_(pa.int64()), pa.large_list(pa.int32()), pa.list_(pa.int64())),
        (
            pa.struct([pa.field("x", pa.int32())]),
            pa.struct([pa.field("y", pa.int32())]),
            pa.struct([pa.field("x", pa.int32()), pa.field("y", pa.int32())]),
        ),
        (
            pa.map_(pa.string(), pa.struct([pa.field("x", pa.int32())])),
            pa.map_(pa.string(), pa.struct([pa.field("y", pa.list_(pa.string()))])),
            pa.map_(
                pa.string(),
                pa.struct([pa.field("x", pa.int32()), pa.field("y", pa.list_(pa.string()))]),
            ),
        ),
    ],
)
def test_a_column_holds_what_came_before_and_what_comes(
    before: pa.DataType, rows: pa.DataType, after: pa.DataType
) -> None:
    assert merged("t", one("a", before), one("a", rows)) == one("a", after)


@pytest.mark.parametrize(
    ("before", "rows", "path"),
    [
        (pa.int32(), pa.int64(), "a"),
        (pa.int64(), pa.float64(), "a"),
        (pa.string(), pa.int64(), "a"),
        (pa.timestamp("us", "UTC"), pa.int64(), "a"),
        (pa.list_(pa.int32()), pa.list_(pa.string()), r"a\[\]"),
        (
            pa.map_(pa.string(), pa.struct([pa.field("x", pa.int32())])),
            pa.map_(pa.string(), pa.struct([pa.field("x", pa.string())])),
            r"a\{\}\.x",
        ),
        (pa.map_(pa.string(), pa.int32()), pa.map_(pa.int32(), pa.int32()), "a"),
    ],
)
def test_a_type_that_changes_is_named_with_its_column(
    before: pa.DataType, rows: pa.DataType, path: str
) -> None:
    with pytest.raises(TypeChanged, match=f"the column {path} of the table t is"):
        merged("t", one("a", before), one("a", rows))


def test_new_columns_come_last_and_columns_of_nulls_not_at_all() -> None:
    rows = pa.schema([("b", pa.int32()), ("c", pa.null()), ("a", pa.string())])
    assert merged("t", one("a", pa.string()), rows).names == ["a", "b"]


def test_rows_get_the_columns_that_they_lack() -> None:
    point = pa.struct([pa.field("x", pa.int32())])
    rows = pa.table({"p": pa.array([{"x": 1}, None], point), "n": pa.array([1, 2], pa.int32())})
    wide = pa.struct([pa.field("x", pa.int32()), pa.field("y", pa.string())])
    target = pa.schema([("q", pa.string()), ("p", wide), ("n", pa.int64())])
    found = conform(rows.slice(0, 2), target)
    assert found.schema == target
    assert found.to_pylist() == [
        {"q": None, "p": {"x": 1, "y": None}, "n": 1},
        {"q": None, "p": None, "n": 2},
    ]


def test_plain_columns_may_be_null() -> None:
    columns = pa.schema([pa.field("a", pa.string_view(), nullable=False)])
    assert plain(columns) == one("a", pa.string())


def test_the_day_is_that_of_utc() -> None:
    times = pa.array([-1, 0, None], pa.timestamp("us", "UTC"))
    days = with_day(pa.table({"_ingested_at": times}))["_day"].to_pylist()
    assert [str(day) for day in days] == ["1969-12-31", "1970-01-01", "None"]
    assert with_day(pa.table({"_day": [1]})).column_names == ["_day"]
