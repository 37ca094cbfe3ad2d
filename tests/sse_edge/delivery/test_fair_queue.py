import asyncio

import pytest

from sse_edge.delivery.fair_queue import FairQueue

pytestmark = pytest.mark.virtual_time


async def test_waiters_pass_one_at_a_time_in_the_order_of_arrival() -> None:
    queue, passed = FairQueue(), list[int]()

    async def waiter(number: int) -> None:
        await queue.slot()
        passed.append(number)

    async with asyncio.TaskGroup() as tasks:
        for number in range(20):
            tasks.create_task(waiter(number))
    assert passed == list(range(20))


async def test_between_two_waiters_of_a_crowd_the_loop_runs_other_work() -> None:
    queue, trace = FairQueue(), list[str]()

    async def waiter() -> None:
        await queue.slot()
        trace.append("turn")

    async def other_work() -> None:
        while trace.count("turn") < 5:
            trace.append("other")
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(5):
            tasks.create_task(waiter())
        tasks.create_task(other_work())
    assert "turn turn" not in " ".join(trace)


async def test_a_waiter_that_is_cancelled_does_not_stop_those_after_it() -> None:
    queue = FairQueue()
    async with asyncio.timeout(1), asyncio.TaskGroup() as tasks:
        waiters = [tasks.create_task(queue.slot()) for _ in range(3)]
        await asyncio.sleep(0)
        waiters[1].cancel()
    assert [waiter.cancelled() for waiter in waiters] == [False, True, False]
    async with asyncio.timeout(1):
        await queue.slot()


async def test_one_piece_of_work_goes_on_in_a_turn() -> None:
    queue = FairQueue()
    assert not queue.goes_on()
    await queue.slot()
    assert [queue.goes_on() for _ in range(3)] == [True, False, False]
    await queue.slot()
    assert queue.goes_on()
