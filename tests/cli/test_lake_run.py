"""The command writes a lake, says what it has written, and names what is wrong."""

from pathlib import Path

import httpx
import pyarrow.parquet as pq
import pytest

from analytics import log_rows
from cli.errors import AnalyticsFailed
from cli.lake_run import run_lake
from infra.embedded_broker import free_port
from kafka_io.settings import ProducerSettings
from tests.support.alerts import raised_alert
from tests.support.table_log import TableLog

SETTINGS = ProducerSettings()


@pytest.fixture(autouse=True)
def log(monkeypatch: pytest.MonkeyPatch) -> TableLog:
    log = TableLog("risk.alerts")
    log.write(raised_alert("x"))
    log.write(b"no event", topic="risk.alerts")
    monkeypatch.setattr(log_rows, "KafkaLog", lambda _: log)
    return log


def test_it_says_what_it_has_written(tmp_path: Path) -> None:
    address = f"parquet:{tmp_path}/lake"
    answer = run_lake(address, [], SETTINGS, once=True)
    assert answer.document["rows"] == {"refused_record": 1, "risk_alert": 1}
    assert answer.lines == [
        "refused_record: 1 rows",
        "risk_alert: 1 rows",
        f"2 rows were written to {address}",
    ]


def test_it_keeps_the_aggregates_of_what_it_writes(tmp_path: Path, log: TableLog) -> None:
    address = f"delta:{tmp_path}/lake"

    def counted() -> list[tuple[str, int]]:
        run_lake(address, [], SETTINGS, once=True, aggregates=True)
        rows = pq.read_table(tmp_path / "lake" / "aggregates" / "alert_statistics.parquet")
        return [(row["alert_id"], row["transitions"]) for row in rows.to_pylist()]

    assert counted() == [("a", 1)]
    log.write(raised_alert("y", state="cleared"))
    assert counted() == counted() == [("a", 2)]


def test_its_metrics_are_at_the_port_of_the_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port(19_000)
    monkeypatch.setenv("TAPEWIRE_METRICS_PORT", str(port))
    run_lake(f"parquet:{tmp_path}/lake", [], SETTINGS, once=True)
    text = httpx.get(f"http://127.0.0.1:{port}/metrics").text
    assert 'tapewire_lake_rows_total{table="risk_alert"} 1.0' in text


@pytest.mark.parametrize(
    ("address", "tables", "reason"),
    [
        ("parquet:{}/lake", ["risk_alerts"], "did you mean risk_alert"),
        ("parquet:s3://bucket/lake", [], "write delta: or iceberg:"),
        ("csv:{}", [], "begins with one of"),
        ("parquet:{}", [], "has files of others"),
    ],
)
def test_what_is_wrong_is_named(
    address: str, tables: list[str], reason: str, tmp_path: Path
) -> None:
    (tmp_path / "letter.txt").touch()
    with pytest.raises(AnalyticsFailed, match=reason):
        run_lake(address.format(tmp_path), tables, SETTINGS, once=True)
