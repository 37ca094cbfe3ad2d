"""Pages of events over HTTP: formats, headers, long-polling and refusals."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import jwt
import pytest

from sse_edge.delivery.node import Node
from sse_edge.delivery.pages import Page
from sse_edge.routes.events import LIMIT_MAX, is_lasting
from sse_edge.streams.channels import CHANNELS
from sse_edge.streams.requests import one_channel
from tests.support.asgi_edge import Answer, AsgiEdge, log_of_the_catalogue, serving
from tests.support.edge import ALERTS, TRAINING, progress, write_alerts
from tests.support.fake_log import FakeLog
from tests.support.sse import Reader

pytestmark = pytest.mark.virtual_time

URL = "/api/v1/events/alerts"
ISSUER = "https://issuer.example"
SECRET = "the secret of a test, of thirty-two bytes"  # it protects nothing


@asynccontextmanager
async def an_edge(alerts: int = 0, **settings: Any) -> AsyncGenerator[tuple[AsgiEdge, FakeLog]]:
    """Serve a log with some alerts of the entity p, in the partition of its key."""
    log = log_of_the_catalogue()
    write(log, *range(alerts))
    async with serving(log, **settings) as edge:
        yield edge, log


def write(log: FakeLog, *numbers: int) -> None:
    partition = log.partition_of(b"p", log.count(ALERTS))
    write_alerts(log, *numbers, partition=partition)


async def get(edge: AsgiEdge, query: str = "", *, url: str = URL, **more: Any) -> Answer:
    options: dict[str, Any] = {"headers": (), "stays_s": 20.0} | more
    return await edge.request(url, query, **options)


def messages(answer: Answer) -> list[str]:
    return [event["data"]["data"]["message"] for event in json.loads(answer.body)["events"]]


async def test_links_lead_through_all_events_and_the_last_page_has_none() -> None:
    found, query = [], "limit=2&entity_id=p&token="
    async with an_edge(5) as (edge, _):
        while query:
            answer = await get(edge, query)
            assert answer.status == 200
            found += messages(answer)
            address = answer.headers.get("link", "").partition(">")[0]
            query = address.partition("?")[2]
            assert "token" not in query
    assert found == [f"number {number}" for number in range(5)]


async def test_lines_have_the_same_events_as_a_json_page() -> None:
    async with an_edge(3) as (edge, _):
        page = json.loads((await get(edge)).body)
        lines = await get(edge, headers=((b"accept", b"application/x-ndjson"),))
        by_parameter = await get(edge, "format=ndjson")
    assert [json.loads(line) for line in lines.body.splitlines()] == page["events"]
    assert lines.headers["content-type"] == "application/x-ndjson"
    assert by_parameter.body == lines.body
    assert lines.headers["last-event-id"] == page["cursor"] == page["events"][-1]["id"]
    assert page["events"][0]["event"] == page["events"][0]["data"]["event"] == "risk_alert"


async def test_a_page_of_cloudevents_is_a_batch_whose_cursors_are_those_of_other_formats() -> None:
    async with an_edge(3) as (edge, _):
        page = json.loads((await get(edge)).body)["events"]
        accepted = ((b"accept", b"application/cloudevents-batch+json"),)
        answer = await get(edge, "limit=2", headers=accepted)
        batch = json.loads(answer.body)
        stream = await get(
            edge,
            f"format=cloudevents&last_event_id={batch[1]['cursor']}",
            url="/api/v1/sse/alerts",
            stays_s=2.0,
        )
    (followed,) = (b for b in Reader().feed(stream.body) if b.event == "risk_alert")
    assert answer.headers["content-type"] == "application/cloudevents-batch+json"
    assert [event["cursor"] for event in batch] == [event["id"] for event in page[:2]]
    assert [event["data"] for event in batch] == [event["data"]["data"] for event in page[:2]]
    assert {event["type"] for event in batch} == {"tapewire.alerts.risk_alert"}
    assert followed.id == page[2]["id"]
    assert followed.json["data"] == page[2]["data"]["data"]


async def test_a_gap_in_a_batch_is_an_event_without_a_cursor() -> None:
    async with an_edge(5) as (edge, log):
        cursor = (await get(edge, "limit=1")).headers["last-event-id"]
    log.expire(ALERTS, log.partition_of(b"p", log.count(ALERTS)), 3)
    async with serving(log) as edge:
        answer = await get(edge, f"after={cursor}&format=cloudevents")
    gap, *rest = json.loads(answer.body)
    assert (gap["type"], gap["data"]["reason"]) == ("tapewire.stream.gap", "expired")
    assert "cursor" not in gap
    assert len(rest) == 2


async def test_head_has_the_cursor_of_the_end_at_which_a_page_and_a_stream_continue() -> None:
    async with an_edge(3) as (edge, log):
        head = await get(edge, method="HEAD")
        write(log, 3)
        cursor = head.headers["last-event-id"]
        page = await get(edge, f"after={cursor}&live=long-poll")
        sent = ((b"last-event-id", cursor.encode()),)
        by_header = await get(edge, headers=sent)
        stream = await get(edge, url="/api/v1/sse/alerts", headers=sent, stays_s=2.0)
    assert (head.status, head.body) == (200, b"")
    assert "content-length" not in head.headers
    assert messages(page) == messages(by_header) == ["number 3"]
    assert stream.body.count(b"event: risk_alert") == 1
    assert b"number 3" in stream.body


async def test_only_a_full_page_of_one_entity_is_immutable() -> None:
    async with an_edge(5) as (edge, _):
        first = await get(edge, "limit=2&entity_id=p")
        cursor = first.headers["last-event-id"]
        full = await get(edge, f"limit=2&entity_id=p&after={cursor}")
        short = await get(edge, f"limit=9&entity_id=p&after={cursor}")
        all_first = await get(edge, "limit=2")
        of_all = await get(edge, f"limit=2&after={all_first.headers['last-event-id']}")
    assert full.headers["cache-control"] == "public, max-age=31536000, immutable"
    for answer in (first, short, of_all):
        assert answer.headers["cache-control"] == "public, no-cache"


async def test_a_page_that_the_client_has_is_not_sent_again() -> None:
    async with an_edge(2) as (edge, log):
        first = await get(edge)
        known = ((b"if-none-match", first.headers["etag"].encode()),)
        again = await get(edge, headers=known)
        write(log, 2)
        await get(edge, f"after={first.headers['last-event-id']}&live=long-poll")
        changed = await get(edge, headers=known)
    assert (again.status, again.body) == (304, b"")
    assert again.headers["etag"] == first.headers["etag"]
    assert changed.status == 200


async def test_a_long_poll_waits_for_an_event() -> None:
    async with an_edge(1) as (edge, log):
        cursor = (await get(edge)).headers["last-event-id"]
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        async with asyncio.TaskGroup() as tasks:
            polling = tasks.create_task(get(edge, f"after={cursor}&live=long-poll"))
            await asyncio.sleep(5)
            assert not polling.done()
            write(log, 1)
        answer = polling.result()
    assert messages(answer) == ["number 1"]
    assert loop.time() - began_s < 10
    assert "live=long-poll" in answer.headers["link"]


async def test_a_long_poll_ends_with_the_cursor_when_nothing_comes() -> None:
    async with an_edge() as (edge, _):
        answer = await get(edge, "live=long-poll", stays_s=60.0)
    assert (answer.status, messages(answer)) == (200, [])
    assert answer.headers["last-event-id"] in answer.headers["link"]


async def test_a_long_poll_ends_when_its_client_is_gone() -> None:
    async with an_edge(connections_per_ip_max=1, ping_s=3_600.0) as (edge, _):
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        await get(edge, "live=long-poll", stays_s=2.0)
        assert loop.time() - began_s < 1_800
        assert edge.app.state.node.connections == 0
        assert (await get(edge)).status == 200


async def test_after_the_last_event_of_an_entity_nothing_follows() -> None:
    async with an_edge() as (edge, log):
        partition = log.partition_of(b"T", log.count(TRAINING))
        log.append(TRAINING, partition, b"T", progress("T", 100.0, "completed"))
        url = "/api/v1/events/training"
        last = await get(edge, "task_id=T&live=long-poll", url=url)
        cursor = last.headers["last-event-id"]
        after = await get(edge, f"task_id=T&live=long-poll&after={cursor}", url=url)
    assert json.loads(last.body)["ended"] is True
    assert json.loads(after.body) == {
        "events": [],
        "cursor": cursor,
        "has_more": False,
        "ended": True,
    }
    assert "link" not in last.headers
    assert "link" not in after.headers


async def test_expired_events_are_a_gap_or_an_error() -> None:
    async with an_edge(5) as (edge, log):
        cursor = (await get(edge, "limit=1")).headers["last-event-id"]
    log.expire(ALERTS, log.partition_of(b"p", log.count(ALERTS)), 3)
    async with serving(log) as edge:
        page = await get(edge, f"after={cursor}")
        refused = await get(edge, f"after={cursor}&on_gap=close")
    gap, *rest = json.loads(page.body)["events"]
    assert (gap["event"], gap["data"]["data"]["reason"]) == ("gap", "expired")
    assert "id" not in gap
    assert len(rest) == 2
    assert (refused.status, json.loads(refused.body)["reason"]) == (410, "gap")


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("limit=0", "limit"),
        (f"limit={LIMIT_MAX + 1}", "limit"),
        ("from=yesterday", "from"),
        ("until=tomorrow", "until"),
        ("until=latest", "until"),
        ("format=xml", "format"),
        ("live=yes", "live"),
        ("on_gap=ask", "on_gap"),
        ("events=no_such_event", "events"),
        ("task_id=T", "task_id"),
    ],
)
async def test_an_invalid_parameter_is_named(query: str, parameter: str) -> None:
    async with an_edge() as (edge, _):
        answer = await get(edge, query)
    assert answer.status == 400
    assert answer.headers["content-type"] == "application/problem+json"
    assert json.loads(answer.body)["parameter"] == parameter


async def test_an_end_is_no_word_and_may_lie_ahead() -> None:
    async with an_edge(2) as (edge, _):
        refused = await get(edge, "until=latest")
        ahead = await get(edge, "until=2100-01-01T00:00:00Z")
        before_1970 = await get(edge, "until=1969-01-01T00:00:00Z")
    detail = json.loads(refused.body)["detail"]
    assert detail == "until: 'latest' is no RFC 3339 time such as 2026-01-31T09:30:00Z"
    assert len(json.loads(ahead.body)["events"]) == 2
    assert json.loads(before_1970.body)["events"] == []


async def test_foreign_cursors_unknown_channels_and_other_types_are_refused() -> None:
    async with an_edge(1) as (edge, _):
        cursor = (await get(edge)).headers["last-event-id"]
        foreign = await get(edge, f"after={cursor}&entity_id=p")
        damaged = await get(edge, "after=x")
        unknown = await get(edge, url="/api/v1/events/nothing")
        unacceptable = await get(edge, headers=((b"accept", b"image/png"),))
    found = [
        (answer.status, json.loads(answer.body)["reason"])
        for answer in (foreign, damaged, unknown, unacceptable)
    ]
    assert found == [
        (400, "foreign_cursor"),
        (400, "invalid_cursor"),
        (404, "not_found"),
        (406, "not_acceptable"),
    ]


async def test_a_page_for_a_token_is_private_and_needs_the_scope_to_read() -> None:
    log = log_of_the_catalogue()
    write(log, *range(5))
    rules = {"jwt_issuer": ISSUER, "jwt_hs256_secret": SECRET, "jwt_scope_claim": "scope"}
    async with serving(log, **rules) as edge:
        reading, writing = (((b"authorization", token(s)),) for s in ("read", "write"))
        first = await get(edge, "limit=2&entity_id=p", headers=reading)
        query = f"limit=2&entity_id=p&after={first.headers['last-event-id']}"
        full = await get(edge, query, headers=reading)
        refused = await get(edge, headers=writing)
        anonymous = await get(edge)
    assert first.headers["cache-control"] == "private, no-cache"
    assert full.headers["cache-control"] == "private, max-age=31536000, immutable"
    assert "Authorization" in full.headers["vary"]
    assert (refused.status, json.loads(refused.body)["reason"]) == (403, "forbidden")
    assert anonymous.status == 401


def test_no_page_of_a_compacted_topic_lasts() -> None:
    stream = one_channel("alerts", {"entity_id": "p"})
    page = Page(b"", 2, "", is_full=True)
    topic = replace(CHANNELS["alerts"].topic, compacted=True)
    channel = replace(CHANNELS["alerts"], topic=topic)
    selection = replace(stream.selections[0], channel=channel)
    assert is_lasting(stream, page)
    assert not is_lasting(replace(stream, selections=(selection,)), page)


async def test_a_draining_node_ends_its_long_polls_and_reads_no_more_pages() -> None:
    async with an_edge(1) as (edge, _):
        cursor = (await get(edge)).headers["last-event-id"]
        node = edge.app.state.node
        async with asyncio.TaskGroup() as tasks:
            polling = tasks.create_task(get(edge, f"after={cursor}&live=long-poll", stays_s=1e4))
            await connected(node, 1)
            node.drain()
        refused = await get(edge)
    assert (polling.result().status, messages(polling.result())) == (200, [])
    assert polling.result().headers["last-event-id"] == cursor
    assert (refused.status, json.loads(refused.body)["reason"]) == (503, "draining")


async def test_each_page_counts_as_a_connection_while_it_is_read() -> None:
    async with an_edge(1, connections_per_ip_max=2) as (edge, _):
        cursor = (await get(edge)).headers["last-event-id"]
        node = edge.app.state.node
        async with asyncio.TaskGroup() as tasks:
            polling = [
                tasks.create_task(get(edge, f"after={cursor}&live=long-poll", stays_s=1e4))
                for _ in range(2)
            ]
            await connected(node, 2)
            refused = await get(edge)
        served = await get(edge)
    assert {answer.result().status for answer in polling} == {200}
    assert (refused.status, served.status) == (429, 200)
    assert json.loads(refused.body)["reason"] == "too_many_connections"


def token(scopes: str) -> bytes:
    claims = {"iss": ISSUER, "sub": "alice", "exp": time.time() + 1e6, "scope": scopes}
    return b"Bearer " + jwt.encode(claims, SECRET, algorithm="HS256").encode()


async def connected(node: Node, count: int) -> None:
    """Wait until so many requests are read: threads take real time, and virtual time passes."""
    async with asyncio.timeout(1e5):
        while node.connections != count:  # noqa: ASYNC110  # the edge has no event for tests
            await asyncio.sleep(1)
