"""The examples that read files of tables print what the files hold."""

import subprocess
import sys
from pathlib import Path

import pytest

from analytics.export import export_rows
from analytics.log_rows import Interval
from analytics.names import find_table
from analytics.table_files import Format
from tests.support.alerts import raised_alert
from tests.support.table_log import TableLog

EXAMPLES = Path(__file__).parents[2] / "examples" / "14-tables"


@pytest.mark.parametrize(
    ("program", "printed"),
    [
        ("with_duckdb.py", "p: 1 alerts, at most 1.20 of the limit\n"),
        ("with_polars.py", "a of p: 90 s\n"),
    ],
)
async def test_a_file_of_alerts_is_read(program: str, printed: str, tmp_path: Path) -> None:
    log = TableLog("risk.alerts")
    log.write(raised_alert("t1", utilisation=1.2), 1_000)
    log.write(raised_alert("t2", state="acknowledged"), 91_000)
    path = tmp_path / "alerts.parquet"
    await export_rows(log, find_table("risk_alert"), Interval(), form=Format.PARQUET, path=path)
    command = [sys.executable, str(EXAMPLES / program), str(path)]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == printed
