"""Values in Confluent's framings: resolved, waited for, or refused with the reason."""

import asyncio
import json
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, Self
from uuid import UUID

import pytest
from aiokafka import TopicPartition
from confluent_kafka.schema_registry import header_schema_id_serializer

from kafka_io import client, framing
from kafka_io.counts import COUNTS
from kafka_io.errors import RegistryUnavailable, SchemaUnknown
from kafka_io.framing import SCHEMA_ID_HEADER, SchemaCache, split
from kafka_io.schema_registry import SchemaRegistry, SchemaRegistrySettings
from schemas.codec import decode, encode, versions
from schemas.errors import Undecodable, UnresolvedSchema
from schemas.events import AlertAck
from schemas.foreign import resolve
from schemas.topics import RISK_ACKS
from tests.conftest import World
from tests.support.fake_registry import fake_registry, guid_of
from tests.support.outsiders import Outsider

OWN = json.dumps(versions("AlertAck")[-1])
WAIT_S = 10.0


def ack(alert_id: str) -> AlertAck:
    return AlertAck(alert_id=alert_id, entity_id="pf-1", event_time_us=1_700_000_000_000_000)


def id_of(number: int) -> bytes:
    return b"\0" + number.to_bytes(4)


class Source:
    """A registry whose answers a test decides."""

    url = "http://registry"

    def __init__(self) -> None:
        self.texts: dict[bytes, str | Exception] = {}
        self.asked: list[bytes] = []

    def fetch(self, reference: bytes) -> str:
        self.asked.append(reference)
        found = self.texts.get(reference, SchemaUnknown("is not known there"))
        if isinstance(found, Exception):
            raise found
        return found


class Inline:
    """Runs what is submitted at once, or later if a test says so."""

    def __init__(self) -> None:
        self.is_slow = False
        self.waiting: list[Callable[[], None]] = []

    def submit(self, function: Callable[..., Any], *args: Any) -> "Future[Any]":
        future: Future[Any] = Future()

        def work() -> None:
            try:
                future.set_result(function(*args))
            except Exception as error:  # noqa: BLE001  # as an executor does
                future.set_exception(error)

        if self.is_slow:
            self.waiting.append(work)
        else:
            work()
        return future


class Scene:
    """A cache with a clock and a registry of a test."""

    def __init__(self, schemas_max: int = 100) -> None:
        self.source = Source()
        self.time_s = 1_000.0
        self.pool = Inline()
        self.cache = SchemaCache(
            self.source, schemas_max=schemas_max, now_s=lambda: self.time_s, pool=self.pool
        )

    def find(self, number: int) -> Any:
        """Look a schema up until there is no new answer at this time."""
        self.cache.find(id_of(number), WAIT_S)
        return self.cache.find(id_of(number), WAIT_S)


def refusal(found: Any) -> str:
    assert isinstance(found, UnresolvedSchema)
    return str(found)


def test_a_schema_is_fetched_once_and_remembered() -> None:
    scene = Scene()
    scene.source.texts[id_of(7)] = OWN
    assert scene.find(7)(encode(ack("a"))[10:]) == encode(ack("a"))
    scene.time_s += 1e6
    scene.source.texts[id_of(7)] = RegistryUnavailable("away")
    assert callable(scene.find(7))
    assert scene.source.asked == [id_of(7)]


def test_a_schema_that_the_registry_does_not_know_is_refused_at_once_and_asked_for_later() -> None:
    scene = Scene()
    assert refusal(scene.find(7)) == "the schema of the id 7 at http://registry is not known there"
    assert len(scene.source.asked) == 1
    scene.source.texts[id_of(7)] = OWN
    scene.time_s += 61
    assert callable(scene.find(7))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("<html>", "the schema of the id 7 at http://registry is no JSON: '<html>'"),
        ('{"type": "record", "name": "Tree", "fields": []}', "a record Tree, which no topic"),
    ],
)
def test_a_registry_that_lies_is_named_with_the_schema(text: str, reason: str) -> None:
    scene = Scene()
    scene.source.texts[id_of(7)] = text
    assert reason in refusal(scene.find(7))


