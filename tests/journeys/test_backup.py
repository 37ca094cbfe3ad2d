"""A backup of an embedded broker's log, restored elsewhere, has the same topics and records."""

import asyncio
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.app import cli
from infra.data_dir import locked
from infra.embedded_broker import free_port, prepare
from infra.settings import InfraSettings
from infra.topics import provision
from kafka_io.publisher import Publisher
from kafka_io.reader import read_all
from kafka_io.settings import ProducerSettings
from kafka_io.topic_admin import TopicAdmin
from schemas.events import Return, ReturnBatch
from schemas.topics import PORTFOLIO_RETURNS
from tests.conftest import TestKafka

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(240)]

RUNNER = CliRunner()
BATCHES = [ReturnBatch(returns=[Return(f"p{at}", at, 0.5)]) for at in range(20)]


def broker_on(data_dir: Path) -> TestKafka:
    """Start the broker of a data directory."""
    broker = prepare(data_dir / "kafka", free_port(), maven_url=InfraSettings().maven_url)
    kafka = TestKafka(broker.bootstrap_servers, broker, data_dir.with_name("kafka.log"))
    kafka.start()
    return kafka


def settings_of(kafka: TestKafka) -> ProducerSettings:
    return ProducerSettings().model_copy(update={"bootstrap_servers": kafka.bootstrap_servers})


async def written(kafka: TestKafka) -> None:
    await asyncio.to_thread(provision, kafka.bootstrap_servers, topics=[PORTFOLIO_RETURNS])
    async with Publisher(settings_of(kafka)) as publisher:
        for batch in BATCHES:
            await publisher.publish(batch, partition=0)


def id_of_topic(kafka: TestKafka) -> bytes:
    name = PORTFOLIO_RETURNS.name
    return TopicAdmin(kafka.bootstrap_servers).describe([name])[name].topic_id


def test_a_restored_broker_has_the_same_topics_and_records(tmp_path: Path) -> None:
    folder, other, file = tmp_path / "data", tmp_path / "other", tmp_path / "b.tar.gz"
    with locked(folder):
        kafka = broker_on(folder)
        try:
            asyncio.run(written(kafka))
            topic_id = id_of_topic(kafka)
            arguments = ["backup", str(file), "--data-dir", str(folder)]
            running = RUNNER.invoke(cli, arguments)
            assert (running.exit_code, "stop it" in str(running.exception)) == (1, True)
        finally:
            kafka.stop()
    made = RUNNER.invoke(cli, [*arguments, "--json"])
    assert made.exit_code == 0, made.output
    restored = RUNNER.invoke(cli, ["restore", str(file), "--data-dir", str(other), "--json"])
    assert restored.exit_code == 0, restored.output
    assert json.loads(restored.stdout) == json.loads(made.stdout)
    again = RUNNER.invoke(cli, ["restore", str(file), "--data-dir", str(other)])
    assert (again.exit_code, "has the folder kafka already" in str(again.exception)) == (1, True)

    kafka = broker_on(other)
    try:
        assert id_of_topic(kafka) == topic_id
        assert asyncio.run(read_all(PORTFOLIO_RETURNS, settings_of(kafka))) == BATCHES
    finally:
        kafka.stop()
