"""A lake's tables are relations of SQL with the lanes' positions."""

from pathlib import Path

import pyarrow as pa
import pytest

from analytics.errors import InvalidLake
from analytics.sinks.address import open_sink
from analytics.sinks.base import Lane, Span
from analytics.sql import lakes
from analytics.sql.lakes import open_lake

LANE = Lane("t", "e", 0)


def test_a_table_of_a_lake_has_its_positions_and_others_are_missing(tmp_path: Path) -> None:
    address = f"delta:{tmp_path}"
    rows = pa.table({"_offset": [1], "_ingested_at": pa.array([0], pa.timestamp("us", "UTC"))})
    open_sink(address).append("alert", rows, [Span(LANE, 0, 4)])
    lake = open_lake(address)
    assert lake.tables() == ["alert"]
    found = lake.find("alert")
    assert found is not None
    assert (found.relation, found.positions) == (f"delta_scan('{tmp_path}/alert')", {LANE: 4})
    assert lake.find("other") is None


def test_a_format_that_sql_cannot_read_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lakes, "_EXTENSIONS", {})
    with pytest.raises(InvalidLake, match="not of delta"):
        open_lake("delta:/nowhere")
