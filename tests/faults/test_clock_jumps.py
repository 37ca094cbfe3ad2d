"""The broker's clock jumps ahead and back while processors write and clients follow."""

import asyncio
import time
import uuid
from contextlib import AsyncExitStack
from math import inf
from pathlib import Path

import pytest

from infra.topics import provision
from kafka_io.clock import now_us
from kafka_io.publisher import Publisher
from schemas.events import AgentEvent, AgentStepKind
from tests.conftest import TestKafka, World
from tests.faults.cluster import cluster
from tests.faults.moved_clock import MovedClock
from tests.faults.report import SceneReport
from tests.faults.traffic import traffic

pytestmark = [pytest.mark.kafka, pytest.mark.long_fault, pytest.mark.timeout(600)]

JUMPS_S = (600, -600, 7200, 0)
"""The broker's clock against the true one, in seconds."""
NEAR_S = 100


async def clock_shows(publisher: Publisher, jump_s: int) -> None:
    """Wait until the broker stamps records with its moved clock."""
    difference_s = inf
    async with asyncio.timeout(30):
        while abs(difference_s - jump_s) > NEAR_S:
            step = AgentEvent(
                run_id="clock", kind=AgentStepKind.RESPONSE_CHUNK, event_time_us=now_us()
            )
            written = await publisher.publish(step)
            difference_s = written.timestamp_ms / 1000 - time.time()


async def test_a_clock_that_jumps_loses_and_repeats_nothing(
    tmp_path: Path, report: SceneReport
) -> None:
    clock = MovedClock(tmp_path)
    with cluster(tmp_path, 1, clock=clock) as made:
        [broker] = made.brokers
        prefix = f"t{uuid.uuid4().hex[:8]}."
        await asyncio.to_thread(provision, broker.bootstrap_servers, prefix=prefix)
        async with AsyncExitStack() as stack:
            world = World(TestKafka(broker.bootstrap_servers), prefix, tmp_path, stack)
            publisher = await stack.enter_async_context(Publisher(world.producer_settings))
            async with traffic(world, report) as flows:
                for jump_s in JUMPS_S:
                    began_s = time.monotonic()
                    clock.move(jump_s)
                    await clock_shows(publisher, jump_s)
                    workers_s, clients_s = await flows.goes_on()
                    report.fault(
                        f"the clock is {jump_s:+d} s",
                        workers=workers_s - began_s,
                        clients=clients_s - began_s,
                    )
