"""Flink's tables: their statements, and a windowed query by Flink itself over a broker."""

import json
import os
import random
import subprocess
import tomllib
import uuid
from collections import defaultdict
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fastavro
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from analytics.engines.flink_tables import main, table_statement
from infra.maven import fetch
from kafka_io.subjects import canonical_text
from schemas.codec import encode, versions
from schemas.events import InputGap, RiskMeasure
from schemas.topics import REGISTRY
from tests.support.fake_registry import FakeRegistry, fake_registry

if TYPE_CHECKING:
    from tests.conftest import TestKafka

ROOT = Path(__file__).parents[3]
FLINK = ROOT / "build" / "engines" / "flink"
JARS = Path(__file__).with_name("flink.lock.toml")
QUERY = ROOT / "examples" / "flink" / "daily_var.sql"
MEASURES = int(os.environ.get("TAPEWIRE_ENGINE_EVENTS", "20000"))
PORTFOLIOS = 20
DAY_US = 86_400_000_000
FIRST_DAY_US = 1_700_006_400_000_000
SINGLE_OBJECT_HEAD = 10
SCHEMAS_URL = "http://schemas.example"


def statement(name: str, **options: Any) -> str:
    return table_statement(name, servers="kafka:9092", registry=SCHEMAS_URL, **options)


def test_a_table_has_the_fields_of_the_newest_version_times_and_places() -> None:
    found = statement("RiskAlert", prefix="a.", options={"properties.ssl.x": "it's"})
    for part in (
        "`alert_id` STRING",
        "`acknowledged` BOOLEAN",
        "`event_time_us` BIGINT",
        "`event_time` AS TO_TIMESTAMP_LTZ(`event_time_us` / 1000, 3)",
        "`_offset` BIGINT METADATA FROM 'offset' VIRTUAL",
        "'topic' = 'a.risk.alerts'",
        "'properties.isolation.level' = 'read_committed'",
        "'properties.ssl.x' = 'it''s'",
    ):
        assert part in found


def test_a_field_of_several_types_is_left_out_wherever_it_is() -> None:
    found = statement("TrainingProgress")
    assert "`task` ROW<" in found
    assert "`details`" not in found
    assert "`values`" not in statement("DashboardUpdate")


def test_windows_are_over_the_time_of_the_event_or_else_of_the_log() -> None:
    for row in REGISTRY:
        assert "WATERMARK FOR `" in statement(row.record.__name__)
    assert "WATERMARK FOR `event_time`" in statement("RiskAlert")
    assert "WATERMARK FOR `as_of`" in statement("RiskMeasure")
    assert "WATERMARK FOR `_ingested_at`" in statement("ReturnBatch")


def test_an_unknown_class_is_named_with_those_that_there_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "tables.sql"
    given = ["RiskMesure", "--servers", "k:1", "--registry", SCHEMAS_URL, "--out", str(out)]
    assert main(given) == 1
    assert "no topic carries RiskMesure; they carry" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.engines
