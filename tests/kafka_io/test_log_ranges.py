"""Ranges of the log end where they were found to end, also with transactions among the records."""

import pytest

from kafka_io.clock import now_us
from kafka_io.log_ranges import CLOCK_STEP_MS, find_ranges, read_ranges
from kafka_io.publisher import Publisher
from kafka_io.reader import ConsumedRecord
from kafka_io.settings import ProducerSettings
from kafka_io.topic_admin import TopicAdmin
from schemas.codec import decode
from schemas.events import TrainingProgress
from schemas.topics import TRAINING_EVENTS
from tests.conftest import World


async def write(settings: ProducerSettings, *percents: float) -> None:
    async with Publisher(settings) as publisher:
        for percent in percents:
            await publisher.publish(
                TrainingProgress(
                    task_id=f"t-{percent % 3}",
                    progress=percent,
                    status="running",
                    message="",
                    metrics={},
                    event_time_us=now_us(),
                )
            )


def percents_of(records: list[ConsumedRecord]) -> list[float]:
    events = [decode(record.value) for record in records]
    return sorted(event.progress for event in events if isinstance(event, TrainingProgress))


@pytest.mark.kafka
async def test_ranges_hold_the_records_of_their_time(world: World) -> None:
    settings = world.producer_settings
    name = settings.topic_prefix + TRAINING_EVENTS.name
    await write(settings, *map(float, range(9)))
    first = await find_ranges([name, "missing"], settings)
    assert sum(span.end - span.begin for span in first) == 9
    topic_id = TopicAdmin(settings.bootstrap_servers).describe([name])[name].topic_id
    assert {span.epoch for span in first} == {topic_id.hex()}
    await write(settings, 20.0, 21.0)
    pieces = [piece async for piece in read_ranges(first, settings)]
    records = [record for _, found in pieces for record in found]
    assert percents_of(records) == list(map(float, range(9)))
    last_ms = max(round(record.timestamp * 1000) for record in records)
    later = await find_ranges([name], settings, since_ms=last_ms + 1)
    found = [
        record for _, more in [p async for p in read_ranges(later, settings)] for record in more
    ]
    assert percents_of(found) in ([20.0, 21.0], [21.0], [])
    assert {20.0, 21.0} >= set(percents_of(found))
    before = await find_ranges([name], settings, until_ms=last_ms - 2 * CLOCK_STEP_MS)
    assert all(span.begin == span.end for span in before)
    assert [piece async for piece in read_ranges(before, settings)] == []
    for span, part in pieces:
        assert all(span.begin <= record.offset < span.end for record in part)
