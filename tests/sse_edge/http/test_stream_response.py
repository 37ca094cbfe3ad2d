"""The filter of a stream by the names of its events, and its traces."""

import json
from collections.abc import Iterator

import pytest
from fastapi import Request

from kafka_io import tracing
from sse_edge.http.stream_response import event_names
from tests.support.asgi_edge import log_of_the_catalogue, serving
from tests.support.edge import ALERTS, alert
from tests.support.fake_log import FakeLog
from tests.support.spans import Spans, attributes_of, collected_spans
from tests.support.sse import Block, Reader

CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
WRITER = b"00-00000000000000000000000000000abc-0000000000000def-01"
HEADERS = ((b"content-type", b"application/json"), (b"traceparent", CALLER.encode()))
STREAM = "/api/v1/sse/alerts"


@pytest.fixture
def spans() -> Iterator[Spans]:
    with collected_spans() as found:
        yield found


@pytest.fixture
def log() -> FakeLog:
    log = log_of_the_catalogue()
    log.append(ALERTS, 0, b"p", alert("p", 0), traceparent=WRITER)
    log.append(ALERTS, 0, b"p", alert("p", 1))
    return log


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("", []),
        ("events=", []),
        ("events=a,b", ["a", "b"]),
        ("events=a&events=b", ["a", "b"]),
        ("events=a, &events=,%20b", ["a", "b"]),
    ],
)
def test_the_names_of_events_are_one_list(query: str, names: list[str]) -> None:
    scope = {"type": "http", "headers": [], "query_string": query.encode()}
    assert event_names(Request(scope)) == names


def alerts_in(body: bytes) -> list[Block]:
    return [block for block in Reader().feed(body) if block.event == "risk_alert"]


@pytest.mark.virtual_time
async def test_data_have_the_trace_contexts_of_their_writers_on_request_only(log: FakeLog) -> None:
    async with serving(log) as edge:
        plain = await edge.request(STREAM, "from=earliest")
        traced = await edge.request(STREAM, "from=earliest&traceparent=data")
        refused = await edge.request(STREAM, "traceparent=yes")
    first, second = alerts_in(traced.body)
    first_plain, second_plain = alerts_in(plain.body)
    assert first.json == first_plain.json | {"traceparent": WRITER.decode()}
    assert second.json == second_plain.json
    # A client may ask for them, or not, with the cursor that it has.
    assert [block.id for block in alerts_in(plain.body)] == [first.id, second.id]
    assert refused.status == 400
    assert b"'yes' is not one of none, data" in refused.body


@pytest.mark.virtual_time
async def test_an_opened_stream_has_a_short_span_that_follows_its_caller(
    spans: Spans, log: FakeLog
) -> None:
    async with serving(log) as edge:
        query = "from=earliest&token=sesame"
        await edge.request(STREAM, query, headers=HEADERS, stays_s=30)
        await edge.request(STREAM)
    of_caller, of_nobody = spans.all
    assert of_caller.name == f"GET {STREAM}"
    assert of_caller.parent == tracing.parsed(CALLER)
    assert of_nobody.parent is None
    attributes = attributes_of(of_caller)
    assert attributes["http.request.method"] == "GET"
    assert attributes["tapewire.stream"] == "alerts"
    assert attributes["tapewire.stream.start"] == "earliest"
    assert attributes_of(of_nobody)["tapewire.stream.start"] == "latest"
    assert "sesame" not in of_caller.to_json()
    assert of_caller.start_time is not None
    assert of_caller.end_time is not None
    assert of_caller.end_time - of_caller.start_time < 5_000_000_000


@pytest.mark.virtual_time
async def test_a_stream_that_kafka_does_not_let_begin_has_a_span_with_an_error(
    spans: Spans, log: FakeLog
) -> None:
    async with serving(log, broker_patience_s=1.0) as edge:
        log.is_away = True
        await edge.request(STREAM, "from=earliest", stays_s=10)
        log.is_away = False
    (span,) = spans.all
    assert attributes_of(span)["error.type"] == "no_broker"
    assert not span.status.is_ok


@pytest.mark.virtual_time
async def test_what_a_request_writes_follows_its_caller_where_the_edge_is_traced(
    spans: Spans, log: FakeLog
) -> None:
    body = b'{"meter_id": "m", "meter_type": "gas"}'
    async with serving(log) as edge:
        await edge.request("/trainmodel/", method="POST", content=body, headers=HEADERS)
    (command,) = log.records_of("training.commands")
    assert command.traceparent.decode() == CALLER
    assert spans.provider is not None


@pytest.mark.virtual_time
async def test_an_edge_that_is_not_traced_passes_no_context_on(log: FakeLog) -> None:
    body = b'{"meter_id": "m", "meter_type": "gas"}'
    async with serving(log) as edge:
        await edge.request("/trainmodel/", method="POST", content=body, headers=HEADERS)
    (command,) = log.records_of("training.commands")
    assert command.traceparent == b""


async def test_every_event_of_a_room_is_a_cloudevent_on_request(log: FakeLog) -> None:
    async with serving(log) as edge:
        spoken = json.dumps({"room": "r", "user": "eve", "message": "hi"}).encode()
        await edge.request("/send-message", method="POST", content=spoken)
        answer = await edge.request("/chat-stream", "room=r&user=bob&format=cloudevents")
        refused = await edge.request("/chat-stream", "room=r&user=bob&format=xml")
    found = [block.json for block in Reader().feed(answer.body) if block.data]
    assert [event["type"] for event in found] == ["tapewire.stream.join", "tapewire.chat.message"]
    assert found[0]["data"] == "bob"
    assert (found[1]["data"]["message"], found[1]["subject"]) == ("hi", "r")
    assert json.loads(refused.body)["parameter"] == "format"


async def test_cloudevents_have_the_trace_contexts_of_their_writers(log: FakeLog) -> None:
    async with serving(log) as edge:
        answer = await edge.request(STREAM, "from=earliest&format=cloudevents&traceparent=data")
    found = [block.json for block in Reader().feed(answer.body) if block.event == "risk_alert"]
    assert [event.get("traceparent") for event in found] == [WRITER.decode(), None]


async def test_a_list_of_jobs_comes_as_cloudevents_on_request(log: FakeLog) -> None:
    url = "/api/sse/backtest/jobs"
    async with serving(log) as edge:
        answer = await edge.request(url, "format=cloudevents", stays_s=20.0)
        refused = await edge.request(url, "format=xml")
    found = [block.json for block in Reader().feed(answer.body) if block.data]
    assert [event["type"] for event in found] == [
        "tapewire.jobs.connection",
        "tapewire.jobs.snapshot",
    ]
    assert found[1]["data"] == {"jobs": []}
    assert len({event["id"] for event in found}) == 2
    assert {event["source"] for event in found} == {"/tapewire/edge"}
    assert json.loads(refused.body)["parameter"] == "format"
