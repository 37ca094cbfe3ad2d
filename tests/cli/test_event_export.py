"""An export is written by the names that users know, and says how many rows it has."""

from pathlib import Path

import pytest

from analytics import log_rows
from cli.errors import AnalyticsFailed
from cli.event_export import channel_topics, write_events
from kafka_io.settings import ProducerSettings
from schemas.topics import RISK_ALERTS
from tests.support.alerts import raised_alert
from tests.support.table_log import TableLog

SETTINGS = ProducerSettings()


async def test_a_channel_is_exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = TableLog("risk.alerts")
    log.write(raised_alert("x"))
    log.write(b"no event", topic="risk.alerts")
    monkeypatch.setattr(log_rows, "KafkaLog", lambda _: log)
    notes: list[str] = []
    path = tmp_path / "alerts.csv"
    await write_events("alerts", SETTINGS, (None, None), ("csv", path), None, notes.append)
    assert notes == [f"rows of risk_alert in {path}: 1; refused records, which are no rows: 1"]
    assert path.read_text().count("\n") == 2


async def test_an_unknown_table_is_an_error_of_the_command() -> None:
    with pytest.raises(AnalyticsFailed, match="did you mean"):
        await write_events("alertz", SETTINGS, (None, None), ("csv", None), None, print)


def test_the_channels_of_the_edge_are_names() -> None:
    assert channel_topics()["alerts"] is RISK_ALERTS
