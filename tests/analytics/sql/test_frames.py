"""The views are frames of each library, also where an event loop runs already."""

from pathlib import Path

import polars as pl
import pytest

from analytics.errors import InvalidLake, QueryFailed
from analytics.sql.frames import Tables, connect
from analytics.sql.session import Session
from tests.support.alerts import raised_alert
from tests.support.table_log import TableLog

QUERY = "SELECT transition_id AS id, _offset FROM risk_alert ORDER BY ALL"


async def test_a_query_is_a_frame_also_within_a_running_loop() -> None:
    log = TableLog("risk.alerts")
    log.write(raised_alert("t0"))
    with Tables(Session(log)) as tables:
        expected = {"id": ["t0"], "_offset": [0]}
        assert tables.arrow(QUERY).to_pydict() == expected
        assert tables.polars(QUERY).equals(pl.DataFrame(expected))
        assert tables.pandas(QUERY).to_dict("list") == expected
        log.write(raised_alert("t1"))
        assert tables.arrow(QUERY).num_rows == 1
        tables.refresh()
        assert tables.arrow(QUERY).num_rows == 2
        with pytest.raises(QueryFailed, match="syntax error"):
            tables.arrow("SELEC")
        assert tables.arrow("SELECT 1 AS x LIMIT 0").column_names == ["x"]


def test_a_lake_or_a_log_must_be_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("TAPEWIRE_LAKE", raising=False)
    monkeypatch.delenv("KAFKA_BOOTSTRAP_SERVERS", raising=False)
    with pytest.raises(InvalidLake, match="name a lake by TAPEWIRE_LAKE"):
        connect()
    monkeypatch.setenv("TAPEWIRE_LAKE", f"delta:{tmp_path}")
    with connect() as tables:
        assert tables.arrow(QUERY).num_rows == 0