def test_unknown_schemas_wait_for_a_registry_that_is_away_and_then_are_refused() -> None:
    scene = Scene()
    scene.source.texts = {id_of(1): OWN, id_of(7): RegistryUnavailable("cannot be asked")}
    assert callable(scene.find(1))
    assert scene.find(7) is None
    scene.time_s += 9
    assert scene.find(7) is None
    assert callable(scene.find(1))
    scene.time_s += 1
    text = refusal(scene.find(7))
    assert text == "the schema of the id 7 is not known after 10.0 s: cannot be asked"
    assert callable(scene.find(1))
    scene.source.texts[id_of(7)] = OWN
    scene.time_s += 1
    assert callable(scene.find(7))


def test_an_outage_holds_values_back_once_and_not_once_for_each_schema() -> None:
    scene = Scene()
    scene.source.texts = {id_of(number): RegistryUnavailable("away") for number in range(9)}
    assert scene.find(1) is None
    for _ in range(10):
        scene.time_s += 1
        scene.find(1)
    refusal(scene.find(1))
    scene.time_s += 0.5
    assert scene.find(2) is None, "the registry may be back: it is asked once more"
    scene.time_s += 0.5
    refusal(scene.find(2))
    scene.time_s += 3_600
    assert scene.find(3) is None, "an outage of an hour ago is over"


def test_a_registry_that_never_answers_is_waited_for_no_longer() -> None:
    scene = Scene()
    scene.pool.is_slow = True
    assert scene.find(7) is None
    scene.time_s += 10
    assert refusal(scene.find(7)).endswith("the schema registry at http://registry does not answer")
    scene.source.texts[id_of(7)] = OWN
    for work in scene.pool.waiting:
        work()
    assert callable(scene.find(7))


def test_the_schemas_that_are_remembered_and_waited_for_are_bounded() -> None:
    scene = Scene(schemas_max=3)
    scene.source.texts = {id_of(number): OWN for number in range(5)}
    for number in range(5):
        scene.find(number)
    scene.source.asked.clear()
    scene.find(4)
    assert not scene.source.asked
    scene.find(0)
    assert scene.source.asked == [id_of(0)]
    scene.pool.is_slow = True
    for number in range(100, 110):
        scene.find(number)
    assert len(scene.cache._questions) <= 3


def test_without_a_registry_the_refusal_names_the_setting() -> None:
    found = SchemaCache(None).find(id_of(7), WAIT_S)
    assert isinstance(found, Undecodable)
    assert "id 7; set TAPEWIRE_SCHEMA_REGISTRY_URL" in str(found)


GUID = b"\1" + bytes(range(16))


@pytest.mark.parametrize(
    ("value", "headers", "expected"),
    [
        (b"\0\0\0\0\7body", [], (id_of(7), b"body")),
        (b"\0\0\0\0\7", [], (id_of(7), b"")),
        (b"\0\0\0\7", [], None),
        (b"body", [], None),
        (b"body", [(SCHEMA_ID_HEADER, GUID)], (GUID, b"body")),
        (b"\0body", [("ce_id", b"x"), (SCHEMA_ID_HEADER, GUID)], (GUID, b"\0body")),
        (b"body", [(SCHEMA_ID_HEADER, id_of(7))], (id_of(7), b"body")),
        (b"body", [(SCHEMA_ID_HEADER, b"\2\0")], None),
        (b"body", [(SCHEMA_ID_HEADER, b"")], None),
    ],
)
def test_each_framing_is_recognized(
    value: bytes, headers: Sequence[tuple[str, bytes]], expected: tuple[bytes, bytes] | None
) -> None:
    found = split(value, headers)
    assert (None if found is None else (found.reference, found.body)) == expected
    assert found is None or found.is_by_header is bool(headers)


