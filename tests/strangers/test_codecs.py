"""Every codec that Kafka knows, chosen by a producer or by a topic, is read by every part."""

import asyncio
from collections.abc import Sequence
from itertools import cycle

import httpx
import pytest
from confluent_kafka import Producer

from kafka_io.client import partition_of
from kafka_io.publisher import Publisher
from producers.broadcaster import SSEBroadcaster
from producers.returns import ReturnsPublisher
from schemas.codec import encode
from schemas.events import Return, ReturnBatch, RiskMeasure
from schemas.topics import CATALOGUE, PARTITIONS, PORTFOLIO_RETURNS, RISK_ALERTS
from tests.conftest import World
from tests.support.clients import stream
from tests.support.edge import alert
from tests.support.sse import named
from tests.support.straight_run import TopicReader
from tests.support.topic_config import configure

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]

CODECS = ("gzip", "snappy", "lz4", "zstd")
UNPACKED_BYTES = 48 << 20
ALERTS = "/api/v1/sse/alerts"


def returns_of(portfolio: str, first: int, last: int) -> list[Return]:
    return [Return(portfolio, at, 0.01 * (-1) ** at) for at in range(first, last)]


async def test_records_of_every_codec_reach_clients_and_are_measured(world: World) -> None:
    def write(codec: str, *numbers: int) -> None:
        producer = Producer(
            {
                "bootstrap.servers": world.kafka.bootstrap_servers,
                "compression.type": codec,
                "linger.ms": 20,
            }
        )
        for number in numbers:
            producer.produce(
                world.topic(RISK_ALERTS.name), alert(codec, number), key=codec.encode(), partition=0
            )
            producer.produce(
                world.topic(PORTFOLIO_RETURNS.name),
                encode(ReturnBatch(returns=returns_of(codec, number * 50, number * 50 + 50))),
                partition=partition_of(codec.encode(), PARTITIONS),
            )
        assert producer.flush(30) == 0

    edge = await world.edge()
    await world.worker()
    async with stream(edge.url, ALERTS) as live, TopicReader(world, "risk.measures") as reader:
        await live.until(lambda blocks: any(block.id for block in blocks))
        for codec in CODECS:
            await asyncio.to_thread(write, codec, *range(4))
        seen = await live.events("risk_alert", 4 * len(CODECS))
        await reader.until(lambda found: all(has_measured(found, codec, 200) for codec in CODECS))
    expected = [(codec, f"number {number}") for codec in CODECS for number in range(4)]
    assert [(block.inner["entity_id"], block.inner["message"]) for block in seen] == expected
    async with stream(edge.url, ALERTS, since="earliest") as again:
        await again.until(lambda blocks: len(named(blocks, "risk_alert")) == len(expected))
        assert [
            (block.inner["entity_id"], block.inner["message"])
            for block in named(again.blocks, "risk_alert")
        ] == expected


async def test_a_record_that_is_large_only_when_it_is_unpacked_stops_no_part(world: World) -> None:
    """A broker checks the compressed size only."""
    topics = {RISK_ALERTS.name: b"k", PORTFOLIO_RETURNS.name: b"p"}

    def write() -> None:
        producer = Producer(
            {
                "bootstrap.servers": world.kafka.bootstrap_servers,
                "compression.type": "zstd",
                "message.max.bytes": 200_000_000,
            }
        )
        for topic, key in topics.items():
            partition = partition_of(key, PARTITIONS)
            producer.produce(
                world.topic(topic), bytes(UNPACKED_BYTES), key=key, partition=partition
            )
        producer.produce(world.topic(RISK_ALERTS.name), alert("k", 1), key=b"k",
                         partition=partition_of(b"k", PARTITIONS))  # fmt: skip
        producer.produce(
            world.topic(PORTFOLIO_RETURNS.name),
            encode(ReturnBatch(returns=returns_of("p", 0, 120))),
            partition=partition_of(b"p", PARTITIONS),
        )
        assert producer.flush(60) == 0

    edge = await world.edge()
    await world.worker()
    async with stream(edge.url, ALERTS) as live, TopicReader(world, "risk.measures") as reader:
        await live.until(lambda blocks: any(block.id for block in blocks))
        await asyncio.to_thread(write)
        await live.events("risk_alert", 1)
        await reader.until(lambda found: has_measured(found, "p", 120))
    async with stream(edge.url, ALERTS, since="earliest") as again:
        await again.events("risk_alert", 1)


async def test_topics_that_compress_are_read_by_every_part(world: World) -> None:
    """Inputs and outputs, commands, tables, and the states of processors."""

    codecs = zip(CATALOGUE, cycle(CODECS), strict=False)
    await configure(world, {topic.name: {"compression.type": codec} for topic, codec in codecs})
    async with asyncio.TaskGroup() as starting:
        started = starting.create_task(world.edge())
        working = starting.create_task(world.worker())
        starting.create_task(world.trainer())
    edge, worker = started.result(), working.result()
    async with httpx.AsyncClient(base_url=edge.url, timeout=30) as http:
        wanted = {"meter_id": "m", "meter_type": "electricity"}
        task = (await http.post("/trainmodel/", json=wanted)).raise_for_status().json()
        async with stream(edge.url, f"/trainmodel/stream/{task['task_id']}") as followed:
            blocks = await followed.to_end()
        assert blocks[-1].json["status"] == "SUCCESS"
        status = (await http.get(f"/trainmodel/status/{task['task_id']}")).raise_for_status().json()
        assert status == blocks[-1].json

        async with (
            Publisher(world.producer_settings) as publisher,
            TopicReader(world, "risk.measures") as reader,
        ):
            returns = ReturnsPublisher(publisher)
            await returns.send(returns_of("p", 0, 120))
            await reader.until(lambda found: has_measured(found, "p", 120))
            await worker.kill()
            await world.worker()
            await returns.send(returns_of("p", 120, 150))
            await reader.until(lambda found: has_measured(found, "p", 150))

        async with (
            SSEBroadcaster(world.producer_settings) as reporter,
            stream(edge.url, ALERTS) as live,
        ):
            await live.until(lambda blocks: any(block.id for block in blocks))
            await reporter.send_risk_alert(
                "var_exceeded", "high", "over", "var_95", 0.06, 0.05, "portfolio", "p"
            )
            await live.events("risk_alert", 1)


def has_measured(found: Sequence[object], portfolio: str, observations: int) -> bool:
    return any(
        isinstance(measure, RiskMeasure)
        and (measure.portfolio_id, measure.observations) == (portfolio, observations)
        for measure in found
    )
