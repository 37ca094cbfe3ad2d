import asyncio
import uuid
from concurrent.futures import Future
from dataclasses import replace
from types import SimpleNamespace

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from infra.topics import provision
from kafka_io.errors import TopicRefused, Unread
from kafka_io.topic_admin import PartitionEnd, TopicAdmin, wait_until_answered
from schemas.topics import TRAINING_EVENTS
from tests.conftest import TestKafka, World


@pytest.mark.kafka
async def test_a_topic_has_an_id_and_partitions_and_each_partition_an_epoch(world: World) -> None:
    admin = TopicAdmin(world.kafka.bootstrap_servers)
    name = world.topic(TRAINING_EVENTS.name)
    found = await asyncio.to_thread(admin.describe, [name, f"{name}.missing"])
    assert set(found) == {name}
    assert len(found[name].topic_id) == 16
    assert found[name].partitions == TRAINING_EVENTS.partitions
    asked = [(name, number) for number in range(found[name].partitions)]
    epochs = await asyncio.to_thread(admin.leader_epochs, asked)
    assert set(epochs) == set(asked)
    assert admin.leader_epochs([]) == {}


@pytest.mark.kafka
async def test_without_an_authorizer_a_client_may_do_everything(world: World) -> None:
    admin = TopicAdmin(world.kafka.bootstrap_servers)
    name = world.topic(TRAINING_EVENTS.name)
    topics, groups = await asyncio.to_thread(
        admin.operations, [name, f"{name}.missing"], [f"{name}.nobody"]
    )
    assert set(topics) == {name}
    assert {"READ", "WRITE", "DESCRIBE", "DESCRIBE_CONFIGS"} <= topics[name]
    assert all("READ" in allowed for allowed in groups.values())


class SilentAboutEpochs:
    """Answers as a broker that does not know yet since when it leads, and as one that does."""

    def list_offsets(
        self, queries: dict[TopicPartition, object], **_: object
    ) -> dict[TopicPartition, Future[SimpleNamespace]]:
        answers = {}
        for where, epoch in zip(queries, (None, 4), strict=True):
            answers[where] = Future[SimpleNamespace]()
            answers[where].set_result(SimpleNamespace(offset=9, leader_epoch=epoch))
        return answers


def test_an_end_without_a_leader_epoch_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kafka_io.client.Admin.current", lambda _: SilentAboutEpochs())
    admin = TopicAdmin("localhost:1")
    assert admin.ends([("t", 0), ("t", 1)]) == {("t", 1): PartitionEnd(9, 4)}


class Loading:
    """Answers as the coordinator of groups on a new cluster, and then as one that has loaded."""

    def __init__(self) -> None:
        self.answers: list[KafkaException | SimpleNamespace] = [
            KafkaException(KafkaError(KafkaError.COORDINATOR_LOAD_IN_PROGRESS)),
            KafkaException(KafkaError(KafkaError.NOT_COORDINATOR)),
            SimpleNamespace(members=[]),
        ]

    def describe_consumer_groups(
        self, names: list[str], **_: object
    ) -> dict[str, Future[SimpleNamespace]]:
        answer, future = self.answers.pop(0), Future[SimpleNamespace]()
        if isinstance(answer, KafkaException):
            future.set_exception(answer)
        else:
            future.set_result(answer)
        return dict.fromkeys(names, future)


def test_a_coordinator_that_loads_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    coordinator = Loading()
    monkeypatch.setattr("kafka_io.client.Admin.current", lambda _: coordinator)
    assert TopicAdmin("localhost:1").describe_members("g") == []
    assert not coordinator.answers


@pytest.mark.kafka
async def test_topics_are_created_once_and_have_leaders(kafka: TestKafka) -> None:
    admin = TopicAdmin(kafka.bootstrap_servers)
    prefix = f"t{uuid.uuid4().hex[:8]}."
    topic = replace(TRAINING_EVENTS, partitions=1)
    assert admin.unanswered([prefix + topic.name]) == {prefix + topic.name}
    created = provision(kafka.bootstrap_servers, prefix=prefix, topics=[topic])
    assert created == [prefix + topic.name]
    assert admin.unanswered(created) == set()
    assert admin.create([topic], prefix=prefix) == []
    admin.add_partitions(created, 3)
    assert admin.describe(created)[created[0]].partitions == 3
    admin.add_partitions([], 3)
    with pytest.raises(TopicRefused, match=r"training\.events could not get partitions"):
        admin.add_partitions(created, 2)
    assert admin.members_of(f"{prefix}nobody") == []


@pytest.mark.kafka
def test_a_topic_that_kafka_refuses_is_named(kafka: TestKafka) -> None:
    admin = TopicAdmin(kafka.bootstrap_servers)
    with pytest.raises(TopicRefused, match=r"topic no spaces allowed\.training\.events could not"):
        admin.create([TRAINING_EVENTS], prefix="no spaces allowed.")


def test_without_kafka_a_ping_ends_in_time() -> None:
    with pytest.raises(Unread):
        TopicAdmin("localhost:1").ping(0.1)


async def test_what_needs_kafka_waits_for_it_and_says_so_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked: list[float] = []

    def ping(_: TopicAdmin, within_s: float) -> str:
        asked.append(within_s)
        if len(asked) < 4:
            raise Unread("all brokers are down")
        return "cluster"

    monkeypatch.setattr(TopicAdmin, "ping", ping)
    await wait_until_answered("localhost:1", "the demo", asyncio.Event())
    assert len(asked) == 4
    assert caplog.messages == ["the demo waits for Kafka at localhost:1: all brokers are down"]


async def test_a_wait_for_kafka_ends_with_the_part() -> None:
    stop = asyncio.Event()
    stop.set()
    await wait_until_answered("localhost:1", "the demo", stop)
