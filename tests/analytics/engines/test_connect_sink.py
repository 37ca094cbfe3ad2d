"""Kafka Connect's Iceberg sink: its settings, and its rows over a broker and a registry."""

import json
import os
import random
import signal
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from analytics.columns import schema_of
from analytics.engines.connect_sink import (
    NAMESPACE,
    columns_of,
    connector,
    main,
    make_table,
    open_catalog,
)
from analytics.engines.plan import fingerprint_hex
from cli.schemas import register
from kafka_io.schema_registry import SchemaRegistry, SchemaRegistrySettings
from schemas.codec import encode, versions
from schemas.events import InputGap, RiskAlert
from tests.support.apicurio import Apicurio
from tests.support.connect_worker import ConnectWorker
from tests.support.engine_log import (
    EPOCH,
    PARTITIONS,
    TENANT,
    Row,
    by_place,
    confluent,
    own_rows,
    write,
)

if TYPE_CHECKING:
    from tests.conftest import TestKafka

ROOT = Path(__file__).parents[3]
INSTALLED = ROOT / "build" / "engines" / "connect"
EVENTS = int(os.environ.get("TAPEWIRE_ENGINE_EVENTS", "60000"))
TABLE = "risk_alert"
WITHIN_S = 300.0
SCHEMAS = "http://localhost:8081/apis"  # of which only settings are made


def test_a_table_has_the_columns_of_the_own_sink_but_for_mixed_fields() -> None:
    own = schema_of(RiskAlert)
    assert columns_of("RiskAlert") == own.append(pa.field("_day", pa.date32()))
    assert "details" not in columns_of("TrainingProgress").names


def test_times_are_named_wherever_they_are(tmp_path: Path) -> None:
    settings = connector("NotificationQueue", registry=SCHEMAS, lake=tmp_path)
    times = settings["transforms.row.times"].split(",")
    assert "since_us" in times
    assert "waiting.event_time_us" in times
    assert not any(time.startswith("_") for time in times)


def test_fields_that_older_versions_lack_have_their_defaults(tmp_path: Path) -> None:
    settings = connector("RiskAlert", registry=SCHEMAS, lake=tmp_path)
    assert json.loads(settings["transforms.row.defaults"]) == {"acknowledged": False, "comment": ""}
    nested = connector("TrainingProgress", registry=SCHEMAS, lake=tmp_path)
    assert json.loads(nested["transforms.row.defaults"]) == {"task.attempt": 1}


def test_a_prefix_is_that_of_both_topics(tmp_path: Path) -> None:
    settings = connector("RiskAlert", registry=SCHEMAS, lake=tmp_path, prefix="a.")
    assert settings["topics"] == "a.risk.alerts"
    assert settings["iceberg.control.topic"] == "a.connect.iceberg.control"


def test_a_table_that_lacks_columns_gets_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = columns_of("RiskAlert")
    with monkeypatch.context() as patched:
        patched.setattr("analytics.engines.connect_sink.columns_of", lambda _: whole.remove(0))
        make_table("RiskAlert", tmp_path)
    make_table("RiskAlert", tmp_path)
    table = open_catalog(tmp_path).load_table((NAMESPACE, TABLE))
    assert set(table.schema().as_arrow().names) == set(whole.names)
    assert [field.name for field in table.spec().fields] == ["_day"]


def test_an_unknown_class_is_named_with_those_that_there_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["RiskAlrt", "--registry", "http://r", "--lake", str(tmp_path / "lake")]
    assert main([*given, "--out", str(tmp_path / "out")]) == 1
    assert "no topic carries RiskAlrt; they carry" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.fixture(name="apicurio")
def _apicurio(kafka: "TestKafka", tmp_path: Path) -> Iterator[Apicurio]:
    journal = f"schemas-{uuid.uuid4().hex[:8]}"
    registry = Apicurio(kafka.bootstrap_servers, journal, tmp_path / "registry.log")
    registry.start()
    try:
        yield registry
    finally:
        registry.stop()


