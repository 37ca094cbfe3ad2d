"""A producer of another house, librdkafka, writes raw bytes and absurd records beside ours.

At the end the healthy streams are complete, from one edge and one worker that nobody restarts, and
each bad record behind processors has one dead letter.
"""

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest
from confluent_kafka import Producer

from kafka_io.client import partition_of
from kafka_io.clock import now_us
from kafka_io.publisher import Publisher
from producers.progress import training_progress
from schemas.codec import encode
from schemas.events import DeadLetter, Record, Return, ReturnBatch, RiskMeasure, TrainingProgress
from schemas.topics import PARTITIONS
from tests.conftest import World
from tests.support.clients import stream
from tests.support.straight_run import TopicReader
from tests.support.strangers import encoded

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]

PARTITION_UA = -1
"""Librdkafka chooses the partition."""
CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
GOOD = 40
HOME = partition_of(b"p", PARTITIONS)


Strange = tuple[str, bytes | None, bytes | None, int | None, str]
"""The topic, key, value and partition of a record, and the reason of its dead letter."""


def fields(record: Record) -> dict[str, object]:
    return {name: getattr(record, name) for name in record.__dataclass_fields__}


def strange_records() -> Iterator[Strange]:
    event = training_progress("T", 50.0, "running", now_us=now_us())
    for topic in ("training.events", "portfolio.returns", "backtest.events", "market.trades"):
        yield topic, b"k", b"\x00\xffgarbage", None, "undecodable"
        yield topic, None, None, 0, "undecodable"
        yield topic, b"k", b"\xc3\x01" + b"x" * 900_000, None, "undecodable"
        yield topic, b"k" * 520_000, b"{}", None, "undecodable"
    deep = fields(event) | {"metrics_json": "[" * 1_100 + "]" * 1_100}
    for wrong in (
        fields(event) | {"task_id": "T" * 200_000},
        fields(event) | {"progress": float("nan")},
        deep,
    ):
        yield "training.events", b"T", encoded(TrainingProgress, wrong), None, "invalid"
    ahead = replace(event, event_time_us=now_us() + 10 * 86_400_000_000)
    yield "training.events", b"T", encode(ahead), None, "future"
    yield "training.events", b"other", encode(event), None, "misplaced"
    away = (partition_of(b"T", PARTITIONS) + 1) % PARTITIONS
    yield "training.events", b"T", encode(event), away, "wrong_partition"
    elsewhere = encode(ReturnBatch(returns=[Return("p", now_us(), 0.01)]))
    yield "portfolio.returns", None, elsewhere, (HOME + 1) % PARTITIONS, "wrong_partition"
    infinite = encode(ReturnBatch(returns=[Return("p", now_us(), float("inf"))]))
    yield "portfolio.returns", None, infinite, HOME, "invalid"


async def produce(world: World, records: Sequence[Strange]) -> None:
    """Write records with librdkafka, by each codec in turn and with its own partitioner."""
    for index, codec in enumerate(CODECS):
        producer = Producer(
            {
                "bootstrap.servers": world.kafka.bootstrap_servers,
                "compression.type": codec,
                "message.max.bytes": 2_000_000,
            }
        )
        for topic, key, value, partition, _ in records[index :: len(CODECS)]:
            where = PARTITION_UA if partition is None else partition
            producer.produce(world.topic(topic), value, key, partition=where)
        assert await asyncio.to_thread(producer.flush, 30) == 0


async def test_healthy_streams_are_complete_beside_whatever_strangers_write(world: World) -> None:
    edge = await world.edge()
    await world.worker(batch_within_s=0.05)
    strange = list(strange_records())
    expected = Counter(reason for *_, reason in strange)
    async with (
        stream(edge.url, "/api/v1/sse/training") as shown,
        stream(edge.url, "/api/v1/sse/measures") as measured,
        Publisher(world.producer_settings) as publisher,
        TopicReader(world, "dead.letters", "risk.measures") as reader,
    ):
        await shown.until(lambda blocks: len(blocks) >= 2)
        await measured.until(lambda blocks: len(blocks) >= 2)
        for number in range(GOOD):
            await publisher.publish(training_progress("good", number, "running", now_us=now_us()))
            await publisher.publish(
                ReturnBatch(returns=[Return("p", now_us(), 0.01 * (number % 3))]), partition=HOME
            )
            part = strange[number * len(strange) // GOOD : (number + 1) * len(strange) // GOOD]
            await produce(world, part)
        # A word of a producer's own is no fault: it is passed on.
        odd = training_progress("odd", 1.0, "hibernating", now_us=now_us())
        await publisher.publish(odd)
        seen = await shown.until(
            lambda blocks: any("hibernating" in (block.data or "") for block in blocks)
        )
        numbers = [
            block.inner["progress"]
            for block in seen
            if block.event == "training_progress" and block.inner["task_id"] == "good"
        ]
        assert numbers == [float(number) for number in range(GOOD)]

        records = await reader.until(
            lambda records: (
                len(letters(records)) >= expected.total() and observations(records)[-1:] == [GOOD]
            )
        )
    found = letters(records)
    assert Counter(letter.reason for letter in found) == expected
    assert len({letter.event_id for letter in found}) == len(found)


def letters(records: Sequence[Record]) -> list[DeadLetter]:
    return [record for record in records if isinstance(record, DeadLetter)]


def observations(records: Sequence[Record]) -> list[int]:
    """Return the numbers of returns in the measures of the portfolio."""
    return [record.observations for record in records if isinstance(record, RiskMeasure)]
