import asyncio

import pytest

from sse_edge.cache.tail import Tail
from sse_edge.cache.topic_tail import FAR_AWAY
from sse_edge.log.record import Partition
from sse_edge.settings import EdgeSettings
from tests.support.fake_log import append, log_of

pytestmark = pytest.mark.virtual_time

HERE = Partition("t", 0)


async def test_a_window_starts_at_the_logs_end_and_gets_what_is_appended() -> None:
    log = log_of(3)
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


@pytest.mark.parametrize("is_away", [False, True])
async def test_kafkas_first_answer_or_failure_is_awaited(is_away: bool) -> None:  # noqa: FBT001  # a parameter
    log = log_of(0)
    log.is_away = is_away
    tail = Tail(log, EdgeSettings())
    assert not tail.has_asked.is_set()
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(tail.run())
        async with asyncio.timeout(10):
            await tail.has_asked.wait()
        assert tail.connected is not is_away
        running.cancel()


async def test_a_listener_of_a_key_is_notified_of_its_records_only() -> None:
    log, calls = log_of(0), list[str]()
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
    log = log_of(3)
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


async def test_a_topic_that_was_made_anew_is_another_log() -> None:
    log = log_of(3)
    tail = Tail(log, EdgeSettings())
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(tail.run())
        topic = await tail.topic("t")
        await tail.follow(topic, [HERE])
        log.make("t")
        append(log, 5)
        await tail.check_now()
        assert topic.replaced
        changed = await tail.topic("t")
        assert changed.info.topic_id != topic.info.topic_id
        assert HERE not in changed.windows
        running.cancel()


async def test_a_reader_continues_while_topics_cannot_be_checked() -> None:
    log = log_of(0)
    tail = Tail(log, EdgeSettings(metadata_s=1))
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(tail.run())
        await tail.follow(await tail.topic("t"), [HERE])
        window = tail.windows[HERE]
        log.has_no_controller = True
        for number in range(20):
            append(log, 1)
            await asyncio.sleep(1)
            assert window.next_offset == number + 1
        assert tail.windows[HERE] is window
        running.cancel()


async def test_topics_are_checked_again_after_a_failed_check() -> None:
    log = log_of(3)
    tail = Tail(log, EdgeSettings(metadata_s=1))
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(tail.run())
        topic = await tail.topic("t")
        await tail.follow(topic, [HERE])
        log.has_no_controller = True
        await asyncio.sleep(5)
        log.make("t")
        await asyncio.sleep(5)
        assert not topic.replaced
        log.has_no_controller = False
        await asyncio.sleep(3)
        assert topic.replaced
        running.cancel()


async def test_a_former_leader_that_ends_earlier_costs_no_record() -> None:
    log = log_of(3)
    tail = Tail(log, EdgeSettings(metadata_s=1))
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(tail.run())
        topic = await tail.topic("t")
        await tail.follow(topic, [HERE])
        window = tail.windows[HERE]
        log.former_ends[HERE] = 2
        append(log, 4)
        await asyncio.sleep(5)
        assert not topic.replaced
        assert tail.windows[HERE] is window
        assert (window.start, window.next_offset) == (3, 7)
        running.cancel()
