"""Clients that drop at random, under load and while edges are restarted one by one."""

import asyncio
import random

import pytest
from confluent_kafka import Producer

from schemas.codec import encode
from schemas.events import TrainingProgress
from schemas.topics import TRAINING_EVENTS
from tests.conftest import World
from tests.soak import EDGES, TASKS, Account, Soak

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]

RATE = 5_000
SECONDS = 5


def faults(account: Account) -> tuple[int, int, int, int]:
    return account.lost, account.repeated, account.out_of_order, account.gaps


@pytest.mark.long
async def test_edges_are_restarted_one_by_one_and_no_client_loses_an_event(world: World) -> None:
    soak = Soak(world, random.Random(7), rate=300)
    await soak.start_edges()
    accounts = [Account() for _ in range(20)]

    async def roll() -> None:
        for which in range(EDGES):
            await soak.restart_edge(which, kill=False)
        rolled.set()

    rolled = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        for account in accounts:
            tasks.create_task(soak.follow(account, stays=(60.0,)))
        tasks.create_task(roll())
        while not rolled.is_set():
            await soak.produce(0.5)
        soak.over.set()
    produced = sum(soak.produced.values())
    assert produced > 300
    for account in accounts:
        assert faults(account) == (0, 0, 0, 0)
        assert account.delivered == produced
    assert sum(account.resumes for account in accounts) > len(accounts)


async def test_at_five_thousand_events_a_second_clients_drop_and_lose_nothing(
    world: World,
) -> None:
    soak = Soak(world, random.Random(3), rate=RATE)
    await soak.start_edges()
    accounts = [Account() for _ in range(6)]

    def write() -> None:
        producer = Producer(
            {"bootstrap.servers": world.kafka.bootstrap_servers, "enable.idempotence": True}
        )
        for number in range(RATE * SECONDS):
            task = TASKS[number % len(TASKS)]
            event = TrainingProgress(
                task_id=task,
                progress=1.0,
                status="running",
                message=str(soak.produced[task]),
                metrics={},
                event_time_us=0,
            )
            soak.produced[task] += 1
            producer.produce(world.topic(TRAINING_EVENTS.name), encode(event), key=task.encode())
            if number % (RATE // 100) == 0:
                producer.poll(0.01)
        assert producer.flush(60) == 0

    async with asyncio.TaskGroup() as tasks:
        for account in accounts:
            tasks.create_task(soak.follow(account, stays=(0.05, 0.2, 0.5)))
        await asyncio.to_thread(write)
        soak.over.set()
    for account in accounts:
        assert faults(account) == (0, 0, 0, 0)
        assert account.delivered == RATE * SECONDS
    assert sum(account.resumes for account in accounts) > 20
