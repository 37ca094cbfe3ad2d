"""The subjects at a schema registry, and values that name its schemas."""

import json
from itertools import permutations
from typing import Any

import pytest
from aiokafka import TopicPartition
from avro.compatibility import ReaderWriterCompatibilityChecker, SchemaCompatibilityType
from avro.schema import parse

from kafka_io import client
from kafka_io.errors import InvalidSetting, RegistryUnavailable
from kafka_io.framing import SchemaCache
from kafka_io.publisher import Publisher
from kafka_io.reader import read_newest, stream_records
from kafka_io.schema_registry import SchemaRegistry, SchemaRegistrySettings
from kafka_io.settings import ProducerSettings
from kafka_io.subjects import ConfluentWire, canonical_text, current_wire, subjects
from producers.progress import training_progress
from schemas.codec import MARKER, encode, record_names, versions
from schemas.headers import ID
from schemas.topics import TRAINING_EVENTS
from tests.conftest import World
from tests.support.fake_registry import FakeRegistry, fake_registry

EVENT = training_progress("t", 0.5, "running", now_us=1_700_000_000_000_000)


def fill(known: FakeRegistry, prefix: str = "") -> None:
    for subject in subjects(prefix):
        for text in subject.texts():
            known.add(text, subject.name)


def can_read(reader: Any, writer: Any) -> bool:
    checker: Any = ReaderWriterCompatibilityChecker  # it has no types
    found = checker().get_compatibility(parse(json.dumps(reader)), parse(json.dumps(writer)))
    return bool(found.compatibility is SchemaCompatibilityType.compatible)


def test_a_topics_own_class_has_its_subject_and_the_others_have_one_each() -> None:
    names = {(subject.name, subject.record) for subject in subjects("desk.")}
    assert ("desk.risk.measures-value", "RiskMeasure") in names
    assert ("desk.risk.measures-tapewire.InputGap", "InputGap") in names
    assert ("desk.risk.book_state-tapewire.BookRisk", "BookRisk") in names
    assert len({name for name, _ in names}) == len(names)
    assert {record for _, record in names} == set(record_names())


@pytest.mark.parametrize("name", record_names())
def test_versions_are_as_compatible_as_the_registry_checks(name: str) -> None:
    levels = {subject.compatibility for subject in subjects() if subject.record == name}
    is_full = all(can_read(*pair) for pair in permutations(versions(name), 2))
    assert levels == {"FULL_TRANSITIVE" if is_full else "BACKWARD_TRANSITIVE"}


def test_a_registered_text_keeps_defaults_and_times() -> None:
    text = canonical_text(versions("RiskMeasure")[-1])
    assert json.loads(text) == versions("RiskMeasure")[-1]
    assert '"default":' in text
    assert '"logicalType":"timestamp-micros"' in text


def test_values_of_each_version_get_the_id_of_their_schema(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TAPEWIRE_TOPIC_PREFIX", "desk.")
    with fake_registry() as known:
        fill(known, "desk.")
        settings = SchemaRegistrySettings(url=known.url, wire="confluent")
        wire = ConfluentWire(settings)
        wire.load()
        asked = len(known.requests)
        wire.load()
        assert len(known.requests) == asked
        value = encode(EVENT)
        framed = wire.frame(value)
        assert framed is not None
        assert framed[0] == 0
        assert framed[5:] == value[10:]
        text = SchemaRegistry(settings).fetch(framed[:5])
        assert json.loads(text) == versions("TrainingProgress")[-1]
        cache = SchemaCache(SchemaRegistry(settings))
        while (translate := cache.find(framed[:5], 10)) is None:
            pass
        assert callable(translate)
        assert translate(framed[5:]) == value
    for other in (None, b"", b"text", MARKER + b"unknown!body"):
        assert wire.frame(other) == other


def test_a_schema_that_is_not_registered_is_an_error_that_names_the_command() -> None:
    with fake_registry() as known:
        fill(known)
        known.subjects["risk.alerts-value"].pop()
        wire = ConfluentWire(SchemaRegistrySettings(url=known.url, wire="confluent"))
        with pytest.raises(
            InvalidSetting,
            match=r"does not have version 2 of risk\.alerts-value; run `tapewire schemas register`",
        ):
            wire.load()
        known.subjects.clear()
        with pytest.raises(
            InvalidSetting, match=r"version 1 of training\.events-value and \d+ more"
        ):
            wire.load()


def test_single_object_encoding_is_written_without_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAPEWIRE_SCHEMA_REGISTRY_URL", "http://127.0.0.1:1")
    assert current_wire() is None
    monkeypatch.setenv("TAPEWIRE_WIRE", "confluent")
    assert current_wire() is current_wire() is not None


async def test_a_registry_that_is_away_is_an_error_before_the_first_record(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("TAPEWIRE_SCHEMA_REGISTRY_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("TAPEWIRE_WIRE", "confluent")
    with pytest.raises(RegistryUnavailable):
        await client.prepare_wire()
    client.check_framing()
    assert "nothing can be written yet" in caplog.text
    client.check_framing(writes=False)


@pytest.mark.kafka
@pytest.mark.timeout(120)
async def test_what_is_written_in_confluents_framing_is_read_as_before(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic, settings = world.topic(TRAINING_EVENTS.name), world.producer_settings
    async with Publisher(settings) as publisher:
        await publisher.publish(EVENT)
    with fake_registry() as known:
        fill(known, ProducerSettings().topic_prefix)
        monkeypatch.setenv("TAPEWIRE_SCHEMA_REGISTRY_URL", known.url)
        monkeypatch.setenv("TAPEWIRE_WIRE", "confluent")
        async with Publisher(settings) as publisher:
            written = await publisher.publish(EVENT)
        both = [record async for record in stream_records(topic, settings)]
        assert [record.value for record in both] == [encode(EVENT)] * 2
        first, second = (dict(record.headers) for record in both)
        assert first[ID] == second[ID], "the id is that of the event, whatever its framing"
        assert await read_newest(TRAINING_EVENTS, settings, 2) == [EVENT] * 2
        consumer = client.consumer(world.kafka.bootstrap_servers, resolves=False)
        await consumer.start()
        home = TopicPartition(topic, written.partition)
        consumer.assign([home])
        consumer.seek(home, written.offset)
        logged: bytes = (await consumer.getone()).value or b""
        await client.stop(consumer)
        assert logged[0] == 0
        assert logged[5:] == encode(EVENT)[10:]
