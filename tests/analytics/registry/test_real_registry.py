"""A real registry: schemas registered once, guarded, read by others, and missed while away."""

import asyncio
import json
import signal
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaConsumer

from cli.dead_letters import Choice, Outcome, read_letters, redrive
from cli.schemas import compare, register
from kafka_io.client import partition_of
from kafka_io.errors import SchemaUnknown
from kafka_io.schema_registry import SchemaRegistry, SchemaRegistrySettings
from kafka_io.subjects import canonical_text, subjects
from schemas.codec import decode, versions
from schemas.events import RiskMeasure
from schemas.foreign import resolve
from schemas.topics import PARTITIONS
from tests.conftest import World
from tests.support.apicurio import Apicurio
from tests.support.clients import stream
from tests.support.outsiders import Outsider, read_by_go, read_by_java

pytestmark = [pytest.mark.analytics, pytest.mark.kafka, pytest.mark.timeout(400)]

DAY_US = 86_400_000_000
BEGIN_US = 1_700_000_000_000_000


@pytest.fixture(name="registry")
def _registry(apicurio: Apicurio) -> Iterator[SchemaRegistry]:
    with SchemaRegistry(SchemaRegistrySettings(url=apicurio.url)) as registry:
        yield registry


def returns_of(name: str, first: int, last: int) -> dict[str, Any]:
    """Return a batch of a return each day, as a program would make it."""
    days = range(first, last)
    return {
        "portfolio_ids": [name] * len(days),
        "times_us": [BEGIN_US + day * DAY_US for day in days],
        "values": [0.01 * (-1) ** day * (1 + day % 7) for day in days],
    }


def own_schema(name: str) -> dict[str, Any]:
    """Return a schema as another program may have it: its own namespace, and one field more."""
    schema: dict[str, Any] = json.loads(json.dumps(versions(name)[-1])) | {"namespace": "desk"}
    schema["fields"].insert(0, {"name": "room", "type": ["null", "string"], "default": None})
    return schema


async def test_ids_stay_the_same_over_a_second_registration_and_a_kill(
    apicurio: Apicurio, registry: SchemaRegistry
) -> None:
    changes = list(register(registry, "a."))
    assert {change.subject for change in changes if change.compatibility} == {
        subject.name for subject in subjects("a.")
    }
    ids = {change.subject: change.ids for change in changes}
    assert ids["a.risk.book_state-tapewire.BookRisk"] == ids["a.risk.book_risks-value"]
    assert compare(registry, "a.") == []
    await asyncio.to_thread(apicurio.stop, signal.SIGKILL)
    await asyncio.to_thread(apicurio.start)
    again = list(register(registry, "a."))
    assert {change.subject: change.ids for change in again} == ids
    assert not [change for change in again if change.registered or change.compatibility]


def test_the_registry_refuses_a_version_that_breaks_readers(registry: SchemaRegistry) -> None:
    subject = next(found for found in subjects("b.") if found.name == "b.risk.alerts-value")
    registry.set_compatibility(subject.name, subject.compatibility)
    for text in subject.texts():
        registry.register(subject.name, text)
    broken, grown = (json.loads(json.dumps(versions("RiskAlert")[-1])) for _ in range(2))
    broken["fields"] = [field for field in broken["fields"] if field["name"] != "alert_id"]
    broken["fields"].append({"name": "wanted", "type": "string"})
    grown["fields"].append({"name": "wanted", "type": "string", "default": ""})
    with pytest.raises(SchemaUnknown, match="is refused there"):
        registry.register(subject.name, canonical_text(broken))
    assert registry.register(subject.name, canonical_text(grown)) > 0


@asynccontextmanager
async def raw_values(world: World, topic: str) -> AsyncGenerator[AIOKafkaConsumer]:
    """Read a topic as programs of others do."""
    consumer = AIOKafkaConsumer(
        world.topic(topic),
        bootstrap_servers=world.kafka.bootstrap_servers,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        metadata_max_age_ms=500,
    )
    await consumer.start()
    try:
        yield consumer
    finally:
        await consumer.stop()


async def read(consumer: AIOKafkaConsumer, count: int) -> list[bytes]:
    async with asyncio.timeout(90):
        return [(await consumer.getone()).value or b"" for _ in range(count)]


