import pytest
from aiokafka.protocol.transaction import EndTxnRequest

from kafka_io import client
from kafka_io.errors import Unread
from kafka_io.transactional_ids import find_forbidden_ids
from kafka_io.transactions import OutgoingRecord, open_writer
from tests.conftest import World


@pytest.mark.kafka
async def test_a_running_writer_does_not_notice_the_question(world: World) -> None:
    servers, topic = world.kafka.bootstrap_servers, world.topic("user.updates")
    name = f"{world.prefix}writer-0"
    async with open_writer(servers, name, world.prefix, timeout_s=30, within_s=20) as writer:
        await writer.commit([OutgoingRecord(topic, b"k", b"1", 0)], {})
        assert await find_forbidden_ids(servers, [name, f"{name}.unused"]) == frozenset()
        await writer.commit([OutgoingRecord(topic, b"k", b"2", 0)], {})


async def test_a_forbidden_id_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broker:
        """Forbids ids that end with 1, and coordinates no id."""

        async def bootstrap(self) -> None: ...

        async def close(self) -> None: ...

        def get_random_node(self) -> int:
            return 0

        async def send(self, _: int, request: EndTxnRequest) -> object:
            asked = request._transactional_id
            answer = type("Answer", (), {"error_code": 53 if asked.endswith("1") else 16})
            return answer()

    monkeypatch.setattr(client, "plain", lambda _: Broker())
    assert await find_forbidden_ids("kafka:9092", ["t-0", "t-1"]) == {"t-1"}


async def test_a_broker_that_does_not_answer_is_named() -> None:
    with pytest.raises(Unread, match="localhost:1 does not answer"):
        await find_forbidden_ids("localhost:1", ["t-0"])
