"""The read side of the Durable Streams protocol: offsets, live modes, closure and refusals."""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from schemas.codec import encode
from schemas.events import StoryState
from schemas.run_ids import Owner, new_id
from sse_edge.log.record import Partition
from sse_edge.routes.durable_streams import EVENTS_MAX, closure_of
from sse_edge.streams.requests import one_channel
from tests.support.asgi_edge import Answer, AsgiEdge, log_of_the_catalogue, serving
from tests.support.edge import ALERTS, TRAINING, progress, write_alerts
from tests.support.fake_log import FakeLog
from tests.support.sse import Block, Reader

pytestmark = pytest.mark.virtual_time

URL = "/ds/alerts"
TASK = "/ds/training/T"
TASKS = "training.tasks"
NEXT, UP_TO_DATE, CLOSED = "stream-next-offset", "stream-up-to-date", "stream-closed"
SECRET = "a secret of sixteen bytes"


@asynccontextmanager
async def an_edge(alerts: int = 0, **settings: Any) -> AsyncGenerator[tuple[AsgiEdge, FakeLog]]:
    """Serve a log with some alerts of the entity p, in the partition of its key."""
    log = log_of_the_catalogue()
    write(log, *range(alerts))
    async with serving(log, **settings) as edge:
        yield edge, log


def write(log: FakeLog, *numbers: int, entity: str = "p") -> None:
    partition = log.partition_of(entity.encode(), log.count(ALERTS))
    write_alerts(log, *numbers, entity=entity, partition=partition)


def report(log: FakeLog, status: str = "running") -> int:
    """Append an event of the task T; return its offset."""
    partition = log.partition_of(b"T", log.count(TRAINING))
    return log.append(TRAINING, partition, b"T", progress("T", 50.0, status))


def write_state(log: FakeLog, last_offset: int) -> None:
    """Append the state of the ended task T, as a processor does."""
    state = StoryState(
        subject="T",
        status="completed",
        partition=log.partition_of(b"T", log.count(TRAINING)),
        first_offset=0,
        last_offset=last_offset,
        ended=True,
    )
    log.append(TASKS, log.partition_of(b"T", log.count(TASKS)), b"T", encode(state))


async def get(edge: AsgiEdge, query: str = "", *, url: str = URL, **more: Any) -> Answer:
    options: dict[str, Any] = {"headers": (), "stays_s": 1_000.0} | more
    return await edge.request(url, query, **options)


async def until(condition: Callable[[], bool]) -> None:
    """Wait until something holds: threads take real time, in which virtual time may pass."""
    async with asyncio.timeout(100_000):
        while not condition():  # noqa: ASYNC110  # the edge has no event for tests
            await asyncio.sleep(1)


async def connected(edge: AsgiEdge, count: int) -> None:
    """Wait until so many requests are read."""
    await until(lambda: edge.app.state.node.connections == count)


def messages(answer: Answer) -> list[str]:
    return [event["data"]["message"] for event in json.loads(answer.body)]


def numbered(*numbers: int) -> list[str]:
    return [f"number {number}" for number in numbers]


def blocks(answer: Answer) -> list[Block]:
    return [block for block in Reader().feed(answer.body) if block.data]


async def test_chunks_have_all_events_and_say_when_there_are_no_more() -> None:
    count = EVENTS_MAX + 3
    async with an_edge(count) as (edge, _):
        first = await get(edge)
        second = await get(edge, f"offset={first.headers[NEXT]}")
        last = await get(edge, f"offset={second.headers[NEXT]}")
    assert messages(first) + messages(second) == numbered(*range(count))
    assert UP_TO_DATE not in first.headers
    assert second.headers[UP_TO_DATE] == last.headers[UP_TO_DATE] == "true"
    assert (last.status, last.body) == (200, b"[]")
    assert last.headers[NEXT] == second.headers[NEXT] > first.headers[NEXT]
    assert CLOSED not in last.headers


async def test_a_chunk_that_has_all_events_is_up_to_date_also_if_it_is_full() -> None:
    async with an_edge(EVENTS_MAX) as (edge, _):
        answer = await get(edge, url="/ds/alerts/p")
    assert len(messages(answer)) == EVENTS_MAX
    assert answer.headers[UP_TO_DATE] == "true"


async def test_only_a_full_chunk_of_one_entity_is_immutable() -> None:
    async with an_edge(2 * EVENTS_MAX + 1) as (edge, _):
        first = await get(edge, url="/ds/alerts/p")
        full = await get(edge, f"offset={first.headers[NEXT]}", url="/ds/alerts/p")
        last = await get(edge, f"offset={full.headers[NEXT]}", url="/ds/alerts/p")
    assert full.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert {a.headers["cache-control"] for a in (first, last)} == {"public, no-cache"}