def values(alerts: dict[str, int], gap: int) -> Iterator[Row]:
    """Yield alerts of two versions, and two records that are none."""
    for number in range(EVENTS - 2):
        headers: list[tuple[str, str | bytes | None]] = [("tenant", TENANT)]
        is_old = number % 5 == 0
        yield confluent(number, alerts, oldest=is_old), headers if number % 7 == 0 else []
    other = InputGap(
        topic="t", partition=0, reason="future", from_offset=0, to_offset=9, event_time_us=1
    )
    yield b"\0" + gap.to_bytes(4) + encode(other)[10:], []
    yield None, []


def written(lake: Path) -> int:
    """Return the rows that the table has."""
    snapshot = open_catalog(lake).load_table((NAMESPACE, TABLE)).current_snapshot()
    summary: Any = None if snapshot is None else snapshot.summary
    return 0 if summary is None else int(summary["total-records"])


def wait_for(lake: Path, rows: int, worker: ConnectWorker) -> None:
    """Wait until a table has so many rows."""
    until = time.monotonic() + WITHIN_S
    while written(lake) < rows:
        worker.check()
        assert time.monotonic() < until, worker.log.read_text()[-6_000:]
        time.sleep(0.5)  # Connect tells nobody of a commit


@pytest.mark.engines
@pytest.mark.kafka
@pytest.mark.timeout(900)
def test_rows_equal_those_of_the_own_sink_after_kills(
    kafka: "TestKafka",
    apicurio: Apicurio,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    record_property: Callable[[str, object], None],
) -> None:
    assert INSTALLED.exists(), "`make engines-test` installs Kafka Connect"
    prefix, lake = f"connect-{uuid.uuid4().hex[:8]}.", tmp_path / "lake"
    monkeypatch.setenv("TAPEWIRE_TOPIC_PREFIX", prefix)
    with SchemaRegistry(SchemaRegistrySettings(url=apicurio.url)) as registry:
        ids = {change.subject: change.ids for change in register(registry, prefix)}
    known = ids[f"{prefix}risk.alerts-value"]
    marks = [fingerprint_hex(schema) for schema in versions("RiskAlert")]
    alerts = dict(zip(marks, known, strict=True))
    gap = ids[f"{prefix}risk.measures-tapewire.InputGap"][-1]
    topic = f"{prefix}risk.alerts"
    write(kafka.bootstrap_servers, topic, values(alerts, gap))
    write(kafka.bootstrap_servers, f"{prefix}connect.iceberg.control", [])
    given = {
        "--registry": f"{apicurio.root}/apis/registry/v2",
        "--lake": str(lake),
        "--epoch": EPOCH,
        "--commit-s": "3",
        "--tasks": "2",
        "--out": str(tmp_path / "out"),
    }
    assert main(["RiskAlert", *(word for pair in given.items() for word in pair)]) == 0
    connectors = list((tmp_path / "out").iterdir())
    worker = ConnectWorker(INSTALLED, kafka.bootstrap_servers, tmp_path)
    began = time.monotonic()
    worker.start(connectors)
    try:
        wait_for(lake, 1, worker)
        killed_at = written(lake)
        time.sleep(random.Random(20).uniform(0, 1))  # the kill may come at any moment
        worker.stop(signal.SIGKILL)
        worker.start(connectors)
        wait_for(lake, EVENTS - 2, worker)
    finally:
        worker.stop()
    took_s = time.monotonic() - began
    rows = open_catalog(lake).load_table((NAMESPACE, TABLE)).scan().to_arrow().to_pylist()
    assert len(rows) == EVENTS - 2
    own = own_rows(kafka.bootstrap_servers, topic, tmp_path, alerts)
    assert by_place(dict(row) for row in rows) == by_place(own)
    assert {row["_partition"] for row in rows} == set(range(PARTITIONS))
    line = (
        f"connect: {len(rows)} rows, with a kill after {killed_at}, in {took_s:.0f} s with both "
        "starts"
    )
    record_property("account", line)
    sys.stdout.write(f"{line}\n")