@pytest.mark.parametrize("serializer", [None, header_schema_id_serializer])
def test_what_confluents_serializer_writes_is_resolved(serializer: Any) -> None:
    how = {} if serializer is None else {"schema_id_serializer": serializer}
    with fake_registry() as known, Outsider("127.0.0.1:1", known.url) as outsider:
        event = {"alert_id": "a", "entity_id": "pf-1", "event_time_us": 1_700_000_000_000_000}
        value, headers = outsider.framed("acks", versions("AlertAck")[-1], event, **how)
        found = split(value, headers)
        assert found is not None
        with SchemaRegistry(SchemaRegistrySettings(url=known.url)) as registry:
            translate = resolve(registry.fetch(found.reference))
        assert decode(translate(found.body)) == ack("a")
        assert found.is_by_header is (serializer is not None)


def test_a_cache_is_shared_by_the_consumers_of_a_process() -> None:
    settings = SchemaRegistrySettings(url="http://127.0.0.1:1")
    assert framing.schema_cache(settings) is framing.schema_cache(
        SchemaRegistrySettings(url="http://127.0.0.1:1")
    )


class Acks:
    """The acknowledgements of a system, with a producer and a consumer of two partitions."""

    def __init__(self, world: World) -> None:
        servers = world.kafka.bootstrap_servers
        self._topic = world.topic(RISK_ACKS.name)
        self._producer = client.producer(servers, linger_ms=0)
        self.consumer: Any = client.consumer(servers)
        self.first, self.second = (TopicPartition(self._topic, number) for number in (0, 1))

    async def __aenter__(self) -> Self:
        await self._producer.start()
        await self.consumer.start()
        self.consumer.assign([self.first, self.second])
        await self.consumer.seek_to_beginning(self.first, self.second)
        return self

    async def __aexit__(self, *_: object) -> None:
        await client.stop(self._producer)
        await client.stop(self.consumer)

    async def send(self, partition: int, value: bytes, *headers: tuple[str, bytes]) -> None:
        await self._producer.send_and_wait(
            self._topic, value, partition=partition, headers=list(headers)
        )

    async def read(self, until: int) -> list[bytes]:
        found: list[bytes] = []
        async with asyncio.timeout(60):
            while len(found) < until:
                batches = await self.consumer.getmany(timeout_ms=200)
                found += [record.value for records in batches.values() for record in records]
        return found


@pytest.mark.kafka
@pytest.mark.timeout(120)
async def test_a_partition_waits_for_its_schema_and_the_others_go_on(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    body, known_before = encode(ack("foreign"))[10:], dict(COUNTS.foreign_values)
    with fake_registry() as known:
        monkeypatch.setenv("TAPEWIRE_SCHEMA_REGISTRY_URL", known.url)
        monkeypatch.setenv("TAPEWIRE_SCHEMA_REGISTRY_WAIT_S", "60")
        number = known.add(OWN)
        known.is_away = True
        async with Acks(world) as log:
            await log.send(0, encode(ack("first")))
            await log.send(0, id_of(number) + body)
            await log.send(0, body, (SCHEMA_ID_HEADER, b"\1" + UUID(guid_of(OWN)).bytes))
            await log.send(0, id_of(99) + body)
            await log.send(0, encode(ack("last")))
            assert await log.read(1) == [encode(ack("first"))]
            assert await log.consumer.getmany(timeout_ms=100) == {}
            for name in ("x", "y"):
                await log.send(1, encode(ack(name)))
                assert await log.read(1) == [encode(ack(name))]
            assert await log.consumer.position(log.first) == 1
            known.is_away = False
            *foreign, unknown, last = await log.read(4)
            assert foreign == [encode(ack("foreign"))] * 2
            assert last == encode(ack("last"))
            assert unknown == id_of(99) + body
            with pytest.raises(UnresolvedSchema, match=r"of the id 99 at .* is not known there"):
                decode(unknown)
            await log.consumer.seek_to_beginning(log.first)
            assert (await log.consumer.getone(log.first)).offset == 0
    assert [
        COUNTS.foreign_values[name] - known_before.get(name, 0) for name in ("read", "refused")
    ] == [2, 1]
