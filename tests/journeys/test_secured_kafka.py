"""A broker with TLS, SASL and ACLs.

Each way to authenticate serves; sessions and passwords end without a loss; each part has a
principal and only its own ACLs, and one that lacks is named.
"""

import asyncio
import json
import logging
import os
import re
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiokafka
import httpx
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.client import AIOKafkaClient
from aiokafka.conn import CloseReason
from aiokafka.errors import KafkaConnectionError
from confluent_kafka.cimpl import NewTopic
from typer.testing import CliRunner

from cli import rebuild
from cli.app import cli
from cli.topic_growth import grow
from infra.acls import PARTS, Operation, Resource, grants_of
from infra.errors import PartFailed
from infra.settings import InfraSettings
from infra.trades_package import trades_jar
from kafka_io import client
from kafka_io.clock import now_us
from kafka_io.command_group import CommandGroup, ReceivedCommand
from kafka_io.errors import (
    AccessDenied,
    RecordRefused,
    TopicRefused,
    Unread,
)
from kafka_io.group import GroupConsumer
from kafka_io.publisher import Publisher
from kafka_io.reader import read_all, read_offsets, read_table
from kafka_io.settings import ProducerSettings
from kafka_io.topic_admin import TopicAdmin
from kafka_io.transactions import open_writer
from producers.progress import training_progress
from producers.returns import ReturnsPublisher
from schemas.events import Return, ReturnBatch, TrainingCommand
from schemas.topics import (
    CATALOGUE,
    PARTITIONS,
    PORTFOLIO_RETURNS,
    TRAINING_COMMANDS,
    TRAINING_EVENTS,
    TRAINING_TASKS,
    TopicPartition,
)
from sse_edge.errors import LogUnavailable
from sse_edge.log.kafka import KafkaLog
from stream_processors.settings import ProcessorSettings
from tests.conftest import Started, TestKafka, World
from tests.support.clients import stream
from tests.support.secured_kafka import SESSION_S, SecuredKafka, bindings, secured_kafka

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]


Use = Callable[[dict[str, str]], str]


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Generator[SecuredKafka]:
    users = {"plain": "password-of-plain", "reporter": "password-of-reporter"}
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
        for name in [name for name in os.environ if name.startswith("KAFKA_")]:
            monkeypatch.delenv(name)
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
            consumer.assign([aiokafka.TopicPartition(topic, 0)])
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
            await asyncio.sleep(0.05)  # bounds the load; the session's end is a time
    assert closings.broken


async def write(producer: AIOKafkaProducer, topic: str, end_s: float, seen: set[int]) -> int:
    number = 0
    while asyncio.get_running_loop().time() < end_s:
        await producer.send_and_wait(topic, b"%d" % number)
        number += 1
        seen.update(id(conn) for conn in producer.client._conns.values())
        await asyncio.sleep(0.02)  # bounds the load
    return number


async def write_in_transactions(producer: AIOKafkaProducer, topic: str, end_s: float) -> int:
    number = 0
    while asyncio.get_running_loop().time() < end_s:
        async with producer.transaction():
            await producer.send_and_wait(topic, b"t%d" % number)
        number += 1
        await asyncio.sleep(0.02)  # bounds the load
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
            await asyncio.sleep(0.1)  # bounds the load

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
            await asyncio.sleep(0.1)  # bounds the load
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


@dataclass
class Guarded:
    """A system each of whose parts has a principal with only its own ACLs."""

    secured: SecuredKafka
    use: Use
    world: World

    def settings(self, part: str) -> dict[str, str]:
        """Return the settings of a part, each by another way to authenticate."""
        match part:
            case "processor" | "agents" | "rebuild":
                return self.secured.certificate(part)
            case "trainer" | "grow":
                return self.secured.token(part)
            case "reporter":
                return self.secured.scram(part, "PLAIN")
            case "backtester":
                return self.secured.scram(part, "SCRAM-SHA-256")
            case _:
                return self.secured.scram(part)

    async def start(self, part: str, module: str, *arguments: str, **env: str) -> Started:
        known = {
            "TAPEWIRE_MODELS_DIR": str(self.world.folder / "models"),
            "TAPEWIRE_PORT": "0",
            "TAPEWIRE_BROKER_PATIENCE_S": "20",  # this machine may be busy
            "TAPEWIRE_PROCESSOR_PATIENCE_S": "10",
        }
        settings = self.settings(part)
        return await self.world._start(part, module, known | settings | env, *arguments)

    def producer_settings(self, part: str) -> ProducerSettings:
        """Let this process be a part, and return its settings."""
        servers = self.use(self.settings(part))
        return ProducerSettings(
            bootstrap_servers=servers, topic_prefix=self.world.prefix, patience_s=20
        )


