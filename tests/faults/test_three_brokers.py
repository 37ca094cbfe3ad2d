"""Two workers and two edges on three brokers, of which some are dead, silent or restarted."""

import asyncio
import resource
import signal
import time
import uuid
from collections.abc import AsyncGenerator, Generator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from infra.topics import provision
from kafka_io.errors import Unsent
from kafka_io.topic_admin import TopicAdmin
from producers.broadcaster import SSEBroadcaster
from schemas.topics import PORTFOLIO_RETURNS
from tests.conftest import TestKafka, World
from tests.faults.cluster import START_S, Cluster, cluster
from tests.faults.network import control_group, in_group, isolated, needs_nft
from tests.faults.report import SceneReport
from tests.faults.traffic import Traffic, traffic

pytestmark = [pytest.mark.kafka, pytest.mark.long_fault, pytest.mark.timeout(900)]

AFTER_LEADERS_S = 45.0
"""A bound for a busy machine; the account has the seconds that were measured."""
IDLE_S = 5.0
LOOK_S = 30.0
SILENT_S = 30.0
"""Longer than the sessions and the time limits of requests."""


@pytest.fixture(scope="module")
def brokers(tmp_path_factory: pytest.TempPathFactory) -> Generator[Cluster]:
    with cluster(tmp_path_factory.mktemp("cluster")) as made:
        yield made


@asynccontextmanager
async def new_world(brokers: Cluster, folder: Path) -> AsyncGenerator[World]:
    """A system with topics of its own, on all brokers."""
    prefix = f"t{uuid.uuid4().hex[:8]}."
    await asyncio.to_thread(provision, brokers.bootstrap_servers, prefix=prefix)
    async with AsyncExitStack() as stack:
        yield World(TestKafka(brokers.bootstrap_servers), prefix, folder, stack)


@pytest.fixture
async def world(brokers: Cluster, tmp_path: Path) -> AsyncGenerator[World]:
    await asyncio.to_thread(brokers.heal)
    async with new_world(brokers, tmp_path) as made:
        yield made


async def goes_on(
    flows: Traffic, brokers: Cluster, fault: str, began_s: float, without: set[int]
) -> None:
    """Wait until everything goes on without some brokers, and report how long it took."""
    async with asyncio.TaskGroup() as tasks:
        electing = tasks.create_task(asyncio.to_thread(brokers.wait_for_leaders, without))
        flowing = tasks.create_task(flows.goes_on(START_S + AFTER_LEADERS_S))
    leaders_s = electing.result()
    workers_s, clients_s = flowing.result()
    flows.report.fault(
        fault,
        leaders=leaders_s - began_s,
        workers=workers_s - began_s,
        clients=clients_s - began_s,
    )
    assert max(workers_s, clients_s) - leaders_s < AFTER_LEADERS_S


async def start(brokers: Cluster, number: int, report: SceneReport) -> None:
    """Start a broker, wait until it has caught up, and report how long it took."""
    began_s = time.monotonic()
    brokers.brokers[number].begin()
    await asyncio.to_thread(brokers.wait)
    report.fault(f"broker {number} started", in_sync=time.monotonic() - began_s)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
async def test_each_broker_ends_in_turn(
    brokers: Cluster, world: World, report: SceneReport, how: signal.Signals
) -> None:
    async with traffic(world, report) as flows:
        for number, broker in enumerate(brokers.brokers):
            began_s = time.monotonic()
            await asyncio.to_thread(broker.stop, how)
            await goes_on(flows, brokers, f"broker {number}: {how.name}", began_s, {number})
            await start(brokers, number, report)


async def test_the_controller_moves(brokers: Cluster, world: World, report: SceneReport) -> None:
    async with traffic(world, report) as flows:
        number = brokers.controller()
        began_s = time.monotonic()
        brokers.brokers[number].stop(signal.SIGKILL)
        await goes_on(flows, brokers, f"controller {number} killed", began_s, {number})
        assert brokers.controller() != number
        await start(brokers, number, report)


