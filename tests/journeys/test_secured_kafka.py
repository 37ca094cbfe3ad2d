"""A broker with TLS and SASL: each way to authenticate, and sessions and passwords that end."""

import asyncio
import logging
import uuid
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.conn import CloseReason
from aiokafka.errors import KafkaConnectionError
from confluent_kafka.cimpl import NewTopic

from kafka_io import client
from kafka_io.errors import Unread
from kafka_io.topic_admin import TopicAdmin
from tests.support.secured_kafka import SESSION_S, SecuredKafka, secured_kafka

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]


Use = Callable[[dict[str, str]], str]


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Generator[SecuredKafka]:
    users = {"plain": "password-of-plain"}
    with secured_kafka(tmp_path_factory.mktemp("secured"), users) as kafka:
        for user in ("plain", "scram", "certificate", "token", "expiring", "rotating"):
            kafka.allow_all(user)
        yield kafka


@pytest.fixture
def topic(secured: SecuredKafka) -> str:
    name = f"t{uuid.uuid4().hex[:8]}"
    secured.admin.create_topics([NewTopic(name, 1)])[name].result()
    return name


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Use:
    """Sets the environment of a user's clients, and returns Kafka's addresses."""

    def change(settings: dict[str, str]) -> str:
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        return settings["KAFKA_BOOTSTRAP_SERVERS"]

    return change


def settings_of(secured: SecuredKafka, way: str) -> dict[str, str]:
    match way:
        case "certificate":
            return secured.certificate("certificate")
        case "OAUTHBEARER":
            return secured.token("token")
        case "PLAIN":
            return secured.scram("plain", "PLAIN")
        case mechanism:
            return secured.scram("scram", mechanism)


@asynccontextmanager
async def writing(servers: str, *, transactional_id: str = "") -> AsyncGenerator[AIOKafkaProducer]:
    producer = (
        client.transactional_producer(servers, transactional_id, timeout_s=10)
        if transactional_id
        else client.producer(servers, linger_ms=0)
    )
    try:
        await producer.start()
        yield producer
    finally:
        await client.stop(producer)


@asynccontextmanager
async def reading(servers: str, topic: str, group: str | None) -> AsyncGenerator[AIOKafkaConsumer]:
    consumer = client.consumer(servers, group_id=group, auto_offset_reset="earliest")
    try:
        if group is None:
            await consumer.start()
            consumer.assign([TopicPartition(topic, 0)])
            await consumer.seek_to_beginning()
        else:
            consumer.subscribe([topic])
            await consumer.start()
        yield consumer
    finally:
        await client.stop(consumer)


