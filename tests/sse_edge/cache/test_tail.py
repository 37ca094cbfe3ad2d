import asyncio

import pytest

from sse_edge.cache.tail import Tail
from sse_edge.cache.topic_tail import FAR_AWAY, find_cut
from sse_edge.cache.window import Window
from sse_edge.errors import LogUnavailable
from sse_edge.log.record import Partition
from sse_edge.settings import EdgeSettings
from tests.support.fake_log import FakeLog

pytestmark = pytest.mark.virtual_time

HERE = Partition("t", 0)


def a_log(count: int = 0) -> FakeLog:
    log = FakeLog(seed=4)
    log.make("t")
    append(log, count)
    return log


def append(log: FakeLog, count: int, key: bytes = b"k") -> None:
    for _ in range(count):
        log.append("t", 0, key, b"")


async def window_of(log: FakeLog, start: int, end: int) -> Window:
    window = Window(start, 1 << 20)
    while window.next_offset < end:
        window.append(await log.read(HERE, window.next_offset))
    return window


async def test_a_window_starts_at_the_logs_end_and_gets_what_is_appended() -> None:
    log = a_log(3)
    tail = Tail(log, EdgeSettings())
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(tail.run())
        topic = await tail.topic("t")
        await tail.follow(topic, [HERE])
        append(log, 5)
        await asyncio.sleep(2)
        window = tail.windows[HERE]
        assert (window.start, window.next_offset) == (3, 8)
        assert tail.records == 5
        running.cancel()


async def test_a_listener_of_a_key_is_notified_of_its_records_only() -> None:
    log, calls = a_log(), list[str]()
    tail = Tail(log, EdgeSettings())
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(tail.run())
        await tail.follow(await tail.topic("t"), [HERE])
        with (
            tail.subscribed("t", [b"mine"], lambda: calls.append("mine")),
            tail.subscribed("t", [], lambda: calls.append("any")),
        ):
            append(log, 1, b"other")
            await asyncio.sleep(1)
            assert calls == ["any"]
            append(log, 1, b"mine")
            await asyncio.sleep(1)
            assert calls == ["any", "any", "mine"]
        append(log, 1, b"mine")
        await asyncio.sleep(1)
        assert calls == ["any", "any", "mine"]
        running.cancel()


async def test_a_partition_without_a_leader_has_an_empty_window_until_it_gets_one() -> None:
    log = a_log(3)
    log.leaderless.add(HERE)
    tail = Tail(log, EdgeSettings(metadata_s=1))
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(tail.run())
        topic = await tail.topic("t")
        await tail.follow(topic, [HERE])
        assert topic.windows[HERE].start == FAR_AWAY
        log.leaderless.clear()
        await asyncio.sleep(3)
        assert topic.replaced
        changed = await tail.topic("t")
        await tail.follow(changed, [HERE])
        assert changed.windows[HERE].start == 3
        running.cancel()


async def test_a_log_that_still_has_a_windows_records_has_no_cut() -> None:
    log = a_log(50)
    window = await window_of(log, 10, 50)
    append(log, 5)
    assert await find_cut(log, HERE, window) is None


async def test_a_log_that_lost_its_end_is_cut_at_the_first_offset_that_differs() -> None:
    log = a_log(50)
    window = await window_of(log, 10, 50)
    log.cut_off("t", 0, 40)
    assert await find_cut(log, HERE, window) == 40
    append(log, 20)
    assert await find_cut(log, HERE, window) == 40


async def test_what_retention_or_compaction_has_removed_is_no_cut() -> None:
    log = a_log(50)
    window = await window_of(log, 10, 50)
    log.expire("t", 0, 30)
    del log._topics["t"].partitions[0].records[5]
    assert await find_cut(log, HERE, window) is None


async def test_a_log_that_is_away_cannot_be_compared() -> None:
    log = a_log(5)
    window = await window_of(log, 0, 5)
    log.is_away = True
    with pytest.raises(LogUnavailable):
        await find_cut(log, HERE, window)
