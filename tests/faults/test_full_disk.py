"""The broker's disk is full while processors write."""

import asyncio
import os
import subprocess
import time
import uuid
from collections.abc import Generator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from infra.topics import provision
from tests.conftest import TestKafka, World
from tests.faults.cluster import cluster
from tests.faults.report import SceneReport
from tests.faults.traffic import traffic

pytestmark = [pytest.mark.kafka, pytest.mark.long_fault, pytest.mark.timeout(900)]

SIZE_BYTES = 512 << 20


@pytest.fixture
def disk(tmp_path: Path) -> Generator[Path]:
    """A disk of its own, in memory."""
    path = tmp_path / "disk"
    path.mkdir()
    if not mount(path, f"size={SIZE_BYTES}"):
        pytest.skip("a small disk can be mounted by root only")
    try:
        yield path
    finally:
        subprocess.run(["/usr/bin/umount", "--lazy", str(path)], check=True)


def mount(path: Path, options: str) -> bool:
    """Mount a disk in memory, or change its size."""
    command = ["/usr/bin/mount", "-t", "tmpfs", "-o", options, "tapewire-faults", str(path)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def fill(path: Path) -> None:
    """Take the free space of a disk away."""
    is_full = False
    while not is_full:  # the broker may write meanwhile
        state = os.statvfs(path)
        used = (state.f_blocks - state.f_bfree) * state.f_frsize
        is_full = mount(path, f"remount,size={used}")


async def test_everything_goes_on_when_a_full_disk_has_space_again(
    disk: Path, tmp_path: Path, report: SceneReport
) -> None:
    with cluster(disk, 1) as made:
        [broker] = made.brokers
        prefix = f"t{uuid.uuid4().hex[:8]}."
        await asyncio.to_thread(provision, broker.bootstrap_servers, prefix=prefix)
        async with AsyncExitStack() as stack:
            world = World(TestKafka(broker.bootstrap_servers), prefix, tmp_path, stack)
            async with traffic(world, report) as flows:
                began_s = time.monotonic()
                fill(disk)
                code = await asyncio.to_thread(broker.ended)
                died_s = time.monotonic() - began_s
                report.fault(f"disk full: broker ended with {code}", end=died_s)
                assert mount(disk, f"remount,size={SIZE_BYTES}")
                began_s = time.monotonic()
                broker.begin()
                leaders_s = await asyncio.to_thread(made.wait_for_leaders)
                workers_s, clients_s = await flows.goes_on()
                report.fault(
                    "disk has space, broker started",
                    leaders=leaders_s - began_s,
                    workers=workers_s - began_s,
                    clients=clients_s - began_s,
                )
