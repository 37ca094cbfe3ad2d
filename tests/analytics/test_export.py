"""An export holds the rows of its interval."""

import json
from pathlib import Path

import pytest

from analytics.errors import UnknownTable
from analytics.export import export_rows
from analytics.log_rows import Interval
from analytics.names import find_table
from analytics.table_files import Format
from tests.support.alerts import raised_alert
from tests.support.table_log import TableLog

ALERTS = find_table("risk_alert")


async def test_the_rows_of_an_interval_and_a_tenant_are_written(tmp_path: Path) -> None:
    log = TableLog("risk.alerts", partitions=2)
    for number in range(8):
        tenant = "acme" if number % 4 < 2 else None
        log.write(raised_alert(f"t{number}"), number, partition=number % 2, tenant=tenant)
    log.write(b"no event", 3, topic="risk.alerts")
    path = tmp_path / "alerts.ndjson"
    found = await export_rows(
        log, ALERTS, Interval(1, 6), form=Format.NDJSON, path=path, tenant="acme"
    )
    names = [json.loads(line)["transition_id"] for line in path.read_text().splitlines()]
    assert names == ["t4", "t1", "t5"]
    assert found == (3, 0)
    found = await export_rows(log, ALERTS, Interval(), form=Format.CSV, path=path)
    assert found == (8, 1)
    again = path.read_bytes()
    await export_rows(log, ALERTS, Interval(), form=Format.CSV, path=path)
    assert path.read_bytes() == again


async def test_an_interval_without_rows_gives_a_file_with_columns(tmp_path: Path) -> None:
    path = tmp_path / "alerts.csv"
    log = TableLog("risk.alerts")
    assert await export_rows(log, ALERTS, Interval(), form=Format.CSV, path=path) == (0, 0)
    assert path.read_text().startswith('"alert_id","transition_id"')


async def test_a_topic_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnknownTable, match=r"no topic risk\.alerts for the table risk_alert"):
        await export_rows(
            TableLog(), ALERTS, Interval(), form=Format.CSV, path=tmp_path / "alerts.csv"
        )