async def test_now_is_the_end_and_has_no_tag() -> None:
    async with an_edge(3) as (edge, log):
        head = await get(edge, method="HEAD")
        now = await get(edge, "offset=now")
        write(log, 3)
        later = await get(edge, f"offset={now.headers[NEXT]}&live=long-poll")
    assert (now.status, now.body) == (200, b"[]")
    assert now.headers[NEXT] == head.headers[NEXT]
    assert now.headers["cache-control"] == head.headers["cache-control"] == "no-store"
    assert "etag" not in now.headers
    assert (head.status, head.body) == (200, b"")
    assert "content-length" not in head.headers
    assert messages(later) == numbered(3)


async def test_a_long_poll_waits_for_an_event_and_has_a_cursor_for_caches() -> None:
    async with an_edge(2) as (edge, log):
        tail = (await get(edge, method="HEAD")).headers[NEXT]
        async with asyncio.TaskGroup() as tasks:
            polling = tasks.create_task(get(edge, f"offset={tail}&live=long-poll"))
            await connected(edge, 1)
            write(log, 2)
        found = polling.result()
        cursor = found.headers["stream-cursor"]
        again = await get(edge, f"offset=-1&live=long-poll&cursor={cursor}")
    assert (found.status, messages(found)) == (200, numbered(2))
    assert found.headers[UP_TO_DATE] == "true"
    assert int(again.headers["stream-cursor"]) > int(cursor)


async def test_a_long_poll_without_an_event_ends_at_the_same_offset() -> None:
    async with an_edge(2) as (edge, log):
        tail = (await get(edge, url="/ds/alerts/p")).headers[NEXT]
        query = f"offset={tail}&live=long-poll"
        async with asyncio.TaskGroup() as tasks:
            polling = tasks.create_task(get(edge, query, url="/ds/alerts/p", stays_s=60.0))
            await connected(edge, 1)
            write(log, 9, entity="q")
    answer = polling.result()
    assert (answer.status, answer.body) == (204, b"")
    assert answer.headers[NEXT] == tail
    assert answer.headers[UP_TO_DATE] == "true"
    assert answer.headers["stream-cursor"].isdecimal()
    assert answer.headers["cache-control"] == "no-store"


async def test_a_long_poll_ends_when_its_client_is_gone() -> None:
    async with an_edge(2, ping_s=3_600.0) as (edge, _):
        tail = (await get(edge, method="HEAD")).headers[NEXT]
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        await get(edge, f"offset={tail}&live=long-poll", stays_s=2.0)
        assert loop.time() - began_s < 1_800
        assert edge.app.state.node.connections == 0


async def test_the_offset_of_a_quiet_stream_follows_the_records_of_others() -> None:
    async with an_edge(1, checkpoint_records=5) as (edge, log):
        tail = (await get(edge, url="/ds/alerts/p")).headers[NEXT]
        partition = log.partition_of(b"p", log.count(ALERTS))
        window = edge.app.state.node.tail.windows[Partition(ALERTS, partition)]
        write_alerts(log, *range(4), entity="q", partition=partition)
        await until(lambda: window.next_offset == 5)
        same = await get(edge, f"offset={tail}", url="/ds/alerts/p")
        write_alerts(log, 4, entity="q", partition=partition)
        await until(lambda: window.next_offset == 6)
        moved = await get(edge, f"offset={tail}", url="/ds/alerts/p")
    assert same.headers[NEXT] == tail < moved.headers[NEXT]
    assert messages(moved) == []


async def test_an_event_stream_has_a_control_event_after_each_data_event() -> None:
    async with an_edge(2) as (edge, log):
        async with asyncio.TaskGroup() as tasks:
            following = tasks.create_task(get(edge, "offset=-1&live=sse"))
            await until(lambda: edge.app.state.node.metrics.of("alerts").events == 2)
            write(log, 2)
        answer = following.result()
        by_hand = await get(edge, f"offset={blocks(answer)[1].json['streamNextOffset']}")
    found = blocks(answer)
    assert [block.event for block in found] == ["data", "control", "data", "control"]
    assert [e["data"]["message"] for e in found[0].json + found[2].json] == numbered(0, 1, 2)
    for control in (found[1].json, found[3].json):
        assert control["upToDate"] is True
        assert control["streamCursor"].isdecimal()
        assert "streamClosed" not in control
    assert messages(by_hand) == numbered(2)
    assert answer.headers["content-type"] == "text/event-stream"
    assert "no-cache" in answer.headers["cache-control"]