@pytest.fixture(scope="module")
def guarded_prefix(secured: SecuredKafka) -> str:
    """The prefix of a system whose topics were made by a principal with only its ACLs."""
    folder = str(secured.folder / "no-system")
    prefix = f"t{uuid.uuid4().hex[:8]}."
    env = {"KAFKA_BOOTSTRAP_SERVERS": secured.plain, "TAPEWIRE_TOPIC_PREFIX": prefix}
    command = ["topics", "acls", "--apply", "--rebuild", "v2", "--data-dir", folder]
    added = CliRunner().invoke(cli, command, env=env)
    assert added.stdout.count("\n") == len(PARTS), added.output
    env = {**secured.scram("provision"), "TAPEWIRE_TOPIC_PREFIX": prefix}
    for expected in (f"{len(CATALOGUE)} topics were created", "all topics exist"):
        created = CliRunner().invoke(cli, ["topics", "create", "--data-dir", folder], env=env)
        assert expected in created.output
    return prefix


@pytest.fixture
async def guarded(
    guarded_prefix: str, secured: SecuredKafka, use: Use, tmp_path: Path
) -> AsyncGenerator[Guarded]:
    async with AsyncExitStack() as stack:
        world = World(TestKafka(secured.plain), guarded_prefix, tmp_path, stack)
        yield Guarded(secured, use, world)


def observations(days: int) -> list[Return]:
    """Return the returns of a portfolio, of which some break its limit."""
    return [Return("guarded", day * 86_400_000_000, (-1) ** day * 0.04) for day in range(days)]


async def test_reports_and_commands_pass_through_parts_that_have_only_their_acls(
    guarded: Guarded,
) -> None:
    limits = {"TAPEWIRE_VAR_LIMIT": "0.02", "TAPEWIRE_BATCH_WITHIN_S": "0.05"}
    async with asyncio.TaskGroup() as starting:
        edge_task = starting.create_task(guarded.start("edge", "sse_edge"))
        starting.create_task(guarded.start("processor", "stream_processors", **limits))
        starting.create_task(guarded.start("trainer", "producers", "trainer"))
    edge = edge_task.result()
    async with Publisher(guarded.producer_settings("reporter")) as publisher:
        await ReturnsPublisher(publisher).send(observations(300))
        await publisher.publish(training_progress("t-1", 100.0, "completed", now_us=now_us()))
    batches = await read_all(PORTFOLIO_RETURNS, guarded.producer_settings("replay"))
    assert sum(len(batch.returns) for batch in batches if isinstance(batch, ReturnBatch)) == 300
    async with stream(edge.url, "/api/v1/sse/alerts", since="earliest") as client:
        assert (await client.to_event("risk_alert"))[-1].inner["entity_id"] == "guarded"
    async with stream(edge.url, "/api/v1/sse/training", since="earliest") as client:
        assert (await client.to_event("training_progress"))[-1].inner["task_id"] == "t-1"
    async with httpx.AsyncClient(base_url=edge.url, timeout=30) as http:
        wanted = {"meter_id": "meter_test_001", "meter_type": "electricity"}
        task = (await http.post("/trainmodel/", json=wanted)).raise_for_status().json()
        async with (
            asyncio.timeout(60),
            http.stream("GET", f"/trainmodel/stream/{task['task_id']}") as response,
        ):
            lines = [line async for line in response.aiter_lines() if "status" in line]
        assert '"SUCCESS"' in lines[-1]
        sent = await http.post("/send-message", json={"user": "a", "message": "b"})
        assert sent.json() == {"status": "sent"}
        limits_set = await http.put(
            "/api/v1/limits/guarded", json={"limits": [{"metric": "var_95", "limit": 0.5}]}
        )
        assert limits_set.status_code < 300


LACKING = (
    (Operation.READ, Resource.GROUP, "READ on the group"),
    (Operation.WRITE, Resource.TRANSACTIONAL_ID, "WRITE on the transactional id"),
    (Operation.READ, Resource.TOPIC, "READ on the topic"),
    (Operation.WRITE, Resource.TOPIC, "WRITE on the topic"),
)


