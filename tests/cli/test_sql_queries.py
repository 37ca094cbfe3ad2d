"""A query's rows are shown or written, and the views saved."""

import io
import json
from pathlib import Path

import duckdb
import pytest

from analytics import log_rows
from cli import sql_queries
from cli.errors import AnalyticsFailed
from cli.sql_queries import Sources, answer, open_prompt, save
from kafka_io.settings import ProducerSettings
from tests.support.alerts import raised_alert
from tests.support.table_log import TableLog

SOURCES = Sources(kafka=ProducerSettings())
QUERY = "SELECT transition_id AS id, _offset FROM risk_alert ORDER BY ALL"


@pytest.fixture(autouse=True)
def _log(monkeypatch: pytest.MonkeyPatch) -> None:
    log = TableLog("risk.alerts")
    for number in range(3):
        log.write(raised_alert(f"t{number}"))
    monkeypatch.setattr(log_rows, "KafkaLog", lambda _: log)


def test_rows_are_a_table_of_bounded_length(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sql_queries, "ROWS_MAX", 2)
    notes: list[str] = []
    answer(SOURCES, QUERY, ("table", None), notes.append)
    assert capsys.readouterr().out.split("\n")[2:] == ["t0        0", "t1        1", ""]
    assert notes == ["the first 2 rows; add LIMIT, or write a file by --format and -o"]


def test_rows_are_written_in_the_form_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "alerts.json"
    answer(SOURCES, QUERY, ("json", path), print)
    assert json.loads(path.read_text())[1] == {"id": "t1", "_offset": 1}


def test_a_wrong_query_is_an_error_of_the_command() -> None:
    with pytest.raises(AnalyticsFailed, match="syntax error"):
        answer(SOURCES, "SELEC", ("table", None), print)


def test_statements_of_a_pipe_are_answered(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("SELECT 6 * 7 AS x;\nSELEC;\n"))
    notes: list[str] = []
    open_prompt(SOURCES, notes.append)
    assert capsys.readouterr().out.split() == ["x", "--", "42"]
    assert [note.partition(":")[0] for note in notes] == ["error"]


def test_saved_views_are_those_of_the_session(tmp_path: Path) -> None:
    path = tmp_path / "views.duckdb"
    path.write_bytes(b"former")
    save(SOURCES, path, print)
    with duckdb.connect(str(path), read_only=True) as database:
        assert database.execute(QUERY).fetchall() == [("t0", 0), ("t1", 1), ("t2", 2)]
    assert [found.name for found in tmp_path.iterdir()] == ["views.duckdb"]