async def test_an_event_stream_at_the_end_begins_with_the_offset_and_ends_after_a_minute() -> None:
    async with an_edge(1) as (edge, _):
        tail = (await get(edge)).headers[NEXT]
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        answer = await get(edge, "offset=now&live=sse", stays_s=100.0)
        lasted_s = loop.time() - began_s
    (control,) = blocks(answer)
    assert (control.event, control.json["streamNextOffset"]) == ("control", tail)
    assert control.json["upToDate"] is True
    assert 59 <= lasted_s <= 62


@pytest.mark.parametrize("has_state", [False, True])
async def test_the_stream_of_an_ended_task_is_closed(has_state: bool) -> None:  # noqa: FBT001  # a parameter
    async with an_edge() as (edge, log):
        report(log)
        last = report(log, "completed")
        if has_state:
            write_state(log, last)
        whole = await get(edge, url=TASK)
        tail = whole.headers[NEXT]
        at_tail = await get(edge, f"offset={tail}", url=TASK)
        polled = await get(edge, f"offset={tail}&live=long-poll", url=TASK)
        followed = await get(edge, f"offset={tail}&live=sse", url=TASK)
        all_followed = await get(edge, "offset=-1&live=sse", url=TASK)
    assert len(json.loads(whole.body)) == 2
    for answer in (whole, at_tail, polled):
        assert answer.headers[CLOSED] == answer.headers[UP_TO_DATE] == "true"
        assert answer.headers[NEXT] == tail
    assert (at_tail.body, polled.status, polled.body) == (b"[]", 204, b"")
    assert "stream-cursor" not in polled.headers
    (control,) = blocks(followed)
    assert control.json == {"streamNextOffset": tail, "upToDate": True, "streamClosed": True}
    assert [block.event for block in blocks(all_followed)] == ["data", "control"]
    assert blocks(all_followed)[1].json == control.json


async def test_the_end_of_a_closed_stream_is_after_its_last_event() -> None:
    async with an_edge() as (edge, log):
        last = report(log, "completed")
        write_state(log, last)
        whole = await get(edge, url=TASK)
        partition = log.partition_of(b"T", log.count(TRAINING))
        log.append(TRAINING, partition, b"U", progress("U", 1.0))
        await get(edge, url="/ds/training/U")
        head = await get(edge, url=TASK, method="HEAD")
        now = await get(edge, "offset=now", url=TASK)
        polled = await get(edge, "offset=now&live=long-poll", url=TASK)
    for answer in (head, now, polled):
        assert (answer.headers[CLOSED], answer.headers[UP_TO_DATE]) == ("true", "true")
    assert head.headers[NEXT] == now.headers[NEXT] == whole.headers[NEXT]
    assert polled.status == 204


async def test_a_waiting_client_learns_when_a_processor_sees_the_end() -> None:
    async with an_edge() as (edge, log):
        last = report(log)
        tail = (await get(edge, url=TASK)).headers[NEXT]
        open_tag = (await get(edge, f"offset={tail}", url=TASK)).headers["etag"]
        async with asyncio.TaskGroup() as tasks:
            polling = tasks.create_task(get(edge, f"offset={tail}&live=long-poll", url=TASK))
            following = tasks.create_task(get(edge, f"offset={tail}&live=sse", url=TASK))
            await connected(edge, 2)
            write_state(log, last)
        known = ((b"if-none-match", open_tag.encode()),)
        closed = await get(edge, f"offset={tail}", url=TASK, headers=known)
    assert (polling.result().status, polling.result().headers[CLOSED]) == (204, "true")
    assert blocks(following.result())[-1].json["streamClosed"] is True
    assert (closed.status, closed.headers[CLOSED]) == (200, "true")
    assert closed.headers["etag"].endswith(':c"')


async def test_a_state_whose_event_the_reader_has_not_reached_closes_nothing() -> None:
    async with an_edge() as (edge, log):
        last = report(log)
        write_state(log, last + 5)
        answer = await get(edge, "offset=-1&live=sse", url=TASK, stays_s=5.0)
        polled = await get(edge, "offset=now&live=long-poll", url=TASK, stays_s=60.0)
    assert not any("streamClosed" in block.json for block in blocks(answer)[1::2])
    assert CLOSED not in polled.headers


async def test_streams_of_backtests_and_of_all_tasks_stay_open() -> None:
    async with an_edge() as (edge, log):
        write_state(log, report(log, "completed"))
        answer = await get(edge, url="/ds/training")
    assert len(json.loads(answer.body)) == 1
    assert CLOSED not in answer.headers