@pytest.mark.parametrize(("operation", "resource", "expected"), LACKING)
async def test_a_worker_that_lacks_an_acl_ends_with_its_name(
    operation: Operation, resource: Resource, expected: str, guarded: Guarded
) -> None:
    prefix = guarded.world.prefix
    name = f"lacking{uuid.uuid4().hex[:6]}"
    grants = [
        grant
        for grant in grants_of("trainer", prefix=prefix)
        if (grant.operation, grant.resource) != (operation, resource)
    ]
    guarded.secured.allow(bindings(name, grants))
    async with Publisher(guarded.producer_settings("edge")) as publisher:
        await publisher.publish(
            TrainingCommand(
                task_id=name, meter_id="m", meter_type="electricity", event_time_us=now_us()
            )
        )
    servers = guarded.use(guarded.secured.scram(name))
    settings = ProducerSettings(bootstrap_servers=servers, topic_prefix=prefix)

    def work(command: ReceivedCommand) -> None:
        command.publish(training_progress(name, 100.0, "completed", now_us=now_us()))

    group = CommandGroup(TRAINING_COMMANDS, TRAINING_EVENTS, settings)
    async with asyncio.timeout(30):
        with pytest.raises(AccessDenied, match=f"this client lacks an ACL: {expected} {prefix}"):
            await group.run(work, asyncio.Event())


async def test_a_client_that_lacks_an_acl_gets_its_name_at_once(guarded: Guarded) -> None:
    prefix = guarded.world.prefix
    servers = guarded.use(guarded.secured.scram("stranger"))
    settings = ProducerSettings(bootstrap_servers=servers, topic_prefix=prefix)
    admin = TopicAdmin(servers)
    topic, group = f"{prefix}training.events", f"{prefix}tapewire"

    async def publish() -> None:
        async with Publisher(settings) as publisher:
            await publisher.publish(training_progress("t-1", 100.0, "completed", now_us=now_us()))

    async def fetch() -> None:
        async with GroupConsumer(servers, group, "m", session_timeout_s=10) as consumer:
            await consumer.join([topic], Unnotified())
            while True:
                await consumer.fetch([], 1.0)

    async def write() -> None:
        async with open_writer(servers, f"{group}-0", group, timeout_s=10, within_s=10):
            pass

    async def describe() -> None:
        async with KafkaLog(servers) as log:
            await log.describe([topic])

    cases: list[tuple[Callable[[], Awaitable[object]], type[Exception], str]] = [
        (publish, RecordRefused, f"WRITE on the topic {topic}"),
        (fetch, Unread, f"READ on the group {group}"),
        (write, AccessDenied, f"WRITE on the transactional id {group}-0"),
        (describe, LogUnavailable, f"DESCRIBE on the topic {topic}"),
        (
            lambda: read_table(TRAINING_TASKS, settings),
            Unread,
            f"READ on the topic {prefix}training.tasks",
        ),
        (
            lambda: read_offsets([topic], 0, group, settings),
            Unread,
            f"READ on the topic {topic}",
        ),
        (
            lambda: asyncio.to_thread(admin.describe, [topic]),
            Unread,
            f"DESCRIBE on the topic {topic}",
        ),
        (
            lambda: asyncio.to_thread(admin.members_of, group),
            Unread,
            f"DESCRIBE on the group {group}",
        ),
        (
            lambda: asyncio.to_thread(admin.create, [TRAINING_EVENTS], prefix="new."),
            TopicRefused,
            "CREATE on the topic new.training.events",
        ),
        (
            lambda: asyncio.to_thread(admin.add_partitions, [topic], 99),
            TopicRefused,
            f"ALTER on the topic {topic}",
        ),
    ]
    for ask, kind, acl in cases:
        async with asyncio.timeout(8):
            with pytest.raises(kind, match=f"this client lacks an ACL: {re.escape(acl)}"):
                await ask()
    allowed = await asyncio.to_thread(admin.operations, [topic], [group])
    assert allowed == ({topic: frozenset()}, {group: frozenset()})


async def test_a_doctor_compares_what_a_part_needs_with_what_it_may(guarded: Guarded) -> None:
    env = {"TAPEWIRE_TOPIC_PREFIX": guarded.world.prefix, **guarded.settings("reporter")}
    folder = str(guarded.secured.folder / "no-system")

    async def access_of(part: str) -> dict[str, str]:
        arguments = ["doctor", "--part", part, "--json", "--data-dir", folder]
        done = await asyncio.to_thread(CliRunner().invoke, cli, arguments, env=env)
        checks: list[dict[str, str]] = json.loads(done.stdout)
        return next(check for check in checks if check["name"] == "access")

    own = await access_of("reporter")
    assert (own["result"], own["remedy"]) == ("ok", "")
    others = await access_of("trainer")
    assert others["result"] == "wrong"
    assert "Read of topic" in others["found"]
    assert others["remedy"] == "add the ACLs that `tapewire topics acls trainer` prints"

    # One of the trainer's ids is missing, and nothing else.
    prefix = guarded.world.prefix
    missing = f"{prefix}tapewire-training.commands-7"
    name = f"lacking{uuid.uuid4().hex[:6]}"
    grants = [grant for grant in grants_of("trainer", prefix=prefix) if grant.name != missing]
    guarded.secured.allow(bindings(name, grants))
    env = {"TAPEWIRE_TOPIC_PREFIX": prefix, **guarded.secured.scram(name)}
    lacking = await access_of("trainer")
    assert lacking["found"] == f"this client lacks Write of transactional id {missing}..."