@pytest.mark.parametrize("dead", [1, 2])
async def test_a_client_that_asks_for_ends_knows_new_leaders_and_waits_idly_for_dead_ones(
    brokers: Cluster, world: World, dead: int
) -> None:
    topic = world.topic(PORTFOLIO_RETURNS.name)
    partitions = [(topic, number) for number in range(PORTFOLIO_RETURNS.partitions)]
    admin = TopicAdmin(brokers.bootstrap_servers, timeout_s=IDLE_S)
    assert len(await asyncio.to_thread(admin.ends, partitions)) == len(partitions)
    for number in range(dead):
        brokers.brokers[number].stop(signal.SIGKILL)
    try:
        switches, began_s = resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw, time.monotonic()
        await asyncio.to_thread(admin.ends, partitions)
        took_s = time.monotonic() - began_s
        switched = resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw - switches
        assert switched < 2_000 * max(took_s, 1)  # a loop between two threads makes 100,000
        if dead == 1:
            await asyncio.to_thread(brokers.wait_for_leaders, {0})
            async with asyncio.timeout(LOOK_S):  # by the same client
                while len(await asyncio.to_thread(admin.ends, partitions)) < len(partitions):
                    pass
    finally:
        await asyncio.to_thread(brokers.heal)


async def test_a_broker_is_silent_while_it_listens(
    brokers: Cluster, world: World, report: SceneReport
) -> None:
    async with traffic(world, report) as flows:
        number = await asyncio.to_thread(brokers.coordinator, f"{world.prefix}tapewire")
        broker = brokers.brokers[number]
        began_s = time.monotonic()
        broker.send_signal(signal.SIGSTOP)
        try:
            await goes_on(flows, brokers, f"broker {number} paused", began_s, {number})
            await asyncio.sleep(began_s + SILENT_S - time.monotonic())  # the rest of the pause
        finally:
            broker.send_signal(signal.SIGCONT)
        began_s = time.monotonic()
        await asyncio.to_thread(brokers.wait)
        await goes_on(flows, brokers, f"broker {number} continued", began_s, set())


async def test_writes_stall_while_a_minority_is_left(
    brokers: Cluster, world: World, report: SceneReport
) -> None:
    settings = world.producer_settings.model_copy(update={"patience_s": 5.0})
    async with traffic(world, report) as flows:
        dead = [(brokers.controller() + step) % 3 for step in range(2)]
        for number in dead:
            brokers.brokers[number].stop(signal.SIGKILL)
        reporter = SSEBroadcaster(settings)
        try:
            before = None
            for _ in range(2):  # what was on its way may arrive during the first
                before = flows.position
                with pytest.raises(Unsent):
                    await reporter.send_user_update("nobody", {})
            assert flows.position == before
            began_s = time.monotonic()
            for number in dead:
                brokers.brokers[number].begin()
            await asyncio.to_thread(brokers.wait)
            report.fault("two brokers killed, and started", in_sync=time.monotonic() - began_s)
            await goes_on(flows, brokers, "from the start on", began_s, set())
        finally:
            with suppress(Unsent):
                await reporter.close()


async def test_a_leader_cannot_reach_the_other_brokers_and_clients_reach_it(
    brokers: Cluster, tmp_path: Path, report: SceneReport
) -> None:
    needs_nft()
    await asyncio.to_thread(brokers.heal)
    number = brokers.controller()
    broker = brokers.brokers[number]
    assert broker.broker is not None
    with control_group() as group:
        command = in_group(group, broker.broker.command)
        await asyncio.to_thread(broker.stop)
        original, broker.broker = broker.broker, replace(broker.broker, command=command)
        await start(brokers, number, report)
        broker.broker = original
        async with new_world(brokers, tmp_path) as near:  # new topics have leaders everywhere
            assert await asyncio.to_thread(brokers.leads, number, near.prefix)
            far = replace(near, kafka=TestKafka(brokers.far_servers))
            async with traffic(far, report) as flows:
                began_s = time.monotonic()
                with isolated(group, brokers.inner_ports):
                    # It still takes itself for the leader that it was, and answers clients.
                    await goes_on(flows, brokers, f"broker {number} isolated", began_s, {number})
                    await asyncio.sleep(began_s + SILENT_S - time.monotonic())  # the rest of it
                began_s = time.monotonic()
                await asyncio.to_thread(brokers.wait)
                await goes_on(flows, brokers, f"broker {number} connected", began_s, set())