async def test_a_caller_that_gets_no_events_of_a_task_does_not_learn_of_its_end() -> None:
    async with an_edge() as (edge, _):
        views = edge.app.state.views
        task_id = new_id(1, Owner("acme", "alice"))
        stream = one_channel("training", {"task_id": task_id})
        closures = [
            closure_of(views, replace(stream, tenant="acme", owner=Owner("acme", subject)))
            for subject in ("alice", "bob")
        ]
        assert closure_of(views, one_channel("backtest", {"backtest_id": "B"})) is None
        assert closure_of(views, stream) is not None
    assert [closure is None for closure in closures] == [False, True]


async def test_a_chunk_that_the_client_has_is_not_sent_again() -> None:
    async with an_edge(2) as (edge, log):
        first = await get(edge)
        known = ((b"if-none-match", first.headers["etag"].encode()),)
        again = await get(edge, headers=known)
        write(log, 2)
        await get(edge, f"offset={first.headers[NEXT]}&live=long-poll")
        changed = await get(edge, headers=known)
    assert (again.status, again.body) == (304, b"")
    assert again.headers[NEXT] == first.headers[NEXT]
    assert changed.status == 200


@pytest.mark.parametrize("live", ["", "&live=long-poll", "&live=sse"])
async def test_an_offset_whose_events_have_expired_is_gone(live: str) -> None:
    async with an_edge(EVENTS_MAX + 5) as (edge, log):
        offset = (await get(edge)).headers[NEXT]
    log.expire(ALERTS, log.partition_of(b"p", log.count(ALERTS)), EVENTS_MAX + 3)
    async with serving(log) as edge:
        answer = await get(edge, f"offset={offset}{live}")
        beginning = await get(edge)
    assert (answer.status, json.loads(answer.body)["reason"]) == (410, "gap")
    assert messages(beginning) == numbered(EVENTS_MAX + 3, EVENTS_MAX + 4)


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("offset=", "offset"),
        ("offset=12", "offset"),
        ("offset=a,b", "offset"),
        ("offset=-1&offset=now", "offset"),
        ("live=long-poll", "offset"),
        ("live=sse", "offset"),
        ("offset=-1&live=yes", "live"),
        ("events=no_such_event", "events"),
    ],
)
async def test_an_invalid_parameter_is_named(query: str, parameter: str) -> None:
    async with an_edge() as (edge, _):
        answer = await get(edge, query)
    assert (answer.status, json.loads(answer.body)["parameter"]) == (400, parameter)


async def test_an_unknown_channel_is_not_found_and_nothing_can_be_written() -> None:
    async with an_edge() as (edge, _):
        unknown = await get(edge, url="/ds/nothing")
        written = await get(edge, method="POST")
    assert (unknown.status, written.status) == (404, 405)


async def test_where_cursors_are_encrypted_durable_streams_need_a_setting() -> None:
    async with an_edge(1, cursor_secret=SECRET) as (edge, _):
        refused = await get(edge)
    async with an_edge(1, cursor_secret=SECRET, ds=True) as (edge, _):
        served = await get(edge)
        at_tail = await get(edge, f"offset={served.headers[NEXT]}")
    async with an_edge(1, ds=False) as (edge, _):
        off = await get(edge)
    assert (refused.status, off.status) == (404, 404)
    assert "TAPEWIRE_DS=on" in json.loads(refused.body)["detail"]
    assert "TAPEWIRE_DS=on" in json.loads(off.body)["detail"]
    assert messages(served) == numbered(0)
    assert (at_tail.body, at_tail.headers[NEXT]) == (b"[]", served.headers[NEXT])


async def test_a_draining_node_ends_its_streams_and_takes_no_more() -> None:
    async with an_edge(1) as (edge, _):
        async with asyncio.TaskGroup() as tasks:
            waiting = [
                tasks.create_task(get(edge, f"offset=now&live={live}", stays_s=100.0))
                for live in ("sse", "long-poll")
            ]
            await connected(edge, 2)
            edge.app.state.node.drain()
            began_s = asyncio.get_running_loop().time()
        assert asyncio.get_running_loop().time() - began_s < 15
        refused = await get(edge)
    assert [answer.result().status for answer in waiting] == [200, 204]
    assert (refused.status, json.loads(refused.body)["reason"]) == (503, "draining")


async def test_each_read_counts_as_a_connection_while_it_waits() -> None:
    async with an_edge(1, connections_per_ip_max=2) as (edge, _):
        async with asyncio.TaskGroup() as tasks:
            waiting = [
                tasks.create_task(get(edge, f"offset=now&live={live}", stays_s=1_000.0))
                for live in ("sse", "long-poll")
            ]
            await connected(edge, 2)
            refused = await get(edge)
        assert edge.app.state.node.connections == 0
        served = await get(edge)
    assert {answer.result().status for answer in waiting} <= {0, 200, 204}
    assert (refused.status, served.status) == (429, 200)
