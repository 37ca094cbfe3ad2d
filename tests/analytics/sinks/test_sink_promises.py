"""Delta and Iceberg keep the same promises."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pytest
from deltalake import DeltaTable
from pyiceberg.table import Transaction

from analytics.sinks import delta
from analytics.sinks.address import open_sink
from analytics.sinks.base import Lane, Span, Tables
from analytics.sinks.errors import Overtaken, TypeChanged, UnknownTable
from tests.support.lake_log import COLUMNS, LANES, TABLE, check_rows, rows_of, write_step

Open = Callable[[], Tables]
Action = Callable[[], object]
Before = Callable[[Action], None]
FIRST, SECOND = LANES


@pytest.fixture(params=["delta", "iceberg"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def opened(kind: str, tmp_path: Path) -> Open:
    return lambda: cast("Tables", open_sink(f"{kind}:{tmp_path}/a läke"))


@pytest.fixture
def before_commit(kind: str, monkeypatch: pytest.MonkeyPatch) -> Before:
    """Run an action once, when a writer has read the table and is about to commit."""

    def arrange(action: Action) -> None:
        if kind == "delta":
            _run_before(monkeypatch, delta, "write_deltalake", action)
        else:
            _run_before(monkeypatch, Transaction, "commit_transaction", action)

    return arrange


@pytest.fixture
def before_creation(kind: str, monkeypatch: pytest.MonkeyPatch) -> Before:
    """Run an action once, when a writer is about to make a table."""

    def arrange(action: Action) -> None:
        if kind == "delta":
            _run_before(monkeypatch, DeltaTable, "create", action)
        else:
            _run_before(monkeypatch, Transaction, "commit_transaction", action)

    return arrange


def _run_before(monkeypatch: pytest.MonkeyPatch, owner: object, name: str, action: Action) -> None:
    function = getattr(owner, name)

    def call_late(*arguments: Any, **options: Any) -> Any:
        monkeypatch.setattr(owner, name, function)
        action()
        return function(*arguments, **options)

    monkeypatch.setattr(owner, name, call_late)


def test_rows_and_positions_stand_after_an_append(opened: Open) -> None:
    sink = opened()
    assert sink.positions(TABLE) == {}
    assert sink.tables() == []
    sink.append(TABLE, rows_of([Span(FIRST, 0, 40)]), [Span(FIRST, 0, 40)])
    assert write_step(sink, LANES, 10)
    again = opened()
    assert again.tables() == [TABLE]
    assert again.positions(TABLE) == {FIRST: 50, SECOND: 10}
    assert check_rows(again) == 60
    assert again.snapshot(TABLE).positions == {FIRST: 50, SECOND: 10}


def test_days_are_those_when_the_log_got_the_rows(opened: Open) -> None:
    sink = opened()
    write_step(sink, [FIRST], 60)
    days = sink.read(TABLE, ["_day"])["_day"].value_counts().to_pylist()
    assert sorted((str(row["values"]), row["counts"]) for row in days) == [
        ("2026-11-29", 30),
        ("2026-11-30", 30),
    ]


def test_a_span_without_rows_advances_its_lane(opened: Open) -> None:
    sink = opened()
    sink.append(TABLE, rows_of([]), [Span(SECOND, 7, 9)])
    assert sink.positions(TABLE) == {SECOND: 9}
    sink.append(TABLE, rows_of([]), [Span(SECOND, 9, 9), Span(FIRST, 0, 3)])
    assert sink.positions(TABLE) == {SECOND: 9, FIRST: 3}
    assert len(sink.read(TABLE)) == 0


@pytest.mark.parametrize("begin", [0, 9, 11])
def test_a_span_that_does_not_begin_at_the_position_is_refused(opened: Open, begin: int) -> None:
    sink = opened()
    write_step(sink, LANES, 10)
    spans = [Span(SECOND, 10, 12), Span(FIRST, begin, 12)]
    with pytest.raises(Overtaken, match="partition 0 of numbers") as refusal:
        sink.append(TABLE, rows_of(spans), spans)
    assert refusal.value.lane == FIRST
    assert check_rows(sink) == 20


def test_a_writer_that_comes_back_late_writes_nothing(opened: Open) -> None:
    zombie, successor = opened(), opened()
    write_step(zombie, [FIRST], 10)
    spans = [Span(FIRST, 10, 20)]
    successor.append(TABLE, rows_of(spans), spans)
    with pytest.raises(Overtaken):
        zombie.append(TABLE, rows_of(spans), spans)
    assert check_rows(zombie) == 20


def test_of_two_writers_at_once_one_is_refused_and_its_files_are_vacuumed(
    opened: Open, before_commit: Before
) -> None:
    slow, fast = opened(), opened()
    write_step(slow, [FIRST], 10)
    before_commit(lambda: write_step(fast, [FIRST], 10))
    spans = [Span(FIRST, 10, 30)]
    with pytest.raises(Overtaken):
        slow.append(TABLE, rows_of(spans), spans)
    assert check_rows(slow) == 20
    assert slow.vacuum(TABLE, timedelta(hours=1)) == []
    assert len([name for name in slow.vacuum(TABLE, timedelta()) if "parquet" in name]) == 1
    assert check_rows(slow) == 20


def test_two_writers_that_make_a_table_at_once_make_one(
    opened: Open, before_creation: Before
) -> None:
    slow, fast = opened(), opened()
    before_creation(lambda: write_step(fast, [FIRST], 10))
    assert write_step(slow, [SECOND], 5)
    assert slow.positions(TABLE) == {FIRST: 10, SECOND: 5}
    assert check_rows(slow) == 15


def test_a_writer_of_a_new_column_and_one_of_old_rows_go_on_at_once(
    opened: Open, before_commit: Before
) -> None:
    slow, fast = opened(), opened()
    write_step(slow, LANES, 10)
    wider = rows_of([Span(SECOND, 10, 11)]).append_column("extra", pa.array(["new"]))
    before_commit(lambda: fast.append(TABLE, wider, [Span(SECOND, 10, 11)]))
    assert write_step(slow, [FIRST], 10)
    assert check_rows(slow) == 31
    assert slow.read(TABLE, ["extra"])["extra"].drop_null().to_pylist() == ["new"]


def test_rows_that_come_during_a_compaction_stay(opened: Open, before_commit: Before) -> None:
    upkeep, writer = opened(), opened()
    for _ in range(3):
        write_step(writer, LANES, 60)
    before_commit(lambda: write_step(writer, LANES, 60))
    assert upkeep.compact(TABLE).files_after == 2
    assert check_rows(upkeep) == 480
    assert upkeep.positions(TABLE) == {FIRST: 240, SECOND: 240}


def test_two_compactions_at_once_write_no_row_twice(opened: Open, before_commit: Before) -> None:
    left, right = opened(), opened()
    for _ in range(3):
        write_step(left, LANES, 60)
    before_commit(lambda: right.compact(TABLE))
    left.compact(TABLE)
    assert check_rows(left) == 360


def test_an_append_goes_on_after_a_compaction_in_between(
    opened: Open, before_commit: Before
) -> None:
    upkeep, writer = opened(), opened()
    for _ in range(3):
        write_step(writer, LANES, 60)
    before_commit(lambda: upkeep.compact(TABLE))
    assert write_step(writer, LANES, 60)
    assert check_rows(upkeep) == 480


def test_writers_of_different_lanes_do_not_disturb_each_other(opened: Open) -> None:
    left, right = opened(), opened()
    for _ in range(4):
        assert write_step(left, [FIRST], 5)
        assert write_step(right, [SECOND], 5)
    assert check_rows(left) == 40


def test_a_topic_that_is_made_again_begins_a_lane_of_its_own(opened: Open) -> None:
    sink = opened()
    write_step(sink, [FIRST], 10)
    again = Lane(FIRST.topic, "0b", FIRST.partition)
    assert write_step(sink, [again], 5)
    assert sink.positions(TABLE) == {FIRST: 10, again: 5}
    assert len(sink.read(TABLE)) == 15


def test_new_columns_are_null_in_old_rows_and_old_rows_can_still_come(opened: Open) -> None:
    sink = opened()
    write_step(sink, [FIRST], 10)
    point = pa.struct([pa.field("x", pa.float64()), pa.field("y", pa.int64())])
    newer = pa.schema([*COLUMNS, pa.field("extra", pa.list_(pa.string()))])
    newer = newer.set(newer.get_field_index("point"), pa.field("point", point))
    row = rows_of([Span(FIRST, 10, 11)]).to_pylist()[0] | {
        "point": {"x": 1.0, "y": 2},
        "extra": ["new"],
    }
    sink.append(TABLE, pa.Table.from_pylist([row], schema=newer), [Span(FIRST, 10, 11)])
    older = opened()
    older.append(TABLE, rows_of([Span(FIRST, 11, 12)]), [Span(FIRST, 11, 12)])
    found = {row["_offset"]: row for row in sink.read(TABLE).to_pylist()}
    assert len(found) == 12
    assert found[10]["extra"] == ["new"]
    assert found[10]["point"] == {"x": 1.0, "y": 2}
    assert found[11]["extra"] is None
    assert found[11]["point"] == {"x": 2.75, "y": None}
    assert found[1]["point"] == {"x": 0.25, "y": None}


def test_a_column_that_would_change_its_type_is_refused(opened: Open) -> None:
    sink = opened()
    write_step(sink, [FIRST], 10)
    texts = COLUMNS.set(0, pa.field("number", pa.string()))
    row = rows_of([Span(FIRST, 10, 11)]).to_pylist()[0] | {"number": "ten"}
    rows = pa.Table.from_pylist([row], schema=texts)
    with pytest.raises(TypeChanged, match=r"number of the table numbers is int64, .* have string"):
        sink.append(TABLE, rows, [Span(FIRST, 10, 11)])
    assert check_rows(sink) == 10


def test_compaction_keeps_rows_and_positions_in_fewer_files(opened: Open) -> None:
    sink = opened()
    for _ in range(5):
        write_step(sink, LANES, 60)
    done = sink.compact(TABLE)
    assert (done.files_before, done.files_after, done.rows) == (10, 2, 600)
    assert check_rows(sink) == 600
    assert sink.positions(TABLE) == {FIRST: 300, SECOND: 300}
    assert sink.compact(TABLE).files_before == 0
    assert write_step(opened(), LANES, 10)
    assert check_rows(sink) == 620


def test_expiry_and_vacuum_leave_the_current_rows(opened: Open) -> None:
    sink = opened()
    for _ in range(5):
        write_step(sink, LANES, 60)
    sink.compact(TABLE)
    assert sink.expire(TABLE, timedelta(days=1)) == 0
    assert sink.vacuum(TABLE, timedelta(days=1)) == []
    assert sink.expire(TABLE, timedelta()) >= 5
    assert len(sink.vacuum(TABLE, timedelta())) >= 10
    assert check_rows(opened()) == 600
    assert write_step(sink, LANES, 10)
    assert check_rows(opened()) == 620


def test_rows_of_a_tenant_are_erased(opened: Open) -> None:
    sink = opened()
    write_step(sink, LANES, 10)
    assert sink.erase(TABLE, "_tenant", "t1") == 10
    assert sink.erase(TABLE, "_tenant", "o'neill") == 0
    assert set(sink.read(TABLE)["_tenant"].to_pylist()) == {"t0"}
    assert sink.positions(TABLE) == {FIRST: 10, SECOND: 10}


def test_an_unknown_table_is_refused_with_those_that_are_there(opened: Open) -> None:
    sink = opened()
    with pytest.raises(UnknownTable, match="there are none"):
        sink.read("risk_alert")
    write_step(sink, LANES, 1)
    with pytest.raises(UnknownTable, match="there are numbers"):
        sink.snapshot("risk_alert")


@pytest.mark.parametrize(
    "spans",
    [[], [Span(FIRST, 3, 2)], [Span(FIRST, 0, 1), Span(FIRST, 1, 2)]],
)
def test_spans_that_are_no_ranges_of_different_lanes_are_refused(
    opened: Open, spans: list[Span]
) -> None:
    with pytest.raises(ValueError, match="span"):
        opened().append(TABLE, rows_of([]), spans)
