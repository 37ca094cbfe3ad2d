import asyncio

import pytest

from schemas.codec import encode
from schemas.events import StoryState, StreamRenewal
from sse_edge.cache.table_view import TableView
from sse_edge.errors import LogUnavailable
from tests.support.fake_log import FakeLog

pytestmark = pytest.mark.virtual_time

TOPIC = "tasks"


def state(subject: str, offset: int) -> StoryState:
    return StoryState(
        subject=subject,
        status="running",
        partition=0,
        first_offset=0,
        last_offset=offset,
        ended=False,
    )


def put(log: FakeLog, subject: str, offset: int, partition: int = 0) -> None:
    log.append(TOPIC, partition, subject.encode(), encode(state(subject, offset)))


def a_log() -> FakeLog:
    log = FakeLog(seed=3)
    log.make(TOPIC)
    return log


def view_of(log: FakeLog, kept_ms: int | None = None) -> TableView[StoryState]:
    return TableView(log, TOPIC, StoryState, kept_ms, patience_s=5.0)


async def test_a_view_has_the_last_state_of_each_key_in_the_order_of_change() -> None:
    log = a_log()
    for subject, offset in (("a", 1), ("b", 2), ("a", 3)):
        put(log, subject, offset)
    view = view_of(log)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(view.run())
        assert [(s.subject, s.last_offset) for s in await view.all()] == [("b", 2), ("a", 3)]
        assert view.last("a") == state("a", 3)
        running.cancel()


async def test_a_view_has_the_time_at_which_each_state_was_appended() -> None:
    log = a_log()
    for offset, subject in enumerate(("a", "b", "a")):
        put(log, subject, offset)
    view = view_of(log)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(view.run())
        times = [log.record(TOPIC, 0, offset).timestamp_ms for offset in (1, 2)]
        assert await view.all_with_times() == [(state("b", 1), times[0]), (state("a", 2), times[1])]
        running.cancel()


async def test_a_view_is_not_read_before_its_first_use() -> None:
    log = a_log()
    put(log, "a", 1)
    view = view_of(log)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(view.run())
        await asyncio.sleep(60)
        assert view.version == 0
        assert view.last("a") is None
        await asyncio.sleep(1)
        assert view.last("a") == state("a", 1)
        running.cancel()


async def test_a_tombstone_removes_a_key_and_a_record_that_is_no_state_is_skipped() -> None:
    log = a_log()
    put(log, "a", 1)
    log.append(TOPIC, 0, b"b", b"nonsense")
    log._topics[TOPIC].partitions[0].records.append(
        log._topics[TOPIC].partitions[0].records[0]._replace(offset=2, value=None)
    )
    log._topics[TOPIC].partitions[0].end = 3
    view = view_of(log)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(view.run())
        assert await view.all() == []
        running.cancel()


async def test_a_find_waits_for_a_state_that_is_written_meanwhile_but_not_for_ever() -> None:
    log = a_log()
    view = view_of(log)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(view.run())
        finding = tasks.create_task(view.find("late", within_s=30))
        await asyncio.sleep(3)
        assert not finding.done()
        put(log, "late", 1)
        assert await finding == state("late", 1)
        began_s = asyncio.get_running_loop().time()
        assert await view.find("never", within_s=2) is None
        assert asyncio.get_running_loop().time() - began_s == pytest.approx(2, abs=0.1)
        running.cancel()


async def test_a_change_wakes_those_who_wait_for_another_version() -> None:
    log = a_log()
    view = view_of(log)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(view.run())
        await view.all()
        waiting = tasks.create_task(view.changed_since(view.version))
        await asyncio.sleep(5)
        assert not waiting.done()
        put(log, "a", 1)
        async with asyncio.timeout(1):
            await waiting
        [topic] = view.cursor.topics
        assert topic.offsets == ((0, 1),)
        running.cancel()


async def test_a_topic_that_grows_is_read_on_in_its_new_partitions() -> None:
    log = a_log()
    put(log, "a", 1)
    view = view_of(log)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(view.run())
        assert await view.all() == [state("a", 1)]
        version = view.version
        log.add_partition(TOPIC)
        put(log, "a", 2, partition=1)
        await view.changed_since(version)
        assert await view.all() == [state("a", 2)]
        version = view.version
        put(log, "a", 3)  # by a writer that does not know the new partition yet
        await view.changed_since(version)
        assert await view.all() == [state("a", 2)]
        running.cancel()


@pytest.mark.parametrize("seed", range(5))
async def test_a_row_that_has_moved_is_shown_whichever_partition_is_read_first(seed: int) -> None:
    log = FakeLog(seed)
    log.make(TOPIC, 2)
    put(log, "a", 1)
    put(log, "a", 1, partition=1)
    where = log._topics[TOPIC].partitions[0]
    where.records.append(where.records[0]._replace(offset=1, value=None))
    where.end = 2
    view = view_of(log)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(view.run())
        assert await view.all() == [state("a", 1)]
        running.cancel()


async def test_without_kafka_a_caller_is_refused_and_the_view_is_read_when_it_is_back() -> None:
    log = a_log()
    put(log, "a", 1)
    log.is_away = True
    view = view_of(log)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(view.run())
        with pytest.raises(LogUnavailable):
            await view.all()
        log.is_away = False
        assert await view.all() == [state("a", 1)]
        running.cancel()


async def test_a_state_older_than_the_retention_is_dropped() -> None:
    log = a_log()
    put(log, "old", 1)
    log._clock_ms += 10_000
    put(log, "new", 2)
    view = view_of(log, kept_ms=5_000)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(view.run())
        assert await view.all() == [state("new", 2)]
        running.cancel()


async def test_a_state_comes_with_the_logs_time_and_other_classes_are_no_states() -> None:
    log = a_log()
    put(log, "a", 1)
    log.append(TOPIC, 0, b"b", encode(StreamRenewal(challenge="b", expires_us=1, event_time_us=1)))
    view = TableView(log, TOPIC, StoryState, None, patience_s=5.0, also=(StreamRenewal,))
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(view.run())
        [(found, at_ms)] = await view.all_with_times()
        assert found == state("a", 1)
        assert at_ms == log._topics[TOPIC].partitions[0].records[0].timestamp_ms
        running.cancel()
