"""Three workers are killed, stopped and paused in turn, and come back.

The scene lasts ten minutes, or as many seconds as `TAPEWIRE_COME_AND_GO_S` says.
"""

import asyncio
import os
import random
import time
from collections import Counter
from itertools import cycle

import pytest

from tests.conftest import World
from tests.faults.report import SceneReport
from tests.faults.traffic import traffic
from tests.support.kept_worker import KeptWorker

SECONDS = float(os.environ.get("TAPEWIRE_COME_AND_GO_S", "600"))
EVERY_S = 15.0
PAUSES_S = (5.0, 90.0)
PACE_S = 0.5

pytestmark = [pytest.mark.kafka, pytest.mark.long_fault, pytest.mark.timeout(2 * SECONDS + 400)]


async def test_three_workers_come_and_go(world: World, report: SceneReport) -> None:
    dice = random.Random(4)
    faults: Counter[str] = Counter()
    paused: set[KeptWorker] = set()

    async def pause(worker: KeptWorker, seconds: float) -> None:
        paused.add(worker)
        await worker.pause(seconds)
        paused.remove(worker)

    async with traffic(
        world, report, workers=dict.fromkeys(("one", "two", "three"), world), pace_s=PACE_S
    ) as flows:
        until_s = time.monotonic() + SECONDS
        fault = cycle(("killed", "stopped", "paused"))
        async with asyncio.TaskGroup() as pauses:
            while time.monotonic() < until_s:
                next_s = time.monotonic() + EVERY_S
                worker = dice.choice([item for item in flows.workers if item not in paused])
                kind = next(fault)
                faults[kind] += 1
                if kind == "paused":
                    pauses.create_task(pause(worker, dice.uniform(*PAUSES_S)))
                else:
                    await worker.end(kill=kind == "killed")
                await asyncio.sleep(next_s - time.monotonic())  # the pace of the scene
        began_s = time.monotonic()
        workers_s, _ = await flows.goes_on()
        done = ", ".join(f"{kind} {count} times" for kind, count in faults.items())
        report.fault(f"workers {done}", workers=workers_s - began_s)
