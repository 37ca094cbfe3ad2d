"""Aggregates are brought up to date at each moment, and what changed is named."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest

from analytics.columns import schema_of
from analytics.sinks.address import open_sink
from analytics.sinks.base import Lane, Span
from cli.aggregates import keep
from cli.errors import AnalyticsFailed
from schemas.events import RiskAlert


def test_each_step_names_what_it_computed(tmp_path: Path) -> None:
    address = f"delta:{tmp_path}"
    lane = Lane("risk.alerts", "e", 0)
    row = {
        "alert_id": "a",
        "transition_id": "t",
        "state": "raised",
        "entity_type": "portfolio",
        "entity_id": "p",
        "event_time_us": datetime(2008, 10, 10, tzinfo=UTC),
        "_topic": lane.topic,
        "_epoch": lane.epoch,
        "_partition": 0,
        "_ingested_at": datetime(2026, 11, 30, tzinfo=UTC),
    }
    sink = open_sink(address)

    def add(offset: int) -> None:
        rows = pa.Table.from_pylist([row | {"_offset": offset}], schema_of(RiskAlert))
        sink.append("risk_alert", rows, [Span(lane, offset, offset + 1)])

    def moments() -> Iterator[None]:
        yield
        add(0)
        yield
        yield
        add(1)
        yield

    lines: list[str] = []
    keep(address, moments(), rebuild=False, say=lines.append)
    computed = [
        "daily_risk: 1 rows, of which 1 were computed",
        "alert_statistics: 1 rows, of which 1 were computed",
    ]
    assert lines == ["the aggregates are up to date", *computed, *computed]
    assert sorted(path.name for path in (tmp_path / "aggregates").iterdir()) == [
        "alert_statistics.parquet",
        "daily_risk.parquet",
    ]


def test_a_lake_that_is_not_understood_is_an_error_of_the_command() -> None:
    with pytest.raises(AnalyticsFailed, match="begins with one of"):
        keep("csv:/x", iter([None]), rebuild=False, say=print)
