"""Tasks that handle messages side by side, or alone."""

import asyncio

import pytest

from stream_processors.isolation import Isolation

pytestmark = pytest.mark.virtual_time


async def test_a_task_is_alone_after_the_others_and_before_the_next() -> None:
    isolation, log = Isolation(), list[str]()

    async def share(name: str) -> None:
        async with isolation.shared():
            await go(name)

    async def be_alone(name: str) -> None:
        async with isolation.alone():
            await go(name)

    async def go(name: str) -> None:
        log.append(f"{name} begins")
        await asyncio.sleep(1)
        log.append(f"{name} ends")

    async with asyncio.TaskGroup() as tasks:
        for name in ("a", "b"):
            tasks.create_task(share(name))
        await asyncio.sleep(0.5)
        tasks.create_task(be_alone("alone"))
        tasks.create_task(be_alone("alone too"))
        await asyncio.sleep(0.1)
        tasks.create_task(share("c"))
    assert log[:2] == ["a begins", "b begins"]
    assert set(log[2:4]) == {"a ends", "b ends"}
    rest = [log[at : at + 2] for at in (4, 6, 8)]
    assert sorted(rest) == [
        [f"{name} begins", f"{name} ends"] for name in ("alone", "alone too", "c")
    ]


async def test_others_go_on_between_two_that_are_alone_and_after_one_that_was_cancelled() -> None:
    isolation = Isolation()
    done: list[str] = []

    async def be_alone_again_and_again() -> None:
        while len(done) < 3:
            async with isolation.alone():
                await asyncio.sleep(1)

    async def share() -> None:
        async with isolation.shared():
            done.append("shared")

    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        stuck = tasks.create_task(be_alone_for_ever(isolation))
        await asyncio.sleep(1)
        sharing = tasks.create_task(share())
        await asyncio.sleep(1)
        assert not sharing.done()
        stuck.cancel()
        for _ in range(2):
            tasks.create_task(be_alone_again_and_again())
        await asyncio.sleep(0.5)
        for _ in range(2):
            tasks.create_task(share())
    assert len(done) == 3


async def be_alone_for_ever(isolation: Isolation) -> None:
    async with isolation.alone():
        await asyncio.Event().wait()
