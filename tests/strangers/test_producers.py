"""A producer of another house, librdkafka, writes raw bytes and absurd records beside ours.

At the end the healthy streams are complete, from one edge and one worker that nobody restarts, and
each bad record behind processors has one dead letter.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence

import pytest

from kafka_io.clock import now_us
from kafka_io.publisher import Publisher
from producers.progress import training_progress
from schemas.events import DeadLetter, Record, Return, ReturnBatch, RiskMeasure
from tests.conftest import World
from tests.support.clients import stream
from tests.support.straight_run import TopicReader
from tests.support.stranger import (
    CODECS,
    HOME,
    PARTITION_UA,
    Strange,
    producer_of,
    strange_records,
)

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]

GOOD = 40


async def produce(world: World, records: Sequence[Strange]) -> None:
    """Write records with librdkafka, by each codec in turn and with its own partitioner."""
    for index, codec in enumerate(CODECS):
        producer = producer_of(world, codec)
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