@pytest.mark.kafka
@pytest.mark.timeout(600)
def test_flink_finds_the_windows_of_a_batch_query(kafka: "TestKafka", tmp_path: Path) -> None:
    [home] = FLINK.glob("lib/python3*/site-packages/pyflink")
    *jars, gateway = fetch(
        tomllib.loads(JARS.read_text())["sha256"], os.environ.get("TAPEWIRE_MAVEN_URL")
    )
    prefix = f"flink-{uuid.uuid4().hex[:8]}."
    with fake_registry() as registry:
        expected = write_measures(kafka.bootstrap_servers, f"{prefix}risk.measures", registry)
        tables, query = tmp_path / "tables.sql", tmp_path / "query.sql"
        tables.write_text(
            table_statement(
                "RiskMeasure",
                servers=kafka.bootstrap_servers,
                registry=registry.url,
                prefix=prefix,
                bounded=True,
            )
        )
        out = tmp_path / "daily_var"
        query.write_text(QUERY.read_text().replace("/tmp/daily_var", str(out)))  # noqa: S108  # the example's
        done = subprocess.run(
            [
                *(str(home / "bin" / "sql-client.sh"), "-i", str(tables), "-f", str(query)),
                *(word for jar in jars for word in ("-j", str(jar))),
            ],
            env={
                **os.environ,
                "FLINK_HOME": str(home),
                "HADOOP_CLASSPATH": str(gateway),  # a way to add a jar
                "FLINK_CONF_DIR": str(flink_settings(tmp_path)),
                "FLINK_LOG_DIR": str(tmp_path),
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=500,
        )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    rows = [
        json.loads(line)
        for path in out.rglob("*")
        if path.is_file()
        for line in path.read_text().splitlines()
    ]
    found = {
        (row["portfolio_id"], row["day"]): (row["low"], row["high"], row["measures"])
        for row in rows
    }
    assert len(found) == len(rows)
    assert found == expected


def flink_settings(folder: Path) -> Path:
    """Return a folder of settings: days of UTC, and no more memory than is needed."""
    settings = folder / "conf"
    settings.mkdir()
    (settings / "config.yaml").write_text(
        "table:\n  local-time-zone: UTC\ntaskmanager:\n  numberOfTaskSlots: 2\n"
        "parallelism:\n  default: 2\n"
    )
    return settings


Windows = dict[tuple[str, str], tuple[float, float, int]]


def write_measures(servers: str, topic: str, registry: FakeRegistry) -> Windows:
    """Write measures of two versions of the schema and a gap; return what is in their windows."""
    subject = f"{topic}-value"
    first, newest = versions("RiskMeasure")[0], versions("RiskMeasure")[-1]
    heads = [
        b"\0" + registry.add(canonical_text(schema), subject).to_bytes(4)
        for schema in (first, newest)
    ]
    other = registry.add(canonical_text(versions("InputGap")[-1]), f"{topic}-tapewire.InputGap")
    admin = AdminClient({"bootstrap.servers": servers})
    admin.create_topics([NewTopic(topic, 3, 1)])[topic].result()
    producer = Producer({"bootstrap.servers": servers, "linger.ms": 50})
    dice = random.Random(20)
    values: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
    for number in range(MEASURES):
        name, var = f"p{number % PORTFOLIOS}", round(dice.uniform(0.01, 0.09), 6)
        day = number * 10 // MEASURES
        time_us = FIRST_DAY_US + day * DAY_US + number
        body = encode(measure(name, time_us, var))[SINGLE_OBJECT_HEAD:]
        if number % 3 == 0:
            datum: Any = fastavro.schemaless_reader(BytesIO(body), newest, first)
            old = BytesIO()
            fastavro.schemaless_writer(old, first, datum)
            body = old.getvalue()
        producer.produce(topic, heads[number % 3 != 0] + body, partition=number % PORTFOLIOS % 3)
        producer.poll(0)
        values[name, f"2023-11-{15 + day}"].append(var)
        if number == MEASURES // 2:
            gap = InputGap(
                topic="portfolio.returns", partition=0, reason="future", from_offset=0,
                to_offset=9, event_time_us=time_us,
            )  # fmt: skip
            framed = b"\0" + other.to_bytes(4) + encode(gap)[SINGLE_OBJECT_HEAD:]
            producer.produce(topic, framed, partition=1)
    assert producer.flush(60) == 0
    return {at: (min(found), max(found), len(found)) for at, found in values.items()}


def measure(name: str, time_us: int, var: float) -> RiskMeasure:
    return RiskMeasure(
        portfolio_id=name,
        as_of_us=time_us,
        method="historical",
        status="ok",
        observations=250,
        var_95=var,
        event_id=f"{name}-{time_us}",
        source_topic="portfolio.returns",
        source_partition=0,
        source_offset=time_us % 1_000_000,
    )
