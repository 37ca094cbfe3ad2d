import asyncio
import threading

import pytest

from producers.loop_thread import LoopThread


async def where() -> tuple[int, asyncio.AbstractEventLoop]:
    return threading.get_ident(), asyncio.get_running_loop()


def test_all_coroutines_run_on_one_loop_in_a_thread_that_ends() -> None:
    with LoopThread("loop") as thread:
        first, second = thread.run(where()), thread.run(where())
        assert first == second
        assert first[0] != threading.get_ident()
    assert "loop" not in {running.name for running in threading.enumerate()}


def test_the_caller_gets_the_error_of_its_coroutine() -> None:
    async def fail() -> None:
        raise ValueError("wrong")

    with LoopThread("loop") as thread, pytest.raises(ValueError, match="wrong"):
        thread.run(fail())


def test_as_many_calls_as_wanted_wait_at_once() -> None:
    count = 100  # more than any machine has by default
    barrier = threading.Barrier(count, timeout=20)

    async def meet() -> None:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(count):
                tasks.create_task(asyncio.to_thread(barrier.wait))

    with LoopThread("loop", to_threads=count) as thread:
        thread.run(meet())
