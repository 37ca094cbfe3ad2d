"""Commands run at once, and one that may end the process runs alone."""

import asyncio
import random

import pytest

from kafka_io.solitude import Solitude

pytestmark = pytest.mark.virtual_time


@pytest.mark.parametrize("seed", range(20))
async def test_a_command_that_is_alone_has_none_beside_it_and_each_gets_its_turn(seed: int) -> None:
    dice = random.Random(seed)
    solitude = Solitude()
    running: list[bool] = []
    seen: list[int] = []

    async def run(*, is_alone: bool) -> None:
        await asyncio.sleep(dice.random() * 10)
        async with solitude.entered(is_alone=is_alone):
            running.append(is_alone)
            for _ in range(3):
                assert len(running) == 1 or not any(running)
                seen.append(len(running))
                await asyncio.sleep(dice.random())
            running.remove(is_alone)

    async with asyncio.timeout(200), asyncio.TaskGroup() as tasks:
        for number in range(40):
            tasks.create_task(run(is_alone=number % 8 == 0))
    assert max(seen) > 1


async def test_a_command_that_gives_up_waiting_bars_no_other() -> None:
    solitude = Solitude()

    async def run(*, is_alone: bool) -> None:
        async with solitude.entered(is_alone=is_alone):
            await asyncio.sleep(10)

    async with asyncio.timeout(15), asyncio.TaskGroup() as tasks:
        tasks.create_task(run(is_alone=False))
        await asyncio.sleep(1)
        waiting = tasks.create_task(run(is_alone=True))
        await asyncio.sleep(1)
        beside = tasks.create_task(run(is_alone=False))
        await asyncio.sleep(1)
        waiting.cancel()
        await beside
