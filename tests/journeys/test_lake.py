"""A lake has each committed record of Kafka once, though its writers are killed."""

import random
import signal
import threading
import time
from collections import Counter
from pathlib import Path
from typing import cast

import pytest
from confluent_kafka import Producer

from analytics.lake_writer import REFUSED_TABLE
from analytics.sinks.address import open_sink
from analytics.sinks.base import Tables
from kafka_io.reader import stream_records
from kafka_io.topic_admin import TopicAdmin
from schemas.codec import encode
from schemas.events import AlertAck
from schemas.topics import RISK_ACKS
from tests.conftest import World
from tests.support.lake_follower import context, follow
from tests.support.lake_writer import started, stop, wake

ACK = AlertAck(alert_id="a", entity_id="e", event_time_us=1_700_000_000_000_000)


class Writer(threading.Thread):
    """Writes transactions of acknowledgements and other bytes, of which some are aborted."""

    def __init__(self, world: World, dice: random.Random) -> None:
        super().__init__()
        self._topic = world.topic(RISK_ACKS.name)
        self._dice = dice
        self._ends = threading.Event()
        self._producer = Producer(
            {
                "bootstrap.servers": world.kafka.bootstrap_servers,
                "transactional.id": f"{world.prefix}lake",
            }
        )

    def run(self) -> None:
        self._producer.init_transactions(30)
        while not self._ends.wait(0.02):
            self._producer.begin_transaction()
            for _ in range(self._dice.randint(1, 30)):
                value = b"malformed" if self._dice.random() < 0.1 else encode(ACK)
                self._producer.produce(self._topic, value, partition=self._dice.randrange(6))
            if self._dice.random() < 0.3:
                self._producer.flush(30)
                self._producer.abort_transaction(30)
            else:
                self._producer.commit_transaction(30)

    def end(self) -> None:
        self._ends.set()
        self.join()


async def _places(world: World) -> list[tuple[int, int]]:
    topic = world.topic(RISK_ACKS.name)
    records = stream_records(topic, world.producer_settings)
    return sorted([(record.partition, record.offset) async for record in records])


def _rows(address: str) -> list[tuple[int, int]]:
    sink = cast("Tables", open_sink(address))
    return sorted(
        (row["_partition"], row["_offset"])
        for table in ("alert_ack", REFUSED_TABLE)
        for row in sink.read(table, ["_partition", "_offset"]).to_pylist()
    )


def _ends(address: str) -> dict[int, int]:
    """Return the next offset of each partition."""
    positions = open_sink(address).positions("alert_ack")
    return {lane.partition: offset for lane, offset in positions.items()}


async def _check(world: World, address: str, kills: int, seed: int) -> None:
    TopicAdmin(world.kafka.bootstrap_servers).create([RISK_ACKS], prefix=world.prefix)
    dice = random.Random(seed)
    writer = Writer(world, dice)
    writer.start()
    processes = context()
    where = (address, world.kafka.bootstrap_servers, world.prefix)
    try:
        with started(
            processes.Process(target=follow, args=where, kwargs={"once": False})
        ) as paused:
            for kill in range(kills):
                if kill % 5 == 1:
                    stop(paused)
                with started(processes.Process(target=follow, args=where, kwargs={"once": False})):
                    time.sleep(dice.uniform(0.05, 1.0))  # it is killed at a random point
                if kill % 5 == 2:
                    wake(paused)
    finally:
        writer.end()
    last = processes.Process(target=follow, args=where, kwargs={"once": True})
    last.start()
    last.join(60)
    assert last.exitcode == 0
    places = await _places(world)
    assert len(places) > 20
    assert _rows(address) == places


@pytest.mark.kafka
async def test_kills_and_pauses_lose_and_repeat_no_record(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAPEWIRE_LAKE_INTERVAL_S", "0.05")
    await _check(world, f"parquet:{tmp_path}/lake", kills=4, seed=3)


@pytest.mark.analytics
@pytest.mark.kafka
@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", ["parquet", "delta", "iceberg"])
async def test_a_hundred_kills_lose_and_repeat_no_record(
    kind: str, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAPEWIRE_LAKE_INTERVAL_S", "0.05")
    await _check(world, f"{kind}:{tmp_path}/lake", kills=100, seed=4)


@pytest.mark.analytics
@pytest.mark.kafka
@pytest.mark.timeout(400)
async def test_a_lake_goes_on_by_itself_when_its_broker_is_back(
    own_world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAPEWIRE_LAKE_INTERVAL_S", "0.05")
    world, address, dice = own_world, f"parquet:{tmp_path}/lake", random.Random(5)
    servers, topic = world.kafka.bootstrap_servers, world.topic(RISK_ACKS.name)
    producer = Producer({"bootstrap.servers": servers, "enable.idempotence": True})
    follower = context().Process(
        target=follow, args=(address, servers, world.prefix), kwargs={"once": False}
    )
    with started(follower):
        for outage_s in (0.0, 5.0):
            for number in range(3_000):
                value = encode(ACK) if number % 100 else b"malformed"
                producer.produce(topic, value, partition=dice.randrange(6))
            time.sleep(dice.uniform(0, 0.5))  # until a random point, where the broker dies
            world.kafka.stop(signal.SIGKILL)
            time.sleep(outage_s)  # as long as the broker is away
            world.kafka.start()
        assert producer.flush(60) == 0
        places = await _places(world)
        deadline = time.monotonic() + 90
        ends = Counter(partition for partition, _ in places)
        while _ends(address) != ends and time.monotonic() < deadline:
            time.sleep(0.2)  # a lake tells nobody of a commit
        assert follower.is_alive()
    assert _rows(address) == places
    assert len(places) >= 6_000