async def test_programs_of_others_write_and_read_what_this_system_does(
    world: World, apicurio: Apicurio, registry: SchemaRegistry
) -> None:
    await asyncio.to_thread(lambda: list(register(registry, world.prefix)))
    settings = {"schema_registry_url": apicurio.url, "wire": "confluent"}
    home = partition_of(b"pf", PARTITIONS)
    with Outsider(world.kafka.bootstrap_servers, apicurio.url) as outsider:
        edge = await world.edge(**settings)
        await world.worker(batch_within_s=0.05, **settings)
        async with stream(edge.url, "/api/v1/sse/training", since="earliest") as client:
            progress = {
                "task_id": "t",
                "progress": 12.5,
                "status": "running",
                "message": "by others",
                "metrics": {"loss": 0.5},
                "event_time_us": BEGIN_US,
            }
            await asyncio.to_thread(
                outsider.send,
                *(world.topic("training.events"), own_schema("TrainingProgress"), progress, "t"),
            )
            await client.until(
                lambda blocks: any("by others" in (block.data or "") for block in blocks)
            )
        async with raw_values(world, "risk.measures") as measures:
            topic = world.topic("portfolio.returns")
            batch = returns_of("pf", 0, 300)
            await asyncio.to_thread(
                outsider.send, topic, own_schema("ReturnBatch"), batch, None, home
            )
            values = await read(measures, 1)
        await world.program("tests.support.faust_stranger", schema_registry_url=apicurio.url)
        async with raw_values(world, "chat.messages") as seen:
            (by_faust,) = map(json.loads, await read(seen, 1))
        assert {value[0] for value in values} == {0}
        topic = world.topic("risk.measures")
        by_python = [outsider.read(topic, value) for value in values]
        by_go = await asyncio.to_thread(read_by_go, apicurio.url, values)
        by_java = await asyncio.to_thread(read_by_java, apicurio.url, values)
    ours = [decode(_single_object(registry, value)) for value in values]
    for measure, python, go, java in zip(ours, by_python, by_go, by_java, strict=True):
        assert isinstance(measure, RiskMeasure)
        assert python["portfolio_id"] == go["portfolio_id"] == measure.portfolio_id == "pf"
        assert python["observations"] == go["observations"] == measure.observations
        assert (java["portfolio_id"], java["var_95"]) == ("pf", measure.var_95)
        assert java["observations"] == measure.observations
        assert by_faust == {"portfolio_id": "pf", "days": measure.observations}
        assert python["as_of_us"].timestamp() * 1e6 == measure.as_of_us


def _single_object(registry: SchemaRegistry, value: bytes) -> bytes:
    return resolve(registry.fetch(value[:5]))(value[5:])


async def test_while_the_registry_is_away_known_schemas_go_on_and_others_are_dead_letters(
    world: World, apicurio: Apicurio
) -> None:
    topic, producer = world.topic("portfolio.returns"), world.producer_settings
    home = partition_of(b"pf", PARTITIONS)
    settings = {"schema_registry_url": apicurio.url, "schema_registry_wait_s": 3}
    known, strange = own_schema("ReturnBatch"), own_schema("ReturnBatch")
    strange["fields"].insert(0, {"name": "desk", "type": "string", "default": uuid4().hex})
    with Outsider(world.kafka.bootstrap_servers, apicurio.url) as outsider:
        outsider.framed(topic, strange, {})
        await world.worker(batch_within_s=0.05, **settings)
        async with raw_values(world, "risk.measures") as measures:
            outsider.send(topic, known, returns_of("pf", 0, 300), partition=home)
            await read(measures, 1)
            await asyncio.to_thread(apicurio.stop, signal.SIGKILL)
            outsider.send(topic, known, returns_of("pf", 300, 310), partition=home)
            await read(measures, 1)
            outsider.send(topic, strange, returns_of("pf", 310, 320), partition=home)
            outsider.send(topic, known, returns_of("pf", 320, 330), partition=home)
            await read(measures, 1)
        (letter,) = await read_letters(producer, Choice())
        assert letter.letter.reason == "unresolved_schema"
        assert f"the schema registry at {apicurio.url} cannot be asked" in letter.letter.error
        await asyncio.to_thread(apicurio.start)
        outcomes: list[Outcome] = []
        with pytest.MonkeyPatch.context() as patched:
            patched.setenv("TAPEWIRE_SCHEMA_REGISTRY_URL", apicurio.url)
            assert await redrive(producer, [letter], "it is back", outcomes.append)
        assert [outcome.is_done for outcome in outcomes] == [True]
