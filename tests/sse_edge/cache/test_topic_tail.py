import asyncio

import pytest

from sse_edge.cache.topic_tail import Cut, TopicTail, find_cut
from sse_edge.cache.window import Window
from sse_edge.errors import LogUnavailable
from sse_edge.log.record import Batch, Partition, TopicInfo
from tests.support.fake_log import FakeLog, append, log_of

pytestmark = pytest.mark.virtual_time

HERE = Partition("t", 0)


async def window_of(log: FakeLog, start: int, end: int) -> Window:
    window = Window(start, 1 << 20)
    while window.next_offset < end:
        window.append(await log.read(HERE, window.next_offset))
    return window


def test_a_successor_is_changed_without_a_change_of_what_it_follows() -> None:
    topic = TopicTail(TopicInfo("t", bytes(16), 1), {HERE: Window(0, 1_000)})
    topic.cuts = (Cut(HERE, 7),)
    successor = topic.successor()
    assert (successor.windows, successor.cuts) == (topic.windows, topic.cuts)
    successor.cuts = (*successor.cuts, Cut(HERE, 9))
    del successor.windows[HERE]
    assert HERE in topic.windows
    assert topic.cuts == (Cut(HERE, 7),)


async def test_a_log_that_still_has_a_windows_records_has_no_cut() -> None:
    log = log_of(50)
    window = await window_of(log, 10, 50)
    append(log, 5)
    assert await find_cut(log, HERE, window) is None


async def test_a_log_that_lost_its_end_is_cut_at_the_first_offset_that_differs() -> None:
    log = log_of(50)
    window = await window_of(log, 10, 50)
    log.cut_off("t", 0, 40)
    assert await find_cut(log, HERE, window) == 40
    append(log, 20)
    assert await find_cut(log, HERE, window) == 40


async def test_what_retention_or_compaction_has_removed_is_no_cut() -> None:
    log = log_of(50)
    window = await window_of(log, 10, 50)
    log.expire("t", 0, 30)
    del log._topics["t"].partitions[0].records[5]
    assert await find_cut(log, HERE, window) is None


async def test_a_log_that_is_away_cannot_be_compared() -> None:
    log = log_of(5)
    window = await window_of(log, 0, 5)
    log.is_away = True
    with pytest.raises(LogUnavailable):
        await find_cut(log, HERE, window)


async def test_a_window_that_grows_during_the_comparison_has_lost_nothing() -> None:
    log = log_of(20)
    window = await window_of(log, 5, 20)
    log.slowest_s = 1.0
    async with asyncio.TaskGroup() as tasks:
        comparing = tasks.create_task(find_cut(log, HERE, window))
        for number in range(20, 60):
            append(log, 1)
            window.append(Batch((log.record("t", 0, number),), number + 1))
            await asyncio.sleep(0.1)
    assert comparing.result() is None
