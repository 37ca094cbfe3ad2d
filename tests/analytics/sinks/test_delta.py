"""A table of Delta is written by one writer at a time, and what is none is refused."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import CommitFailedError

from analytics.sinks import delta
from analytics.sinks.address import Address
from analytics.sinks.base import Lane
from analytics.sinks.delta import DeltaSink, open_at
from analytics.sinks.errors import BrokenTable, ForeignTable, LakeUnavailable
from tests.support.lake_log import LANES, TABLE, write_step

FIRST, SECOND = LANES


def opened(tmp_path: Path) -> DeltaSink:
    return open_at(Address("delta", str(tmp_path)))


def test_an_endless_race_ends_with_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = opened(tmp_path)
    write_step(sink, [FIRST], 10)

    def refuse(*_: Any, **__: Any) -> None:
        raise CommitFailedError("refused")

    monkeypatch.setattr(delta, "write_deltalake", refuse)
    with pytest.raises(LakeUnavailable, match="50 times"):
        write_step(sink, [FIRST], 10)


def test_a_table_of_another_program_is_refused(tmp_path: Path) -> None:
    write_deltalake(tmp_path / TABLE, pa.table({"a": [1]}))
    sink = opened(tmp_path)
    with pytest.raises(ForeignTable, match=r"no property tapewire\.lanes"):
        write_step(sink, [FIRST], 10)


def test_a_folder_that_is_no_table_of_delta_is_refused(tmp_path: Path) -> None:
    (tmp_path / TABLE / "metadata").mkdir(parents=True)
    sink = opened(tmp_path)
    assert sink.tables() == []
    with pytest.raises(ForeignTable, match="holds metadata and no Delta table"):
        write_step(sink, [FIRST], 10)


def test_a_torn_commit_is_named(tmp_path: Path) -> None:
    write_step(opened(tmp_path), [FIRST], 10)
    newest = max((tmp_path / TABLE / "_delta_log").glob("*.json"))
    newest.write_text(newest.read_text(encoding="utf-8")[:50], encoding="utf-8")
    with pytest.raises(BrokenTable, match=r"the Delta table at .* cannot be used"):
        opened(tmp_path).positions(TABLE)


def test_a_missing_file_of_rows_is_named(tmp_path: Path) -> None:
    write_step(opened(tmp_path), [FIRST], 10)
    for path in (tmp_path / TABLE).rglob("*.parquet"):
        path.unlink()
    with pytest.raises((BrokenTable, LakeUnavailable), match="numbers"):
        opened(tmp_path).read(TABLE)


def test_a_list_of_lanes_that_is_none_is_named(tmp_path: Path) -> None:
    sink = opened(tmp_path)
    write_step(sink, [Lane("numbers", "0a", 3)], 10)
    DeltaTable(tmp_path / TABLE).alter.set_table_properties(
        {"tapewire.lanes": "3"}, raise_if_not_exists=False
    )
    with pytest.raises(BrokenTable, match="no list of lanes"):
        sink.positions(TABLE)
