"""Spark's job over a broker: rows equal the log, though it is killed again and again."""

import json
import os
import random
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from deltalake import DeltaTable
from pyiceberg.table import StaticTable

from analytics.engines.plan import fingerprint_hex, make_plan
from schemas.codec import versions
from tests.support.engine_log import by_place, confluent, own_rows, single_object, write

if TYPE_CHECKING:
    from tests.conftest import TestKafka

pytestmark = [pytest.mark.engines, pytest.mark.kafka, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[3]
PYTHON = ROOT / "build" / "engines" / "spark" / "bin" / "python"
EVENTS = int(os.environ.get("TAPEWIRE_ENGINE_EVENTS", "60000"))
_ID = 300
"""The id that the newest schema of alerts has in a registry."""
_NEWEST = fingerprint_hex(versions("RiskAlert")[-1])
_BROKEN = b"\xc3\x01 no schema has this mark"


@pytest.fixture
def plan(kafka: "TestKafka", tmp_path: Path) -> Path:
    """A plan of a topic of alerts: of two versions, in two framings, and one that is broken."""
    prefix = f"spark-{uuid.uuid4().hex[:8]}."
    made = make_plan(["RiskAlert"], prefix=prefix, ids={_NEWEST: [_ID]})
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(made))
    write(kafka.bootstrap_servers, f"{prefix}risk.alerts", ((value, []) for value in _values()))
    return path


def _values() -> Iterator[bytes]:
    for number in range(EVENTS - 1):
        if number % 3 == 1:
            yield confluent(number, {_NEWEST: _ID})
        else:
            yield single_object(number, oldest=number % 30 == 2)
    yield _BROKEN


def _command(kafka: "TestKafka", plan: Path, lake: Path, table_format: str) -> list[str]:
    job = str(ROOT / "analytics" / "engines" / "spark_job.py")
    given = {
        "--plan": str(plan),
        "--servers": kafka.bootstrap_servers,
        "--lake": str(lake),
        "--format": table_format,
        "--batch": str(max(1, EVENTS // 6)),
        "--ivy": str(ROOT / "build" / "engines" / "ivy"),
    }
    return [str(PYTHON), job, *(word for pair in given.items() for word in pair)]


def _kill_after_batches(command: list[str], commits: Path, batches: int, log: Path) -> None:
    """Start a job, and kill it and its Java within the batch after some more have ended."""
    until = _count(commits) + batches
    with log.open("ab") as out:
        job = subprocess.Popen(command, stdout=out, stderr=out, start_new_session=True)
    while _count(commits) < until and _is_running(job, 0.05):
        pass
    assert _is_running(job, random.Random(until).uniform(0, 0.5)), log.read_text()[-3000:]
    os.killpg(job.pid, signal.SIGKILL)
    job.wait()


def _is_running(job: subprocess.Popen[bytes], within_s: float) -> bool:
    """Wait for the end of a job for so long, and return whether it has not come."""
    try:
        job.wait(within_s)
    except subprocess.TimeoutExpired:
        return True
    return False


def _count(folder: Path) -> int:
    return sum(path.name.isdecimal() for path in folder.iterdir()) if folder.exists() else 0


def _rows(lake: Path, table_format: str) -> list[dict[str, Any]]:
    if table_format == "delta":
        rows = DeltaTable(lake / "delta" / "RiskAlert").to_pyarrow_table().to_pylist()
        return [dict(row) for row in rows]
    metadata = lake / "iceberg" / "events" / "RiskAlert" / "metadata"
    version = (metadata / "version-hint.text").read_text().strip()
    table = StaticTable.from_metadata(str(metadata / f"v{version}.metadata.json"))
    return [dict(row) for row in table.scan().to_arrow().to_pylist()]


def _topic(plan: Path) -> str:
    topic: str = json.loads(plan.read_text())["tables"][0]["topic"]
    return topic


@pytest.mark.parametrize("table_format", ["delta", "iceberg"])
def test_rows_equal_the_log_after_kills(
    kafka: "TestKafka",
    plan: Path,
    tmp_path: Path,
    table_format: str,
    record_property: Callable[[str, object], None],
) -> None:
    assert PYTHON.exists(), "`make engines-test` makes the environment of Spark"
    lake, log = tmp_path / "lake", tmp_path / "job.log"
    command = _command(kafka, plan, lake, table_format)
    commits = lake / "checkpoints" / table_format / "RiskAlert" / "commits"
    for _ in range(2):
        _kill_after_batches(command, commits, 1, log)
    killed_at = _count(commits)
    began = time.monotonic()
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert ended.returncode == 0, ended.stderr[-3000:]
    took_s = time.monotonic() - began
    rows = _rows(lake, table_format)
    positions = {(row["_partition"], row["_offset"]) for row in rows}
    assert len(rows) == EVENTS
    assert positions == {(number % 3, number // 3) for number in range(EVENTS)}
    broken = [row for row in rows if row["_undecoded"] is not None]
    assert [row["_undecoded"] for row in broken] == [_BROKEN]
    decoded = {row["transition_id"]: row for row in rows if row["_undecoded"] is None}
    assert decoded.keys() == {f"t{number}" for number in range(EVENTS - 1)}
    only = ("_epoch", "_undecoded")
    own = own_rows(kafka.bootstrap_servers, _topic(plan), lake, {_NEWEST: _ID})
    assert by_place(decoded.values(), only) == by_place(own, only)
    times = {row["event_time_us"].timestamp() for row in decoded.values()}
    assert len(times) == EVENTS - 1
    line = (
        f"{table_format}: {EVENTS} rows after 2 kills at batch {killed_at}; the last run took "
        f"{took_s:.0f} s, with Spark's start"
    )
    record_property("account", line)
    sys.stdout.write(f"{line}\n")
