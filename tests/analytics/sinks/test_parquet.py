"""A span of rows is one folder, which has its name only when it is whole."""

import threading
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from analytics.sinks.address import Address
from analytics.sinks.base import Span
from analytics.sinks.errors import (
    BrokenTable,
    ForeignTable,
    InvalidAddress,
    LakeError,
    Overtaken,
    UnknownTable,
)
from analytics.sinks.parquet import ParquetSink, open_at
from tests.support.lake_log import LANES, TABLE, check_rows, rows_of, write_step

FIRST, SECOND = LANES


def opened(folder: Path) -> ParquetSink:
    return open_at(Address("parquet", str(folder)))


def test_rows_and_positions_stand_after_an_append(tmp_path: Path) -> None:
    sink = opened(tmp_path)
    assert sink.tables() == []
    assert write_step(sink, LANES, 40)
    assert write_step(sink, [FIRST], 7)
    again = opened(tmp_path)
    assert again.tables() == [TABLE]
    assert again.positions(TABLE) == {FIRST: 47, SECOND: 40}
    assert check_rows(again) == again.count(TABLE) == 87
    days = {path.parent.name for path in tmp_path.rglob("*.parquet")}
    assert days == {"day=2026-11-29", "day=2026-11-30"}


def test_a_span_without_rows_advances_its_lane(tmp_path: Path) -> None:
    sink = opened(tmp_path)
    sink.append(TABLE, rows_of([]), [Span(FIRST, 0, 9)])
    assert sink.positions(TABLE) == {FIRST: 9}
    assert sink.read(TABLE).num_rows == 0
    assert sink.read(TABLE).schema == rows_of([]).schema


def test_a_writer_that_is_late_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    sink, zombie = opened(tmp_path), opened(tmp_path)
    assert write_step(sink, [FIRST], 10)
    for begin, end in ((0, 5), (0, 10), (5, 20), (20, 30)):
        span = Span(FIRST, begin, end)
        with pytest.raises(Overtaken):
            zombie.append(TABLE, rows_of([span]), [span])
    assert check_rows(sink) == 10


def test_of_two_writers_at_the_same_moment_one_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sinks = [opened(tmp_path), opened(tmp_path)]
    both = threading.Barrier(2)
    positions = ParquetSink.positions

    def meet(self: ParquetSink, table: str) -> object:
        found = positions(self, table)
        both.wait(10)
        return found

    monkeypatch.setattr(ParquetSink, "positions", meet)
    refused: list[Overtaken] = []

    def write(sink: ParquetSink, size: int) -> None:
        span = Span(FIRST, 0, size)
        try:
            sink.append(TABLE, rows_of([span]), [span])
        except Overtaken as error:
            refused.append(error)

    threads = [threading.Thread(target=write, args=(sink, 10 + n)) for n, sink in enumerate(sinks)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    monkeypatch.undo()
    assert len(refused) == 1
    assert check_rows(opened(tmp_path)) in (10, 11)


def test_what_a_dead_writer_has_prepared_is_cleared_away(tmp_path: Path) -> None:
    remains = tmp_path / "_prepared" / "dead"
    remains.mkdir(parents=True)
    (remains / "lock").touch()
    (remains / "half.parquet").write_bytes(b"PAR1")
    living = opened(tmp_path)
    write_step(living, [FIRST], 3)
    assert not remains.exists()
    write_step(opened(tmp_path), [FIRST], 3)
    write_step(living, [FIRST], 3)
    assert check_rows(living) == 9


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    sink = opened(tmp_path)
    write_step(sink, [FIRST], 10)
    path = next(tmp_path.rglob("*.parquet"))
    path.write_bytes(path.read_bytes()[:-9])
    for read in (sink.read, sink.count):
        with pytest.raises(BrokenTable, match=path.name):
            read(TABLE)


def test_a_folder_without_its_end_is_named(tmp_path: Path) -> None:
    write_step(opened(tmp_path), [FIRST], 10)
    next(tmp_path.rglob("_until-*")).unlink()
    with pytest.raises(BrokenTable, match="_until-"):
        opened(tmp_path).positions(TABLE)


def test_a_folder_of_others_and_a_lake_of_another_form_are_refused(tmp_path: Path) -> None:
    (tmp_path / "letters.txt").touch()
    with pytest.raises(ForeignTable, match="has files of others"):
        opened(tmp_path)
    (tmp_path / "_tapewire_lake.json").write_text('{"format": "parquet", "version": 9}')
    with pytest.raises(ForeignTable, match="version"):
        opened(tmp_path)
    (tmp_path / "_tapewire_lake.json").write_text("{")
    with pytest.raises(BrokenTable, match="no JSON"):
        opened(tmp_path)


def test_a_bucket_and_an_unknown_table_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidAddress, match="delta: or iceberg:"):
        open_at(Address("parquet", "s3://bucket/lake"))
    with pytest.raises(UnknownTable, match="no tables yet"):
        opened(tmp_path).read("risk_alert")


def test_columns_that_are_added_later_are_null_in_earlier_rows(tmp_path: Path) -> None:
    sink = opened(tmp_path)
    write_step(sink, [FIRST], 2)
    span = Span(FIRST, 2, 3)
    rows = rows_of([span]).append_column("more", pa.array([7]))
    sink.append(TABLE, rows, [span])
    assert sorted(sink.read(TABLE).column("more").to_pylist(), key=str) == [7, None, None]


def test_the_rows_of_a_tenant_are_erased(tmp_path: Path) -> None:
    sink = opened(tmp_path)
    write_step(sink, LANES, 10)
    assert sink.erase(TABLE, "_tenant", "t1") == 10
    assert set(sink.read(TABLE).column("_tenant").to_pylist()) == {"t0"}
    assert sink.positions(TABLE) == {FIRST: 10, SECOND: 10}
    assert sink.erase(TABLE, "_tenant", "t1") == 0


def test_plain_files_are_not_compacted_and_have_no_history(tmp_path: Path) -> None:
    sink = opened(tmp_path)
    write_step(sink, [FIRST], 1)
    with pytest.raises(LakeError, match="TAPEWIRE_LAKE_INTERVAL_S"):
        sink.compact(TABLE)
    assert sink.expire(TABLE, timedelta(0)) == 0
    assert sink.vacuum(TABLE, timedelta(0)) == ()
    assert sink.snapshot(TABLE).location == str(tmp_path / TABLE)
