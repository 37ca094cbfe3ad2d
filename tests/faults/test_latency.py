"""Workers and edges are far from the broker: their packets take long."""

import time
from collections.abc import Generator
from pathlib import Path

import pytest

from infra.embedded_broker import free_port
from tests.conftest import World
from tests.faults.cluster import Cluster, cluster
from tests.faults.report import SceneReport
from tests.faults.slow_link import Delay, SlowLink, slow_link
from tests.faults.traffic import traffic

pytestmark = [pytest.mark.kafka, pytest.mark.long_fault, pytest.mark.timeout(600)]

DELAYS = {
    "100 to 150 ms": Delay(0.1, 0.15),
    "400 to 600 ms": Delay(0.4, 0.6),
    "no time": Delay(),
}
"""Of a chunk of bytes, each way."""
ROUNDS_BEFORE = 2


@pytest.fixture
def far_port() -> int:
    return free_port()


@pytest.fixture
def broker(tmp_path: Path, far_port: int) -> Generator[Cluster]:
    with cluster(tmp_path / "broker", 1, advertised_far_ports=[far_port]) as made:
        yield made


@pytest.fixture
def link(broker: Cluster, far_port: int) -> Generator[SlowLink]:
    with slow_link(far_port, broker.far_ports[0]) as made:
        yield made


async def test_packets_take_long_to_workers_and_edges(
    link: SlowLink, worlds: tuple[World, World], report: SceneReport
) -> None:
    near, far = worlds
    async with traffic(near, report, workers={"one": far, "two": far}, edges_in=far) as flows:
        for name, delay in DELAYS.items():
            link.delay = delay
            for _ in range(ROUNDS_BEFORE):
                await flows.goes_on()
            began_s = time.monotonic()
            workers_s, clients_s = await flows.goes_on()
            report.fault(
                f"{name} each way", workers=workers_s - began_s, clients=clients_s - began_s
            )
