import ast
import asyncio
import gc
import signal
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import KafkaConnectionError
from aiokafka.structs import BrokerMetadata
from hypothesis import given, strategies as st

from docs.generate import _FOLDERS
from kafka_io import client
from kafka_io.client import faust_brokers, homes_of, partition_of
from tests.conftest import TestKafka, World


def test_a_key_has_the_partition_that_java_clients_compute() -> None:
    # Kafka's own test of murmur2 has these: hash & 0x7fffffff, modulo the partitions.
    hashes = {
        b"21": -973932308,
        b"foobar": -790332482,
        b"a-little-bit-long-string": -985981536,
        b"a-little-bit-longer-string": -1486304829,
        b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
        b"abc": 479470107,
    }
    for key, murmur2 in hashes.items():
        assert partition_of(key, 1000) == (murmur2 & 0x7FFFFFFF) % 1000


@given(st.binary(max_size=40), st.integers(1, 100))
def test_every_key_has_one_partition_of_those_that_exist(key: bytes, partitions: int) -> None:
    found = partition_of(key, partitions)
    assert 0 <= found < partitions
    assert partition_of(key, partitions) == found


@given(st.binary(max_size=40), st.integers(1, 8), st.lists(st.integers(1, 4), max_size=3))
def test_a_keys_records_are_in_the_partitions_that_it_had_before_each_growth(
    key: bytes, fewest: int, factors: list[int]
) -> None:
    count, homes = fewest, {partition_of(key, fewest)}
    for factor in factors:
        count *= factor
        homes.add(partition_of(key, count))
    found = homes_of(key, count, fewest)
    assert homes <= found
    # A growth to a multiple moves keys to new partitions only, so the last home is the highest.
    assert max(homes) == partition_of(key, count) == max(found)
    assert all(home % fewest == min(homes) for home in found)


def test_faust_gets_a_url_for_each_broker() -> None:
    assert faust_brokers("one:9092,two:9093") == ["kafka://one:9092", "kafka://two:9093"]


async def test_a_consumer_that_waits_for_an_answer_does_not_look_for_work_meanwhile() -> None:
    made: list[Any] = [
        client.consumer("localhost:1"),
        client.group_consumer("localhost:1", "group", "member", session_timeout_s=10),
    ]
    for consumer in made:
        assert consumer._consumer_timeout >= 1
        await client.stop(consumer)


async def test_a_client_that_never_started_can_be_stopped() -> None:
    await client.stop(client.consumer("localhost:1"))
    await client.stop(client.producer("localhost:1", linger_ms=0))


async def test_stopping_a_client_passes_the_callers_own_cancellation_on() -> None:
    class Stuck:
        async def stop(self) -> None:
            await asyncio.Event().wait()

    stuck: Any = Stuck()
    task = asyncio.get_running_loop().create_task(client.stop(stuck, within_s=60))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.kafka
@pytest.mark.timeout(180)
async def test_producers_that_cannot_send_leave_nothing_behind(
    kafka: TestKafka, world: World
) -> None:
    if not kafka.can_restart:
        pytest.skip("this broker is not ours to restart")
    topic, before = world.topic("training.events"), asyncio.all_tasks()
    logged: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: logged.append(context))

    async def started() -> AIOKafkaProducer:
        producer = client.producer(kafka.bootstrap_servers, linger_ms=0)
        await producer.start()
        await producer.send_and_wait(topic, b"1", b"key")
        return producer

    producers = [await started() for _ in range(2)]
    await asyncio.to_thread(kafka.stop, signal.SIGKILL)
    try:
        records = [await each.send(topic, b"2", b"key") for each in producers]
        await client.stop(producers[0], within_s=0.2)
        with pytest.raises(TimeoutError):  # its caller gives up first
            async with asyncio.timeout(0.2):
                await client.stop(producers[1], within_s=60)
        for record in records:
            with pytest.raises(KafkaConnectionError, match="before Kafka had the record"):
                await record
        async with asyncio.timeout(30):
            await asyncio.wait(asyncio.all_tasks() - before)
        producers.clear()
        gc.collect()  # asyncio logs an error that nobody has looked at when its future is freed
        assert not logged
    finally:
        await asyncio.to_thread(kafka.start)


CLIENTS: dict[str, Callable[[str], AIOKafkaConsumer | AIOKafkaProducer]] = {
    "consumer": client.consumer,
    "producer": partial(client.producer, linger_ms=0),
    "transactional producer": partial(
        client.transactional_producer, transactional_id="x", timeout_s=10
    ),
    "member of a group": partial(
        client.group_consumer, group="x", member="x", session_timeout_s=10
    ),
}


@pytest.mark.parametrize("kind", CLIENTS)
async def test_no_client_waits_long_for_a_broker_that_listens_and_is_silent(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "_ANSWER_MS", 200)
    monkeypatch.setattr(client, "_GROUP_ANSWER_MS", 200)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        made = CLIENTS[kind](f"127.0.0.1:{silent.getsockname()[1]}")
        async with asyncio.timeout(10):
            with pytest.raises(KafkaConnectionError):
                await made.start()  # type: ignore[no-untyped-call]
        await client.stop(made)


@pytest.mark.parametrize("kind", CLIENTS)
async def test_no_request_waits_long_while_a_client_connects_to_another_broker(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "_CONNECT_WAIT_S", 0.05)
    made = CLIENTS[kind]("localhost:1")
    connections = made._client if isinstance(made, AIOKafkaConsumer) else made.client
    connections.cluster._brokers[0] = BrokerMetadata(0, "localhost", 1, None)
    async with connections._get_conn_lock, asyncio.timeout(10):
        assert not await connections.ready(0)
    await client.stop(made)


def test_no_other_module_builds_a_client() -> None:
    root = Path(client.__file__).parents[1]
    builders = {"AIOKafkaConsumer", "AIOKafkaProducer", "AIOKafkaClient", "AdminClient", "Producer"}
    builders |= {"AIOKafkaAdminClient", "Consumer", "TidyProducer"}
    found = set()
    for folder in _FOLDERS:
        for path in (root / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in builders:
                    found.add(path.relative_to(root).as_posix())
    assert found == {"kafka_io/client.py"}
