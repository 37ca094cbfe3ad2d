"""The log in Kafka and a lake that has a part of it are one table, and an export is the log's."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pa_parquet
import pytest

from analytics.export import export_rows
from analytics.log_rows import Interval, KafkaLog, read_rows
from analytics.names import find_table
from analytics.sinks.address import open_sink
from analytics.sinks.base import Lane, Span
from analytics.sql.lakes import open_lake
from analytics.sql.session import Session
from analytics.table_files import Format
from kafka_io.publisher import Publisher
from kafka_io.settings import ProducerSettings
from tests.conftest import World
from tests.support.alerts import raised_alert

ALERTS = find_table("risk_alert")


async def publish(settings: ProducerSettings, numbers: range) -> None:
    async with Publisher(settings) as publisher:
        for number in numbers:
            await publisher.publish(raised_alert(f"t{number}", entity_id=f"p{number % 7}"))


async def names_in(session: Session) -> list[str]:
    answer = await session.query("SELECT transition_id FROM risk_alert ORDER BY ALL")
    return [name for rows in answer.batches() for name in rows.column(0).to_pylist()]


def expected(numbers: range) -> list[str]:
    return sorted(f"t{number}" for number in numbers)


@pytest.mark.kafka
async def test_a_part_in_a_lake_and_the_rest_in_kafka_are_one_table(
    world: World, tmp_path: Path
) -> None:
    settings = world.producer_settings
    log, address = KafkaLog(settings), f"delta:{tmp_path}/lake"
    await publish(settings, range(40))
    sink, spans, parts = open_sink(address), [], []
    for held in await log.ranges(["risk.alerts"]):
        end = (held.begin + held.end) // 2  # the sink stops in the middle of each partition
        taken = type(held)(held.topic, held.epoch, held.partition, held.begin, end)
        parts += [batch.rows async for batch in read_rows(log, ALERTS, [taken])]
        spans.append(Span(Lane(held.topic, held.epoch, held.partition), held.begin, end))
    rows = pa.Table.from_batches(parts)
    assert 10 < rows.num_rows < 30
    sink.append(ALERTS.name, rows, spans)
    with Session(log, open_lake(address)) as session:
        assert await names_in(session) == expected(range(40))
        await publish(settings, range(40, 50))
        assert await names_in(session) == expected(range(40))
        session.refresh()
        assert await names_in(session) == expected(range(50))
    path = tmp_path / "alerts.parquet"
    found = await export_rows(log, ALERTS, Interval(), form=Format.PARQUET, path=path)
    assert found == (50, 0)
    exported = pa_parquet.read_table(path)
    assert sorted(exported["transition_id"].to_pylist()) == expected(range(50))
    last_ms = max(round(at.timestamp() * 1000) for at in exported["_ingested_at"].to_pylist())
    with Session(log, as_of_ms=last_ms - 1) as session:
        before = await names_in(session)
    assert set(before) < set(expected(range(50)))
