from collections.abc import Iterator
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import (
    GroupCoordinatorNotAvailableError,
    GroupLoadInProgressError,
    NotCoordinatorForGroupError,
)

from kafka_io import client
from kafka_io.errors import Unread
from kafka_io.group_offsets import read_group_offsets
from kafka_io.settings import ProducerSettings
from tests.conftest import World

SETTINGS = ProducerSettings(bootstrap_servers="kafka:9092")
LOADING = GroupLoadInProgressError.errno
MOVED = NotCoordinatorForGroupError.errno
FORBIDDEN = 30


class Broker:
    """Answers a request for offsets by each of some error codes, and then with offsets."""

    def __init__(self, codes: Iterator[int]) -> None:
        self._codes = codes
        self.lookups = 0

    async def bootstrap(self) -> None: ...

    async def close(self) -> None: ...

    async def coordinator_lookup(self, _: int, group: str) -> int:
        assert group == "t-group"
        self.lookups += 1
        if self.lookups == 1:
            raise GroupCoordinatorNotAvailableError
        return 1

    async def send(self, node_id: int, _: Any) -> object:
        assert node_id == 1
        code = next(self._codes, 0)
        topics = [] if code else [("t", [(0, 7, "", 0), (1, -1, "", 0)])]
        return type("Answer", (), {"error_code": code, "topics": topics})()


async def test_a_coordinator_that_moves_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    broker = Broker(iter((LOADING, MOVED)))
    monkeypatch.setattr(client, "plain", lambda _: broker)
    assert await read_group_offsets(["t-group"], SETTINGS) == {"t-group": {("t", 0): 7}}
    assert broker.lookups == 4


async def test_a_missing_acl_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "plain", lambda _: Broker(iter((FORBIDDEN,))))
    with pytest.raises(Unread, match="lacks an ACL: DESCRIBE on the group t-group"):
        await read_group_offsets(["t-group"], SETTINGS)


async def test_a_cluster_that_does_not_answer_is_named() -> None:
    with pytest.raises(Unread, match="localhost:1 does not answer"):
        await read_group_offsets(["g"], ProducerSettings(bootstrap_servers="localhost:1"))


@pytest.mark.kafka
async def test_a_group_that_is_unknown_has_no_offsets(world: World) -> None:
    group = f"{world.prefix}nobody"
    assert await read_group_offsets([group], world.producer_settings) == {group: {}}


@pytest.mark.kafka
async def test_offsets_are_those_that_a_group_has_committed(world: World) -> None:
    group, topic = f"{world.prefix}reads", world.topic("user.updates")
    consumer = client.consumer(world.kafka.bootstrap_servers, group_id=group)
    await consumer.start()
    try:
        home = TopicPartition(topic, 0)
        consumer.assign([home])
        await consumer.commit({home: 5})
    finally:
        await client.stop(consumer)
    assert await read_group_offsets([group], world.producer_settings) == {group: {(topic, 0): 5}}
