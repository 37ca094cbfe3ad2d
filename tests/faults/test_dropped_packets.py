"""A worker and an edge are cut off from the broker for longer than a session."""

import asyncio
import time
from collections.abc import Generator

import pytest

from tests.conftest import World
from tests.faults.cluster import Cluster, cluster
from tests.faults.network import dropped, needs_nft
from tests.faults.report import SceneReport
from tests.faults.traffic import traffic

pytestmark = [pytest.mark.kafka, pytest.mark.long_fault, pytest.mark.timeout(600)]

CUT_OFF_S = 25.0
"""Longer than the session of 10 seconds."""


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Generator[Cluster]:
    needs_nft()
    with cluster(tmp_path_factory.mktemp("broker"), 1) as made:
        yield made


async def test_another_worker_takes_over_from_one_that_is_cut_off(
    broker: Cluster, worlds: tuple[World, World], report: SceneReport
) -> None:
    near, far = worlds
    async with traffic(near, report, workers={"far": far, "near": near}) as flows:
        began_s = time.monotonic()
        with dropped(broker.far_ports):
            workers_s, _ = await flows.goes_on()
            report.fault("worker cut off", workers=workers_s - began_s)
            await asyncio.sleep(began_s + CUT_OFF_S - time.monotonic())  # the rest of the cut
        began_s = time.monotonic()
        workers_s, _ = await flows.goes_on()
        report.fault("worker connected", workers=workers_s - began_s)


async def test_edges_that_are_cut_off_keep_their_clients_and_lose_no_event(
    broker: Cluster, worlds: tuple[World, World], report: SceneReport
) -> None:
    near, far = worlds
    async with traffic(near, report, edges_in=far) as flows:
        began_s = time.monotonic()
        with dropped(broker.far_ports):
            before = flows.received
            await asyncio.sleep(CUT_OFF_S)  # as long as the cut lasts
            # What was on its way to the clients has arrived, and nothing more.
            assert flows.received - before < 200
        began_s = time.monotonic()
        _, clients_s = await flows.goes_on()
        report.fault("edges cut off, and connected", clients=clients_s - began_s)
