"""Kafka's own faults, on a real broker: what clients of an edge see of them."""

import asyncio
import os
import signal
from contextlib import AsyncExitStack

import httpx
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient

from infra.topics import provision
from producers.broadcaster import SSEBroadcaster
from schemas.events import RiskAlert
from schemas.topics import RISK_ALERTS, TRAINING_EVENTS
from tests.conftest import World
from tests.support.clients import StreamClient, stream
from tests.support.edge import alert
from tests.support.sse import named
from tests.support.straight_run import (
    TopicReader,
    assert_as_straight,
    measured_at,
    send_days,
    straight_run,
)

pytestmark = pytest.mark.kafka

ALERTS = "/api/v1/sse/alerts"
TRAINING = "/api/v1/sse/training"


def numbers_of(client: StreamClient) -> list[int]:
    return [int(item.inner["message"].split()[-1]) for item in named(client.blocks, "risk_alert")]


async def test_aborted_transactions_are_neither_delivered_nor_a_gap(world: World) -> None:
    edge = await world.edge(window_bytes_max=2_000)
    topic = world.topic(RISK_ALERTS.name)

    def write() -> None:
        producer = Producer(
            {
                "bootstrap.servers": world.kafka.bootstrap_servers,
                "transactional.id": world.prefix,
            }
        )
        producer.init_transactions(60)
        for number in range(20):
            producer.begin_transaction()
            producer.produce(topic, alert("p", number), key=b"p", partition=0)
            producer.flush(30)
            if number % 2:
                producer.abort_transaction(30)
            else:
                producer.commit_transaction(30)

    async with stream(edge.url, ALERTS) as live:
        await live.until(lambda blocks: len(blocks) >= 2)
        await asyncio.to_thread(write)
        await live.events("risk_alert", 10)
        assert numbers_of(live) == list(range(0, 20, 2))
        ids = [block.id or "" for block in named(live.blocks, "risk_alert")]
    async with stream(edge.url, ALERTS, last_event_id=ids[0]) as again:
        await again.events("risk_alert", 9)
        assert numbers_of(again) == list(range(2, 20, 2))
        assert not named(again.blocks, "gap")


async def test_a_topic_that_is_made_again_under_a_live_client_is_a_gap(world: World) -> None:
    edge = await world.edge(metadata_s=0.5)
    topic = world.topic(TRAINING_EVENTS.name)
    admin = AdminClient({"bootstrap.servers": world.kafka.bootstrap_servers})

    def again() -> None:
        for answer in admin.delete_topics([topic]).values():
            answer.result(30)
        while True:
            made = provision(
                world.kafka.bootstrap_servers, prefix=world.prefix, topics=[TRAINING_EVENTS]
            )
            if made:
                return

    async with (
        stream(edge.url, TRAINING) as client,
        SSEBroadcaster(world.producer_settings) as reporter,
    ):
        await client.until(lambda blocks: len(blocks) >= 2)
        for percent in range(3):
            await reporter.send_training_progress("t", percent, "running")
        await client.events("training_progress", 3)
        await asyncio.to_thread(again)
        async with SSEBroadcaster(world.producer_settings) as later:
            for percent in range(10, 16):
                await later.send_training_progress("t", percent, "running")
        [gap] = await client.events("gap", 1)
        assert gap.inner["reason"] == "topic_recreated"
        seen = client.blocks.index(gap)
        await client.until(lambda blocks: len(named(blocks[seen:], "training_progress")) >= 6)
        after = [
            item.inner["progress"] for item in named(client.blocks[seen:], "training_progress")
        ]
        assert after == list(range(10, 16))


async def test_a_log_whose_end_was_torn_off_is_a_gap_for_those_who_had_read_it(
    own_world: World,
) -> None:
    edge = await own_world.edge(metadata_s=0.5)
    kafka = own_world.kafka

    def write(*numbers: int) -> None:
        producer = Producer({"bootstrap.servers": kafka.bootstrap_servers, "linger.ms": 0})
        for number in numbers:
            producer.produce(RISK_ALERTS.name, alert("p", number), key=b"p", partition=0)
            assert producer.flush(60) == 0

    async with stream(edge.url, ALERTS) as client:
        await client.until(lambda blocks: len(blocks) >= 2)
        await asyncio.to_thread(write, *range(10))
        await client.events("risk_alert", 10)
        kafka.stop(signal.SIGKILL)
        [segment] = own_world.folder.glob("kafka/log/risk.alerts-0/*0.log")
        os.truncate(segment, segment.stat().st_size // 2)
        await asyncio.to_thread(kafka.start)
        await asyncio.to_thread(write, *range(100, 120))
        gap = (await client.events("gap", 1))[0]
        assert gap.inner["reason"] == "future"
        [lost] = gap.inner["partitions"]
        assert lost["to_offset"] < 10 <= lost["from_offset"]
        seen = client.blocks.index(gap)
        await client.until(lambda blocks: len(named(blocks[seen:], "risk_alert")) >= 20)
        after = [int(block.inner["message"].split()[-1]) for block in client.blocks[seen:]
                 if block.event == "risk_alert"]  # fmt: skip
        assert after == list(range(100, 120))


@pytest.mark.timeout(240)
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
async def test_a_broker_is_restarted_under_a_worker_and_measures_come_out_alike(
    own_world: World, how: signal.Signals
) -> None:
    days = 600
    measures, alerts = straight_run(days)
    end = max(at for _, at in measures)
    portfolios = {name for name, at in measures if at == end}
    await own_world.worker(batch_within_s=0.05, batch_records_max=3)
    async with TopicReader(own_world, "risk.measures", "risk.alerts") as reader:

        async def restart() -> None:
            # Few: a worker that is behind measures many returns in one round.
            await reader.until(lambda records: len(records) >= 10)
            await asyncio.to_thread(own_world.kafka.stop, how)
            await asyncio.to_thread(own_world.kafka.start)

        async with asyncio.TaskGroup() as both:
            both.create_task(send_days(own_world, 0, days))
            both.create_task(restart())
        await reader.until(measured_at(end, portfolios))
    assert_as_straight(reader.records, measures, alerts)
    transition_ids = [
        record.transition_id for record in reader.records if isinstance(record, RiskAlert)
    ]
    assert len(transition_ids) == len(set(transition_ids))


async def test_several_processes_serve_one_port_and_their_metrics_come_together(
    world: World,
) -> None:
    edge = await world.edge(workers=2)
    async with AsyncExitStack() as stack, SSEBroadcaster(world.producer_settings) as reporter:
        clients = [await stack.enter_async_context(stream(edge.url, TRAINING)) for _ in range(12)]
        for client in clients:
            await client.until(lambda blocks: len(blocks) >= 2)
        await reporter.send_training_progress("t", 1, "running")
        for client in clients:
            await client.events("training_progress", 1)
        opened: list[str] = []
        async with httpx.AsyncClient(base_url=edge.url) as http, asyncio.timeout(30):
            while sum(float(line.rsplit(" ", 1)[1]) for line in opened) != len(clients):
                lines = (await http.get("/metrics")).text.splitlines()
                opened = [line for line in lines if line.startswith("tapewire_connections{")]
        assert all('worker="' in line for line in opened)