class Unnotified:
    async def revoked(self, partitions: Iterable[TopicPartition]) -> None:
        """Nothing is assigned."""

    async def assigned(self, partitions: Iterable[TopicPartition]) -> None:
        """Nothing is assigned."""

    def replaced(self) -> None:
        """Nothing is assigned."""


@pytest.mark.long
@pytest.mark.parametrize(
    ("operation", "name"),
    [(Operation.READ, "risk.limits"), (Operation.WRITE, "risk.measures")],
)
async def test_a_processor_that_lacks_an_acl_stops_with_its_name(
    operation: Operation, name: str, guarded: Guarded
) -> None:
    prefix = guarded.world.prefix
    all_grants = grants_of("processor", prefix=prefix)
    removed = bindings("processor", [grant for grant in all_grants if grant.name == prefix + name])
    guarded.secured.forbid(removed)
    try:
        if operation is Operation.READ:
            with pytest.raises(PartFailed):
                await guarded.start("processor", "stream_processors")
        else:
            processor = await guarded.start("processor", "stream_processors")
            async with Publisher(guarded.producer_settings("reporter")) as publisher:
                await ReturnsPublisher(publisher).send(observations(300))
            async with asyncio.timeout(60):
                await processor.process.ended()
    finally:
        guarded.secured.allow(removed)
    (log,) = guarded.world.folder.glob("processor-*.log")
    text = log.read_text(encoding="utf-8")
    lacking = "DESCRIBE" if operation is Operation.READ else "WRITE"
    expected = f"this client lacks an ACL: {lacking} on the topic {prefix}{name}"
    assert f"this worker stops: {expected}" in text


@pytest.mark.long
@pytest.mark.timeout(400)
async def test_each_other_part_does_its_work_with_only_its_acls(guarded: Guarded) -> None:
    jar = str(await asyncio.to_thread(trades_jar, InfraSettings().maven_url))
    async with asyncio.TaskGroup() as starting:
        edge_task = starting.create_task(guarded.start("edge", "sse_edge"))
        starting.create_task(guarded.start("processor", "stream_processors"))
        for part, name in (("backtester", "backtester"), ("agents", "orchestrator")):
            starting.create_task(guarded.start(part, "producers", name))
        market = guarded.start("market", "producers", "market", TAPEWIRE_TRADES_JAR=jar)
        starting.create_task(market)
        starting.create_task(guarded.start("demo", "producers", "demo"))
    edge = edge_task.result()
    async with stream(edge.url, "/api/v1/sse/measures", since="earliest") as client:
        await client.to_event("risk_measure")
    async with asyncio.timeout(90), httpx.AsyncClient(base_url=edge.url, timeout=60) as http:
        asked = {
            "symbol": "IBM",
            "strategy": "moving_average_crossover",
            "parameters": {"fast": 10, "slow": 50},
            "start_date": "2005-01-01",
            "end_date": "2009-12-31",
        }
        job = (await http.post("/api/backtesting/jobs", json=asked)).raise_for_status().json()
        async with stream(edge.url, f"/api/sse/backtest/{job['job_id']}") as client:
            assert (await client.to_event("completed", "failed"))[-1].event == "completed"
        async with stream(edge.url, f"/api/sse/backtest/{job['job_id']}/data") as client:
            assert (await client.to_event("complete", "error"))[-1].event == "complete"
        answer = await http.post("/process/stream", json={"message": "What is 17 * 23?"})
        assert "391" in answer.text


@pytest.mark.long
@pytest.mark.timeout(400)
async def test_each_command_does_its_work_with_only_its_acls(
    guarded: Guarded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAPEWIRE_VAR_LIMIT", "0.02")
    world = guarded.world
    processor = await guarded.start("processor", "stream_processors")
    async with Publisher(guarded.producer_settings("reporter")) as publisher:
        await ReturnsPublisher(publisher).send(observations(300))
    settings = guarded.producer_settings("rebuild")
    lines: list[str] = []
    terminal = rebuild.Terminal(say=lines.append)
    await rebuild.rebuild(settings, "v2", world.folder, terminal, switch=True)
    assert any("switched" in line for line in lines)
    await processor.stop()

    servers = guarded.producer_settings("grow").bootstrap_servers
    processors = ProcessorSettings().model_copy(
        update={"bootstrap_servers": servers, "topic_prefix": world.prefix}
    )
    await grow(processors, 2 * PARTITIONS, 15.0, lines.append)
    assert lines[-1] == "done; start the processors again"

    assert await read_all(PORTFOLIO_RETURNS, guarded.producer_settings("replay"))
