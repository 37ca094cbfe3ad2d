"""Rounds on a fake cluster in virtual time, and their spans."""

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode

from kafka_io import tracing
from kafka_io.dead_letters import Message
from kafka_io.log_lines import JsonFormatter
from schemas.events import UserUpdate
from stream_processors.processor import Processor, Round
from stream_processors.round_spans import LINKS_MAX, RoundSpans
from tests.stream_processors.test_stream_task import FailingTotals, running
from tests.support.fake_group import INPUT, FakeCluster, FakeMember, straight, written
from tests.support.messages import FakeMessage
from tests.support.spans import Spans, attributes_of, collected_spans

pytestmark = pytest.mark.virtual_time

EVENT = UserUpdate(user_id="u", kind="update", data="{}", event_time_us=0)


@pytest.fixture
def spans() -> Iterator[Spans]:
    with collected_spans() as found:
        yield found


def traceparent(number: int) -> str:
    return f"00-{number:032x}-{number:016x}-01"


def traced_member(cluster: FakeCluster, processor: Processor | None = None) -> FakeMember:
    member = FakeMember(cluster, processor)
    member.process = replace(member.process, tracer=tracing.current_tracer(), group="tapewire")
    return member


def messages(*numbers: int) -> Sequence[Message]:
    return [
        FakeMessage("t", 1, number, b"k", b"1", [("traceparent", traceparent(number).encode())])
        for number in numbers
    ]


def linked(span: ReadableSpan) -> list[int]:
    return [link.context.trace_id for link in span.links]


async def test_each_round_links_to_the_writers_of_its_messages_and_its_events_carry_it_on(
    spans: Spans,
) -> None:
    cluster = FakeCluster()
    for number in range(1, 41):
        cluster.append(0, "k", number, traceparent(number))
    async with running(traced_member(cluster)):
        await cluster.done()
    rounds = [span for span in spans.all if span.name == f"process {INPUT.name}"]
    assert len(rounds) > 1
    assert [trace_id for span in rounds for trace_id in linked(span)] == list(range(1, 41))
    for span in rounds:
        assert (span.kind, span.parent) == (SpanKind.CONSUMER, None)
        attributes = attributes_of(span)
        assert attributes["messaging.batch.message_count"] == len(span.links)
        assert attributes["messaging.consumer.group.name"] == "tapewire"
        assert attributes["messaging.destination.partition.id"] == "0"
    carried = [tracing.writer_of(record.headers) for _, record in cluster.outputs]
    contexts = [span.context for span in rounds for _ in span.links]
    assert [(at.trace_id, at.span_id) for at in carried if at] == [
        (at.trace_id, at.span_id) for at in contexts if at
    ]
    assert written(cluster) == straight(cluster)


async def test_a_round_that_is_dropped_ends_with_an_error_and_its_messages_get_another_span(
    spans: Spans,
) -> None:
    cluster = FakeCluster()
    cluster.append(0, "k", 1, traceparent(1))
    cluster.append(0, "k", 7, traceparent(2))
    async with running(traced_member(cluster, FailingTotals(7, 11))):
        await cluster.done()
    dropped = [span for span in spans.all if span.status.status_code is StatusCode.ERROR]
    others = [span for span in spans.all if span not in dropped]
    assert {trace_id for span in dropped for trace_id in linked(span)} >= {2}
    assert [trace_id for span in others for trace_id in linked(span)] == [1, 2]


async def test_where_nothing_is_traced_events_carry_nothing_on() -> None:
    cluster = FakeCluster()
    cluster.append(0, "k", 1, traceparent(1))
    async with running(FakeMember(cluster)):
        await cluster.done()
    ((_, record),) = cluster.outputs
    assert "traceparent" not in dict(record.headers)


def test_a_span_has_no_more_links_than_the_sdk_keeps(spans: Spans) -> None:
    of_task = RoundSpans(tracing.current_tracer(), 1)
    this_round = Round(1, "")
    for first in range(1, 4 * LINKS_MAX, 64):
        of_task.read(messages(*range(first, first + 64)), this_round)
    of_task.committed(5)
    (span,) = spans.all
    assert linked(span) == list(range(1, LINKS_MAX + 1))
    assert attributes_of(span)["messaging.batch.message_count"] == 4 * LINKS_MAX
    assert attributes_of(span)["tapewire.round.records"] == 5


def test_a_round_of_several_topics_names_them(spans: Spans) -> None:
    of_task = RoundSpans(tracing.current_tracer(), 1)
    this_round = Round(1, "")
    of_task.read([], this_round)
    assert this_round.traceparent is None
    of_task.read(messages(1), this_round)
    of_task.read([FakeMessage("u", 1, 0, b"k", b"1")], this_round)
    of_task.committed(0)
    (span,) = spans.all
    assert span.name == "process t"
    assert attributes_of(span)["tapewire.round.topics"] == ("t", "u")


def test_lines_of_a_round_have_its_trace_id_and_later_ones_do_not(spans: Spans) -> None:
    of_task = RoundSpans(tracing.current_tracer(), 1)
    line = logging.LogRecord("a", logging.INFO, "", 0, "a line", None, None)
    of_task.read(messages(1), Round(1, ""))
    within = json.loads(JsonFormatter().format(line))
    of_task.committed(0)
    (span,) = spans.all
    assert span.context is not None
    assert within["trace_id"] == f"{span.context.trace_id:032x}"
    assert "trace_id" not in json.loads(JsonFormatter().format(line))
    assert not trace.get_current_span().get_span_context().is_valid


def test_an_end_without_a_beginning_is_none(spans: Spans) -> None:
    of_task = RoundSpans(tracing.current_tracer(), 1)
    of_task.committed(0)
    of_task.failed()
    assert spans.all == []


def test_the_events_of_a_round_that_is_not_traced_have_no_header() -> None:
    this_round = Round(1, "")
    this_round.send(EVENT)
    this_round.traceparent = traceparent(7)
    this_round.send(EVENT)
    first, second = (dict(record.headers) for record in this_round.records)
    assert "traceparent" not in first
    assert second["traceparent"].decode() == traceparent(7)