@pytest.mark.parametrize(
    "way", ["certificate", "OAUTHBEARER", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]
)
async def test_each_way_to_authenticate_serves_all_clients(
    way: str,
    secured: SecuredKafka,
    topic: str,
    use: Use,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    servers = use(settings_of(secured, way))
    admin = TopicAdmin(servers)
    assert await asyncio.to_thread(admin.ping, 10)
    assert (await asyncio.to_thread(admin.describe, [topic]))[topic].partitions == 1
    async with writing(servers) as producer:
        await producer.send_and_wait(topic, b"1")
    async with writing(servers, transactional_id=f"{topic}-x") as producer, producer.transaction():
        await producer.send_and_wait(topic, b"2")
    for group in (None, f"{topic}-group"):
        async with reading(servers, topic, group) as consumer:
            values = [(await anext(consumer)).value for _ in range(2)]
        assert values == [b"1", b"2"]
    assert "Request to localhost" in caplog.text  # aiokafka logs at DEBUG
    for secret in ("password-of", "secret of", "eyJ", "BEGIN"):
        assert secret not in caplog.text


class Closings:
    """The connections of aiokafka clients that have broken."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.broken: list[object] = []
        closed: Any = AIOKafkaClient._on_connection_closed

        def note(this: AIOKafkaClient, conn: Any, reason: CloseReason) -> None:
            if reason in (CloseReason.CONNECTION_BROKEN, CloseReason.CONNECTION_TIMEOUT):
                self.broken.append(conn)
            closed(this, conn, reason)

        monkeypatch.setattr(AIOKafkaClient, "_on_connection_closed", note)


@pytest.fixture
def closings(monkeypatch: pytest.MonkeyPatch) -> Closings:
    return Closings(monkeypatch)


async def test_a_broker_closes_a_connection_whose_session_has_ended(
    secured: SecuredKafka, topic: str, use: Use, closings: Closings
) -> None:
    """The trouble that `kafka_io.connections` prevents is real."""
    use(settings_of(secured, "SCRAM-SHA-512"))
    plain = AIOKafkaProducer(
        bootstrap_servers=secured.with_password, **client.aiokafka_options(), acks="all"
    )
    async with plain as producer:
        until_s = asyncio.get_running_loop().time() + SESSION_S + 2
        while asyncio.get_running_loop().time() < until_s and not closings.broken:
            await producer.send_and_wait(topic, b"x")
            await asyncio.sleep(0.05)
    assert closings.broken


async def write(producer: AIOKafkaProducer, topic: str, end_s: float, seen: set[int]) -> int:
    number = 0
    while asyncio.get_running_loop().time() < end_s:
        await producer.send_and_wait(topic, b"%d" % number)
        number += 1
        seen.update(id(conn) for conn in producer.client._conns.values())
        await asyncio.sleep(0.02)
    return number


async def write_in_transactions(producer: AIOKafkaProducer, topic: str, end_s: float) -> int:
    number = 0
    while asyncio.get_running_loop().time() < end_s:
        async with producer.transaction():
            await producer.send_and_wait(topic, b"t%d" % number)
        number += 1
        await asyncio.sleep(0.02)
    return number


async def test_connections_are_replaced_before_their_sessions_end(
    secured: SecuredKafka, topic: str, use: Use, closings: Closings
) -> None:
    secured.issuer.life_s = 2 * SESSION_S  # tokens end, too
    issued = secured.issuer.issued
    servers = use(secured.token("expiring"))
    end_s = asyncio.get_running_loop().time() + 3 * SESSION_S
    admin = TopicAdmin(servers)
    seen: set[int] = set()

    async def administer() -> None:
        while asyncio.get_running_loop().time() < end_s:
            assert await asyncio.to_thread(admin.describe, [topic])
            await asyncio.sleep(0.1)

    async with (
        writing(servers) as producer,
        writing(servers, transactional_id=f"{topic}-x") as transactional,
        reading(servers, topic, f"{topic}-group") as consumer,
    ):
        async with asyncio.TaskGroup() as group:
            written = group.create_task(write(producer, topic, end_s, seen))
            committed = group.create_task(write_in_transactions(transactional, topic, end_s))
            group.create_task(administer())
        found: list[bytes] = []
        while len(found) < written.result() + committed.result():
            records = await consumer.getmany(timeout_ms=10_000)
            assert records
            found += [record.value or b"" for batch in records.values() for record in batch]
            await consumer.commit()
    plain = [value for value in found if not value.startswith(b"t")]
    assert plain == [b"%d" % number for number in range(written.result())]
    assert len(found) == written.result() + committed.result() > 100
    assert len(seen) >= 3
    assert closings.broken == []
    assert secured.issuer.issued > issued + 1


async def test_a_new_password_is_taken_up_at_the_next_connection(
    secured: SecuredKafka, topic: str, use: Use, closings: Closings
) -> None:
    servers = use(secured.scram("rotating"))
    admin = TopicAdmin(servers)
    await asyncio.to_thread(admin.ping, 10)
    async with writing(servers) as producer:
        await producer.send_and_wait(topic, b"1")
        secured.set_password("rotating", "another")
        await producer.send_and_wait(topic, b"2")  # the session lasts
        (secured.folder / "rotating.password").write_text("another", encoding="utf-8")
        end_s = asyncio.get_running_loop().time() + 1.2 * SESSION_S
        while asyncio.get_running_loop().time() < end_s:
            await producer.send_and_wait(topic, b"3")
            await asyncio.sleep(0.1)
    assert await asyncio.to_thread(admin.describe, [topic])
    assert closings.broken == []


async def test_an_issuer_that_is_away_costs_nothing_while_the_session_lasts(
    secured: SecuredKafka, topic: str, use: Use
) -> None:
    secured.issuer.life_s = SESSION_S
    servers = use(secured.token("rotating"))
    async with writing(servers) as producer:
        await producer.send_and_wait(topic, b"1")
        (made,) = producer.client._conns.values()
        secured.issuer.is_away = True
        try:
            made.replaced_s = 0.0  # it is time
            await producer.send_and_wait(topic, b"2")
            assert made in producer.client._conns.values()
        finally:
            secured.issuer.is_away = False


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"KAFKA_SASL_USERNAME": "stranger"}, "SASL authentication error: Authentication failed"),
        ({"KAFKA_SSL_CA_FILE": ""}, "certificate verify failed"),
    ],
)
async def test_a_refused_handshake_is_explained(
    change: dict[str, str], expected: str, secured: SecuredKafka, use: Use
) -> None:
    servers = use({**settings_of(secured, "SCRAM-SHA-512"), **change})
    with pytest.raises(Unread, match=expected):
        await asyncio.to_thread(TopicAdmin(servers).ping, 3)
    with pytest.raises(KafkaConnectionError):
        async with writing(servers):
            pass
